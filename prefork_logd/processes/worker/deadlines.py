"""Limits how long a half-received record may take, and how much memory all of them may hold.

Owns the deadlines and the bound. Does not know how a record is read, or how a connection is closed.

Every record gets the same time, so deadlines pass in the order in which records began: one timer, for the oldest,
serves any number of connections.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefork_logd.net.peers import peer_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from prefork_logd.net.loop import Loop, Timer
    from prefork_logd.processes.worker.connection import Connection

HELD_BYTES = 256 << 20
"""Bytes of half-received records over all connections; above it the largest of the peer that holds most is given up."""


class Deadlines:
    """The deadlines of one process's connections."""

    def __init__(
        self, loop: Loop, give_up: Callable[[Connection, str], None], is_late: Callable[[Connection], bool]
    ) -> None:
        """Close connections through `give_up`, which gets the reason and must call `forget`.

        A connection that is not late when its deadline passes, because this process has not read all that its client
        has sent, gets the full time once more.
        """
        self._loop = loop
        self._give_up = give_up
        self._is_late = is_late
        self._timeout_s = 0.0
        self._paused = False
        self._entries: dict[Connection, tuple[float, int]] = {}
        """Connection to (deadline, bytes held), the oldest first."""
        self._held_bytes = 0
        self._timer: Timer | None = None

    def begin(self, connection: Connection, held_bytes: int, *, is_new: bool) -> None:
        """Record that a connection holds a half-received record; `is_new`: another one than before."""
        old = self._entries.get(connection)
        if old is None or is_new:
            self._entries.pop(connection, None)
            self._entries[connection] = (self._loop.now_s + self._timeout_s, held_bytes)
        else:
            self._entries[connection] = (old[0], held_bytes)
        self._held_bytes += held_bytes - (old[1] if old is not None else 0)
        self._arm()
        self._bound()

    def _bound(self) -> None:
        """Give up the largest connections until there is room."""
        while self._held_bytes > HELD_BYTES:
            most = self._largest()
            self.forget(most)
            self._give_up(most, "no room for more half-received records")

    def _largest(self) -> Connection:
        """Return the connection that holds most, of the peer that holds most.

        Not the oldest: an honest client may be slow, and an attacker's connections are the youngest.
        """
        peers: dict[int, int] = {}
        for connection, (_, held_bytes) in self._entries.items():
            key = peer_key(connection.peer)
            peers[key] = peers.get(key, 0) + held_bytes
        peer = max(peers, key=peers.__getitem__)
        held = {one: nbytes for one, (_, nbytes) in self._entries.items() if peer_key(one.peer) == peer}
        return max(held, key=held.__getitem__)

    def left_s(self, connection: Connection) -> float | None:
        """Return the time left for the connection's half-received record; None if it has none."""
        entry = self._entries.get(connection)
        return None if entry is None else max(0.0, entry[0] - self._loop.now_s)

    def adopt(self, connections: Iterable[tuple[Connection, int, float]]) -> None:
        """Continue deadlines that began in another worker: (connection, bytes held, seconds left)."""
        for connection, held_bytes, left_s in connections:
            self._entries[connection] = (self._loop.now_s + min(left_s, self._timeout_s), held_bytes)
            self._held_bytes += held_bytes
        self._entries = dict(sorted(self._entries.items(), key=lambda item: item[1][0]))
        if self._timer is not None:
            self._timer.cancel()
        self._arm()
        if self._held_bytes > HELD_BYTES:
            # The caller still uses the connections.
            self._loop.later(0.0, self._bound)

    def forget(self, connection: Connection) -> None:
        """End the deadline of a connection, if it has one."""
        entry = self._entries.pop(connection, None)
        if entry is not None:
            self._held_bytes -= entry[1]

    def restart(self, timeout_s: float) -> None:
        """Set the time for a record, and start every deadline again."""
        self._timeout_s = timeout_s
        deadline_s = self._loop.now_s + timeout_s
        self._entries = {connection: (deadline_s, held) for connection, (_, held) in self._entries.items()}
        if self._timer is not None:
            self._timer.cancel()
        self._arm()

    def pause(self) -> None:
        """Stop all deadlines, while the worker itself pauses reading."""
        self._paused = True

    def resume(self) -> None:
        """Start every deadline again, with the full time."""
        self._paused = False
        self.restart(self._timeout_s)

    def _arm(self) -> None:
        """Start the timer if there is a deadline and it does not run."""
        if self._entries and not self._paused and (self._timer is None or not self._timer.pending):
            deadline_s, _ = next(iter(self._entries.values()))
            self._timer = self._loop.later(max(0.0, deadline_s - self._loop.now_s), self._enforce)

    def _enforce(self) -> None:
        """Give up the connections whose deadlines have passed."""
        while self._entries and not self._paused:
            connection, (deadline_s, held_bytes) = next(iter(self._entries.items()))
            if deadline_s > self._loop.now_s:
                break
            if not self._is_late(connection):
                self.begin(connection, held_bytes, is_new=True)
                continue
            self.forget(connection)
            self._give_up(connection, f"a record was not complete after {self._timeout_s:g} s")
        self._arm()
