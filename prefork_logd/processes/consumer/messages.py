"""Turns the messages of a stream into lines of batches for the writer.

Owns the order of each journal's messages, the journals' sessions at the writer, and which batch has which message.
Does not know the connection to NATS or the group: membership.py provides the partitions, consumer.py runs the process.

To the writer a journal of another collector is a session: 16 bytes, and numbers without holes. The writer therefore
recognizes records that are delivered again, as with any client, and no line is written twice, whichever process is
killed. A message is acknowledged after its commit.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from prefork_logd.errors import RecordRejected, describe_unexpected
from prefork_logd.ipc.scoreboard import Field
from prefork_logd.processes.consumer.partition import Item
from prefork_logd.records.stored import split_lines
from prefork_logd.stores.nats import wire
from prefork_logd.stores.nats.reorder import JournalOrder
from prefork_logd.system.log import RateLimitedLog

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nats.aio.msg import Msg

    from prefork_logd.ingest.dispatcher import Dispatcher
    from prefork_logd.ipc.batch_sender import BatchSender
    from prefork_logd.processes.consumer.partition import Partition
    from prefork_logd.stores.nats.reorder import Next

BATCH_BYTES = 262_144
MOST_A_TURN = 8
"""Messages handled at once; then commits and the master's messages have their turn."""
MOST_ARRIVED = 4 * BATCH_BYTES // 1024
"""Arrived messages that are not handled yet; above it no more are requested."""
MOST_HELD_BYTES = 128 << 20
"""Bytes of messages that wait for earlier ones; above it the journal that holds most gives up its last ones. An edge
has 16 MiB in flight at once."""
MOST_WAITING_BYTES = 32 << 20
"""Bytes of messages that wait for the position of their journal from the writer; above it no more are requested."""
MOST_JOURNALS = 10_000
"""Journals of one partition: the group's table has their positions in one message of at most 1 MiB."""


class StreamMessages:
    """The messages between the stream and the pipe to the writer."""

    def __init__(
        self,
        stream: str,
        partitions: Mapping[int, Partition],
        link: BatchSender,
        counters: memoryview,
        fail: Callable[[str], None],
        wake: Callable[[], None],
    ) -> None:
        """Send the messages of `partitions`, which are read now, over `link`.

        `fail` gets the reason when reading must begin again. `wake` is called when `take_messages` has work.
        """
        self.waiting_bytes = 0
        """Bytes of messages that wait for the position of their journal from the writer."""
        self._stream = stream
        self._partitions = partitions
        self._link = link
        self._counters = counters
        self._fail = fail
        self._wake = wake
        self._warnings = RateLimitedLog()
        self._dispatcher: Dispatcher
        self._high_water = 0
        self._arrived: deque[Item] = deque()
        self._in_batch: list[Item] = []
        self._reached: dict[tuple[Partition, str], int] = {}
        """The position of each journal after the current batch."""
        self._sent: deque[tuple[int, list[Item], dict[tuple[Partition, str], int]]] = deque()
        """(batch, its messages, the positions of journals after it) of each batch that is not committed."""
        self._epochs: dict[bytes, int] = {}
        self._floors: dict[bytes, int] = {}
        self._opening: dict[int, tuple[Partition, str]] = {}
        """Token of a request for a session to its journal."""
        self._tokens = 0
        self._blamed: tuple[int, int] | None = None
        """Partition and sequence of the message that last made reading begin again."""

    def configure(self, dispatcher: Dispatcher, high_water: int) -> None:
        """Make lines with a dispatcher, and pause while `high_water` bytes are not committed."""
        self._dispatcher = dispatcher
        self._high_water = high_water

    @property
    def has_work(self) -> bool:
        """Whether a message has arrived and the writer has room for it."""
        return bool(self._arrived) and self._link.held_bytes < self._high_water

    @property
    def has_room(self) -> bool:
        """Whether more messages may be requested."""
        has_room = self._link.held_bytes < self._high_water and self.waiting_bytes < MOST_WAITING_BYTES
        return has_room and len(self._arrived) < MOST_ARRIVED

    def is_committed(self, partition: Partition) -> bool:
        """Return whether every sent batch with messages of a partition is committed."""
        return not any(item.partition is partition for _, items, _ in self._sent for item in items)

    # Answers of the writer

    def record_commits(self) -> None:
        """Record the messages and positions of batches that are committed now."""
        while self._sent and self._sent[0][0] < self._link.first_held:
            _, items, reached = self._sent.popleft()
            for item in items:
                item.partition.done(item.sequence)
            for (partition, journal), number in reached.items():
                partition.committed[journal] = number

    def session_opened(self, token: int, epoch: int, committed: int) -> None:
        """Continue a journal after the number that the writer has committed."""
        partition, journal = self._opening.pop(token, (None, ""))
        if partition is None or partition.closed:
            return
        self._epochs[bytes.fromhex(journal)] = epoch
        self._floors[bytes.fromhex(journal)] = committed + 1
        partition.orders[journal] = JournalOrder(committed)
        partition.committed[journal] = committed
        for item in partition.waiting.pop(journal, ()):
            self.waiting_bytes -= len(item.body)
            self._offer(item)
        self._wake()

    def range_refused(self, session: bytes, epoch: int) -> None:
        """Begin again after the writer has refused records: none of them is acknowledged."""
        if self._epochs.get(session) == epoch:
            self._begin_again(f"the writer refused records of journal {session.hex()}")

    def writer_resumed(self) -> None:
        """Repeat, to a new writer, the requests for sessions that the last one did not answer."""
        opening, self._opening = self._opening, {}
        for partition, journal in opening.values():
            if not partition.closed:
                self._request_session(partition, journal)
        self._wake()

    # Messages

    def add_message(self, partition: Partition, message: Msg) -> None:
        """Queue a message of a partition that has just arrived."""
        try:
            header = wire.read_header(message.headers)
        except Exception as error:  # noqa: BLE001 - whatever a stranger has published
            why = str(error) if isinstance(error, wire.FormError) else describe_unexpected(error)
            self._refuse(partition.sequence, message.data, why)
            partition.done(partition.sequence)
            return
        self._arrived.append(Item(partition, partition.sequence, header, message.headers or {}, message.data))
        self._wake()

    def take_messages(self) -> None:
        """Put the lines of a few messages into a batch, and send it."""
        for _ in range(MOST_A_TURN):
            if not self.has_work:
                break
            item = self._arrived.popleft()
            if item.partition.closed:
                continue
            try:
                self._sort_in(item)
            except Exception as error:  # noqa: BLE001 - one message must not stop its partition for ever
                self._blame(item, describe_unexpected(error))
        self.send_batch()

    def send_batch(self) -> None:
        """Send the current batch, unless it is empty."""
        batch = self._dispatcher.batch
        if batch:
            self._sent.append((self._link.next_number, self._in_batch, self._reached))
            self._in_batch, self._reached = [], {}
            self._link.send(batch.build(self._link.next_number), [])

    def forget_sessions(self) -> None:
        """Forget the sessions of journals that are in no partition."""
        known = {bytes.fromhex(name) for partition in self._partitions.values() for name in partition.orders}
        self._epochs = {session: epoch for session, epoch in self._epochs.items() if session in known}

    def clear(self) -> None:
        """Send the current batch; forget the sessions, and the messages that are in no batch."""
        self._arrived.clear()
        self.waiting_bytes = 0
        self._opening.clear()
        self._epochs.clear()
        self._floors.clear()
        self.send_batch()

    def _refuse(self, sequence: int, body: bytes, why: str) -> None:
        """Count a message that cannot be handled, and keep its beginning in rejected.jsonl."""
        self._counters[Field.REJECTED] += 1
        self._warnings.warning("stream %s: skipped message %d: %s", self._stream, sequence, why)
        self._dispatcher.reject("nats", 0.0, "not-a-message", why, body, len(body))

    def _blame(self, item: Item, why: str) -> None:
        """Begin again after an error in a message, part of which may be in a batch; skip it after the second error."""
        if self._blamed == (item.partition.number, item.sequence):
            self._refuse(item.sequence, item.body, why)
            item.partition.done(item.sequence)
            return
        self._blamed = item.partition.number, item.sequence
        self._begin_again(f"message {item.sequence}: {why}")

    def _begin_again(self, why: str) -> None:
        for partition in self._partitions.values():
            partition.closed = True
        self._fail(why)

    # Each journal in its order

    def _sort_in(self, item: Item) -> None:
        partition, journal = item.partition, item.range.journal
        if journal in partition.orders:
            self._offer(item)
            return
        if journal not in partition.waiting and len(partition.orders) + len(partition.waiting) >= MOST_JOURNALS:
            self._refuse(item.sequence, item.body, f"its journal is new, and {MOST_JOURNALS} are known already")
            partition.done(item.sequence)
            return
        self.waiting_bytes += len(item.body)
        if journal in partition.waiting:
            partition.waiting[journal].append(item)
        else:
            partition.waiting[journal] = [item]
            self._request_session(partition, journal)

    def _request_session(self, partition: Partition, journal: str) -> None:
        """Request a journal's session from the writer, from its saved position or its first message."""
        self._tokens += 1
        self._opening[self._tokens] = partition, journal
        first = partition.saved.get(journal)
        if first is None:
            oldest = partition.waiting[journal][0].range
            first = min(oldest.first, oldest.floor)
        self._dispatcher.batch.open(self._tokens, bytes.fromhex(journal), first + 1)

    def _offer(self, item: Item) -> None:
        order = item.partition.orders[item.range.journal]
        steps, useless = order.offer(item.range, item, len(item.body))
        for step in steps:
            self._add_lines(item.partition, item.range.journal, step)
        for other in useless:
            other.partition.done(other.sequence)
        if order.held_bytes:
            self._bound_held_messages()

    def _bound_held_messages(self) -> None:
        """Give up messages that wait for earlier ones, if there are too many."""
        held = [order for partition in self._partitions.values() for order in partition.orders.values()]
        excess = sum(order.held_bytes for order in held) - MOST_HELD_BYTES
        if excess <= 0:
            return
        most = max(held, key=lambda order: order.held_bytes)
        while excess > 0 and (item := most.give_up_last()) is not None:
            excess -= len(item.body)
            self._refuse(item.sequence, item.body, "it waits for earlier ones, and too many of its journal do")
            item.partition.done(item.sequence)

    # Lines

    def _add_lines(self, partition: Partition, journal: str, step: Next[Item]) -> None:
        """Add the lines of the next numbers of a journal to the batch."""
        session = bytes.fromhex(journal)
        batch = self._dispatcher.batch
        if batch.has_other_epoch(session, self._epochs[session]):
            self.send_batch()
            batch = self._dispatcher.batch
        batch.begin(session, self._epochs[session], step.first + 1, step.end, self._floors[session])
        self._reached[partition, journal] = step.end
        if step.item is None:
            self._counters[Field.DROPPED] += step.end - step.first
            self._warnings.warning(
                "stream %s: records %d to %d of journal %s are no longer in it",
                self._stream, step.first, step.end - 1, journal,
            )  # fmt: skip
        else:
            self._in_batch.append(step.item)
            try:
                self._dispatch(step.item, step.first)
            except Exception as error:  # noqa: BLE001 - one message must not stop its partition for ever
                why = str(error) if isinstance(error, wire.FormError) else describe_unexpected(error)
                self._refuse(step.item.sequence, step.item.body, why)
        batch.end()
        if batch.nbytes >= BATCH_BYTES or batch.is_full:
            self.send_batch()

    def _dispatch(self, item: Item, first: int) -> None:
        """Add a message's lines from number `first` on to the batch; earlier ones are committed already.

        Raises FormError, or an unexpected error, before any line of the message is in the batch.
        """
        data = wire.unpack(item.body, item.range.encoding)
        if data and not data.endswith(b"\n"):
            data += b"\n"
        if first == item.range.first and wire.NUMBERS_HEADER not in item.headers and self._dispatch_all(item, data):
            return
        lines = split_lines(data)
        runs = wire.read_numbers(item.headers, item.range, len(lines))
        numbered = [
            (number, line)
            for number, line in zip((number for run in runs for number in run), lines, strict=True)
            if number >= first
        ]
        taken = rejected = 0
        dispatch, batch = self._dispatcher.dispatch_line, self._dispatcher.batch
        for number, line in numbered:
            try:
                if dispatch(line):
                    batch.run(number + 1, 1)
                taken += 1
            except RecordRejected as verdict:
                rejected += 1
                self._dispatcher.reject("nats", 0.0, verdict.reason, verdict.detail, line, len(line))
            except Exception as error:  # noqa: BLE001 - one line costs itself
                rejected += 1
                self._dispatcher.reject("nats", 0.0, "unexpected", describe_unexpected(error), line, len(line))
        self._counters[Field.RECORDS] += taken
        self._counters[Field.REJECTED] += rejected
        self._counters[Field.RECEIVED_BYTES] += len(data)

    def _dispatch_all(self, item: Item, data: bytes) -> bool:
        """Add all lines of a message at once; return False if that is not possible."""
        count = item.range.end - item.range.first
        if not self._dispatcher.dispatch_lines(data, count):
            return False
        if self._dispatcher.has_stores:
            self._dispatcher.batch.run(item.range.first + 1, count)
        self._counters[Field.RECORDS] += count
        self._counters[Field.RECEIVED_BYTES] += len(data)
        return True
