"""Upgrades the master to another program in the same process: the master's part on both sides of the exec.

Owns when an upgrade may begin, and the children that the last program left. Does not know the trial and the exec
(trial.py), or the order in which old children give way (replacement.py).
"""

from __future__ import annotations

import os
import signal
import socket
from typing import TYPE_CHECKING, Any, Protocol

from prefork_logd.ipc.channel import Channel
from prefork_logd.processes.master.child import Child, Kind
from prefork_logd.processes.master.lifecycle import ALIVE, Event, State
from prefork_logd.processes.master.upgrade.replacement import Replacement
from prefork_logd.processes.master.upgrade.state import InheritedChild, InheritedCounters, UpgradeState
from prefork_logd.processes.master.upgrade.trial import Trial, replace
from prefork_logd.system.log import LOGGER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from prefork_logd.ipc.messages import AnyMessage
    from prefork_logd.net.loop import Loop

    Answer = Callable[[dict[str, Any]], None]

QUIET_S = 3.0
"""How long the exec waits for a reload to end, and for children to read their messages."""
POLL_S = 0.02


def _explained(error: OSError) -> str:
    """Return why a process of the new code cannot be started, with the remedy."""
    place = f"{os.fsdecode(error.filename)}: " if error.filename else ""
    remedy = "; the collector's user needs the right to run it, or upgrade by a restart"
    return f"{place}{error.strerror}{remedy if isinstance(error, PermissionError) else ''}"


class UpgradeHost(Protocol):
    """The master."""

    loop: Loop

    def upgrade_state(self) -> UpgradeState:
        """Return the state for the next program."""

    def may_upgrade(self) -> str:
        """Return why an upgrade cannot begin now; empty if it can."""

    def is_quiet(self) -> bool:
        """Return whether the state is complete: nothing is under way that it does not hold."""

    def put_signals_back(self) -> None:
        """Send this process again the signals that were received and not yet handled."""

    def handle_message(self, child: Child, message: AnyMessage, fds: list[int]) -> None:
        """Act on a child's message."""

    def handle_failure(self, child: Child, error: Exception) -> None:
        """End a child after an error in its message."""

    def apply_event(self, child: Child, event: Event) -> None:
        """Change a child's state, and carry the action out."""

    def hand_over_all(self, child: Child) -> None:
        """Let a retiring worker hand its connections over."""

    def finish_upgrade(self) -> None:
        """Go on, now that no child of the last program lives."""


class Upgrader:
    """The master's upgrades."""

    def __init__(self, host: UpgradeHost) -> None:
        self._host = host
        self.carried = InheritedCounters()
        self.replacement: Replacement | None = None
        self._trial: Trial | None = None
        self._version = ""

    # Before the exec

    def upgrade(self, answer: Answer) -> None:
        """Try the newly installed program, and become it if the trial succeeds; the new program then answers."""
        problem = self._host.may_upgrade()
        if self._trial is not None or self.replacement is not None:
            problem = "an upgrade is under way already"
        if problem:
            self._refuse(problem, answer)
            return
        try:
            self._trial = Trial(
                self._host.loop, self._host.upgrade_state(), lambda why, to: self._tried(why, to, answer)
            )
        except OSError as error:
            self._refuse(f"the new code cannot be tried: {_explained(error)}", answer)

    def _refuse(self, problem: str, answer: Answer) -> None:
        problem = f"{problem}; the running code goes on"
        LOGGER.error("upgrade: %s", problem)
        answer({"error": problem})

    def _tried(self, problem: str, version: str, answer: Answer) -> None:
        self._trial = None
        if problem:
            self._refuse(f"the new code does not start: {problem}", answer)
            return
        LOGGER.info("upgrade: the trial of version %s succeeded", version)
        self._replace(answer, QUIET_S)

    def _replace(self, answer: Answer, patience_s: float) -> None:
        """Become the new program as soon as nothing is half done."""
        problem = self._host.may_upgrade()
        if not problem and not self._host.is_quiet():
            if patience_s > 0:
                self._host.loop.later(POLL_S, lambda: self._replace(answer, patience_s - POLL_S))
                return
            problem = "a reload, or a child that does not read its messages, stands in the way"
        self._refuse(problem or replace(self._host.upgrade_state(), self._host.put_signals_back), answer)

    def record_exit(self, pid: int, status: int) -> None:
        """Record the end of a process that may be the trial."""
        if self._trial is not None and self._trial.pid == pid:
            self._trial.record_exit(status)

    def close(self) -> None:
        """End a trial that is under way."""
        if self._trial is not None:
            self._trial.close()
            self._trial = None

    def close_in_child(self) -> None:
        """Close the descriptors that a fork copied."""
        if self._trial is not None:
            self._trial.close_in_child()

    # After it

    def inherit(self, state: UpgradeState, answers: Iterable[Answer]) -> None:
        """Take over the children and counters of the last program."""
        self.carried.inherit(state)
        old = [self._adopt(child) for child in state.children]
        self.replacement = Replacement(
            self._host.loop,
            state.version,
            old,
            self._host.apply_event,
            self._host.hand_over_all,
            self._host.finish_upgrade,
        )
        for answer in answers:
            self.replacement.add_caller(answer)

    def _adopt(self, left: InheritedChild) -> Child:
        child = Child(
            Kind(left.kind),
            left.slot,
            State[left.state],
            left.pid,
            left.spawn_id,
            left.started_s,
            restarts=left.restarts,
            generation=left.generation,
            settled=left.settled,
            is_inherited=True,
            arena_fd=left.arena_fd,
        )
        if child.arena_fd >= 0:
            os.set_inheritable(child.arena_fd, False)
        sock = socket.socket(fileno=left.channel_fd)
        sock.set_inheritable(False)
        child.channel = Channel(
            self._host.loop,
            sock,
            lambda message, fds: self._host.handle_message(child, message, fds),
            lambda: None,
            lambda error: self._host.handle_failure(child, error),
        )
        return child

    @property
    def old(self) -> list[Child]:
        """Living children of the last program."""
        return list(self.replacement.old.values()) if self.replacement is not None else []

    @property
    def old_workers(self) -> list[Child]:
        """Those that write through the writer: workers and sources."""
        return [child for child in self.old if child.kind in (Kind.WORKER, Kind.SOURCE)]

    @property
    def ships(self) -> bool:
        """Whether a shipper of the last program lives."""
        return any(child.kind is Kind.SHIPPER for child in self.old)

    def advance(self, writer: Child, workers: Iterable[Child]) -> None:
        """Take the next step of a replacement that is under way."""
        if self.replacement is not None:
            self.replacement.advance(writer, workers)

    def forget_child(self, child: Child) -> None:
        """Forget a child of the last program that has ended."""
        child.state = State.GONE
        if self.replacement is not None:
            self.replacement.old.pop(child.spawn_id, None)

    def forget_last_program(self) -> None:
        """End the replacement, and add up the counters."""
        self.replacement = None
        self.carried.settle()


def inheritance(children: Iterable[Child]) -> list[InheritedChild]:
    """Return the living children for the state of the next program."""
    return [
        InheritedChild(
            kind=child.kind.value,
            slot=child.slot,
            state=child.state.name,
            pid=child.pid,
            spawn_id=child.spawn_id,
            started_s=child.started_s,
            restarts=child.restarts,
            generation=child.generation,
            settled=child.settled,
            channel_fd=child.channel.fd,
            arena_fd=child.arena_fd,
        )
        for child in children
        if child.state in ALIVE and child.channel is not None and child.channel.open
    ]


def receive_signals() -> None:
    """Unblock the signals that arrived during the exec."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
