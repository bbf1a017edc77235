"""Decides which connections of a worker have a place, and whether the others wait, are answered BUSY or closed.

Owns the places (limits.max_connections, over all workers), a peer's part of them, and the room in front of them. Knows
protocols only by their first byte.

A connection takes a place with its first byte; one that has never sent a byte takes none. When every place is taken,

- a client of a session is read up to its HELLO, which is answered BUSY: it keeps its records and comes again;
- a client that speaks plain frames waits unread, as it would in the kernel's backlog, and has the next free place;
  where the room is full of such clients, the youngest of the peer that has most of them is closed: else one peer could
  fill the room, and nobody else would be answered at all;
- a connection that has never sent a byte may be closed when its room is needed. That costs its client nothing: it has
  sent no record, and SocketHandler connects when it has one to send.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Protocol

from prefork_logd.inputs.detect import is_answered
from prefork_logd.ipc.scoreboard import Field
from prefork_logd.net.peers import peer_key
from prefork_logd.system.log import RateLimitedLog

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefork_logd.net.loop import Loop, Timer
    from prefork_logd.processes.worker.connection import Connection

SMALLEST_ROOM = 64
"""Connections without a place, over all workers; as many as there are places, if that is more."""
SPARE = 4
"""Kept free in the room, for those to come."""
SILENT_S = 0.25
"""A connection that has been silent for less is not closed: its first bytes may be on their way."""
RETRY_S = 0.1
"""How often a worker looks whether another one has a place for its clients that wait."""


class WorkerPort(Protocol):
    """The worker."""

    loop: Loop
    counters: memoryview
    connections: dict[int, Connection]

    @property
    def draining(self) -> bool:
        """Whether everything that clients have sent is to be read, places or not."""

    def close(self, connection: Connection) -> None:
        """Close a connection."""


class Admission:
    """The places of one worker."""

    def __init__(self, port: WorkerPort, total: Callable[[Field], int], most_own: int) -> None:
        """Count with `total` what all workers have; hold at most `most_own` connections here."""
        self._port = port
        self._total = total
        self._most_own = most_own
        self._places = 1
        self._places_of_a_peer = 1
        self._placed: dict[Connection, int] = {}
        """Connections that have a place, and their peers."""
        self._by_peer: dict[int, int] = {}
        self._silent: dict[int, dict[Connection, float]] = {}
        """By peer the connections that may be closed, and when they came, the oldest first.

        They have sent nothing, or a part of a HELLO that will be answered BUSY."""
        self._waiting: dict[Connection, None] = {}
        """Plain clients that wait for a place, the one that has waited longest first."""
        self._waiting_of: dict[int, dict[Connection, None]] = {}
        """The same by peer."""
        self._timer: Timer | None = None
        self._full = RateLimitedLog(burst=1, per_second=1 / 60)

    def configure(self, places: int, places_of_a_peer: int) -> int:
        """Take the limits (0 for a peer: nine tenths of all); return how many connections may be held."""
        self._places = places
        self._places_of_a_peer = places_of_a_peer or places - places // 10
        self._port.counters[Field.PLACED] = len(self._placed)
        return places + self._room

    @property
    def _room(self) -> int:
        return max(SMALLEST_ROOM, self._places)

    def arrived(self, connection: Connection) -> None:
        """Take a connection into the room, and make room for the next one."""
        self._silent.setdefault(peer_key(connection.peer), {})[connection] = self._port.loop.now_s
        self._make_room()

    def _make_room(self) -> None:
        """Close silent connections where there are too many; look again if they are too young for it."""
        held = self._total(Field.CONNECTIONS) + SPARE - self._places - self._room
        own = len(self._port.connections) + SPARE - self._most_own
        for _ in range(max(0, held, own)):
            if not self._close_a_silent_one() and not self._close_a_waiting_one():
                if self._silent:
                    self._look_again(RETRY_S)
                break

    def adopted(self, connection: Connection) -> None:
        """Take a connection from another worker: one that has begun to speak keeps its place."""
        if connection.input is None:
            self.arrived(connection)
        else:
            self._place(connection)

    def enter(self, connection: Connection) -> bool:
        """Decide about a connection that has something to read and no place; return whether it is to be read."""
        if self._port.draining or self._has_place(connection):
            self._place(connection)
            return True
        first = peek(connection.fd)
        if first is None:
            return False
        if first:
            self._full.warning(
                "every place is taken (limits.max_connections is %d, %d for an address); %s has to wait",
                self._places,
                self._places_of_a_peer,
                connection.peer,
            )
        if not first or is_answered(first, connection.accept):
            # Read until the answer is known: none, BUSY, or an error.
            connection.placed = connection.is_refused = True
            return True
        self._leave_silent(connection)
        self._waiting[connection] = None
        self._waiting_of.setdefault(peer_key(connection.peer), {})[connection] = None
        self._look_again(RETRY_S)
        return False

    def left(self, connection: Connection) -> None:
        """Note that a connection is being closed."""
        self._leave_silent(connection)
        self._leave_waiting(connection)
        peer = self._placed.pop(connection, None)
        if peer is not None:
            self._by_peer[peer] -= 1
            if not self._by_peer[peer]:
                del self._by_peer[peer]
            self._port.counters[Field.PLACED] = len(self._placed)
            if self._waiting:
                self._look_again(0.0)

    def _has_place(self, connection: Connection) -> bool:
        taken = self._total(Field.PLACED)
        if taken >= self._places:
            return False
        # Clients are spread over the workers: what part of its own a peer has here is about its part of all.
        own = len(self._placed)
        return not own or self._by_peer.get(peer_key(connection.peer), 0) * taken < self._places_of_a_peer * own

    def _place(self, connection: Connection) -> None:
        self._leave_silent(connection)
        self._leave_waiting(connection)
        connection.placed = True
        peer = self._placed[connection] = peer_key(connection.peer)
        self._by_peer[peer] = self._by_peer.get(peer, 0) + 1
        self._port.counters[Field.PLACED] = len(self._placed)

    def _leave_silent(self, connection: Connection) -> None:
        peer = peer_key(connection.peer)
        silent = self._silent.get(peer)
        if silent is not None:
            silent.pop(connection, None)
            if not silent:
                del self._silent[peer]

    def _leave_waiting(self, connection: Connection) -> None:
        if connection in self._waiting:
            del self._waiting[connection]
            peer = peer_key(connection.peer)
            del self._waiting_of[peer][connection]
            if not self._waiting_of[peer]:
                del self._waiting_of[peer]

    def _close_a_waiting_one(self) -> bool:
        """Close the youngest of the peer that has most, if it has several; return whether there was one."""
        most = max(self._waiting_of.values(), key=len, default={})
        if len(most) < 2:
            return False
        self._port.counters[Field.DROPPED] += 1
        self._port.close(next(reversed(most)))
        return True

    def _close_a_silent_one(self) -> bool:
        """Close the oldest of the peer that has most; return whether there was one."""
        latest_s = self._port.loop.now_s - SILENT_S
        for silent in sorted(self._silent.values(), key=len, reverse=True):
            for connection, since_s in silent.items():
                if since_s > latest_s:
                    break
                # Bytes that came just now are looked at in the connection's own turn.
                if connection.is_refused or peek(connection.fd) is None:
                    self._port.close(connection)
                    return True
        return False

    def _look_again(self, delay_s: float) -> None:
        if self._timer is not None and self._timer.pending:
            if self._timer.when_s <= self._port.loop.now_s + delay_s:
                return
            self._timer.cancel()
        self._timer = self._port.loop.later(delay_s, self._look)

    def _look(self) -> None:
        """Let those in for whom there is a place, the one that has waited longest first, and make room."""
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
            self._look_again(RETRY_S)


def peek(fd: int) -> bytes | None:
    """Return the first byte that waits to be read; empty at end-of-file, and None if there is nothing yet."""
    sock = socket.socket(fileno=fd)
    try:
        return sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return None
    except OSError:
        return b""
    finally:
        sock.detach()
