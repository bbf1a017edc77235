"""Makes the messages of a range of journal numbers: one for all its records, or one for each.

Owns the choice of messages, their sizes, and the records that no message can hold. wire.py has the form of a message.
Does not know connections or acknowledgements.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from prefork_logd.config.values import format_count
from prefork_logd.errors import describe_unexpected
from prefork_logd.records.stored import split_lines
from prefork_logd.stores.base import split_block
from prefork_logd.stores.nats import wire
from prefork_logd.stores.nats.publish_log import PublishedRange

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prefork_logd.config.stores.nats import NatsStoreSettings
    from prefork_logd.stores.base import Block

    Refuse = Callable[[int, bytes, str], None]

HEADER_ROOM = 4096
"""Bytes of the largest message that are reserved for headers, except a long list of numbers."""


class Message(NamedTuple):
    """A message to publish."""

    subject: str
    body: bytes
    header: str
    id: str
    numbers: str = ""
    """The numbers of the lines, if these are not all from the first to the last."""


class MessageMaker:
    """Makes messages for one write of a store."""

    def __init__(
        self,
        settings: NatsStoreSettings,
        pack: Callable[[bytes], bytes],
        journal: str,
        floor: int,
        limit: int,
        refuse: Refuse,
    ) -> None:
        """Make messages by `settings`, of a journal whose numbers below `floor` are in the stream.

        `pack` compresses a body. `limit`: the most bytes of a message's body. `refuse` gets the number, the line and
        the reason of each record that no message can hold.
        """
        self._settings = settings
        self._journal = journal
        self._subject = wire.subject_of(settings.subject, journal, settings.partitions)
        self._pack = pack
        self._floor = floor
        self._limit = limit
        self._refuse = refuse

    def messages(self, published: PublishedRange, blocks: list[Block]) -> list[Message]:
        """Return the messages of a range with the records of `blocks`."""
        fitting = _without_giants(blocks, self._limit, self._refuse)
        if self._settings.format == "json":
            return self._records(published, fitting)
        try:
            return self._batches(published, fitting)
        except Exception:  # noqa: BLE001 - whatever the packer makes of one line
            # A range is published as a whole, so the lines that cannot be packed must be found first.
            return self._batches(published, self._packable(fitting))

    def _packable(self, blocks: list[_Fitting]) -> list[_Fitting]:
        """Return each block without the lines that cannot be packed."""
        packable: list[_Fitting] = []
        for block, split in blocks:
            lines = block.lines.splitlines(keepends=True) if split is None else list(split)
            for index, line in enumerate(lines):
                try:
                    self._pack(line)
                except Exception as error:  # noqa: BLE001 - whatever the packer makes of one line
                    self._refuse(block.first + index, line, f"cannot be packed: {describe_unexpected(error)}")
                    lines[index] = b""
            packable.append(_Fitting(block, lines))
        return packable

    def _batches(self, published: PublishedRange, blocks: list[_Fitting]) -> list[Message]:
        """Return a range as one message, or as several if it is too large for the servers."""
        message = self._batch(published.first, published.end, blocks)
        if len(message.body) + len(message.numbers) <= self._limit or sum(one.block.count for one in blocks) < 2:
            return [message]
        parts: list[list[_Fitting]] = [[], []]
        half = sum(one.block.count for one in blocks) // 2
        for one in blocks:
            for part, fitting in zip(parts, one.split_at(half), strict=True):
                if fitting is not None:
                    part.append(fitting)
            half = max(0, half - one.block.count)
        middle = parts[1][0].block.first
        return [
            *self._batches(PublishedRange(published.first, middle), parts[0]),
            *self._batches(PublishedRange(middle, published.end), parts[1]),
        ]

    def _batch(self, first: int, end: int, blocks: list[_Fitting]) -> Message:
        """Return a range as one message."""
        body = self._pack(b"".join([one.joined for one in blocks]))
        numbered = wire.Range(self._journal, first, end, self._floor, self._settings.compress)
        numbers = wire.numbers_of(run for one in blocks for run in one.runs())
        if numbers == f"{first}+{end - first}":
            numbers = ""
        elif not numbers:
            numbers = ","
        name = wire.batch_id(self._journal, first, end)
        return Message(self._subject, body, wire.header_of(numbered), name, numbers)

    def _records(self, published: PublishedRange, blocks: list[_Fitting]) -> list[Message]:
        """Return a range as one message per record; the last one also stands for numbers without a line."""
        messages: list[Message] = []
        at = published.first
        for block, split in blocks:
            ids = wire.record_ids(self._journal, block)
            lines = split_lines(block.lines) if split is None else split
            for number, line, record_id in zip(range(block.first, published.end), lines, ids, strict=False):
                try:
                    subject, body = f"{self._subject}.{wire.logger_tokens(wire.logger_of(line))}", line.rstrip(b"\n")
                except Exception as error:  # noqa: BLE001 - one record costs itself; its number is used up
                    self._refuse(number, line, f"has no subject: {describe_unexpected(error)}")
                    subject, body = f"{self._subject}._", b""
                numbered = wire.Range(self._journal, at, number + 1, self._floor, "none")
                at = number + 1
                messages.append(Message(subject, body, wire.header_of(numbered), record_id))
        if at < published.end:
            numbered = wire.Range(self._journal, at, published.end, self._floor, "none")
            name = wire.batch_id(self._journal, at, published.end)
            messages.append(Message(f"{self._subject}._", b"", wire.header_of(numbered), name))
        return messages


class _Fitting(NamedTuple):
    """The publishable lines of a block."""

    block: Block
    split: list[bytes] | None
    """Its lines, with an empty one for each that cannot be published; None if all can."""

    @property
    def joined(self) -> bytes:
        """The lines, end to end."""
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
    """Return each block without the lines that no message can hold."""
    fitting: list[_Fitting] = []
    for block in blocks:
        lines = None
        if len(block.lines) > most:
            lines = split_lines(block.lines)
            for index, line in enumerate(lines):
                if len(line) > most:
                    nbytes = format_count(len(line), "byte")
                    what = f"a line of {nbytes} is above the largest message of the servers (max_payload)"
                    refuse(block.first + index, line, what)
                    lines[index] = b""
        fitting.append(_Fitting(block, lines))
    return fitting
