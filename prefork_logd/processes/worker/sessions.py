"""The sessions of a worker's acknowledged clients: who is acknowledged, and when.

Owns which connection has which session, what was asked of the writer for it, and who is answered once a batch is
committed. Knows no protocol, pipes or files: a connection's input makes the answers.

A session may come back on another connection, of this worker or of another, while lines of its old one are still on
their way. Each connection therefore has an epoch, which the writer gives out; it takes no lines of an older one.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

from prefork_logd.inputs.state import ClientState
from prefork_logd.ipc.batch_sender import Receipt
from prefork_logd.ipc.scoreboard import Field
from prefork_logd.net.peers import peer_key

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prefork_logd.ingest.dispatcher import Dispatcher
    from prefork_logd.inputs.base import Gap, Opening
    from prefork_logd.processes.worker.connection import Connection
    from prefork_logd.processes.worker.guard import Guard
    from prefork_logd.system.log import RateLimitedLog

MOST_ASKED = 256
"""Epochs asked of the writer at once."""
NAME_KEPT = 80
"""Characters of what a client calls itself that are kept for the log."""
REASON_KEPT = 80
"""The same of why it dropped records."""
MOST_DROPPED = (1 << 63) - 1
"""The counter of dropped records stops there."""


class WorkerPort(Protocol):
    """The worker that the clients are connected to."""

    counters: memoryview
    warnings: RateLimitedLog
    guard: Guard
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
        """Token to the connection that waits for its epoch, and the lowest number its client holds."""
        self._to_ask: dict[Connection, int] = {}
        """Connections that wait to be asked for, and the lowest numbers their clients hold."""
        self._tokens = 0
        self._receipts: dict[Connection, int] = {}
        """Up to which number the batch that is being made has records of each connection."""
        self._committed: dict[Connection, int] = {}
        """Numbers still to be acknowledged, for the client has not read what it was sent before."""
        self._names: dict[Connection, str] = {}

    # What clients ask for

    def open_session(self, connection: Connection, opening: Opening) -> None:
        """Give a session to its client's connection, and ask the writer for an epoch."""
        old = self._by_session.get(opening.session)
        if old is not None:
            # Its client has left it, or it would not be here.
            self._port.close(old)
        connection.session = opening.session
        self._by_session[opening.session] = connection
        self._names[connection] = f"{connection.peer} ({opening.client[:NAME_KEPT]!a})"
        connection.send(opening.reply)
        if connection.fd >= 0:
            self._ask(connection, opening.first)

    def _ask(self, connection: Connection, first: int) -> None:
        """Ask the writer for an epoch, as soon as it has answered others."""
        self._to_ask[connection] = first
        self._ask_more()

    def _ask_more(self) -> None:
        """Ask for connections that wait, a few at once.

        A question stays until it is answered, also when its client has gone, and a writer may be stopped.
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
        """Let the lines that follow be those of a range of a connection's session."""
        batch = self._port.dispatcher.batch
        if batch.has_other_epoch(connection.session, connection.epoch):
            self._port.send_batch()
        batch.begin(connection.session, connection.epoch, first, last, connection.floor, peer_key(connection.peer))
        self._receipts[connection] = last

    def end_range(self, connection: Connection, count: int) -> None:
        """Add `count` numbers to the range: the lines for them are in the batch. What follows is not of the session."""
        batch = self._port.dispatcher.batch
        batch.advance(count)
        batch.end()
        self._receipts[connection] += count

    def note_gap(self, connection: Connection, gap: Gap) -> None:
        """Log that records are missing, and which; their numbers are used up."""
        self.begin_range(connection, gap.first, gap.last)
        self.end_range(connection, 0)
        count = gap.last - gap.first + 1
        counters = self._port.counters
        # A client may name any number, as often as it likes: the sum must stay below that of 64 bits.
        counters[Field.DROPPED] = min(counters[Field.DROPPED] + count, MOST_DROPPED)
        self._port.warnings.warning(
            "%s dropped %d records between %s and %s (%a)",
            self._names.get(connection, connection.peer),
            count,
            _moment(gap.oldest),
            _moment(gap.newest),
            gap.reason[:REASON_KEPT],
        )

    # What the writer says

    def take_receipts(self) -> list[Receipt]:
        """Return who is to be told when the batch that was just made is committed."""
        receipts = [Receipt(connection, number) for connection, number in self._receipts.items()]
        self._receipts.clear()
        return receipts

    def acknowledge(self, receipts: Iterable[Receipt]) -> None:
        """Acknowledge to clients how far they are committed."""
        for connection, number in dict(receipts).items():
            if connection.fd >= 0:
                with self._port.guard.of(connection):
                    self._committed[connection] = number
                    if not connection.unsent:
                        self.send_ack(connection)

    def send_ack(self, connection: Connection) -> None:
        """Send a client the latest acknowledgement, now that it has read all that it was sent before."""
        number = self._committed.pop(connection, 0)
        if number and connection.input is not None:
            connection.send(connection.input.acknowledge(number))

    def admit(self, token: int, epoch: int, committed: int) -> None:
        """Welcome the client that waited for this epoch, unless it has gone."""
        connection, _ = self._opening.pop(token, (None, 0))
        if connection is not None and connection.fd >= 0:
            with self._port.guard.of(connection):
                self._welcome(connection, epoch, committed)
        self._ask_more()

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
        """Dismiss a client whose records the writer has left out; it comes again, and learns where to go on."""
        connection = self._by_session.get(session)
        if connection is None or connection.epoch != epoch or connection.input is None:
            return
        with self._port.guard.of(connection):
            why = "connect again, and go on from what is committed"
            connection.send(connection.input.dismiss(why, may_return=True))
            self._port.close(connection)

    def ask_again(self) -> None:
        """Ask a new writer for the epochs that the last one did not give out."""
        waiting, self._opening = list(self._opening.values()), {}
        asked = {connection: first for connection, first in waiting if connection.fd >= 0}
        self._to_ask = asked | self._to_ask
        self._ask_more()

    # On the way to another worker, and from one

    def dump_state(self, connection: Connection) -> ClientState | None:
        """Return what another worker has to know of a client; None of one that is not acknowledged.

        From here on the client is sent nothing. An epoch that was asked for is not taken any more: the other worker, or
        `keep`, asks for it again.
        """
        if not connection.session:
            return None
        asked = [(token, first) for token, (other, first) in self._opening.items() if other is connection]
        for token, _ in asked:
            del self._opening[token]
        asked_first = self._to_ask.pop(connection, asked[-1][1] if asked else 0)
        return ClientState(self._names.get(connection, ""), self._committed.get(connection, 0), asked_first)

    def keep(self, connection: Connection, state: ClientState) -> None:
        """Go on with a client whose state was dumped here, for nobody has taken it."""
        if state.asked_first:
            self._ask(connection, state.asked_first)

    def load_state(self, connection: Connection, state: ClientState) -> None:
        """Go on with a client of another worker. An epoch that was asked for there is asked for again."""
        if state.name:
            self._names[connection] = state.name
        if state.to_tell:
            self._committed[connection] = state.to_tell
        if connection.session:
            other = self._by_session.get(connection.session)
            if other is not None and not state.asked_first and (not other.epoch or other.epoch > connection.epoch):
                # Its client has left it, and is here already.
                self._port.close(connection)
                return
            if other is not None:
                self._port.close(other)
            self._by_session[connection.session] = connection
        if state.asked_first:
            self._ask(connection, state.asked_first)
        if not connection.unsent:
            self.send_ack(connection)

    def forget(self, connection: Connection) -> None:
        """Forget a connection that is being closed."""
        if self._by_session.get(connection.session) is connection:
            del self._by_session[connection.session]
        for table in (self._names, self._committed, self._to_ask):
            table.pop(connection, None)


def _moment(seconds: float) -> str:
    """Return a time for people, in RFC 3339; "unknown" for what is none."""
    try:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds)) if seconds else "unknown"
    except (OverflowError, ValueError, OSError):
        return "unknown"
