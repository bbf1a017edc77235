"""Keeps the limits of `[[limit]]`: counts what each client sends, and lets connections of one beyond its budget wait.

Owns which limits a connection is under, the clients that are remembered, and the log lines about them. Does not know
protocols or records: intake.py asks how many records it may take, and drops those that the limit says to drop.

All workers keep a limit together: each writes what a client has used into a table (ipc/client_table.py), and reads
there, every SYNC_S, what the others have written. A connection beyond its budget is not read, so the kernel's buffers
fill and its client waits; others are not affected.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple, Protocol

from prefork_logd.config.values import format_count
from prefork_logd.ipc.client_table import Usage
from prefork_logd.ipc.scoreboard import Field, LimitField
from prefork_logd.processes.worker.held_memory import HeldMemory, find_able, find_full
from prefork_logd.processes.worker.limited_client import NO_USAGE, Client, Match, describe_rates
from prefork_logd.system.log import RateLimitedLog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from prefork_logd.config.client_limits import ClientLimitSettings
    from prefork_logd.ingest.dispatcher import Dispatcher
    from prefork_logd.ipc.scoreboard import Scoreboard
    from prefork_logd.net.loop import Loop, Timer
    from prefork_logd.processes.worker.connection import Connection

MOST_REMEMBERED = 512
"""Clients without a connection that are remembered; a forgotten one gets a new burst."""
TICK_S = 0.05
"""How often connections that wait are looked at."""
SYNC_S = 0.02
"""How often a client's use in other workers is read."""
END_S = 10.0
"""A client that has kept its limit for so long is within it again. Drops are reported as often."""


class WorkerPort(Protocol):
    """The worker."""

    loop: Loop
    counters: memoryview
    connections: dict[int, Connection]
    dispatcher: Dispatcher


class _Limit(NamedTuple):
    """A limit."""

    settings: ClientLimitSettings
    match: Match
    slot: int
    """Its slot on the scoreboard."""
    counters: memoryview
    """Its counters in this worker (LimitField)."""


class ClientLimits:
    """The limits of one worker.

    Longer than other classes: the places, rates and memory of a client depend on each other.
    """

    def __init__(
        self, port: WorkerPort, board: Scoreboard, slot: int, give_up: Callable[[Connection, str], None]
    ) -> None:
        """Share the use of clients on `board`; close connections through `give_up`, which gets the reason."""
        self._port = port
        self.memory = HeldMemory(port.loop, give_up)
        self._board = board
        self._slot = slot
        self._limits: list[_Limit] = []
        self._clients: dict[tuple[int, str], Client[Connection]] = {}
        self._idle: OrderedDict[Client[Connection], tuple[int, str]] = OrderedDict()
        """Clients without a connection here, the least recently used first."""
        self._beyond: dict[Client[Connection], None] = {}
        """Clients that are beyond their limit, or were a short time ago."""
        self._short: Client[Connection] | None = None
        """The client whose budget ended the last `allowance`."""
        self._is_lifted = False
        self._timer: Timer | None = None
        self._warnings = RateLimitedLog()
        board.clients.clear(slot)

    def configure(self, limits: Sequence[ClientLimitSettings], limit_ids: Sequence[int] = ()) -> None:
        """Keep these limits from now on. Clients of changed limits begin with a full budget.

        `limit_ids` has the slot of each on the scoreboard; without it they are numbered.
        """
        slots = limit_ids or range(len(limits))
        if [(limit.settings, limit.slot) for limit in self._limits] == list(zip(limits, slots, strict=True)):
            return
        connections = list(self._port.connections.values())
        placed = [connection for connection in connections if connection.clients or connection.input is not None]
        for connection in placed:
            self.leave(connection)
        self._beyond.clear()
        for client in self._clients.values():
            self._board.clients.free_row(client.row)
        self._clients.clear()
        self._idle.clear()
        self._port.counters[Field.LIMITED] = 0
        for limit in self._limits:
            limit.counters[LimitField.LIMITED] = 0
        self._limits = [
            _Limit(limit, Match(limit), slot, self._board.limit(self._slot, slot))
            for limit, slot in zip(limits, slots, strict=True)
        ]
        for limit in self._limits:
            limit.counters[LimitField.LIMITED] = 0
        for connection in placed:
            self.identify(connection)

    # Connections

    def has_room(self, connection: Connection) -> bool:
        """Return whether every limit of connections admits a new one."""
        full = list(self._full(connection))
        for _, client in full:
            if client in self._beyond:
                client.beyond_s = self._port.loop.now_s
        return not full

    def note_refused(self, connection: Connection) -> None:
        """Count a connection that is answered BUSY or waits, if a limit of connections is the reason."""
        for limit, client in self._full(connection):
            if client is not None:
                count = format_count(limit.settings.connections, "connection")
                self._begin_beyond(client, f"has {count}; further ones find no place")
                client.note_refused()
            else:
                # Its connections are all in other workers.
                limit.counters[LimitField.REFUSED] += 1

    def _full(self, connection: Connection) -> Iterator[tuple[_Limit, Client[Connection] | None]]:
        """Yield each limit whose connections are all taken by others of the same client, and the client if known."""
        for index, limit in enumerate(self._limits):
            settings, match = limit.settings, limit.match
            if settings.connections and match.holds(connection):
                name = match.client_of(connection)
                client = self._clients.get((index, name))
                own = 0 if client is None else client.connections - (client in connection.clients)
                key = self._board.clients.key(settings.name, name)
                if own + self._others(key).connections >= settings.connections:
                    yield limit, client

    def identify(self, connection: Connection) -> bool:
        """Put a connection under its limits, after anything about its client became known.

        Return whether none of the limits of connections is exceeded by that.
        """
        if not self._limits:
            return True
        before = connection.clients
        found = tuple(
            self._client(index, match.client_of(connection))
            for index, (_, match, _, _) in enumerate(self._limits)
            if match.holds(connection)
        )
        is_admitted = True
        for client in found:
            if client not in before:
                client.connections += 1
                self._idle.pop(client, None)
                self.memory.begin(connection, client)
                self._sync(client)
                count = client.connections + client.others.connections
                is_admitted = is_admitted and not 0 < client.limit.connections < count
        connection.clients = found
        for client in before:
            if client not in found:
                self._part(connection, client)
        return is_admitted

    def leave(self, connection: Connection) -> None:
        """Take a connection from under its limits, before it is closed."""
        self.release(connection)
        clients, connection.clients = connection.clients, ()
        for client in clients:
            self._part(connection, client)

    def _part(self, connection: Connection, client: Client[Connection]) -> None:
        client.end_wait(connection, self._port.loop.now_s)
        client.served.pop(connection, None)
        self.memory.forget(connection, client)
        client.connections -= 1
        self._sync(client)
        if not client.connections:
            index = next(index for index, limit in enumerate(self._limits) if limit.settings is client.limit)
            self._idle[client] = (index, client.name)
            while len(self._idle) > MOST_REMEMBERED:
                forgotten, place = self._idle.popitem(last=False)
                self._end(forgotten)
                del self._clients[place]
                self._board.clients.free_row(forgotten.row)

    def _client(self, index: int, name: str) -> Client[Connection]:
        """Return the client of this name under a limit, with its usage in other workers."""
        client = self._clients.get((index, name))
        if client is None:
            limit, now_s = self._limits[index].settings, self._port.loop.now_s
            # A connection is in one worker at a time, so other workers need not know its use.
            key = 0 if limit.per == "connection" else self._board.clients.key(limit.name, name)
            row = self._board.clients.take_row(self._slot, key) if key else -1
            client = Client(limit, self._limits[index].counters, name, key, row, now_s)
            client.others = others = self._others(key)
            budget = client.budget
            for bucket, full_ms in ((budget.records, others.records_full_ms), (budget.nbytes, others.bytes_full_ms)):
                if full_ms / 1000 > now_s and math.isfinite(bucket.per_s):
                    bucket.take((full_ms / 1000 - now_s) * bucket.per_s)
            self._clients[index, name] = client
            self._idle[client] = (index, name)
        return client

    # Rates

    def allowance(self, connection: Connection, count: int) -> int:
        """Return how many of the next `count` records of a connection may be taken now."""
        if self._is_lifted or connection.is_leaving:
            return count
        now_s = self._port.loop.now_s
        for client in connection.clients:
            if now_s - client.synced_s >= SYNC_S:
                self._sync(client)
            allowed = client.budget.allowed(now_s)
            if client.share and allowed:
                served = client.served.get(connection, 0)
                # A run has its share in one part: in several, others wait longer. Records that come alone add up to it.
                allowed = min(allowed, max(0, client.share - served) if count == 1 or not served else 0)
            if allowed < count:
                count, self._short = allowed, client
            if not count:
                break
        return count

    def charge(self, connection: Connection, records: int, nbytes: int) -> None:
        """Count records that were taken from a connection."""
        for client in connection.clients:
            client.take(records, nbytes)
            if client.share:
                client.served[connection] = client.served.get(connection, 0) + records

    def keep_waiting(self, connection: Connection) -> None:
        """Read a connection no more until the budget that ended its `allowance` is filled."""
        client = self._begin_beyond_rate("it waits")
        client.begin_wait(connection, self._port.loop.now_s)
        connection.parked = True

    def waits_for_memory(self, connection: Connection) -> bool:
        """Tell whether a connection is not read now, because records of its client that wait fill its memory."""
        if self._is_lifted or connection.is_leaving or connection.input is None or connection.input.is_greeting:
            return False
        client = find_full(connection)
        if client is None:
            return False
        self._begin_beyond(client, "sends more than its rates, and fills its memory; it waits")
        client.begin_wait(connection, self._port.loop.now_s)
        connection.parked = True
        return True

    @property
    def drops(self) -> bool:
        """Whether records beyond the budget that ended the last `allowance` are dropped."""
        return self._short is not None and self._short.limit.action == "drop"

    def note_dropped(self, count: int) -> None:
        """Count records that were dropped because of the budget that ended the last `allowance`."""
        self._begin_beyond_rate("further records are dropped").note_dropped(count)
        self._port.counters[Field.DROPPED] += count
        self._port.counters[Field.LIMIT_DROPPED] += count

    def release(self, connection: Connection) -> None:
        """Let a connection that waits be read."""
        if connection.parked:
            connection.parked = False
            for client in connection.clients:
                client.end_wait(connection, self._port.loop.now_s)
            if not connection.queued:
                connection.queued = True
                self._port.loop.again(connection)

    def lift(self) -> None:
        """Lift every limit: the worker ends, and reads the rest of clients' data."""
        self._is_lifted = True
        for client in self._beyond:
            self._report_drops(client)
            for connection in list(client.waiting):
                self.release(connection)

    def _begin_beyond_rate(self, what_follows: str) -> Client[Connection]:
        client = self._short
        if client is None:
            raise ValueError("no budget has ended")
        self._begin_beyond(client, f"sends more than {describe_rates(client.limit)}; {what_follows}")
        return client

    def _begin_beyond(self, client: Client[Connection], what: str) -> None:
        """Note that a client is beyond its limit, and log it at first."""
        now_s = self._port.loop.now_s
        client.beyond_s = now_s
        if client not in self._beyond:
            client.begin_beyond(now_s)
            self._beyond[client] = None
            self._port.counters[Field.LIMITED] = len(self._beyond)
            fields = {"limit": client.limit.name, "client": client.name}
            self._warnings.warning("limit %s: %s %s", client.limit.name, client.shown, what, fields=fields)
        if self._timer is None or not self._timer.pending:
            self._timer = self._port.loop.later(TICK_S, self._tick)

    def _tick(self) -> None:
        """Read connections again that their budgets allow, and forget clients that are within their limits."""
        now_s = self._port.loop.now_s
        for client in list(self._beyond):
            client.count_waiting(now_s)
            client.share = 0
            client.served.clear()
            if client.waiting:
                client.beyond_s = now_s
                self._release_some(client)
            if client.unreported and now_s - client.reported_s >= END_S:
                self._report_drops(client)
            if now_s - client.beyond_s >= END_S:
                self._end(client)
        if self._beyond:
            self._timer = self._port.loop.later(TICK_S, self._tick)

    def _release_some(self, client: Client[Connection]) -> None:
        """Read connections that wait, as many as the budget has records for, each for its share of them."""
        self._sync(client)
        allowed = client.budget.allowed(self._port.loop.now_s)
        released = find_able(client, allowed)
        client.share = max(1, allowed // max(1, len(released)))
        for connection in released:
            self.release(connection)

    def _end(self, client: Client[Connection]) -> None:
        """Log that a client is within its limit again."""
        if client not in self._beyond:
            return
        del self._beyond[client]
        self._port.counters[Field.LIMITED] = len(self._beyond)
        self._report_drops(client)
        self._warnings.warning(
            "limit %s: %s is within it again after %.0f s; %s",
            *(client.limit.name, client.shown, client.beyond_s - client.since_s, client.end_beyond()),
            fields={"limit": client.limit.name, "client": client.name, "dropped": client.dropped},
        )

    def _report_drops(self, client: Client[Connection]) -> None:
        """List dropped records in rejected.jsonl, with those that clients report as dropped by themselves."""
        if client.unreported:
            count, client.unreported = client.unreported, 0
            detail = f"beyond limit {client.limit.name}: more than {describe_rates(client.limit)}"
            client.reported_s = self._port.loop.now_s
            self._port.dispatcher.note_gap(client.name, time.time(), client.name, count, detail)

    # Other workers

    def _others(self, key: int) -> Usage:
        return self._board.clients.others(self._other_slots(), key) if key else NO_USAGE

    def _other_slots(self) -> Iterable[int]:
        return (slot for slot, _, _ in self._board.loads() if slot != self._slot)

    def _sync(self, client: Client[Connection]) -> None:
        """Exchange the usage of clients with the other workers."""
        now_s, budget = self._port.loop.now_s, client.budget
        budget.allowed(now_s)
        before, client.others = client.others, self._others(client.key)
        client.synced_s = now_s
        # A worker that has forgotten the client, or ended, makes the sum smaller.
        budget.take(max(0, client.others.records - before.records), max(0, client.others.nbytes - before.nbytes))
        full_ms = [int((now_s + bucket.full_in_s()) * 1000) for bucket in (budget.records, budget.nbytes)]
        usage = Usage(client.connections, client.used_records, client.used_bytes, *full_ms)
        self._board.clients.publish(client.row, usage)
