"""Keeps the sessions of a worker's acknowledged clients, and acknowledges records once they are committed.

Owns which connection has which session, the requests for epochs, and the receipts of a batch. Does not know protocols,
pipes or files: a connection's input makes the answers.

A client may continue its session on another connection, of this worker or another, while lines from its old connection
are still in a pipe. The writer therefore gives each connection an epoch, and takes no lines of an older epoch.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

from prefork_logd.config.values import format_count
from prefork_logd.inputs.state import ClientState
from prefork_logd.ipc.batch_sender import Receipt
from prefork_logd.ipc.scoreboard import Field
from prefork_logd.net.peers import peer_key
from prefork_logd.system.log import RateLimitedLog

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prefork_logd.ingest.dispatcher import Dispatcher
    from prefork_logd.inputs.base import Gap, Opening
    from prefork_logd.processes.worker.client_limits import ClientLimits
    from prefork_logd.processes.worker.connection import Connection
    from prefork_logd.processes.worker.guard import Guard
    from prefork_logd.processes.worker.services import ServiceCounts

MOST_ASKED = 256
"""Epochs requested from the writer at once."""
NAME_KEPT = 80
"""Characters of a client's name that are kept for the log."""
REASON_KEPT = 80
"""Characters of a client's reason for dropping records that are kept for the log."""
MOST_DROPPED = (1 << 63) - 1
"""The upper limit of the counter of dropped records."""


class WorkerPort(Protocol):
    """The worker that the clients are connected to."""

    counters: memoryview
    warnings: RateLimitedLog
    guard: Guard
    limits: ClientLimits
    services: ServiceCounts
    dispatcher: Dispatcher
    """Makes lines, under the configuration of this moment."""

    def send_batch(self) -> None:
        """Send the batch, whatever its size."""

    def close(self, connection: Connection) -> None:
        """Close a connection."""


class SessionTable:
    """The acknowledged clients of one worker."""

    def __init__(self, port: WorkerPort) -> None:
        self._port = port
        self._by_session: dict[bytes, Connection] = {}
        self._opening: dict[int, tuple[Connection, int]] = {}
        """Token of a request to the waiting connection, and the lowest number that its client holds."""
        self._to_ask: dict[Connection, int] = {}
        """Connections whose epochs are still to be requested, and the lowest numbers that their clients hold."""
        self._tokens = 0
        self._receipts: dict[Connection, int] = {}
        """The last number of each connection whose records are in the current batch."""
        self._committed: dict[Connection, int] = {}
        """Committed numbers to acknowledge once the client has read the last acknowledgement."""
        self._names: dict[Connection, str] = {}
        self._gaps = RateLimitedLog()

    # Requests of clients

    def open_session(self, connection: Connection, opening: Opening) -> None:
        """Bind a session to its client's connection, and request an epoch from the writer."""
        old = self._by_session.get(opening.session)
        if old is not None:
            # The client has left its old connection, or it would not have opened this one.
            self._port.close(old)
        connection.session = opening.session
        connection.describe_sender(opening.sender)
        if not self._port.limits.identify(connection) and connection.input is not None:
            self._port.limits.note_refused(connection)
            connection.send(connection.input.turn_away())
            self._port.close(connection)
            return
        self._port.services.count(connection)
        self._by_session[opening.session] = connection
        self._names[connection] = f"{connection.peer} ({opening.client[:NAME_KEPT]!a})"
        connection.send(opening.reply)
        if connection.fd >= 0:
            self._request_epoch(connection, opening.first)

    def _request_epoch(self, connection: Connection, first: int) -> None:
        """Request an epoch from the writer, at once or after the answers to earlier requests."""
        self._to_ask[connection] = first
        self._send_requests()

    def _send_requests(self) -> None:
        """Send waiting requests for epochs, at most MOST_ASKED at once.

        Bounded, because a writer may be stopped, and a request stays until its answer even if its client has gone.
        """
        while self._to_ask and len(self._opening) < MOST_ASKED:
            connection = next(iter(self._to_ask))
            first = self._to_ask.pop(connection)
            with self._port.guard.of(connection):
                self._tokens += 1
                self._port.dispatcher.batch.open(self._tokens, connection.session, first)
                self._opening[self._tokens] = (connection, first)

    # Lines

    def begin_range(self, connection: Connection, first: int, last: int) -> None:
        """Begin a range of a connection's session in the batch; the lines that follow belong to it."""
        batch = self._port.dispatcher.batch
        if batch.has_other_epoch(connection.session, connection.epoch):
            self._port.send_batch()
        batch.begin(connection.session, connection.epoch, first, last, connection.floor, peer_key(connection.peer))
        self._receipts[connection] = last

    def end_range(self, connection: Connection, count: int) -> None:
        """Add `count` numbers, whose lines are in the batch, to the range, and end it."""
        batch = self._port.dispatcher.batch
        batch.advance(count)
        batch.end()
        self._receipts[connection] += count

    def note_gap(self, connection: Connection, gap: Gap) -> None:
        """Log records that the client dropped, and list them in rejected.jsonl; their numbers are used up."""
        self.begin_range(connection, gap.first, gap.last)
        self.end_range(connection, 0)
        count = gap.last - gap.first + 1
        counters = self._port.counters
        # A client may send any number any number of times: the counter has 64 bits.
        for field in (Field.DROPPED, Field.GAPS):
            counters[field] = min(counters[field] + count, MOST_DROPPED)
        name = self._names.get(connection, connection.peer)
        detail = f"between {_moment(gap.oldest)} and {_moment(gap.newest)} ({gap.reason[:REASON_KEPT]!a})"
        fields = {"client": name, "dropped": count, "reason": gap.reason[:REASON_KEPT]}
        self._gaps.warning("%s dropped %s %s", name, format_count(count, "record"), detail, fields=fields)
        self._port.dispatcher.note_gap(connection.peer, time.time(), name, count, detail)

    # Answers of the writer

    def take_receipts(self) -> list[Receipt]:
        """Return the receipts of the batch that was just made: the acknowledgements to send once it is committed."""
        receipts = [Receipt(connection, number) for connection, number in self._receipts.items()]
        self._receipts.clear()
        return receipts

    def acknowledge(self, receipts: Iterable[Receipt]) -> None:
        """Acknowledge committed records to their clients."""
        for connection, number in dict(receipts).items():
            if connection.fd >= 0:
                with self._port.guard.of(connection):
                    self._committed[connection] = number
                    if not connection.unsent:
                        self.send_ack(connection)

    def send_ack(self, connection: Connection) -> None:
        """Send a client its latest acknowledgement, if there is one; call it when the client has read the last one."""
        number = self._committed.pop(connection, 0)
        if number and connection.input is not None:
            connection.send(connection.input.acknowledge(number))

    def admit(self, token: int, epoch: int, committed: int) -> None:
        """Welcome the client that waits for this epoch, unless it has gone."""
        connection, _ = self._opening.pop(token, (None, 0))
        if connection is not None and connection.fd >= 0:
            with self._port.guard.of(connection):
                self._welcome(connection, epoch, committed)
        self._send_requests()

    def _welcome(self, connection: Connection, epoch: int, committed: int) -> None:
        if connection.input is None:
            return
        answer = connection.input.welcome(committed)
        if not answer:
            return
        connection.epoch = epoch
        connection.floor = connection.input.next_number
        connection.send(answer)
        if connection.input.is_over:
            self._port.close(connection)

    def refuse_range(self, session: bytes, epoch: int) -> None:
        """Dismiss a client whose range the writer has refused; when it reconnects it learns its committed number."""
        connection = self._by_session.get(session)
        if connection is None or connection.epoch != epoch or connection.input is None:
            return
        with self._port.guard.of(connection):
            why = "connect again, and go on from what is committed"
            connection.send(connection.input.dismiss(why, may_return=True))
            self._port.close(connection)

    def repeat_requests(self) -> None:
        """Request again, from a new writer, the epochs that the last one did not give out."""
        waiting, self._opening = list(self._opening.values()), {}
        asked = {connection: first for connection, first in waiting if connection.fd >= 0}
        self._to_ask = asked | self._to_ask
        self._send_requests()

    # Moves to and from other workers

    def dump_state(self, connection: Connection) -> ClientState | None:
        """Return a client's state for another worker; None if the client has no session.

        The client is sent nothing after this. A requested epoch is ignored when it arrives: the other worker, or
        `keep`, requests it again.
        """
        if not connection.session:
            return None
        asked = [(token, first) for token, (other, first) in self._opening.items() if other is connection]
        for token, _ in asked:
            del self._opening[token]
        asked_first = self._to_ask.pop(connection, asked[-1][1] if asked else 0)
        return ClientState(self._names.get(connection, ""), self._committed.get(connection, 0), asked_first)

    def keep(self, connection: Connection, state: ClientState) -> None:
        """Keep a client whose state was dumped here, after its move has failed."""
        if state.asked_first:
            self._request_epoch(connection, state.asked_first)

    def load_state(self, connection: Connection, state: ClientState) -> None:
        """Take a client over from another worker. An epoch that was requested there is requested again."""
        if state.name:
            self._names[connection] = state.name
        if state.to_tell:
            self._committed[connection] = state.to_tell
        if connection.session:
            other = self._by_session.get(connection.session)
            if other is not None and not state.asked_first and (not other.epoch or other.epoch > connection.epoch):
                # The client has left this connection: its new one came here first.
                self._port.close(connection)
                return
            if other is not None:
                self._port.close(other)
            self._by_session[connection.session] = connection
        if state.asked_first:
            self._request_epoch(connection, state.asked_first)
        if not connection.unsent:
            self.send_ack(connection)

    def forget(self, connection: Connection) -> None:
        """Forget a connection that is being closed."""
        if self._by_session.get(connection.session) is connection:
            del self._by_session[connection.session]
        for table in (self._names, self._committed, self._to_ask):
            table.pop(connection, None)


def _moment(seconds: float) -> str:
    """Return a time in RFC 3339 for a log line; "unknown" for 0 and values outside the range."""
    try:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds)) if seconds else "unknown"
    except (OverflowError, ValueError, OSError):
        return "unknown"
