"""Bounds the time that connections may take in one turn of the event loop: the rest of them follow in the next ones.

Owns the order in which connections are read. Does not know what is read.

asyncio hands out everything that has come in one turn: with the heads of requests, or the TLS handshakes, of 500
connections at once that would be seconds, in which nobody else gets an answer.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from typing import Protocol

TURN_S = 0.002
"""Time in one turn of the event loop."""


class Reader(Protocol):
    """A connection that has received something."""

    peer_address: str
    """The address, or of IPv6 the network, that shares its turns."""
    requests: int
    """Number of its earlier requests."""

    def read_events(self) -> None:
        """Read what has come."""


class Turns:
    """The time of one server for one kind of work, shared by its clients."""

    def __init__(self) -> None:
        self._waiting: dict[str, list[tuple[int, int, Reader]]] = {}
        """By address the connections that wait, as a heap: those with fewest requests first, the oldest among them.

        The addresses take turns."""
        self._order = itertools.count()
        self._used_s = 0.0
        """Time that this turn of the event loop has spent."""
        self._is_scheduled = False

    def take(self, reader: Reader) -> bool:
        """Read a connection, now if there is time in this turn; return whether that was now."""
        if self._waiting or self._used_s >= TURN_S:
            waiting = self._waiting.setdefault(reader.peer_address, [])
            heapq.heappush(waiting, (reader.requests, next(self._order), reader))
            self._schedule()
            return False
        self._read(reader)
        return True

    def forget(self, reader: Reader) -> None:
        """Remove a connection that has been closed."""
        waiting = self._waiting.get(reader.peer_address, [])
        left = [one for one in waiting if one[2] is not reader]
        if not left:
            self._waiting.pop(reader.peer_address, None)
        elif len(left) < len(waiting):
            heapq.heapify(left)
            self._waiting[reader.peer_address] = left

    def _read(self, reader: Reader) -> None:
        self._schedule()
        began_s = time.monotonic()
        try:
            reader.read_events()
        finally:
            self._used_s += time.monotonic() - began_s

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._begin_turn)

    def _begin_turn(self) -> None:
        """Read connections that wait, in a new turn of the event loop."""
        self._is_scheduled, self._used_s = False, 0.0
        while self._waiting and self._used_s < TURN_S:
            address = next(iter(self._waiting))
            waiting = self._waiting.pop(address)
            _, _, reader = heapq.heappop(waiting)
            if waiting:
                self._waiting[address] = waiting
            self._read(reader)
        if self._waiting:
            self._schedule()
