"""Bounds the time that the heads of requests take: the lines of one head, and all heads of a turn of the event loop.

Owns the order in which connections are read. Does not know requests (server.py).

h11 needs up to 40 ms for a head of 32 KiB with 8,000 lines, and 8 ms for one long line. asyncio hands out everything
that has come in one turn: from 500 connections at once that would be seconds, in which nobody else gets an answer.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from typing import TYPE_CHECKING, Protocol

import h11

if TYPE_CHECKING:
    from h11 import Event

MOST_HEAD_BYTES = 32_768
MOST_HEAD_LINES = 128
"""Lines of a head, those of a folded header (RFC 9112, section 5.2) included. Browsers send about 20."""
TURN_S = 0.002
"""Time for heads in one turn of the event loop; the rest of them follow in the next one."""
_TOO_LARGE = 431
"""Request Header Fields Too Large (RFC 6585, section 5)."""


class BoundedHeads(h11.Connection):
    """The server's side of a connection, which refuses heads of too many lines."""

    def __init__(self) -> None:
        super().__init__(h11.SERVER, MOST_HEAD_BYTES)

    def next_event(self) -> type[h11.NEED_DATA | h11.PAUSED] | Event:
        """Return the next event. Raises h11.RemoteProtocolError for a head of too many lines, before it is read."""
        if self.their_state is h11.IDLE:
            received, _ = self.trailing_data
            if _lines_of_head(received) > MOST_HEAD_LINES:
                raise h11.RemoteProtocolError("too many header lines", _TOO_LARGE)
        return super().next_event()


def _lines_of_head(received: bytes) -> int:
    """Return the number of lines in a head, or in as much of one as has come."""
    end = received.find(b"\n\r\n", 0, MOST_HEAD_BYTES)
    end = MOST_HEAD_BYTES if end < 0 else end
    blank = received.find(b"\n\n", 0, end)
    return received.count(b"\n", 0, end if blank < 0 else blank)


class Reader(Protocol):
    """A connection whose received bytes may hold a head."""

    peer_address: str
    requests: int
    """Number of its earlier requests."""

    def read_events(self) -> None:
        """Read what has come up to the next request."""


class HeadTurns:
    """The time of one server for heads, shared by its clients."""

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
