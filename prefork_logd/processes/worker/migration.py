"""Moves connections of a worker to other workers, and takes connections over from them.

Owns which connections are held for a move, and when each is handed over: once everything read from it is committed.
Does not know pipes or the master; handover.py has the messages between two workers.

A connection is not read any more when its move begins. Its lines go to the writer with the next batch; once that batch
is committed, only the connection's state is left here. If that takes too long, or the new worker does not answer, the
connection is read here again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from prefork_logd.inputs.state import pack_one
from prefork_logd.net.load_balance import distribute
from prefork_logd.net.loop import EDGE
from prefork_logd.processes.worker.connection import Connection, ConnectionOwner
from prefork_logd.processes.worker.handover import GROUP, Giver, Taker

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping

    from prefork_logd.inputs.state import ClientState, ConnectionState
    from prefork_logd.ipc.batch_sender import BatchSender
    from prefork_logd.net.loop import Timer
    from prefork_logd.processes.worker.client_limits import ClientLimits
    from prefork_logd.processes.worker.deadlines import Deadlines
    from prefork_logd.processes.worker.guard import Guard
    from prefork_logd.processes.worker.sessions import SessionTable

COMMIT_S = 2.0
"""How long the commit of a move's last lines may take; on a full disk it never ends."""
ANSWER_S = 2.0
"""How long the other worker may take to answer an offer; a stopped worker never answers."""
LEAVE_S = 5.0
"""How long a connection is not read so that it can move; a move is tried several times meanwhile."""

ARRIVAL_S = COMMIT_S + ANSWER_S
"""How long the first offer of another worker may take; a worker that hangs must not keep this one from ending."""


class WorkerPort(ConnectionOwner, Protocol):
    """The worker."""

    link: BatchSender
    deadlines: Deadlines
    sessions: SessionTable
    connections: dict[int, Connection]
    limits: ClientLimits
    guard: Guard

    def send_batch(self) -> None:
        """Send the batch, whatever its size."""

    def close(self, connection: Connection) -> None:
        """Close a connection here; if another process has taken it over, it stays open there."""

    def adopt(self, connection: Connection, state: ConnectionState) -> None:
        """Take a connection over from another process."""


class Migration:
    """The moves of one worker: one at a time to other workers, any number from them."""

    def __init__(self, port: WorkerPort, done: Callable[[int, str], None]) -> None:
        """Call `done` after each move, with the number of connections left here and the problem."""
        self._port = port
        self._done = done
        self._routes: dict[Giver, _Route] = {}
        """The connections still to hand over, by the giver."""
        self._mark = 0
        """Every batch below this number must be committed before the offers."""
        self._waits = False
        self._problem = ""
        self._timer: Timer | None = None
        self._arrivals: set[Taker] = set()

    @property
    def busy(self) -> bool:
        """Whether connections are on their way."""
        return bool(self._routes or self._arrivals)

    @property
    def gives(self) -> bool:
        """Whether connections are on their way to other workers."""
        return bool(self._routes)

    # To other workers

    def hand_over(self, loads: tuple[int, ...], count: int, sockets: list[socket.socket]) -> None:
        """Hand `count` connections (-1: all) to the workers at the other ends of `sockets`, which hold `loads`."""
        port = self._port
        chosen = _spread(port.connections, count)
        if count < 0:
            self._let_finish()
        begin = 0
        for share, sock in zip(distribute(len(chosen), list(loads)), sockets, strict=True):
            if share:
                self._routes[Giver(port.loop, sock, self)] = _Route(chosen[begin : begin + share])
                begin += share
            else:
                sock.close()
        self._problem = ""
        if not self._routes:
            self._done(len(port.connections), "")
            return
        for route in self._routes.values():
            for connection in route.waiting:
                with port.guard.of(connection):
                    route.left_s[connection] = port.deadlines.left_s(connection)
                    port.deadlines.forget(connection)
                    connection.hold()
        port.send_batch()
        self._mark = port.link.next_number
        self._waits = True
        self._timer = port.loop.later(COMMIT_S, self._give_up)
        self.committed()

    def _let_finish(self) -> None:
        """Stop reading connections with unhandled events, so that the next move can take them.

        A client that sends without pause would otherwise keep this worker from ending, and delay an upgrade.
        """
        connections = self._port.connections.values()
        busy = [one for one in connections if one.unfinished and not one.is_leaving and one.tls is None]
        for connection in busy:
            connection.is_leaving = True
            self._port.limits.release(connection)
        if busy:
            self._port.loop.later(LEAVE_S, lambda: self._read_on(busy))

    def _read_on(self, connections: list[Connection]) -> None:
        """Read again the connections that no move has taken."""
        for connection in connections:
            with self._port.guard.of(connection):
                if connection.fd >= 0 and connection.is_leaving and not connection.held:
                    connection.go_on()

    def committed(self) -> None:
        """Make the offers if all last lines are committed now."""
        if self._waits and self._port.link.first_held >= self._mark:
            self._waits = False
            self._wait_for_answers()
            for giver in list(self._routes):
                self._offer(giver)

    def _offer(self, giver: Giver) -> None:
        """Offer the next group of a route; end the route if there is none, or the offer cannot be sent."""
        port, route = self._port, self._routes[giver]
        # Some may have been closed meanwhile, because their clients have reconnected.
        route.waiting = [connection for connection in route.waiting if connection.fd >= 0]
        group, route.waiting = route.waiting[:GROUP], route.waiting[GROUP:]
        route.offered, route.clients, states = [], [], []
        for connection in group:
            with port.guard.of(connection):
                client = port.sessions.dump_state(connection)
                states.append(pack_one(connection.dump_state(route.left_s[connection], client)))
                route.offered.append(connection)
                route.clients.append(client)
        if not route.offered and route.waiting:
            self._offer(giver)
        elif not route.offered or not giver.offer(states, [connection.fd for connection in route.offered]):
            self._end(giver)

    def accepted(self, giver: Giver) -> None:
        """Let the taker have the offered connections, close them here, and offer more."""
        route = self._routes.get(giver)
        if route is None:
            return
        if not giver.go():
            self.refused(giver)
            return
        for connection in route.offered:
            if connection.fd >= 0:
                self._port.close(connection)
        route.offered = []
        self._wait_for_answers()
        self._offer(giver)

    def refused(self, giver: Giver) -> None:
        """End the route to a worker that cannot take connections, or is dead."""
        if giver in self._routes:
            self._problem = self._problem or "another worker could not take them"
            self._end(giver)

    def _wait_for_answers(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._port.loop.later(ANSWER_S, self._give_up)

    def _give_up(self) -> None:
        if self._waits:
            self._problem = f"their last lines were not written in {COMMIT_S:g} s"
        else:
            self._problem = f"another worker did not answer in {ANSWER_S:g} s"
        self.cancel()

    def cancel(self) -> None:
        """End all routes; read connections that are not handed over here again."""
        for giver in list(self._routes):
            self._end(giver)
        self._read_on([one for one in self._port.connections.values() if one.is_leaving])

    def _end(self, giver: Giver) -> None:
        """End a route; read its remaining connections here again."""
        route = self._routes.pop(giver)
        giver.close()
        port = self._port
        for connection, client in zip(route.offered, route.clients, strict=False):
            if connection.fd >= 0 and client is not None:
                with port.guard.of(connection):
                    port.sessions.keep(connection, client)
        waits = []
        for connection in route.offered + route.waiting:
            with port.guard.of(connection):
                if connection.fd >= 0:
                    connection.go_on()
                    waits += _deadline(connection, route.left_s.get(connection))
        port.deadlines.adopt(waits)
        if not self._routes:
            self._waits = False
            if self._timer is not None:
                self._timer.cancel()
            self._done(len(port.connections), self._problem)

    # From other workers

    def take_over(self, sock: socket.socket) -> None:
        """Take over the connections that another worker offers at the other end of `sock`."""
        arrival = _Arrival(self._port, self._arrivals)
        taker = Taker(self._port.loop, sock, arrival)
        self._arrivals.add(taker)
        self._port.loop.later(ARRIVAL_S, taker.give_up)


class _Route:
    """Connections on their way to one worker."""

    def __init__(self, connections: list[Connection]) -> None:
        self.waiting = connections
        self.offered: list[Connection] = []
        self.clients: list[ClientState | None] = []
        """The session state of each offered connection."""
        self.left_s: dict[Connection, float | None] = {}


class _Arrival:
    """The connections from one other worker."""

    def __init__(self, port: WorkerPort, arrivals: set[Taker]) -> None:
        self._port = port
        self._arrivals = arrivals
        self._prepared: list[tuple[Connection, ConnectionState]] = []
        self._broken: dict[Connection, Exception] = {}
        """Prepared connections that could not be continued, and the errors."""

    def prepare(self, states: list[ConnectionState], fds: list[int]) -> bool:
        """Make connections of them that are watched but not read; return False to refuse them."""
        port = self._port
        prepared: list[tuple[Connection, ConnectionState]] = []
        self._broken.clear()
        try:
            for state, fd in zip(states, fds, strict=True):
                connection = self._load(fd, state)
                port.loop.add(fd, connection, EDGE)
                prepared.append((connection, state))
        except (OSError, ValueError):
            for connection, _ in prepared:
                port.loop.remove(connection.fd)
            return False
        self._prepared = prepared
        return True

    def _load(self, fd: int, state: ConnectionState) -> Connection:
        """Return a connection; after an unexpected error one that `begin` closes. Raises ValueError (malformed state).

        Refusing the whole group because of one connection would keep the others at the giver for good.
        """
        try:
            return Connection.load_state(self._port, fd, state)
        except (ValueError, MemoryError):
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not cost the other connections anything
            connection = Connection(self._port, fd, state.peer, state.accept, state.listener, state.tls_listener)
            connection.held = True
            self._broken[connection] = error
            return connection

    def begin(self) -> None:
        """Adopt the prepared connections, and read them."""
        prepared, self._prepared = self._prepared, []
        waits = []
        for connection, state in prepared:
            with self._port.guard.of(connection):
                self._port.adopt(connection, state)
                if connection in self._broken:
                    raise self._broken.pop(connection)
                if connection.fd >= 0:
                    waits += _deadline(connection, state.left_s)
        self._port.deadlines.adopt(waits)

    def discard(self) -> None:
        """Close the prepared connections here; they stay open at the giver."""
        prepared, self._prepared = self._prepared, []
        for connection, _ in prepared:
            with self._port.guard.of(connection):
                connection.close()

    def ended(self, taker: Taker) -> None:
        """Forget a taker; no further offer will come."""
        self._arrivals.discard(taker)


def _deadline(connection: Connection, left_s: float | None) -> list[tuple[Connection, int, float]]:
    """Return the entry of a half-received record for Deadlines.adopt; an empty list if there is none."""
    if left_s is None:
        return []
    return [(connection, connection.input.held_bytes if connection.input is not None else 0, left_s)]


def _spread(connections: Mapping[int, Connection], count: int) -> list[Connection]:
    """Return `count` of the connections (-1: all) that can move, spread evenly over old and new ones.

    The state of TLS is in OpenSSL's memory, and stays there.
    """
    free = [one for one in connections.values() if not one.held and not one.unfinished and one.tls is None]
    if count < 0 or count >= len(free):
        return free
    return [free[index * len(free) // count] for index in range(count)]
