"""Publishes records to a stream of NATS JetStream, for collectors that read it and for every other user of NATS.

Owns the order of the steps: which ranges are published, when, and when they are safe. Does not know messages
(messages.py), acknowledgements (publisher.py), the log of ranges (publish_log.py), or servers (connection.py,
stream.py).

A stream cannot hold records and a position in one transaction. Every range of journal numbers is therefore cut once,
logged, published, acknowledged, and kept in the log until the servers have synced it: JetStream acknowledges earlier.
Whatever fails in between, a range that the stream does not hold is published again, with the same bounds and id. Every
connection first checks which ranges of the log the stream holds; `maintain` repeats that. The check notices a stream
that was set back (a power loss, an older copy): the next `open` then returns an earlier number.

A reader of the stream may still get a range twice, or with other bounds; docs/nats.md describes what readers do.
"""

from __future__ import annotations

import asyncio
import bisect
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefork_logd.config.values import format_count
from prefork_logd.errors import StoreError
from prefork_logd.stores.nats import wire
from prefork_logd.stores.nats.connection import Connection, check_limits
from prefork_logd.stores.nats.messages import HEADER_ROOM, MessageMaker
from prefork_logd.stores.nats.publish_log import PublishedRange, PublishLog
from prefork_logd.stores.nats.publisher import Publisher
from prefork_logd.stores.nats.ranges import RANGE_RECORDS, Cutter
from prefork_logd.stores.nats.stream import check_stream, describe_stream, ensure_stream, scan, wish_of
from prefork_logd.system.log import LOGGER

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nats.js.api import StreamInfo

    from prefork_logd.config.stores.nats import NatsStoreSettings
    from prefork_logd.stores.base import Block
    from prefork_logd.stores.nats.ranges import Cut

    Refuse = Callable[[int, bytes, str], None]

CHECK_EVERY_S = 10.0
"""How often the servers are queried for `status`."""


class NatsStore:
    """A stream as a store."""

    def __init__(self, settings: NatsStoreSettings) -> None:
        """Publish by `settings`; the file `checkpoint` in them belongs to this store."""
        self._settings = settings
        self._path = Path(settings.checkpoint)
        self._connection = Connection(settings, "prefork-logd store", settings.timeout_s)
        self._log: PublishLog | None = None
        self._cutter: Cutter | None = None
        self._journal = ""
        self._subject = ""
        self._pack = wire.packer(settings.compress)
        self._info: StreamInfo | None = None
        self._verified_s = -1e9
        self._looked_s = -1e9

    # The contract of stores/base.py

    def open(self, journal: str) -> int:
        """Connect, make or check the stream, check its ranges; return the first number to publish."""
        self.close()
        self._journal = journal
        self._subject = wire.subject_of(self._settings.subject, journal, self._settings.partitions)
        self._connection.open()
        check_limits(self._connection)
        self._info = self._connection.run(ensure_stream(self._connection, wish_of(self._settings), "[[store]]"))
        log = PublishLog(self._path, journal, time.monotonic())
        self._log = log
        last = self._connection.run(self._last_range())
        if log.is_new:
            log.begin(last.floor if last is not None else 0)
        elif last is not None and last.end > log.end:
            # The log was set back, or its end lost in a power loss: the stream has later numbers.
            self._connection.run(self._catch_up(log, last.floor))
        lost = self._connection.run(self._verify(log))
        if lost:
            LOGGER.error(
                "stream %s was set back: it lacks %s that it had acknowledged, which are published again",
                self._settings.stream, format_count(sum(known.end - known.first for known in lost), "record"),
            )  # fmt: skip
        self._cutter = Cutter(log)
        return log.wanted

    def write(self, blocks: Sequence[Block], refuse: Refuse) -> None:
        """Publish the ranges that are not in the stream yet; return when the stream has acknowledged them."""
        log = self._opened()
        if self._cutter is None:
            raise StoreError(f"{self._connection.where}: not connected")
        cuts = self._cutter.feed(blocks)
        try:
            self._connection.run(self._publish(log, cuts, refuse))
        finally:
            done = [cut.published for cut in cuts if cut.published.low]
            if done:
                log.acked(done)

    def maintain(self) -> float:
        """Check that the stream still holds the ranges that are not safe yet; forget the safe ones."""
        log = self._opened()
        due_s = self._verified_s + self._settings.sync_wait_s / 2
        if len(log) and time.monotonic() >= due_s:
            lost = self._connection.run(self._verify(log))
            if lost:
                raise StoreError(
                    f"stream {self._settings.stream} was set back: it lacks {format_count(len(lost), 'message')} "
                    "that it had acknowledged, which are published again"
                )
            due_s = time.monotonic() + self._settings.sync_wait_s / 2
        if time.monotonic() >= self._looked_s + CHECK_EVERY_S:
            self._connection.run(self._check_stream())
        else:
            # The connection answers pings only while its loop runs.
            self._connection.run(asyncio.sleep(0.002))
        return min(CHECK_EVERY_S, max(0.5, due_s - time.monotonic()))

    def durable(self) -> int:
        """Return the first number that may be published again; the journal need not keep earlier records."""
        return self._opened().base

    def close(self) -> None:
        """Close the connection and the file."""
        self._cutter = None
        self._connection.close()
        if self._log is not None:
            self._log.close()
            self._log = None

    # Status

    def status(self) -> dict[str, Any]:
        """Return the state of the stream as of the last check, and the number of records that are not settled."""
        if self._info is None:
            return {}
        # A range may also have numbers without a record, such as those skipped after a boot.
        unsettled = sum(min(published.end - published.first, RANGE_RECORDS) for published in self._log or ())
        return describe_stream(self._connection, self._info, self._settings) | {"unsettled_records": unsettled}

    def _opened(self) -> PublishLog:
        if self._log is None:
            raise StoreError(f"{self._connection.where}: not connected")
        return self._log

    @property
    def _filter(self) -> str:
        return f"{self._subject}.>" if self._settings.format == "json" else self._subject

    async def _publish(self, log: PublishLog, cuts: list[Cut], refuse: Refuse) -> None:
        """Publish ranges, many at once, and wait until all are acknowledged. Raises StoreError if one is not."""
        publisher = Publisher(self._connection, self._settings)
        limit = self._connection.client.max_payload - HEADER_ROOM
        maker = MessageMaker(self._settings, self._pack, self._journal, log.wanted, limit, refuse)
        for published, blocks in cuts:
            await publisher.publish(published, maker.messages(published, blocks))
        await publisher.finish()

    # The stream's ranges

    async def _check_stream(self) -> None:
        self._looked_s = time.monotonic()
        self._info = await self._connection.ask(lambda stream: stream.stream_info(self._settings.stream))
        # Limits that an operator has set meanwhile may remove records.
        check_stream(self._connection, wish_of(self._settings), self._info, "[[store]]")

    async def _last_range(self) -> wire.Range | None:
        """Return the range of the stream's last message of this journal; None if there is none."""
        from nats.js.errors import NotFoundError

        try:
            last = await self._connection.ask(
                lambda stream: stream.get_msg(self._settings.stream, subject=self._filter)
            )
            return wire.read_header(last.headers)
        except (NotFoundError, wire.FormError):
            return None

    async def _catch_up(self, log: PublishLog, floor: int) -> None:
        """Begin the log after the numbers that the stream holds without a gap, if these go beyond its end.

        A number that the stream holds must not be published again: readers would skip it as a repetition.
        """
        start = min((published.low for published in log if published.low), default=1)
        at = max(log.wanted, floor)
        found = [found.range async for found in scan(self._connection, self._settings.stream, self._filter, start)]
        for one in sorted(found, key=lambda one: one.first):
            if one.first <= at < one.end:
                at = one.end
        if at > log.end:
            log.begin(at)

    async def _verify(self, log: PublishLog) -> list[PublishedRange]:
        """Check which ranges of the log the stream holds; return the lost ones, which are pending again.

        Ranges that it has held for at least `sync_wait` are settled.
        """
        acked = [published for published in log if published.low]
        self._verified_s = now_s = time.monotonic()
        if not acked:
            return []
        held: dict[int, int] = {}
        whole: dict[int, int] = {}
        starts = [published.first for published in acked]
        seen: set[int] = set()
        async for found in scan(
            self._connection, self._settings.stream, self._filter, min(published.low for published in acked)
        ):
            part = found.range
            whole[part.first] = max(whole.get(part.first, 0), part.end - part.first)
            # A range may be several messages (one per record, or small ones): it is held if all of them are.
            index = bisect.bisect_right(starts, part.first) - 1
            if index >= 0 and part.first not in seen:
                seen.add(part.first)
                held[starts[index]] = held.get(starts[index], 0) + part.end - part.first
        lost = []
        for published in acked:
            there = max(held.get(published.first, 0), whole.get(published.first, 0))
            if there < published.end - published.first and not await self._is_elsewhere(published):
                published.low = published.high = 0
                published.elsewhere.clear()
                lost.append(published)
        if lost:
            log.acked(lost)
        safe = log.base
        for published in log:
            if not published.low or now_s - published.acked_s < self._settings.sync_wait_s:
                break
            safe = published.end
        if safe > log.base:
            log.settle(safe)
        return lost

    async def _is_elsewhere(self, published: PublishedRange) -> bool:
        """Return whether a range that was not found was removed, not lost, and must not be published again.

        Limits and `nats stream rmm` remove messages; their sequences are not used again. The sequences of lost messages
        are beyond the stream's end, or belong to other messages. A record that came through two collectors is one
        message, from the first: it has the id under which ours was acknowledged. If that id is no longer known, the
        range is published again, and the servers recognize repetitions.
        """
        from nats.js.errors import NotFoundError

        name = self._settings.stream
        state = (await self._connection.ask(lambda stream: stream.stream_info(name))).state
        if published.high > state.last_seq:
            return False
        if published.high < state.first_seq:
            return True
        try:
            there = await self._connection.ask(lambda stream: stream.get_msg(name, seq=published.high))
        except NotFoundError:
            return True
        if self._settings.format != "json":
            return False
        try:
            header = wire.read_header(there.headers)
        except wire.FormError:
            return False
        if header.journal == self._journal:
            return published.first <= header.first < published.end
        known = published.elsewhere.get(published.high, "")
        return bool(known) and (there.headers or {}).get("Nats-Msg-Id") == known
