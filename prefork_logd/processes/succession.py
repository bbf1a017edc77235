"""From one program to the next in the same process: what the master has to do with it, on both sides of the exec.

Owns when an upgrade may begin, and what is left of the last one. The trial and the exec are upgrade.py's, the order in
which children give way takeover.py's.
"""

from __future__ import annotations

import os
import signal
import socket
from typing import TYPE_CHECKING, Any, Protocol

from prefork_logd.log import LOGGER
from prefork_logd.processes.children import Child, Kind
from prefork_logd.processes.control import Channel
from prefork_logd.processes.legacy import Carried, Legacy, LegacyChild
from prefork_logd.processes.states import ALIVE, Event, State
from prefork_logd.processes.takeover import Takeover
from prefork_logd.processes.upgrade import Trial, replace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from prefork_logd.net.loop import Loop
    from prefork_logd.processes.control import AnyMessage

    Answer = Callable[[dict[str, Any]], None]

QUIET_S = 3.0
"""How long the exec waits for a reload to end and for children that do not take their messages."""
LOOK_AGAIN_S = 0.02


def _explained(error: OSError) -> str:
    """Return why a process of the new code cannot be started, with the remedy."""
    place = f"{os.fsdecode(error.filename)}: " if error.filename else ""
    remedy = "; the collector's user needs the right to run it, or upgrade by a restart"
    return f"{place}{error.strerror}{remedy if isinstance(error, PermissionError) else ''}"


class Host(Protocol):
    """The master."""

    loop: Loop

    def legacy(self) -> Legacy:
        """Return what the next program has to know."""

    def may_upgrade(self) -> str:
        """Return why an upgrade cannot begin now; empty if it can."""

    def is_quiet(self) -> bool:
        """Tell whether nothing is half done that the next program would not know of."""

    def put_signals_back(self) -> None:
        """Let signals that have come and were not acted on come again."""

    def told(self, child: Child, message: AnyMessage, fds: list[int]) -> None:
        """Take a child's message."""

    def failed(self, child: Child, error: Exception) -> None:
        """End a child after an error in its message."""

    def happen(self, child: Child, event: Event) -> None:
        """Make an event happen to a child."""

    def taken_over(self) -> None:
        """Go on, now that no child of the last program lives."""


class Succession:
    """The master's upgrades."""

    def __init__(self, host: Host, empty: Callable[[Child], None]) -> None:
        """Let `empty` have an old worker hand over its connections."""
        self._host = host
        self._empty = empty
        self.carried = Carried()
        self.takeover: Takeover | None = None
        self._trial: Trial | None = None
        self._version = ""

    # Before the exec

    def upgrade(self, answer: Answer) -> None:
        """Try the newly installed program, and become it if it could go on; the answer comes from there."""
        problem = self._host.may_upgrade()
        if self._trial is not None or self.takeover is not None:
            problem = "an upgrade is under way already"
        if problem:
            self._refuse(problem, answer)
            return
        try:
            self._trial = Trial(self._host.loop, self._host.legacy(), lambda why, to: self._tried(why, to, answer))
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
        LOGGER.info("upgrade: version %s is tried and runs now", version)
        self._replace(answer, QUIET_S)

    def _replace(self, answer: Answer, patience_s: float) -> None:
        """Become the new program as soon as nothing is half done."""
        problem = self._host.may_upgrade()
        if not problem and not self._host.is_quiet():
            if patience_s > 0:
                self._host.loop.later(LOOK_AGAIN_S, lambda: self._replace(answer, patience_s - LOOK_AGAIN_S))
                return
            problem = "a reload, or a child that takes no messages, is in the way"
        self._refuse(problem or replace(self._host.legacy(), self._host.put_signals_back), answer)

    def reaped(self, pid: int, status: int) -> None:
        """Note the end of a process that may be the trial."""
        if self._trial is not None and self._trial.pid == pid:
            self._trial.reaped(status)

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

    def inherit(self, legacy: Legacy, answers: Iterable[Answer]) -> None:
        """Take over the children and counters of the last program."""
        self.carried.inherit(legacy)
        old = [self._adopt(child) for child in legacy.children]
        self.takeover = Takeover(
            self._host.loop, legacy.version, old, self._host.happen, self._empty, self._host.taken_over
        )
        for answer in answers:
            self.takeover.join(answer)

    def _adopt(self, left: LegacyChild) -> Child:
        child = Child(
            Kind(left.kind),
            left.slot,
            State[left.state],
            left.pid,
            left.life,
            left.started_s,
            restarts=left.restarts,
            generation=left.generation,
            settled=left.settled,
            is_old=True,
            arena_fd=left.arena_fd,
        )
        if child.arena_fd >= 0:
            os.set_inheritable(child.arena_fd, False)
        sock = socket.socket(fileno=left.channel_fd)
        sock.set_inheritable(False)
        child.channel = Channel(
            self._host.loop,
            sock,
            lambda message, fds: self._host.told(child, message, fds),
            lambda: None,
            lambda error: self._host.failed(child, error),
        )
        return child

    @property
    def old(self) -> list[Child]:
        """Children of the last program that live."""
        return list(self.takeover.old.values()) if self.takeover is not None else []

    @property
    def old_workers(self) -> list[Child]:
        """All of them that write through the writer."""
        return [child for child in self.old if child.kind in (Kind.WORKER, Kind.SOURCE)]

    @property
    def ships(self) -> bool:
        """Whether a shipper of the last program lives."""
        return any(child.kind is Kind.SHIPPER for child in self.old)

    def look(self, writer: Child, workers: Iterable[Child]) -> None:
        """Take the next step of a takeover, if there is one to take."""
        if self.takeover is not None:
            self.takeover.look(writer, workers)

    def ended(self, child: Child) -> None:
        """Forget a child of the last program that has ended."""
        child.state = State.GONE
        if self.takeover is not None:
            self.takeover.old.pop(child.life, None)

    def settled(self) -> None:
        """Forget the last program."""
        self.takeover = None
        self.carried.settle()


def inheritance(children: Iterable[Child]) -> list[LegacyChild]:
    """Return the living children as the next program gets them."""
    return [
        LegacyChild(
            kind=child.kind.value,
            slot=child.slot,
            state=child.state.name,
            pid=child.pid,
            life=child.life,
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
    """Let the signals come that the last program has kept waiting."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
