"""Half-received records: how long each may take, and how much all of them may hold.

Owns the deadlines and the bound. What is half received is told by whoever reads; what is done with a connection that
took too long is the owner's business.

Every record has the same time, so the order in which they began is the order in which they are due: one timer, for the
oldest, serves any number of connections.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefork_logd.net.peers import peer_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from prefork_logd.net.loop import Loop, Timer
    from prefork_logd.processes.worker.connection import Connection

HELD_BYTES = 256 << 20
"""Of half-received records over all connections; above it one is given up: the largest of the peer that holds most."""


class Deadlines:
    """The deadlines of one process's connections."""

    def __init__(self, loop: Loop, give_up: Callable[[Connection, str], None]) -> None:
        """Let `give_up` close a connection (which is to call `forget`), and say why."""
        self._loop = loop
        self._give_up = give_up
        self._timeout_s = 0.0
        self._paused = False
        self._entries: dict[Connection, tuple[float, int]] = {}
        """Connection to (deadline, bytes held), the oldest first."""
        self._held_bytes = 0
        self._timer: Timer | None = None

    def begin(self, connection: Connection, held_bytes: int, *, anew: bool) -> None:
        """Note that a record is half received; `anew`: not the one that was before."""
        old = self._entries.get(connection)
        if old is None or anew:
            self._entries.pop(connection, None)
            self._entries[connection] = (self._loop.now_s + self._timeout_s, held_bytes)
        else:
            self._entries[connection] = (old[0], held_bytes)
        self._held_bytes += held_bytes - (old[1] if old is not None else 0)
        self._arm()
        while self._held_bytes > HELD_BYTES:
            most = self._largest()
            self.forget(most)
            self._give_up(most, "no room for more half-received records")

    def _largest(self) -> Connection:
        """Return the connection that holds most, of the peer that holds most.

        Not the oldest: honest clients may be slow, and an attacker's are the youngest ones.
        """
        peers: dict[int, int] = {}
        for connection, (_, held_bytes) in self._entries.items():
            key = peer_key(connection.peer)
            peers[key] = peers.get(key, 0) + held_bytes
        peer = max(peers, key=peers.__getitem__)
        held = {one: nbytes for one, (_, nbytes) in self._entries.items() if peer_key(one.peer) == peer}
        return max(held, key=held.__getitem__)

    def left_s(self, connection: Connection) -> float | None:
        """Return how long a record may still take; None where none is half received."""
        entry = self._entries.get(connection)
        return None if entry is None else max(0.0, entry[0] - self._loop.now_s)

    def adopt(self, connections: Iterable[tuple[Connection, int, float]]) -> None:
        """Go on with deadlines that began elsewhere: (connection, bytes held, seconds left)."""
        for connection, held_bytes, left_s in connections:
            self._entries[connection] = (self._loop.now_s + min(left_s, self._timeout_s), held_bytes)
            self._held_bytes += held_bytes
        self._entries = dict(sorted(self._entries.items(), key=lambda item: item[1][0]))
        if self._timer is not None:
            self._timer.cancel()
        self._arm()

    def forget(self, connection: Connection) -> None:
        """Note that nothing is half received."""
        entry = self._entries.pop(connection, None)
        if entry is not None:
            self._held_bytes -= entry[1]

    def restart(self, timeout_s: float) -> None:
        """Give every record this time from now on."""
        self._timeout_s = timeout_s
        deadline_s = self._loop.now_s + timeout_s
        self._entries = {connection: (deadline_s, held) for connection, (_, held) in self._entries.items()}
        if self._timer is not None:
            self._timer.cancel()
        self._arm()

    def pause(self) -> None:
        """Let no time run: the connections are not read, for reasons of ours."""
        self._paused = True

    def resume(self) -> None:
        """Let the time run again, from its beginning."""
        self._paused = False
        self.restart(self._timeout_s)

    def _arm(self) -> None:
        """See that the timer runs if there is something to wait for."""
        if self._entries and not self._paused and (self._timer is None or not self._timer.pending):
            deadline_s, _ = next(iter(self._entries.values()))
            self._timer = self._loop.later(max(0.0, deadline_s - self._loop.now_s), self._enforce)

    def _enforce(self) -> None:
        """Give up what is overdue."""
        while self._entries and not self._paused:
            connection, (deadline_s, _) = next(iter(self._entries.items()))
            if deadline_s > self._loop.now_s:
                break
            self.forget(connection)
            self._give_up(connection, f"a record was not complete after {self._timeout_s:g} s")
        self._arm()
