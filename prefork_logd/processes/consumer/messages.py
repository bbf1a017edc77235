"""Turns the messages of a stream into lines of batches for the writer.

Owns the order of each journal's messages, the journals' sessions at the writer, and which batch has which message.
Knows no connection to NATS and no group: partitions come from membership.py, and the life from nats_source.py.

To the writer a journal of another collector is a session: 16 bytes, and numbers without holes. So what is delivered
again is known when it is committed, as with any client, and no line comes twice, whatever is killed when. A message is
acknowledged after its commit.
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
"""Messages taken at once: commits and the master have their turn after them."""
MOST_ARRIVED = 4 * BATCH_BYTES // 1024
"""Messages that have arrived and are not taken; then no more are asked for."""
MOST_HELD_BYTES = 128 << 20
"""Of messages that wait for others before them; the journal that holds most then loses the last of its own. An edge has
16 MiB on their way at once."""
MOST_WAITING_BYTES = 32 << 20
"""Of messages that wait for the writer to say how far their journal is; then no more are asked for."""
MOST_JOURNALS = 10_000
"""Of one partition: the group's table has their positions in one message of at most 1 MiB."""


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
        """Send the messages of `partitions`, those that are read now, over `link`.

        `fail` takes the reason when reading has to begin anew. `wake` is called when `take_messages` has work.
        """
        self.waiting_bytes = 0
        """Of messages that wait for the writer to say how far their journal is."""
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
        """How far the batch that is being made brings each journal."""
        self._sent: deque[tuple[int, list[Item], dict[tuple[Partition, str], int]]] = deque()
        """(batch, its messages, how far it brings each journal), not committed."""
        self._epochs: dict[bytes, int] = {}
        self._floors: dict[bytes, int] = {}
        self._opening: dict[int, tuple[Partition, str]] = {}
        """Token to the journal whose session the writer was asked for."""
        self._tokens = 0
        self._blamed: tuple[int, int] | None = None
        """Partition and sequence of the message at which reading was begun anew last."""

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
        """Whether more messages may be asked for."""
        has_room = self._link.held_bytes < self._high_water and self.waiting_bytes < MOST_WAITING_BYTES
        return has_room and len(self._arrived) < MOST_ARRIVED

    def is_committed(self, partition: Partition) -> bool:
        """Tell whether no message of a partition is in a batch that was sent and is not committed."""
        return not any(item.partition is partition for _, items, _ in self._sent for item in items)

    # What the writer answers

    def note_commits(self) -> None:
        """Note the messages and positions of the batches that are committed by now."""
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
        """Begin anew when the writer has left out records of ours: none of them is acknowledged."""
        if self._epochs.get(session) == epoch:
            self._begin_anew(f"the writer is out of step with {session.hex()}")

    def writer_resumed(self) -> None:
        """Ask the new writer for the sessions that the last one was asked for."""
        opening, self._opening = self._opening, {}
        for partition, journal in opening.values():
            if not partition.closed:
                self._ask(partition, journal)
        self._wake()

    # Messages

    def add_message(self, partition: Partition, message: Msg) -> None:
        """Take in a message of a partition that has just arrived."""
        try:
            it = wire.read_header(message.headers)
        except Exception as error:  # noqa: BLE001 - whatever a stranger has published
            why = str(error) if isinstance(error, wire.FormError) else describe_unexpected(error)
            self._refuse(partition.sequence, message.data, why)
            partition.done(partition.sequence)
            return
        self._arrived.append(Item(partition, partition.sequence, it, message.headers or {}, message.data))
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
        """Send the batch that is being made, if anything is in it."""
        batch = self._dispatcher.batch
        if batch:
            self._sent.append((self._link.next_number, self._in_batch, self._reached))
            self._in_batch, self._reached = [], {}
            self._link.send(batch.build(self._link.next_number), [])

    def forget_sessions(self) -> None:
        """Forget the sessions of journals that no partition has any more."""
        known = {bytes.fromhex(name) for partition in self._partitions.values() for name in partition.orders}
        self._epochs = {session: epoch for session, epoch in self._epochs.items() if session in known}

    def clear(self) -> None:
        """Forget the messages that are in no batch, and the sessions; send the batch that is being made."""
        self._arrived.clear()
        self.waiting_bytes = 0
        self._opening.clear()
        self._epochs.clear()
        self._floors.clear()
        self.send_batch()

    def _refuse(self, sequence: int, body: bytes, why: str) -> None:
        """Keep the beginning of a message that cannot be taken in rejected.jsonl, and count it."""
        self._counters[Field.REJECTED] += 1
        self._warnings.warning("stream %s: message %d %s; it is passed over", self._stream, sequence, why)
        self._dispatcher.reject("nats", 0.0, "not-a-message", why, body, len(body))

    def _blame(self, item: Item, why: str) -> None:
        """Begin anew, for it is not known how far the message came; give up one that is to blame the second time."""
        if self._blamed == (item.partition.number, item.sequence):
            self._refuse(item.sequence, item.body, why)
            item.partition.done(item.sequence)
            return
        self._blamed = item.partition.number, item.sequence
        self._begin_anew(f"message {item.sequence}: {why}")

    def _begin_anew(self, why: str) -> None:
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
            self._refuse(item.sequence, item.body, f"is of a new journal, and {MOST_JOURNALS} are remembered already")
            partition.done(item.sequence)
            return
        self.waiting_bytes += len(item.body)
        if journal in partition.waiting:
            partition.waiting[journal].append(item)
        else:
            partition.waiting[journal] = [item]
            self._ask(partition, journal)

    def _ask(self, partition: Partition, journal: str) -> None:
        """Ask the writer how far a journal is, from where it is known or begins."""
        self._tokens += 1
        self._opening[self._tokens] = partition, journal
        first = partition.saved.get(journal)
        if first is None:
            it = partition.waiting[journal][0].range
            first = min(it.first, it.floor)
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
        """Give up messages that wait for others before them, where they have become too many."""
        held = [order for partition in self._partitions.values() for order in partition.orders.values()]
        excess = sum(order.held_bytes for order in held) - MOST_HELD_BYTES
        if excess <= 0:
            return
        most = max(held, key=lambda order: order.held_bytes)
        while excess > 0 and (item := most.give_up_last()) is not None:
            excess -= len(item.body)
            self._refuse(item.sequence, item.body, "has to wait for earlier ones, and too many of its journal wait")
            item.partition.done(item.sequence)

    # Lines

    def _add_lines(self, partition: Partition, journal: str, step: Next[Item]) -> None:
        """Put the lines of the numbers whose turn it is into the batch."""
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
                "stream %s: records %d to %d of journal %s are not in it any more",
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
        if batch.nbytes >= BATCH_BYTES:
            self.send_batch()

    def _dispatch(self, item: Item, first: int) -> None:
        """Dispatch a message's lines, but for those below a number, which are committed already.

        Raises FormError, or an unexpected error, before anything of the message is in the batch.
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
        """Dispatch all lines of a message together, if that can be; return whether it could."""
        count = item.range.end - item.range.first
        if not self._dispatcher.dispatch_lines(data, count):
            return False
        if self._dispatcher.has_stores:
            self._dispatcher.batch.run(item.range.first + 1, count)
        self._counters[Field.RECORDS] += count
        self._counters[Field.RECEIVED_BYTES] += len(data)
        return True
