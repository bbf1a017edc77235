"""Decides which connection is read next, so that each gets a fair share of the worker's time.

Owns the slices of time and the order between connections that wait and those that have just become ready. Does not know
what is read.

A connection that has more than its slice can take waits for another turn, and those that wait are served one after the
other. A connection that becomes ready need not wait behind them while it has used less time than they were given since:
so a client that sends little is read within about a slice, however much others send, and one that sends much cannot
pass for one that sends little. The same holds for all connections of an address together: one with few connections does
not wait for the many of another one. A turn in which many become ready is long, and those that come late in it have the
next one.

That is start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996), with the queue served in order of arrival; RFC
8290 does the like for packets.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol, TypeVar

from prefork_logd.net.peers import peer_key

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prefork_logd.net.loop import Loop

MOST_ADDRESSES = 1024
"""Addresses above which those are forgotten that have used no more than their share."""
SLICE_S = 0.001
"""A connection's share of a turn; then other connections, the master's messages and signals are handled."""


class Shared(Protocol):
    """A connection, as far as its share is concerned."""

    peer: str
    """Its address (net/peers.py)."""
    paid_s: float
    """The virtual time at which it has used no more than its share."""

    def ready(self, events: int, /) -> None:
        """Go on with it (net/loop.py)."""


_Shared = TypeVar("_Shared", bound=Shared)


class Shares:
    """The time of one worker, shared by its connections."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._virtual_s = 0.0
        """Time that each waiting connection was given: it passes slower, the more of them there are."""
        self._addresses = _Addresses()
        self._began_s = self._began_cpu_s = 0.0
        self._is_contended = False
        """Whether connections have waited when the present slice began."""
        self.end_s = 0.0
        """When the present slice is over, on the monotonic clock, in seconds."""
        self.is_pressing = False
        """Whether a connection was read before those that wait, and its records are not sent on yet."""

    def is_due(self, connection: Shared) -> bool:
        """Return whether a connection that has become ready is read before those that wait."""
        return not self._loop.is_long and (not self._loop.waiting or self._ahead_s(connection) <= 0)

    def queue(self, connection: _Shared) -> None:
        """Give another turn to a connection that has become ready and is not due.

        One that only the length of this turn keeps from its share does not wait behind those that wait: thousands of
        noisy connections make every turn long. The connections of a noisy address come behind others, also if they have
        used little; while others make every turn long, they alternate with those that wait.
        """
        if self._addresses.ahead_s(connection.peer) <= 0:
            self._loop.soon(connection, first=True)
        elif connection.paid_s <= self._virtual_s:
            self._loop.soon(connection, first=False)
        else:
            self._loop.again(connection)

    def _ahead_s(self, connection: Shared) -> float:
        """Return how much more than its share a connection has used, or its address, if that is less; in seconds."""
        return min(connection.paid_s - self._virtual_s, self._addresses.ahead_s(connection.peer))

    def begin(self) -> None:
        """Start a slice."""
        self._began_s = time.monotonic()
        self.end_s = self._began_s + SLICE_S
        # On a busy machine this process may be kept from the processor for longer than all of a client's records take.
        self._is_contended = self._loop.waiting > 0
        if self._is_contended:
            self._began_cpu_s = time.thread_time()

    def end(self, connection: Shared, *, waited: bool) -> None:
        """Count the used part of a connection's slice; `waited`: it was one of those that wait."""
        waiting = self._loop.waiting
        used_s = time.thread_time() - self._began_cpu_s if self._is_contended else time.monotonic() - self._began_s
        if waited:
            self._virtual_s += used_s / max(1, waiting)
        elif waiting:
            self.is_pressing = True
        # Nobody is kept waiting by a connection that is alone.
        connection.paid_s = max(connection.paid_s, self._virtual_s) + used_s if waiting else 0.0
        self._addresses.count(connection.peer, used_s, waiting, waited=waited)

    def in_order(self, connections: Iterable[_Shared]) -> list[_Shared]:
        """Return connections that have waited for the same event, those first that have used least.

        In order of arrival those that become ready early in a pause would come first every time: they send little at a
        time, and others would never get a slice between two pauses.
        """
        return sorted(connections, key=lambda connection: (self._ahead_s(connection), connection.paid_s))

    @property
    def is_over(self) -> bool:
        """Whether the present slice is over."""
        return time.monotonic() >= self.end_s


class _Addresses:
    """The time that the connections of each address have used together."""

    def __init__(self) -> None:
        self._virtual_s = 0.0
        """Time that each address with waiting connections was given."""
        self._paid_s: dict[int, float] = {}
        """The virtual time at which an address has used no more than its share, as far as that is in the future."""
        self._slices = 0
        self._served: dict[int, int] = {}
        """By address of those that wait the last of these slices, the oldest first."""

    def ahead_s(self, peer: str) -> float:
        """Return how much more than its share an address has used, in seconds.

        Half a slice is not counted: several of its connections may become ready in the same turn.
        """
        paid_s = self._paid_s.get(peer_key(peer), 0.0)
        return paid_s - self._virtual_s - SLICE_S / 2

    def count(self, peer: str, used_s: float, waiting: int, *, waited: bool) -> None:
        """Count a slice of a connection, while `waiting` connections wait; `waited`: it was one of these."""
        key = peer_key(peer)
        if waited:
            self._slices += 1
            self._served.pop(key, None)
            self._served[key] = self._slices
            # Those that wait take turns, so each has been served within so many slices.
            while self._served[oldest := next(iter(self._served))] < self._slices - waiting:
                del self._served[oldest]
            self._virtual_s += used_s / len(self._served)
        if waiting:
            self._paid_s[key] = max(self._paid_s.get(key, 0.0), self._virtual_s) + used_s
        else:
            self._paid_s.clear()
        if len(self._paid_s) > MOST_ADDRESSES:
            self._paid_s = {key: paid_s for key, paid_s in self._paid_s.items() if paid_s > self._virtual_s}
