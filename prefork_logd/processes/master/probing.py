"""Pings the master's children, so that `status` names a child that hangs without waiting for it.

Owns the pings and their timeout. Does not know what a child does: its end of the channel (channel.py) answers as soon
as its loop turns.
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
_POLL_S = 0.002


class Probes:
    """The probes under way."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self.pending = 0
        """Number of calls of `probe_all` that have not ended."""

    def probe_all(self, children: Iterable[Child], done: Callable[[], None]) -> None:
        """Probe every child; call `done` when all have answered, at the latest after PATIENCE_S.

        A child that has not answered an earlier probe for that long is not waited for again.
        """
        now_s = time.monotonic()
        asked: list[Child] = []
        for child in children:
            # A child of the last program may not know the message.
            if child.channel is None or child.state not in ALIVE or child.is_inherited:
                continue
            since_s = child.channel.probe(now_s)
            if now_s - since_s < PATIENCE_S:
                asked.append(child)
        self.pending += 1
        self._poll(asked, now_s + PATIENCE_S, done)

    def _poll(self, asked: list[Child], deadline_s: float, done: Callable[[], None]) -> None:
        silent = [child for child in asked if child.channel is not None and child.channel.silent_since_s is not None]
        if silent and time.monotonic() < deadline_s:
            self._loop.later(_POLL_S, lambda: self._poll(silent, deadline_s, done))
            return
        self.pending -= 1
        done()


def silence(child: Child) -> dict[str, Any]:
    """Return the fields of `status` about a child that does not answer: since when, and what it does."""
    since_s = child.channel.silent_since_s if child.channel is not None else None
    silent_s = time.monotonic() - since_s if since_s is not None and child.state in ALIVE else 0.0
    if silent_s < PATIENCE_S:
        return {"silent_s": 0.0, "doing": ""}
    return {"silent_s": round(silent_s, 3), "doing": describe(child.pid)}
