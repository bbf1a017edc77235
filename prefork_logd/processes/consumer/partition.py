"""One partition of a stream, read by its owner: what has arrived, what is committed, what is acknowledged.

Owns the durable consumer, its flow, and the order of acknowledging. Knows no outputs and no pipes.

Messages are read in the stream's order, and "everything up to this one" is acknowledged when it, and all before it, are
committed. The consumer is made anew whenever reading begins, right after what was acknowledged last: so nothing waits
for the server to miss an acknowledgement.
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
"""No multiple of the largest message's size: a request whose bytes are used up exactly ends without a word."""
PULL_S = 30
IDLE_S, SILENT_S = 2, 5
"""How often a server says that a request is open while there is nothing to send, and after how long without a word it
counts as over."""
ACK_WAIT_S = 3600.0
MOST_SUBJECTS = 100_000
"""Servers tell no more subjects at once."""
LOOK_EVERY_S = 2.0
"""How often it is asked how much is unread, while the writer has no room for more."""


class Item(NamedTuple):
    """A message on its way to the writer."""

    partition: Partition
    sequence: int
    """In the stream."""
    range: wire.Range
    headers: Mapping[str, str]
    body: bytes


class Partition:
    """One partition, from taking it to giving it back or losing the connection."""

    def __init__(self, connection: Connection, stream: str, group: str, number: int) -> None:
        self.number = number
        self.orders: dict[str, JournalOrder[Item]] = {}
        self.waiting: dict[str, list[Item]] = {}
        """Journals whose position the writer was asked for, and their messages."""
        self.committed: dict[str, int] = {}
        """Journal to the number that comes next, as far as it is committed."""
        self.saved: dict[str, int] = {}
        """The same, as it was last written down."""
        self.saved_sequence = 0
        """The message that was acknowledged last by then."""
        self.has_forgotten = False
        """Whether what was written down has journals that are forgotten since."""
        self.closed = False
        self.unread = 0
        """Messages in the stream that have not arrived, as of the last one that has, or the last `look`."""
        self._read_s = 0.0
        """On the wall clock: no unread message is older."""
        self._connection = connection
        self._client = connection.client
        self._stream = stream
        self.consumer = consumer_of(group, number)
        self._filter = ""
        """The partition's subjects."""
        self._subscription: Subscription | None = None
        self._inbox = self._client.new_inbox()
        self._asked = 0
        """Messages that the server was asked for and has not sent."""
        self._heard_s = 0.0
        """When the server last sent anything for it, or it was asked."""
        self._delivered = 0
        self.acknowledged = 0
        """The message that was acknowledged last."""
        self.sequence = 0
        """Of the last message that arrived."""
        self._open: dict[int, Msg] = {}
        """Sequence to message, in order, of those that are not acknowledged."""
        self._done: set[int] = set()

    async def begin(self, subject: str, arrived: Callable[[Partition, Msg], None]) -> None:
        """Read on after what was acknowledged last; `arrived` takes each message."""
        from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy  # noqa: PLC0415
        from nats.js.errors import NotFoundError  # noqa: PLC0415

        ask = self._connection.ask
        subject = self._filter = wire.partition_filter(subject, self.number)
        state = (await ask(lambda stream: stream.stream_info(self._stream))).state
        start = 1
        with contextlib.suppress(NotFoundError):
            info = await ask(lambda stream: stream.consumer_info(self._stream, self.consumer))
            # A stream that was set back may end before what was acknowledged.
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

        async def take(message: Msg) -> None:
            if not self.closed:
                self._take(message, arrived)

        self._subscription = await self._client.subscribe(
            self._inbox, cb=take, pending_msgs_limit=1 << 20, pending_bytes_limit=1 << 30
        )

    async def _catch_up(self, subject: str) -> None:
        """Learn from headers how far journals are that went on after the table was written.

        What is acknowledged is committed. Its owner's journal knows that; who takes over from a dead one does not.
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
        """Forget journals of which the stream has no message any more; the table would grow with each that ever was.

        One that comes back begins with its first message, and its floor. To be called seldom: what a stream has not
        because it was set back is published again, and would come twice if another collector took it over meanwhile.
        """
        state = (
            await self._connection.ask(lambda stream: stream.stream_info(self._stream, subjects_filter=self._filter))
        ).state
        subjects = state.subjects or {}
        if len(subjects) >= MOST_SUBJECTS:
            return
        # What has come meanwhile may not be in the answer.
        there = {self._journal_of(subject) for subject in (*subjects, *(it.subject for it in self._open.values()))}
        for journal in (self.saved.keys() | self.committed.keys()) - there - self.waiting.keys():
            self.has_forgotten |= self.saved.pop(journal, None) is not None
            self.committed.pop(journal, None)
            self.orders.pop(journal, None)

    def _journal_of(self, subject: str) -> str:
        return subject.split(".")[self._filter.count(".")]

    def _take(self, message: Msg, arrived: Callable[[Partition, Msg], None]) -> None:
        self._heard_s = time.monotonic()
        if not message.reply:
            if not self.unread:
                # The request was open until now, and there was nothing to send.
                self._read_s = time.time()
            if (message.headers or {}).get("Status") == "100":
                return
            # A status: the request is over, for it was answered as far as it could be.
            self._asked = 0
            status = (message.headers or {}).get("Status", "")
            if status not in ("404", "408", "409"):
                self.closed = True
                raise StoreError(f"consumer {self.consumer}: {status or 'a message that makes no sense'}")
            return
        metadata = message.metadata
        self._asked -= 1
        self._delivered += 1
        if metadata.sequence.consumer != self._delivered:
            self.closed = True
            raise StoreError(f"consumer {self.consumer}: a message was left out on the way")
        if metadata.sequence.stream <= self.sequence:
            return
        self.sequence = metadata.sequence.stream
        self.unread = metadata.num_pending
        self._read_s = metadata.timestamp.timestamp() if self.unread else time.time()
        self._open[self.sequence] = message
        arrived(self, message)

    async def pull(self) -> None:
        """Ask for more, if the last request is over: also one that ended without a word, some seconds later."""
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
        """How many messages are in the stream and not committed here."""
        return len(self._open) + self.unread

    def lag_s(self, now_s: float) -> float:
        """Return the age of the oldest of these, in seconds; `now_s` is on the wall clock. Rather too much than little.

        The servers say when a message came to them: their clocks and ours are to agree.
        """
        if self._open:
            return max(0.0, now_s - next(iter(self._open.values())).metadata.timestamp.timestamp())
        return max(0.0, now_s - self._read_s) if self.unread else 0.0

    async def look(self) -> None:
        """Ask how much is unread while nothing is asked for, as nothing else tells it then. Raises what asking does."""
        if self.closed or self._asked > 0:
            return
        info = await self._connection.ask(lambda stream: stream.consumer_info(self._stream, self.consumer))
        self.unread = info.num_pending or 0
        if not self.unread:
            self._read_s = time.time()

    def done(self, sequence: int) -> None:
        """Note that a message is committed, or needs no commit."""
        if sequence in self._open:
            self._done.add(sequence)

    def to_acknowledge(self) -> Msg | None:
        """Return the last message that is done with all those before it; None if nothing is new."""
        last = None
        for sequence in list(self._open):
            if sequence not in self._done:
                break
            self._done.discard(sequence)
            last = self._open.pop(sequence)
            self.acknowledged = sequence
        return last

    async def close(self) -> None:
        """Read no more."""
        self.closed = True
        if self._subscription is not None:
            with contextlib.suppress(Exception):
                await self._subscription.unsubscribe()
            self._subscription = None
