"""Describes one client under one limit: its budget, its connections, and the connections that belong to it.

Does not know when a connection waits or is read again (client_limits.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from prefork_logd.config.client_limits import read_peer
from prefork_logd.config.values import format_count
from prefork_logd.ipc.client_table import Usage
from prefork_logd.ipc.scoreboard import LimitField
from prefork_logd.net.peers import peer_address, peer_client
from prefork_logd.processes.worker.budget import Budget

if TYPE_CHECKING:
    from prefork_logd.config.client_limits import ClientLimitSettings
    from prefork_logd.records.sender import Sender

NO_USAGE = Usage(0, 0, 0, 0, 0)


class Known(Protocol):
    """A connection, as far as it tells who its client is."""

    fd: int
    peer: str
    peer_name: str
    session: bytes

    def find_sender(self) -> Sender:
        """Return who sends its records."""


_Connection = TypeVar("_Connection", bound=Known)


class Client(Generic[_Connection]):
    """One client under one limit."""

    def __init__(
        self, limit: ClientLimitSettings, counters: memoryview, name: str, key: int, row: int, now_s: float
    ) -> None:
        self.limit = limit
        self._counters = counters
        """Those of the limit in this worker (LimitField)."""
        self.name = name
        self.key = key
        self.row = row
        """Its place in the table that workers share; -1: none was free."""
        self.budget = Budget(limit.records_per_second, limit.bytes_per_second, limit.burst_s, now_s)
        self.connections = 0
        self.used_records = self.used_bytes = 0
        self.others = NO_USAGE
        self.synced_s = now_s
        self.waiting: dict[_Connection, None] = {}
        """Connections that are not read until the budget allows it, oldest first."""
        self.share = 0
        """Records that each connection may send until the next tick, because several wait; 0: as many as allowed."""
        self.served: dict[_Connection, int] = {}
        """Records that connections have sent of their share."""
        self._held: dict[_Connection, int] = {}
        """Bytes held for each connection that has any, for a limit of memory."""
        self.held_bytes = 0
        """Their sum."""
        self.since_s = 0.0
        """When it was first beyond its limit; 0.0 while it is within it."""
        self.beyond_s = 0.0
        """When it was last beyond."""
        self.reported_s = 0.0
        self._waited_since_s = 0.0
        """When the time for which its connections wait was last counted."""
        self._waited_s = 0.0
        self.unreported = self._dropped = self._refused = 0

    @property
    def shown(self) -> str:
        """Its name for the log. A name that the client itself chooses is quoted, and escaped."""
        return ascii(self.name) if self.limit.per in ("service", "peer_name") else self.name

    def take(self, records: int, nbytes: int) -> None:
        """Count records that this worker has taken."""
        self.budget.take(records, nbytes)
        self.used_records += records
        self.used_bytes += nbytes

    def begin_beyond(self, now_s: float) -> None:
        """Note that it is beyond its limit from now on."""
        self.since_s = self.reported_s = now_s
        self._waited_s = 0.0
        self.unreported = self._dropped = self._refused = 0
        self._counters[LimitField.LIMITED] += 1

    def end_beyond(self) -> str:
        """Note that it is within its limit again; return a summary for the log."""
        self._counters[LimitField.LIMITED] -= 1
        counted = [f"{format_count(self._dropped, 'record')} dropped" if self._dropped else "nothing dropped"]
        if self._waited_s:
            counted.append(f"its connections waited {self._waited_s:.1f} s in all")
        if self._refused:
            counted.append(f"{format_count(self._refused, 'connection')} found no place")
        return "; ".join(counted)

    @property
    def dropped(self) -> int:
        """Records dropped since it is beyond its limit."""
        return self._dropped

    def note_dropped(self, count: int) -> None:
        """Count records that were dropped."""
        self._dropped += count
        self.unreported += count
        self._counters[LimitField.DROPPED] += count

    def note_refused(self) -> None:
        """Count a connection that found no place."""
        self._refused += 1
        self._counters[LimitField.REFUSED] += 1

    def hold(self, connection: _Connection, nbytes: int) -> bool:
        """Set the bytes that are held for a connection; return whether that is too much for the client together."""
        if not self.limit.memory:
            return False
        self.held_bytes += nbytes - self._held.pop(connection, 0)
        if nbytes:
            self._held[connection] = nbytes
        return self.is_beyond_memory

    @property
    def is_beyond_memory(self) -> bool:
        """Whether more is held for its connections than its limit allows."""
        return bool(self._held) and self.held_bytes > self.limit.memory

    def largest(self) -> _Connection:
        """Return the connection for which most is held."""
        return max(self._held, key=self._held.__getitem__)

    def note_closed(self) -> None:
        """Count a connection that was closed because of the limit of memory."""
        self._counters[LimitField.CLOSED] += 1

    def begin_wait(self, connection: _Connection, now_s: float) -> None:
        """Let a connection wait."""
        self.count_waiting(now_s)
        self.waiting[connection] = None
        self._counters[LimitField.WAITS] += 1

    def end_wait(self, connection: _Connection, now_s: float) -> None:
        """Let a connection wait no more, if it does."""
        if connection in self.waiting:
            self.count_waiting(now_s)
            del self.waiting[connection]

    def count_waiting(self, now_s: float) -> None:
        """Count the time for which connections have waited until now."""
        waited_s = len(self.waiting) * max(0.0, now_s - self._waited_since_s)
        self._waited_since_s = now_s
        self._waited_s += waited_s
        self._counters[LimitField.WAITED_US] += round(waited_s * 1e6)


class Match:
    """Matches connections with a limit, and names the budget that each uses."""

    def __init__(self, limit: ClientLimitSettings) -> None:
        self._limit = limit
        self._services, self._peer_names = frozenset(limit.services), frozenset(limit.peer_names)
        self._networks = [read_peer(peer) for peer in limit.peers]

    def holds(self, connection: Known) -> bool:
        """Return whether a connection is under the limit, by the facts known so far."""
        limit = self._limit
        if limit.needs_service and not (connection.session and self._has_service(connection)):
            return False
        if limit.needs_peer_name and not connection.peer_name:
            return False
        if self._peer_names and connection.peer_name not in self._peer_names:
            return False
        if not self._networks:
            return True
        address = peer_address(connection.peer)
        if address is None:
            return None in self._networks
        return any(network is not None and address in network for network in self._networks)

    def _has_service(self, connection: Known) -> bool:
        return not self._services or connection.find_sender().service in self._services

    def client_of(self, connection: Known) -> str:
        """Return the name of the client whose budget a connection of this limit uses."""
        match self._limit.per:
            case "address":
                return peer_client(connection.peer)
            case "service":
                return connection.find_sender().service
            case "peer_name":
                return connection.peer_name
            case "connection":
                return f"{connection.peer} (descriptor {connection.fd})"
        return "all clients"


def describe_rates(limit: ClientLimitSettings) -> str:
    """Return the rates of a limit for people."""
    rates = ((limit.records_per_second, "records"), (limit.bytes_per_second, "bytes"))
    return " or ".join(f"{rate:g} {what} a second" for rate, what in rates if rate)
