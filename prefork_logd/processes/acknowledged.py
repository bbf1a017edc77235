"""A worker's clients that are acknowledged: their sessions, from HELLO to the last ACK.

Owns which connection has which session, what was asked of the writer for it, and who is told what once a batch is
committed. Knows no pipes and no files; how records become lines is dispatch.py's, what may be said when session.py's.

A session may come back on another connection, of this worker or of another, while lines of its old one are still on
their way. Each connection therefore has an epoch, which the writer gives out; it takes no lines of an older one.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Protocol

from prefork_logd.net.peers import peer_key
from prefork_logd.processes.link import Receipt
from prefork_logd.processes.rejections import MOST_FAILURES
from prefork_logd.protocol.auth import NONCE_BYTES, server_proof, verify
from prefork_logd.protocol.frozen import FrozenClient
from prefork_logd.protocol.messages import (
    Authenticate,
    Bye,
    Capability,
    ErrorCode,
    Gap,
    Hello,
    Records,
    State,
    TooLarge,
)
from prefork_logd.protocol.runs import MAX_NUMBER
from prefork_logd.protocol.session import ServerSession
from prefork_logd.scoreboard import Field

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from prefork_logd.log import Limited
    from prefork_logd.net.connection import Connection
    from prefork_logd.processes.dispatch import Dispatcher
    from prefork_logd.processes.guard import Guard
    from prefork_logd.protocol.messages import Event

LARGEST_RECORD = (1 << 32) - 1
"""The session has looked at the size of records."""
MOST_ASKED = 256
"""Epochs asked of the writer at once."""
NAME_KEPT = 80
"""Characters of what a client calls itself that are kept for the log."""
REASON_KEPT = 80
"""The same of why it dropped records."""
MOST_DROPPED = (1 << 63) - 1
"""The counter of dropped records stops there."""


class Host(Protocol):
    """The worker that the clients are connected to."""

    counters: memoryview
    warnings: Limited
    guard: Guard

    @property
    def keys(self) -> Mapping[bytes, bytes]:
        """Secrets of clients that authenticate, by their ids."""

    @property
    def dispatcher(self) -> Dispatcher:
        """What makes lines, under the configuration of this moment."""

    @property
    def slice_over(self) -> bool:
        """Whether the connection whose turn it is has had its time."""

    def send_if_large(self) -> None:
        """Send the batch if it has become large."""

    def send_batch(self) -> None:
        """Send the batch, whatever its size."""

    def close(self, connection: Connection) -> None:
        """Close a connection."""


class Acknowledged:
    """The acknowledged clients of one worker."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._by_session: dict[bytes, Connection] = {}
        self._opening: dict[int, tuple[Connection, int]] = {}
        """Token to the connection that waits for its epoch, and the lowest number its client holds."""
        self._to_ask: dict[Connection, int] = {}
        """Connections that wait to be asked for, and the lowest numbers their clients hold."""
        self._tokens = 0
        self._receipts: dict[Connection, int] = {}
        """Up to which number the batch that is being made has records of each connection."""
        self._committed: dict[Connection, int] = {}
        """What a connection is still to be told, because it has not read what it was told before."""
        self._names: dict[Connection, str] = {}
        self._challenges: dict[Connection, tuple[Hello, bytes]] = {}
        """What clients that are to authenticate have said, and the nonce they were sent."""
        self._proofs: dict[Connection, bytes] = {}

    # What clients say

    def happened(self, connection: Connection, events: Sequence[Event]) -> None:
        """Act on a client's events; those for which there is no time are kept with the connection."""
        rest: Records | None
        for index, event in enumerate(events):
            if connection.fd < 0:
                return
            if index and self._host.slice_over:
                _keep(connection, events[index:])
                return
            match event:
                case Records():
                    rest = self._records(connection, event)
                    if rest is not None:
                        _keep(connection, [rest, *events[index + 1 :]])
                        return
                case Hello():
                    self._hello(connection, event)
                case Authenticate():
                    self._authenticate(connection, event)
                case TooLarge(number, size, head):
                    self._too_large(connection, number, size, head)
                case Gap():
                    self._gap(connection, event)
                case Bye():
                    self._host.close(connection)

    def _hello(self, connection: Connection, hello: Hello) -> None:
        if connection.is_refused and isinstance(connection.receiver, ServerSession):
            text = "every place of this collector is taken (limits.max_connections); come again"
            connection.send(connection.receiver.error(ErrorCode.BUSY, text))
            self._host.close(connection)
            return
        if connection.accept == "authenticated" and isinstance(connection.receiver, ServerSession):
            nonce = os.urandom(NONCE_BYTES)
            self._challenges[connection] = (hello, nonce)
            connection.send(connection.receiver.challenge(nonce))
        else:
            self._let_in(connection, hello)

    def _authenticate(self, connection: Connection, answer: Authenticate) -> None:
        """Let a client in that knows a secret; the others learn nothing but that they do not."""
        hello, nonce = self._challenges.pop(connection)
        keys = self._host.keys
        if verify(keys, answer.key_id, nonce, answer.client_nonce, hello.session, answer.mac):
            self._proofs[connection] = server_proof(keys[answer.key_id], answer.client_nonce, nonce, hello.session)
            self._let_in(connection, hello)
        elif isinstance(connection.receiver, ServerSession):
            self._host.counters[Field.REFUSED] += 1
            self._host.warnings.warning("%s (%a): refused: unknown key or wrong secret", connection.peer, hello.client)
            connection.send(connection.receiver.error(ErrorCode.REFUSED, "unknown key or wrong secret"))
            self._host.close(connection)

    def _let_in(self, connection: Connection, hello: Hello) -> None:
        old = self._by_session.get(hello.session)
        if old is not None:
            # Its client has left it, or it would not be here.
            self._host.close(old)
        connection.session = hello.session
        self._by_session[hello.session] = connection
        self._names[connection] = f"{connection.peer} ({hello.client[:NAME_KEPT]!a})"
        if hello.capabilities & Capability.WAIT and isinstance(connection.receiver, ServerSession):
            # The writer may take its time, and a client that hears nothing takes us for a receiver of plain frames.
            connection.send(connection.receiver.wait())
        self._ask(connection, hello.first)

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
            with self._host.guard.of(connection):
                self._tokens += 1
                self._host.dispatcher.batch.open(self._tokens, connection.session, first)
                self._opening[self._tokens] = (connection, first)

    def _records(self, connection: Connection, event: Records) -> Records | None:
        """Turn records into lines of their session; one that cannot be stored uses up its number all the same.

        Return those for which there was no time.
        """
        host, counters = self._host, self._host.counters
        peer, received_s = connection.peer, time.time()
        first = event.first
        for index, run in enumerate(event.runs):
            position, left = 0, run.records
            if index or not isinstance(event, _Rest):
                counters[Field.RECEIVED_BYTES] += run.nbytes
            while left:
                dispatcher = host.dispatcher
                self._begin(connection, first, first - 1)
                mark = dispatcher.batch.mark()
                try:
                    position, taken, bad, connection.failures, shipped = dispatcher.run(
                        *(run.data, position, left, LARGEST_RECORD, peer, received_s),
                        *(connection.failures, MOST_FAILURES, run.header_bytes),
                    )
                except Exception:
                    # The client sends these records again: lines of theirs that are here already would come twice.
                    dispatcher.batch.discard(mark)
                    raise
                dispatcher.batch.advance(taken)
                for start, count in shipped:
                    dispatcher.batch.run(first + start, count)
                dispatcher.batch.end()
                first += taken
                left -= taken
                self._receipts[connection] = first - 1
                counters[Field.RECORDS] += taken - bad
                counters[Field.REJECTED] += bad
                host.send_if_large()
                if connection.failures >= MOST_FAILURES:
                    self._close_useless(connection)
                    return None
                if left and host.slice_over:
                    rest = run._replace(data=run.data[position:], records=left)
                    return _Rest(first, [rest, *event.runs[index + 1 :]])
        return None

    def _close_useless(self, connection: Connection) -> None:
        """Let a client go that sends no records. It may come again, and goes on after those it has sent."""
        text = f"{MOST_FAILURES} in a row hold no record"
        self._host.warnings.warning("%s: closed: %s; see rejected.jsonl", connection.peer, text)
        if isinstance(connection.receiver, ServerSession):
            connection.send(connection.receiver.error(ErrorCode.MALFORMED, text))
        self._host.close(connection)

    def _begin(self, connection: Connection, first: int, last: int) -> None:
        """Let the lines that follow be those of a range of a connection's session."""
        batch = self._host.dispatcher.batch
        if batch.has_other_epoch(connection.session, connection.epoch):
            self._host.send_batch()
        batch.begin(
            *(connection.session, connection.epoch, first, last, connection.floor, peer_key(connection.peer)),
        )
        self._receipts[connection] = last

    def _too_large(self, connection: Connection, number: int, size: int, head: bytes) -> None:
        self._begin(connection, number, number)
        self._host.dispatcher.reject(
            connection.peer, time.time(), "too-large", f"a record of {size} bytes is above the limit", head, size
        )
        self._host.dispatcher.batch.end()
        self._host.counters[Field.REJECTED] += 1
        connection.failures += 1
        if connection.failures >= MOST_FAILURES:
            self._close_useless(connection)

    def _gap(self, connection: Connection, gap: Gap) -> None:
        """Say that records are missing, and which; their numbers are used up."""
        self._begin(connection, gap.first, gap.last)
        self._host.dispatcher.batch.end()
        count = gap.last - gap.first + 1
        counters = self._host.counters
        # A client may name any number, as often as it likes: the sum must stay below that of 64 bits.
        counters[Field.DROPPED] = min(counters[Field.DROPPED] + count, MOST_DROPPED)
        self._host.warnings.warning(
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

    def committed(self, receipts: Iterable[Receipt]) -> None:
        """Tell clients how far they are committed."""
        for connection, number in dict(receipts).items():
            if connection.fd >= 0:
                with self._host.guard.of(connection):
                    self._committed[connection] = number
                    if not connection.unsent:
                        self.told(connection)

    def told(self, connection: Connection) -> None:
        """Tell a client the latest, now that it has taken what it was told before."""
        number = self._committed.pop(connection, 0)
        if number and isinstance(connection.receiver, ServerSession) and connection.receiver.state is State.OPEN:
            connection.send(connection.receiver.ack(number))

    def opened(self, token: int, epoch: int, committed: int) -> None:
        """Welcome the client that waited for this epoch, unless it has gone."""
        connection, _ = self._opening.pop(token, (None, 0))
        if connection is not None and connection.fd >= 0:
            with self._host.guard.of(connection):
                self._welcome(connection, epoch, committed)
        self._ask_more()

    def _welcome(self, connection: Connection, epoch: int, committed: int) -> None:
        receiver = connection.receiver
        if not isinstance(receiver, ServerSession):
            return
        if committed >= MAX_NUMBER:
            connection.send(receiver.error(ErrorCode.REFUSED, "this session has used up its numbers; begin another"))
            self._host.close(connection)
        elif receiver.state is State.AWAITING_WELCOME:
            connection.epoch = epoch
            answer = receiver.welcome(committed, self._proofs.pop(connection, b""))
            connection.floor = receiver.expected
            connection.send(answer)

    def refused(self, session: bytes, epoch: int) -> None:
        """Let a client go whose records the writer has left out; it comes again, and is told where to go on."""
        connection = self._by_session.get(session)
        if connection is None or connection.epoch != epoch or not isinstance(connection.receiver, ServerSession):
            return
        with self._host.guard.of(connection):
            connection.send(
                connection.receiver.error(ErrorCode.GOING_AWAY, "connect again, and go on from what is committed")
            )
            self._host.close(connection)

    def ask_again(self) -> None:
        """Ask a new writer for the epochs that the last one did not give out."""
        waiting, self._opening = list(self._opening.values()), {}
        asked = {connection: first for connection, first in waiting if connection.fd >= 0}
        self._to_ask = asked | self._to_ask
        self._ask_more()

    # On the way to another worker, and from one

    def freeze(self, connection: Connection) -> FrozenClient | None:
        """Return what another worker has to know of a client; None of one that is not acknowledged.

        From here on nothing is said to the client: an epoch that was asked for is not taken any more, for the other
        worker, or `keep`, asks for it again.
        """
        if not isinstance(connection.receiver, ServerSession):
            return None
        hello, nonce = self._challenges.get(connection, (None, b""))
        asked = [(token, first) for token, (other, first) in self._opening.items() if other is connection]
        for token, _ in asked:
            del self._opening[token]
        asked_first = self._to_ask.pop(connection, asked[-1][1] if asked else 0)
        return FrozenClient(
            name=self._names.get(connection, ""),
            to_tell=self._committed.get(connection, 0),
            asked_first=asked_first,
            hello=None if hello is None else (hello.session, hello.first, hello.client),
            capabilities=0 if hello is None else hello.capabilities,
            nonce=nonce,
            proof=self._proofs.get(connection, b""),
        )

    def keep(self, connection: Connection, frozen: FrozenClient) -> None:
        """Go on with a client that was frozen here, for nobody has taken it."""
        if frozen.asked_first:
            self._ask(connection, frozen.asked_first)

    def thaw(self, connection: Connection, frozen: FrozenClient) -> None:
        """Go on with a client of another worker. An epoch that was asked for there is asked for again."""
        if frozen.name:
            self._names[connection] = frozen.name
        if frozen.hello is not None:
            self._challenges[connection] = (Hello(*frozen.hello, frozen.capabilities), frozen.nonce)
        if frozen.proof:
            self._proofs[connection] = frozen.proof
        if frozen.to_tell:
            self._committed[connection] = frozen.to_tell
        if connection.session:
            other = self._by_session.get(connection.session)
            if other is not None and not frozen.asked_first and (not other.epoch or other.epoch > connection.epoch):
                # Its client has left it, and is here already.
                self._host.close(connection)
                return
            if other is not None:
                self._host.close(other)
            self._by_session[connection.session] = connection
        if frozen.asked_first:
            self._ask(connection, frozen.asked_first)
        if not connection.unsent:
            self.told(connection)

    def closed(self, connection: Connection) -> None:
        """Forget a connection that is being closed."""
        if self._by_session.get(connection.session) is connection:
            del self._by_session[connection.session]
        for table in (self._names, self._committed, self._challenges, self._proofs, self._to_ask):
            table.pop(connection, None)


class _Rest(Records):
    """Records of which the first run was begun, and its bytes counted."""

    __slots__ = ()


def _keep(connection: Connection, events: Sequence[Event]) -> None:
    """Keep events for a connection's next turn, their records copied out of the buffer that they were read into."""
    kept: list[Event] = []
    nbytes = 0
    for event in events:
        if isinstance(event, Records):
            runs = [run._replace(data=memoryview(bytes(run.data))) for run in event.runs]
            nbytes += sum(len(run.data) for run in runs)
            kept.append(type(event)(event.first, runs))
        else:
            kept.append(event)
    connection.keep_events(kept, nbytes)


def _moment(seconds: float) -> str:
    """Return a time for people, in RFC 3339; "unknown" for what is none."""
    try:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds)) if seconds else "unknown"
    except (OverflowError, ValueError, OSError):
        return "unknown"
