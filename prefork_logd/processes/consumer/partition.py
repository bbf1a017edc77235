"""Reads one partition of a stream, and acknowledges its committed messages.

Owns the durable consumer, its flow control, and the order of acknowledgements. Does not know outputs or pipes.

Messages are read in the stream's order. An acknowledgement covers a message and all before it, once they are committed.
Whenever reading begins, the consumer is made again to start after the last acknowledged message. Unacknowledged
messages therefore come at once, and not after the server's ack_wait.
"""

from __future__ import annotations

import contextlib
import json
import time
from typing import TYPE_CHECKING, NamedTuple

from prefork_logd.errors import StoreError
from prefork_logd.stores.nats import wire
from prefork_logd.stores.nats.group import consumer_of
from prefork_logd.stores.nats.stream import scan

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nats.aio.msg import Msg
    from nats.aio.subscription import Subscription

    from prefork_logd.stores.nats.connection import Connection
    from prefork_logd.stores.nats.reorder import JournalOrder

PULL_MESSAGES = 256
PULL_BYTES = 2_300_000
"""Not a multiple of the largest message's size: the server ends a request without a status if its bytes are used up
exactly."""
PULL_S = 30
IDLE_S, SILENT_S = 2, 5
"""The server's heartbeat for an open request, and the silence after which the request counts as over."""
ACK_WAIT_S = 3600.0
MOST_SUBJECTS = 100_000
"""A server returns no more subjects at once."""
COUNT_EVERY_S = 2.0
"""How often unread messages are counted while the writer has no room for more."""


class Item(NamedTuple):
    """A message on its way to the writer."""

    partition: Partition
    sequence: int
    """Its sequence in the stream."""
    range: wire.Range
    headers: Mapping[str, str]
    body: bytes


class Partition:
    """One partition, from its claim until it is given back or the connection is lost."""

    def __init__(self, connection: Connection, stream: str, group: str, number: int) -> None:
        self.number = number
        self.orders: dict[str, JournalOrder[Item]] = {}
        self.waiting: dict[str, list[Item]] = {}
        """Journals whose positions are requested from the writer, and their messages."""
        self.committed: dict[str, int] = {}
        """Journal to its next number after the last commit."""
        self.saved: dict[str, int] = {}
        """The same, as last saved in the group's table."""
        self.saved_sequence = 0
        """The last acknowledged message at that time."""
        self.has_forgotten = False
        """Whether the table has journals that have been forgotten since."""
        self.closed = False
        self.unread = 0
        """Messages in the stream that have not arrived, as of the last arrival or the last `count_unread`."""
        self._read_s = 0.0
        """A time on the wall clock; no unread message is older."""
        self._connection = connection
        self._client = connection.client
        self._stream = stream
        self.consumer = consumer_of(group, number)
        self._filter = ""
        """The subjects of the partition."""
        self._subscription: Subscription | None = None
        self._inbox = self._client.new_inbox()
        self._asked = 0
        """Messages that were requested and have not arrived."""
        self._heard_s = 0.0
        """The time of the last message of the server, or of the last request."""
        self._delivered = 0
        self.acknowledged = 0
        """Sequence of the last acknowledged message."""
        self.sequence = 0
        """Sequence of the last message that arrived."""
        self._open: dict[int, Msg] = {}
        """Sequence to message, in order, of those that are not acknowledged."""
        self._done: set[int] = set()

    async def begin(self, subject: str, arrived: Callable[[Partition, Msg], None]) -> None:
        """Read on after the last acknowledged message; each message goes to `arrived`."""
        from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
        from nats.js.errors import NotFoundError

        ask = self._connection.ask
        subject = self._filter = wire.partition_filter(subject, self.number)
        state = (await ask(lambda stream: stream.stream_info(self._stream))).state
        start = 1
        with contextlib.suppress(NotFoundError):
            info = await ask(lambda stream: stream.consumer_info(self._stream, self.consumer))
            # A stream that was set back may end before the last acknowledged message.
            start = min(info.ack_floor.stream_seq if info.ack_floor else 0, state.last_seq) + 1
            await ask(lambda stream: stream.delete_consumer(self._stream, self.consumer))
        config = ConsumerConfig(
            durable_name=self.consumer,
            description="prefork-logd",
            deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
            opt_start_seq=start,
            ack_policy=AckPolicy.ALL,
            ack_wait=ACK_WAIT_S,
            max_ack_pending=-1,
            filter_subject=subject,
        )
        made = await ask(lambda stream: stream.add_consumer(self._stream, config))
        self.sequence = self.acknowledged = start - 1
        self.unread, self._read_s = made.num_pending or 0, time.time()
        await self._catch_up(subject)

        async def handle(message: Msg) -> None:
            if not self.closed:
                self._handle_message(message, arrived)

        self._subscription = await self._client.subscribe(
            self._inbox, cb=handle, pending_msgs_limit=1 << 20, pending_bytes_limit=1 << 30
        )

    async def _catch_up(self, subject: str) -> None:
        """Read from headers the positions of journals that went on after the table was saved.

        Acknowledged messages are committed. Their owner's journal has the positions; the successor of a dead owner does
        not.
        """
        if self.saved_sequence >= self.acknowledged:
            return
        later = scan(self._connection, self._stream, subject, self.saved_sequence + 1)
        async with contextlib.aclosing(later):
            async for found in later:
                if found.sequence > self.acknowledged:
                    break
                journal, end = found.range.journal, found.range.end
                self.saved[journal] = max(self.saved.get(journal, 0), end)

    async def forget(self) -> None:
        """Forget journals without a message in the stream; otherwise the table would grow with every journal.

        A journal that comes back begins with its first message, and its floor. Call it seldom: messages that a stream
        lost because it was set back are published again, and would be written twice by a collector that took the
        partition over meanwhile.
        """
        state = (
            await self._connection.ask(lambda stream: stream.stream_info(self._stream, subjects_filter=self._filter))
        ).state
        subjects = state.subjects or {}
        if len(subjects) >= MOST_SUBJECTS:
            return
        # Messages that arrived meanwhile may not be in the answer.
        there = {self._journal_of(subject) for subject in (*subjects, *(it.subject for it in self._open.values()))}
        for journal in (self.saved.keys() | self.committed.keys()) - there - self.waiting.keys():
            self.has_forgotten |= self.saved.pop(journal, None) is not None
            self.committed.pop(journal, None)
            self.orders.pop(journal, None)

    def _journal_of(self, subject: str) -> str:
        return subject.split(".")[self._filter.count(".")]

    def _handle_message(self, message: Msg, arrived: Callable[[Partition, Msg], None]) -> None:
        self._heard_s = time.monotonic()
        if not message.reply:
            if not self.unread:
                # The request was open until now, and there was no message.
                self._read_s = time.time()
            if (message.headers or {}).get("Status") == "100":
                return
            # A status ends the request.
            self._asked = 0
            status = (message.headers or {}).get("Status", "")
            if status not in ("404", "408", "409"):
                self.closed = True
                raise StoreError(f"consumer {self.consumer}: {status or 'unexpected message'}")
            return
        metadata = message.metadata
        self._asked -= 1
        self._delivered += 1
        if metadata.sequence.consumer != self._delivered:
            self.closed = True
            raise StoreError(f"consumer {self.consumer}: a message was lost on the way")
        if metadata.sequence.stream <= self.sequence:
            return
        self.sequence = metadata.sequence.stream
        self.unread = metadata.num_pending
        self._read_s = metadata.timestamp.timestamp() if self.unread else time.time()
        self._open[self.sequence] = message
        arrived(self, message)

    async def pull(self) -> None:
        """Request more messages if the last request is over, or the server has been silent for SILENT_S."""
        now_s = time.monotonic()
        if self.closed or (self._asked > 0 and now_s - self._heard_s < SILENT_S):
            return
        self._asked, self._heard_s = PULL_MESSAGES, now_s
        request = {
            "batch": PULL_MESSAGES,
            "max_bytes": max(PULL_BYTES, self._client.max_payload + 65_536),
            "expires": PULL_S * 1_000_000_000,
            "idle_heartbeat": IDLE_S * 1_000_000_000,
        }
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self.consumer}"
        await self._client.publish(subject, json.dumps(request).encode(), reply=self._inbox)

    @property
    def messages_waiting(self) -> int:
        """Number of messages in the stream that are not committed here."""
        return len(self._open) + self.unread

    def lag_s(self, now_s: float) -> float:
        """Return the age of the oldest of these in seconds, rather too high than too low; `now_s` is on the wall clock.

        The servers' clocks, which date the messages, must agree with this one.
        """
        if self._open:
            return max(0.0, now_s - next(iter(self._open.values())).metadata.timestamp.timestamp())
        return max(0.0, now_s - self._read_s) if self.unread else 0.0

    async def count_unread(self) -> None:
        """Update `unread` while no messages are requested. Raises the errors of Connection.ask."""
        if self.closed or self._asked > 0:
            return
        info = await self._connection.ask(lambda stream: stream.consumer_info(self._stream, self.consumer))
        self.unread = info.num_pending or 0
        if not self.unread:
            self._read_s = time.time()

    def done(self, sequence: int) -> None:
        """Record that a message is committed, or needs no commit."""
        if sequence in self._open:
            self._done.add(sequence)

    def to_acknowledge(self) -> Msg | None:
        """Return the last message up to which all are done; None if there is no new one."""
        last = None
        for sequence in list(self._open):
            if sequence not in self._done:
                break
            self._done.discard(sequence)
            last = self._open.pop(sequence)
            self.acknowledged = sequence
        return last

    async def close(self) -> None:
        """Stop reading."""
        self.closed = True
        if self._subscription is not None:
            with contextlib.suppress(Exception):
                await self._subscription.unsubscribe()
            self._subscription = None
