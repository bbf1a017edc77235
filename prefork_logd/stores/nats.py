"""Records in a stream of NATS JetStream, for collectors that read it and for every other user of NATS.

Owns what is published, under which ids, and from when on it is safe. How a message looks is nats_wire.py's, what is
remembered nats_window.py's, and how servers are reached nats_connection.py's.

A stream cannot hold records and a position in one transaction. So every range of journal numbers is cut once, written
down, published, acknowledged, and kept in the window until the servers have synced it: JetStream acknowledges before
that. Whatever happens in between, what the stream does not hold is published again, with the same cut and the same id.
Every connection begins with a look at which ranges of the window the stream holds; so does `maintain`, now and then.
A stream that was set back (a power loss, an older copy) is noticed there: the next `open` then wants an earlier number.

Whoever reads the stream may still meet a range twice, or cut elsewhere; docs/nats.md says what readers do.
"""

from __future__ import annotations

import asyncio
import bisect
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from prefork_logd.errors import StoreError, describe_unexpected
from prefork_logd.log import LOGGER
from prefork_logd.records.stored import split_lines
from prefork_logd.stores import nats_wire as wire
from prefork_logd.stores.base import split_block
from prefork_logd.stores.nats_connection import (
    Connection,
    check_limits,
    check_stream,
    describe,
    describe_stream,
    ensure_stream,
    scan,
    wish_of,
)
from prefork_logd.stores.nats_cut import PIECE_RECORDS, Cutter
from prefork_logd.stores.nats_window import Piece, Window

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from nats.js.api import PubAck, StreamInfo

    from prefork_logd.store_settings import NatsStoreSettings
    from prefork_logd.stores.base import Block
    from prefork_logd.stores.nats_cut import Cut

    Refuse = Callable[[int, bytes, str], None]

IN_FLIGHT_BYTES = 16 << 20
IN_FLIGHT_MESSAGES = 4096
"""What may be published and not acknowledged."""
LATE_ANSWERS_S = 0.3
"""How long answers are waited for after something went wrong: each spares a message from being published again."""
LOOK_EVERY_S = 10.0
"""How often the servers are asked what `status` shows."""
HEADER_ROOM = 4096
"""Of the largest message that servers take, what headers may need, but for a long list of numbers."""


class NatsStore:
    """A stream as a store."""

    def __init__(self, settings: NatsStoreSettings) -> None:
        """Publish as `settings` say; their file `checkpoint` is this store's own."""
        self._settings = settings
        self._path = Path(settings.checkpoint)
        self._connection = Connection(settings, "prefork-logd store", settings.timeout_s)
        self._window: Window | None = None
        self._cutter: Cutter | None = None
        self._journal = ""
        self._subject = ""
        self._pack = wire.packer(settings.compress)
        self._info: StreamInfo | None = None
        self._verified_s = -1e9
        self._looked_s = -1e9

    # The contract of stores/base.py

    def open(self, journal: str) -> int:
        """Connect, make or check the stream, see what it holds; return the first number to be published."""
        self.close()
        self._journal = journal
        self._subject = wire.subject_of(self._settings.subject, journal, self._settings.partitions)
        self._connection.open()
        check_limits(self._connection)
        self._info = self._connection.run(ensure_stream(self._connection, wish_of(self._settings), "[[store]]"))
        window = Window(self._path, journal, time.monotonic())
        self._window = window
        if window.is_new:
            window.begin(self._connection.run(self._published()))
        lost = self._connection.run(self._verify(window))
        if lost:
            LOGGER.error(
                "stream %s: %d records that it had acknowledged are not in it (it was set back); they are published "
                "again", self._settings.stream, sum(piece.end - piece.first for piece in lost),
            )  # fmt: skip
        self._cutter = Cutter(window)
        return window.wanted

    def write(self, blocks: Sequence[Block], refuse: Refuse) -> None:
        """Publish what is not in the stream yet; return when the stream has acknowledged it."""
        window = self._opened()
        if self._cutter is None:
            raise StoreError(f"{self._connection.where}: not connected")
        cuts = self._cutter.feed(blocks)
        try:
            self._connection.run(self._publish(window, cuts, refuse))
        finally:
            done = [cut.piece for cut in cuts if cut.piece.low]
            if done:
                window.acked(done)

    def maintain(self) -> float:
        """See whether the stream still holds what is not safe yet; forget what is."""
        window = self._opened()
        due_s = self._verified_s + self._settings.sync_wait_s / 2
        if len(window) and time.monotonic() >= due_s:
            lost = self._connection.run(self._verify(window))
            if lost:
                raise StoreError(
                    f"stream {self._settings.stream} was set back: {len(lost)} messages that it had acknowledged are "
                    "not in it; they are published again"
                )
            due_s = time.monotonic() + self._settings.sync_wait_s / 2
        if time.monotonic() >= self._looked_s + LOOK_EVERY_S:
            self._connection.run(self._look())
        else:
            # The connection is alive only while its loop runs.
            self._connection.run(asyncio.sleep(0.002))
        return min(LOOK_EVERY_S, max(0.5, due_s - time.monotonic()))

    def durable(self) -> int:
        """Return the first number that may have to be published again: records before it need not be kept."""
        return self._opened().base

    def close(self) -> None:
        """Let go of the connection and the file."""
        self._cutter = None
        self._connection.close()
        if self._window is not None:
            self._window.close()
            self._window = None

    # Besides

    def status(self) -> dict[str, Any]:
        """Return what the servers say of the stream, as of the last look at it, and how much is not settled."""
        if self._info is None:
            return {}
        # A range may also stand for numbers that have no record, such as those that a boot leaves out.
        unsettled = sum(min(piece.end - piece.first, PIECE_RECORDS) for piece in self._window or ())
        return describe_stream(self._connection, self._info, self._settings) | {"unsettled_records": unsettled}

    def _opened(self) -> Window:
        if self._window is None:
            raise StoreError(f"{self._connection.where}: not connected")
        return self._window

    @property
    def _filter(self) -> str:
        return f"{self._subject}.>" if self._settings.format == "json" else self._subject

    # What the stream holds

    async def _look(self) -> None:
        self._looked_s = time.monotonic()
        self._info = await self._connection.ask(lambda stream: stream.stream_info(self._settings.stream))
        # Limits that an operator has set meanwhile may throw records away.
        check_stream(self._connection, wish_of(self._settings), self._info, "[[store]]")

    async def _published(self) -> int:
        """Return where to go on when nothing is remembered here: the stream's last message of this journal tells."""
        from nats.js.errors import NotFoundError  # noqa: PLC0415

        try:
            last = await self._connection.ask(
                lambda stream: stream.get_msg(self._settings.stream, subject=self._filter)
            )
            return wire.read_header(last.headers).floor
        except (NotFoundError, wire.FormError):
            return 0

    async def _verify(self, window: Window) -> list[Piece]:
        """Look which ranges of the window the stream holds; return those that it has lost, which count as pending.

        What it holds, and has held for as long as servers take to sync, is settled.
        """
        acked = [piece for piece in window if piece.low]
        self._verified_s = now_s = time.monotonic()
        if not acked:
            return []
        held: dict[int, int] = {}
        whole: dict[int, int] = {}
        starts = [piece.first for piece in acked]
        seen: set[int] = set()
        async for found in scan(
            self._connection, self._settings.stream, self._filter, min(piece.low for piece in acked)
        ):
            it = found.range
            whole[it.first] = max(whole.get(it.first, 0), it.end - it.first)
            # Where records are messages, or servers take no large ones, a range is there when all its parts are.
            index = bisect.bisect_right(starts, it.first) - 1
            if index >= 0 and it.first not in seen:
                seen.add(it.first)
                held[starts[index]] = held.get(starts[index], 0) + it.end - it.first
        lost = []
        for piece in acked:
            there = max(held.get(piece.first, 0), whole.get(piece.first, 0))
            if there < piece.end - piece.first and not await self._is_elsewhere(piece):
                piece.low = piece.high = 0
                piece.elsewhere.clear()
                lost.append(piece)
        if lost:
            window.acked(lost)
        safe = window.base
        for piece in window:
            if not piece.low or now_s - piece.acked_s < self._settings.sync_wait_s:
                break
            safe = piece.end
        if safe > window.base:
            window.settle(safe)
        return lost

    async def _is_elsewhere(self, piece: Piece) -> bool:
        """Tell whether a range that was not found needs no publishing: it was removed, not lost.

        Limits and `nats stream rmm` remove messages; their sequences are not used again. Those of messages that were
        lost are beyond the stream's end, or other messages have them. A record that came through two collectors is
        one message, of the first: it has the id under which ours was acknowledged. Where that is not known any more,
        the range is published again, and the servers tell.
        """
        from nats.js.errors import NotFoundError  # noqa: PLC0415

        name = self._settings.stream
        state = (await self._connection.ask(lambda stream: stream.stream_info(name))).state
        if piece.high > state.last_seq:
            return False
        if piece.high < state.first_seq:
            return True
        try:
            there = await self._connection.ask(lambda stream: stream.get_msg(name, seq=piece.high))
        except NotFoundError:
            return True
        if self._settings.format != "json":
            return False
        try:
            it = wire.read_header(there.headers)
        except wire.FormError:
            return False
        if it.journal == self._journal:
            return piece.first <= it.first < piece.end
        known = piece.elsewhere.get(piece.high, "")
        return bool(known) and (there.headers or {}).get("Nats-Msg-Id") == known

    # Publishing

    async def _publish(self, window: Window, cuts: list[Cut], refuse: Refuse) -> None:
        """Publish ranges, many at once, and wait until all are acknowledged. Raises StoreError if one is not."""
        flight = _Flight(self._connection, self._settings)
        limit = self._connection.client.max_payload - HEADER_ROOM
        floor = window.wanted
        for piece, blocks in cuts:
            fitting = _without_giants(blocks, limit, refuse)
            if self._settings.format == "json":
                messages = self._records(piece, fitting, floor, refuse)
            else:
                try:
                    messages = self._batches(piece, fitting, floor, limit)
                except Exception:  # noqa: BLE001 - whatever the packer makes of one line
                    # A range is published whole: what cannot be packed has to be found within it.
                    messages = self._batches(piece, self._packable(fitting, refuse), floor, limit)
            await flight.publish(piece, messages)
        await flight.land()

    def _packable(self, blocks: list[_Fitting], refuse: Refuse) -> list[_Fitting]:
        """Return what can be packed of each block, line by line."""
        packable: list[_Fitting] = []
        for block, split in blocks:
            lines = block.lines.splitlines(keepends=True) if split is None else list(split)
            for index, line in enumerate(lines):
                try:
                    self._pack(line)
                except Exception as error:  # noqa: BLE001 - whatever the packer makes of one line
                    refuse(block.first + index, line, f"cannot be packed: {describe_unexpected(error)}")
                    lines[index] = b""
            packable.append(_Fitting(block, lines))
        return packable

    def _batches(self, piece: Piece, blocks: list[_Fitting], floor: int, limit: int) -> list[Message]:
        """Return a range as one message, or as several where the servers take none so large."""
        message = self._batch(piece.first, piece.end, blocks, floor)
        if len(message.body) + len(message.numbers) <= limit or sum(it.block.count for it in blocks) < 2:
            return [message]
        parts: list[list[_Fitting]] = [[], []]
        half = sum(it.block.count for it in blocks) // 2
        for it in blocks:
            for part, fitting in zip(parts, it.split_at(half), strict=True):
                if fitting is not None:
                    part.append(fitting)
            half = max(0, half - it.block.count)
        middle = parts[1][0].block.first
        return [
            *self._batches(Piece(piece.first, middle), parts[0], floor, limit),
            *self._batches(Piece(middle, piece.end), parts[1], floor, limit),
        ]

    def _batch(self, first: int, end: int, blocks: list[_Fitting], floor: int) -> Message:
        """Return a range as one message."""
        body = self._pack(b"".join([it.joined for it in blocks]))
        it = wire.Range(self._journal, first, end, floor, self._settings.compress)
        numbers = wire.numbers_of(run for it in blocks for run in it.runs())
        if numbers == f"{first}+{end - first}":
            numbers = ""
        elif not numbers:
            numbers = ","
        name = wire.batch_id(self._journal, first, end)
        return Message(self._subject, body, wire.header_of(it), name, numbers)

    def _records(self, piece: Piece, blocks: list[_Fitting], floor: int, refuse: Refuse) -> list[Message]:
        """Return a range as one message a record; the last one also stands for what has no line."""
        messages: list[Message] = []
        at = piece.first
        for block, split in blocks:
            ids = wire.record_ids(self._journal, block)
            lines = split_lines(block.lines) if split is None else split
            for number, line, record_id in zip(range(block.first, piece.end), lines, ids, strict=False):
                try:
                    subject, body = f"{self._subject}.{wire.logger_tokens(wire.logger_of(line))}", line.rstrip(b"\n")
                except Exception as error:  # noqa: BLE001 - one record costs itself; its number is used up
                    refuse(number, line, f"has no subject: {describe_unexpected(error)}")
                    subject, body = f"{self._subject}._", b""
                it = wire.Range(self._journal, at, number + 1, floor, "none")
                at = number + 1
                messages.append(Message(subject, body, wire.header_of(it), record_id))
        if at < piece.end:
            it = wire.Range(self._journal, at, piece.end, floor, "none")
            name = wire.batch_id(self._journal, at, piece.end)
            messages.append(Message(f"{self._subject}._", b"", wire.header_of(it), name))
        return messages


class Message(NamedTuple):
    """What is published."""

    subject: str
    body: bytes
    header: str
    id: str
    numbers: str = ""
    """Which numbers the lines have, if not all from the first to the last."""


class _Fitting(NamedTuple):
    """What can be published of a block."""

    block: Block
    split: list[bytes] | None
    """Its lines, an empty one for each that cannot be; None: all can."""

    @property
    def joined(self) -> bytes:
        """The lines."""
        return self.block.lines if self.split is None else b"".join(self.split)

    def split_at(self, count: int) -> tuple[_Fitting | None, _Fitting | None]:
        """Return the first records, and the others; None for none."""
        if count <= 0:
            return None, self
        before, after = split_block(self.block, count)
        ours, others = (None, None) if self.split is None else (self.split[:count], self.split[count:])
        return _Fitting(before, ours), _Fitting(after, others) if after is not None else None

    def runs(self) -> Iterator[tuple[int, int]]:
        """Yield (first, count) of the numbers of the lines."""
        if self.split is None:
            yield self.block.first, self.block.count
            return
        for number, line in enumerate(self.split, self.block.first):
            if line:
                yield number, 1


def _without_giants(blocks: list[Block], most: int, refuse: Refuse) -> list[_Fitting]:
    """Return what can be published of each block: not a line that no message can hold."""
    fitting: list[_Fitting] = []
    for block in blocks:
        lines = None
        if len(block.lines) > most:
            lines = split_lines(block.lines)
            for index, line in enumerate(lines):
                if len(line) > most:
                    what = f"a line of {len(line)} bytes is above what the servers take in a message (max_payload)"
                    refuse(block.first + index, line, what)
                    lines[index] = b""
        fitting.append(_Fitting(block, lines))
    return fitting


class _Flight:
    """Messages on their way to the stream."""

    def __init__(self, connection: Connection, settings: NatsStoreSettings) -> None:
        self._connection = connection
        self._stream = connection.stream
        self._settings = settings
        self._waiting: list[tuple[asyncio.Future[PubAck], Piece, Message]] = []
        self._nbytes = 0
        self._left: dict[int, int] = {}
        """Range, by its first number, to how many of its messages are not acknowledged."""
        self._bounds: dict[int, tuple[int, int]] = {}

    async def publish(self, piece: Piece, messages: list[Message]) -> None:
        """Publish a range, as soon as not too much is on its way. Raises StoreError for one before it."""
        self._left[piece.first] = len(messages)
        for message in messages:
            while self._nbytes > IN_FLIGHT_BYTES or len(self._waiting) >= IN_FLIGHT_MESSAGES:
                await self._settle(len(self._waiting) // 2)
            headers = {wire.HEADER: message.header, "Nats-Msg-Id": message.id}
            if message.numbers:
                headers[wire.NUMBERS_HEADER] = message.numbers
            future = await self._stream.publish_async(message.subject, message.body, headers=headers)
            self._waiting.append((future, piece, message))
            self._nbytes += len(message.body)

    async def land(self) -> None:
        """Wait for all acknowledgements. Raises StoreError if one does not come, or says no."""
        await self._settle(0)

    async def _settle(self, leave: int) -> None:
        some, self._waiting = self._waiting[: len(self._waiting) - leave], self._waiting[len(self._waiting) - leave :]
        await self._answers([future for future, _, _ in some])
        failure: BaseException | None = None
        silent = 0
        for future, piece, message in some:
            self._nbytes -= len(message.body)
            if not future.done():
                silent += 1
                future.cancel()
            elif future.exception() is not None:
                failure = future.exception()
            else:
                self._acked(piece, message, future.result())
        if failure is None and self._connection.trouble.done():
            failure = self._connection.trouble.result()
        if failure is not None or silent:
            for future, _, _ in self._waiting:
                future.cancel()
            why = "no acknowledgement in time" if failure is None else f"{describe(failure)}"
            code = getattr(failure, "code", None)
            number = f" ({code})" if code else ""
            raise StoreError(f"stream {self._settings.stream} on {self._connection.where}: {why}{number}") from failure

    async def _answers(self, futures: list[asyncio.Future[PubAck]]) -> None:
        """Wait for answers; no longer than `timeout`, and hardly longer when something is wrong.

        Some refusals (503) reach the client's user as trouble of the connection, and answer nothing.
        """
        if not futures:
            return
        all_of_them = asyncio.ensure_future(asyncio.wait(futures))
        try:
            trouble = self._connection.trouble
            await asyncio.wait(
                (all_of_them, trouble), timeout=self._settings.timeout_s, return_when=asyncio.FIRST_COMPLETED
            )
            if not all_of_them.done() and trouble.done():
                await asyncio.wait((all_of_them,), timeout=LATE_ANSWERS_S)
        finally:
            all_of_them.cancel()

    def _acked(self, piece: Piece, message: Message, ack: PubAck) -> None:
        """Note an acknowledgement; a range is acknowledged with its last message."""
        if ack.duplicate:
            piece.elsewhere[ack.seq] = message.id
        low, high = self._bounds.get(piece.first, (ack.seq, ack.seq))
        self._bounds[piece.first] = min(low, ack.seq), max(high, ack.seq)
        self._left[piece.first] -= 1
        if not self._left[piece.first]:
            piece.low, piece.high = self._bounds[piece.first]
            piece.acked_s = time.monotonic()
