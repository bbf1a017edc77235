"""Asks the master's children whether they still answer, so that `status` names one that hangs without waiting for it.

Owns the questions and the patience. What a child does otherwise is not known here: its end of the channel answers by
itself (control.py) as soon as its loop turns.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from prefork_logd.processes.master.lifecycle import ALIVE
from prefork_logd.system.hanging import describe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from prefork_logd.net.loop import Loop
    from prefork_logd.processes.master.child import Child

PATIENCE_S = 0.4
"""Longer than any turn of a child that works."""
_LOOK_S = 0.002


class Probes:
    """The questions under way."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self.pending = 0
        """How many answers to the command line wait for children."""

    def ask(self, children: Iterable[Child], done: Callable[[], None]) -> None:
        """Call `done` when every child has answered, or has had the time for it.

        A child that was asked before and has not answered since is not waited for again.
        """
        now_s = time.monotonic()
        asked: list[Child] = []
        for child in children:
            # A child of the program before may not know the question.
            if child.channel is None or child.state not in ALIVE or child.is_inherited:
                continue
            since_s = child.channel.probe(now_s)
            if now_s - since_s < PATIENCE_S:
                asked.append(child)
        self.pending += 1
        self._look(asked, now_s + PATIENCE_S, done)

    def _look(self, asked: list[Child], deadline_s: float, done: Callable[[], None]) -> None:
        silent = [child for child in asked if child.channel is not None and child.channel.silent_since_s is not None]
        if silent and time.monotonic() < deadline_s:
            self._loop.later(_LOOK_S, lambda: self._look(silent, deadline_s, done))
            return
        self.pending -= 1
        done()


def silence(child: Child) -> dict[str, Any]:
    """Return the fields of `status` about a silent child: for how long, and its state."""
    since_s = child.channel.silent_since_s if child.channel is not None else None
    silent_s = time.monotonic() - since_s if since_s is not None and child.state in ALIVE else 0.0
    if silent_s < PATIENCE_S:
        return {"silent_s": 0.0, "doing": ""}
    return {"silent_s": round(silent_s, 3), "doing": describe(child.pid)}
