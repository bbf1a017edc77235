"""Replaces the children of the last program by those of this one, after an upgrade.

Owns the order of the steps. Does not know how a child is forked (supervisor.py), or when an upgrade begins
(upgrader.py).

    workers of this version are forked, while the old ones and the old writer go on
    they are ready      the old writer ends; the workers keep what it has not committed, as when it dies
                        the old shippers and the old page end, too; positions are in the stores
    the old writer is gone      the new one recovers, and every worker, old or new, goes on with it
    the new writer is ready     the old workers hand their connections over, each when it can, and end
    the last one is gone        done

The collector works after each step, so no step is undone: where one cannot be made, the old children go on.
"""

from __future__ import annotations

import functools
import os
import signal
from typing import TYPE_CHECKING, Any

from prefork_logd import __version__
from prefork_logd.ipc.messages import Drain, Retire
from prefork_logd.processes.master.child import Child, Kind
from prefork_logd.processes.master.lifecycle import ALIVE, Event, State
from prefork_logd.system.log import LOGGER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from prefork_logd.net.loop import Loop

ANSWER_S = 15.0
"""After this time the progress is reported to the caller; the upgrade continues."""
SHIPPER_S = 3.0
"""How long an old shipper may take to end; it may hang in a call to its store. In the middle of a batch it needs a
second or more on a busy machine, and its successor would send that batch again."""
WRITER_S = 3.0
"""How long the old writer may take to end; it may be killed at any moment."""


_TO_COME = frozenset({State.STARTING, State.WAITING})
"""The states of new workers that the old writer waits for. A retiring one is left out: it needs a writer to end."""


class Replacement:
    """One upgrade, from the new program's first step on."""

    def __init__(
        self,
        loop: Loop,
        before: str,
        old: list[Child],
        apply_event: Callable[[Child, Event], None],
        hand_over_all: Callable[[Child], None],
        finished: Callable[[], None],
    ) -> None:
        """Replace the children `old` of the version `before`. `apply_event` changes a child's state.

        `hand_over_all` lets a worker hand its connections over.
        """
        self._loop = loop
        self._before = before
        self.old: dict[int, Child] = {child.spawn_id: child for child in old}
        """The old children that live, by their spawn ids."""
        self._apply_event = apply_event
        self._hand_over_all = hand_over_all
        self._finished = finished
        self._answers: list[Callable[[dict[str, Any]], None]] = []
        self._writer_is_leaving = False
        self._is_retiring = False
        self._timer = loop.later(ANSWER_S, self._too_long)

    def add_caller(self, answer: Callable[[dict[str, Any]], None]) -> None:
        """Pass the outcome to one more caller."""
        self._answers.append(answer)

    def advance(self, writer: Child, workers: Iterable[Child]) -> None:
        """Take the next step if its condition is met; `writer` and `workers` are those of this version."""
        writers = [child for child in self.old.values() if child.kind is Kind.WRITER]
        if writer.state is State.WAITING and writer.timer is None:
            if not writers:
                self._end_shippers()
                self._apply_event(writer, Event.DUE)
            elif not self._writer_is_leaving and not any(worker.state in _TO_COME for worker in workers):
                self._writer_is_leaving = True
                self._end_shippers()
                for child in writers:
                    child.state = State.STOPPING
                    if child.channel is not None:
                        child.channel.send(Retire())
                self._loop.later(WRITER_S, self._kill_writers)
        elif writer.state is State.RUNNING and not self._is_retiring:
            self._is_retiring = True
            for child in [child for child in self.old.values() if child.kind in (Kind.WORKER, Kind.SOURCE)]:
                if child.state in (State.RUNNING, State.STARTING):
                    self._apply_event(child, Event.RETIRE)
                elif child.kind is Kind.WORKER:
                    self._hand_over_all(child)
        if not self.old:
            self._finish()

    def _end_shippers(self) -> None:
        """End the old shippers, which read the old writer's positions; a store never has two shippers.

        The old page and alerts end with them.
        """
        for child in self.old.values():
            if child.kind in (Kind.SHIPPER, Kind.WEB, Kind.ALERTS) and child.state is not State.STOPPING:
                child.state = State.STOPPING
                if child.channel is not None:
                    child.channel.send(Drain(fast=True))
                self._loop.later(SHIPPER_S, functools.partial(self._kill, child))

    def _kill_writers(self) -> None:
        for child in list(self.old.values()):
            if child.kind is Kind.WRITER:
                self._kill(child)

    def _kill(self, child: Child) -> None:
        """Kill a writer, shipper or page that does not end; no record is lost by that."""
        if child.spawn_id in self.old and child.state in ALIVE:
            LOGGER.warning(
                "the old %s (pid %d) did not end in time and was killed; no records are lost", child.name, child.pid
            )
            child.is_killed = True
            os.kill(child.pid, signal.SIGKILL)

    def _finish(self) -> None:
        self._timer.cancel()
        LOGGER.info("upgrade: version %s runs now; the last one was %s", __version__, self._before)
        self._answer({"version": __version__, "before": self._before})
        self._finished()

    def _too_long(self) -> None:
        names = ", ".join(f"{child.name} (pid {child.pid})" for child in self.old.values())
        why = f"version {__version__} runs, but these processes of version {self._before} go on for now: {names}"
        LOGGER.error("upgrade: %s", why)
        self._answer({"error": f"{why}; the log says why, and they give way as soon as they can"})

    def _answer(self, outcome: dict[str, Any]) -> None:
        answers, self._answers = self._answers, []
        for answer in answers:
            answer(outcome)
