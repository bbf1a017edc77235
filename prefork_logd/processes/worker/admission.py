"""Decides which connections of a worker get a place, and whether the others wait, are answered BUSY or closed.

Owns the places (limits.max_connections, over all workers), the share of one peer, and the room for connections without
a place. Knows protocols only by their first byte.

A connection takes a place with its first byte; one that has never sent a byte takes none. When every place is taken,

- a client of a session is read up to its HELLO, which is answered BUSY: it keeps its records and connects again;
- a client of plain frames waits unread, as it would in the kernel's backlog, and gets the next free place; when the
  room is full of such clients, the youngest one of the peer with the most is closed: else one peer could fill the room,
  and other clients would get no answer;
- a connection that has never sent a byte may be closed when its room is needed. Its client loses nothing: it has sent
  no record, and SocketHandler connects when it has one to send.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from prefork_logd.inputs.detect import is_answered
from prefork_logd.ipc.scoreboard import Field
from prefork_logd.net.peers import peer_key
from prefork_logd.processes.worker.connection import peek
from prefork_logd.system.log import RateLimitedLog

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefork_logd.net.loop import Loop, Timer
    from prefork_logd.processes.worker.client_limits import ClientLimits
    from prefork_logd.processes.worker.connection import Connection

SMALLEST_ROOM = 64
"""Connections without a place that are held over all workers; the number of places, if that is higher."""
SPARE = 4
"""Kept free in the room for the next connections."""
SILENT_S = 0.25
"""A connection that has been silent for less is not closed: its first bytes may be on their way."""
RETRY_S = 0.1
"""How often a worker checks whether a place has become free in another worker."""


class WorkerPort(Protocol):
    """The worker."""

    loop: Loop
    counters: memoryview
    connections: dict[int, Connection]
    limits: ClientLimits

    @property
    def draining(self) -> bool:
        """Whether all connections are read, with or without a place, because the worker ends."""

    def close(self, connection: Connection) -> None:
        """Close a connection."""


class Admission:
    """The places of one worker."""

    def __init__(self, port: WorkerPort, total: Callable[[Field], int], most_own: int) -> None:
        """Hold at most `most_own` connections here; `total` returns a counter's sum over all workers."""
        self._port = port
        self._total = total
        self._most_own = most_own
        self._places = 1
        self._places_of_a_peer = 1
        self._placed: dict[Connection, int] = {}
        """Connections that have a place, and their peers."""
        self._by_peer: dict[int, int] = {}
        self._silent: dict[int, dict[Connection, float]] = {}
        """By peer the connections that may be closed, and their times of arrival, oldest first.

        They have sent nothing, or a part of a HELLO that will be answered BUSY."""
        self._waiting: dict[Connection, None] = {}
        """Plain clients that wait for a place, oldest first."""
        self._waiting_of: dict[int, dict[Connection, None]] = {}
        """The same by peer."""
        self._none_until_s = 0.0
        """Until when silent connections are not searched again, because none could be closed."""
        self._timer: Timer | None = None
        self._full = RateLimitedLog(burst=1, per_second=1 / 60)

    def configure(self, places: int, places_of_a_peer: int) -> int:
        """Set the limits (0 for a peer: nine tenths of all); return the most connections that may be held."""
        self._places = places
        self._places_of_a_peer = places_of_a_peer or places - places // 10
        self._port.counters[Field.PLACED] = len(self._placed)
        return places + self._room

    @property
    def _room(self) -> int:
        return max(SMALLEST_ROOM, self._places)

    def arrived(self, connection: Connection) -> None:
        """Add a new connection to the room, and make room for the next one."""
        self._silent.setdefault(peer_key(connection.peer), {})[connection] = self._port.loop.now_s
        self._make_room()

    def _make_room(self) -> None:
        """Close silent connections while there are too many; try again later if they are too young."""
        held = self._total(Field.CONNECTIONS) + SPARE - self._places - self._room
        own = len(self._port.connections) + SPARE - self._most_own
        for _ in range(max(0, held, own)):
            if not self._close_a_silent_one() and not self._close_a_waiting_one():
                if self._silent:
                    self._check_within(RETRY_S)
                break

    def adopted(self, connection: Connection) -> None:
        """Add a connection from another worker; it keeps its place if it has sent anything."""
        if connection.input is None:
            self.arrived(connection)
        else:
            self._place(connection)

    def enter(self, connection: Connection) -> bool:
        """Decide whether a ready connection without a place is read; return the decision."""
        if self._port.draining or self._has_place(connection):
            self._place(connection)
            return True
        first = connection.peek()
        if first is None:
            return False
        if first:
            self._full.warning(
                "every place is taken (limits.max_connections is %d, %d per address) or in a [[limit]]; %s waits",
                self._places,
                self._places_of_a_peer,
                connection.peer,
            )
        if not first or is_answered(first, connection.accept):
            # Read it until its answer is known: none, BUSY, or an error.
            self._port.limits.note_refused(connection)
            connection.placed = connection.is_refused = True
            return True
        self._remove_silent(connection)
        if connection not in self._waiting:
            self._port.limits.note_refused(connection)
        self._waiting[connection] = None
        self._waiting_of.setdefault(peer_key(connection.peer), {})[connection] = None
        self._check_within(RETRY_S)
        return False

    def left(self, connection: Connection) -> None:
        """Remove a connection that is being closed, and free its place."""
        self._remove_silent(connection)
        self._remove_waiting(connection)
        peer = self._placed.pop(connection, None)
        if peer is not None:
            self._by_peer[peer] -= 1
            if not self._by_peer[peer]:
                del self._by_peer[peer]
            self._port.counters[Field.PLACED] = len(self._placed)
            if self._waiting:
                self._check_within(0.0)

    def _has_place(self, connection: Connection) -> bool:
        taken = self._total(Field.PLACED)
        if taken >= self._places or not self._port.limits.has_room(connection):
            return False
        # Clients are spread over the workers, so a peer's share of the places here is about its share of all.
        own = len(self._placed)
        return not own or self._by_peer.get(peer_key(connection.peer), 0) * taken < self._places_of_a_peer * own

    def _place(self, connection: Connection) -> None:
        self._remove_silent(connection)
        self._remove_waiting(connection)
        connection.placed = True
        peer = self._placed[connection] = peer_key(connection.peer)
        self._by_peer[peer] = self._by_peer.get(peer, 0) + 1
        self._port.counters[Field.PLACED] = len(self._placed)
        self._port.limits.identify(connection)

    def _remove_silent(self, connection: Connection) -> None:
        peer = peer_key(connection.peer)
        silent = self._silent.get(peer)
        if silent is not None:
            silent.pop(connection, None)
            if not silent:
                del self._silent[peer]

    def _remove_waiting(self, connection: Connection) -> None:
        if connection in self._waiting:
            del self._waiting[connection]
            peer = peer_key(connection.peer)
            del self._waiting_of[peer][connection]
            if not self._waiting_of[peer]:
                del self._waiting_of[peer]

    def _close_a_waiting_one(self) -> bool:
        """Close the youngest waiting client of the peer with the most; return False if no peer has several."""
        most = max(self._waiting_of.values(), key=len, default={})
        if len(most) < 2:
            return False
        self._port.counters[Field.DROPPED] += 1
        self._port.close(next(reversed(most)))
        return True

    def _close_a_silent_one(self) -> bool:
        """Close the oldest silent connection of the peer with the most; return False if there is none."""
        now_s = self._port.loop.now_s
        if now_s < self._none_until_s:
            return False
        for silent in sorted(self._silent.values(), key=len, reverse=True):
            found = _oldest_silent(silent, now_s)
            if found is not None:
                self._port.close(found)
                return True
        self._none_until_s = now_s + RETRY_S
        return False

    def _check_within(self, delay_s: float) -> None:
        if self._timer is not None and self._timer.pending:
            if self._timer.when_s <= self._port.loop.now_s + delay_s:
                return
            self._timer.cancel()
        self._timer = self._port.loop.later(delay_s, self._place_waiting)

    def _place_waiting(self) -> None:
        """Make room, and give free places to waiting clients, oldest first."""
        self._make_room()
        full: set[int] = set()
        for connection in list(self._waiting):
            peer = peer_key(connection.peer)
            if peer in full:
                continue
            if self._has_place(connection):
                self._place(connection)
                if not connection.queued:
                    connection.queued = True
                    self._port.loop.again(connection)
            elif self._total(Field.PLACED) >= self._places:
                break
            else:
                full.add(peer)
        if self._waiting:
            self._check_within(RETRY_S)


def _oldest_silent(silent: dict[Connection, float], now_s: float) -> Connection | None:
    """Return the oldest connection of a peer that has been silent for SILENT_S; None if there is none.

    A connection with unread bytes is kept: they are handled in its own turn, which may take long where many handshakes
    of TLS wait. It becomes the youngest, so that a flood of such clients does not cost a system call for each of them
    with each new connection.
    """
    found, kept = None, []
    for connection, since_s in silent.items():
        if since_s > now_s - SILENT_S:
            break
        if connection.is_refused or peek(connection.fd) is None:
            found = connection
            break
        kept.append(connection)
    for connection in kept:
        del silent[connection]
        silent[connection] = now_s
    return found
