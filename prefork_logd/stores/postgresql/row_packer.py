"""Packs lines as rows for COPY, a handful at a time, each with the partition where it belongs.

Owns the choice of the compiled core or Python, and the size of a handful. Does not know connections; copy_rows.py has
the form of a row.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from prefork_logd.stores import rows, rows_core
from prefork_logd.stores.postgresql.copy_rows import EPOCH_DAY, Encoder, pack_values

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from prefork_logd.stores._rows_c import Copier
    from prefork_logd.stores.base import Block
    from prefork_logd.stores.postgresql.partitions import Partition, Partitions

_HANDFUL = 128
"""The most rows that are packed together."""
_HANDFUL_BYTES = 262_144
"""Size of lines after which no more rows are added to a handful."""


class NoPartitionError(Exception):
    """Rows of a day that has no partition yet."""

    def __init__(self, day: int) -> None:
        self.day = day
        super().__init__(day)


class RowPacker:
    """Packs the rows of one store."""

    def __init__(self, partitions: Partitions, encoder: Encoder) -> None:
        """Choose from `partitions`; encode the rows that the compiled core leaves to Python with `encoder`."""
        self._partitions = partitions
        self._encoder = encoder
        make = rows_core.Copier
        self._copier = make(pack_values, pack_values) if make is not None else None

    def pack(self, blocks: Sequence[Block], wanted: int) -> Iterator[tuple[Partition, bytes]]:
        """Yield the rows from number `wanted` on, a handful at a time, each with its partition.

        A handful fits into a socket's buffer, so that the server works while the next one is packed.
        """
        wanted_blocks = (block for block in blocks if block.first + block.count > wanted)
        if self._copier is not None:
            yield from self._pack_with_core(self._copier, wanted_blocks, wanted)
            return
        for block in wanted_blocks:
            lines = block.lines.split(b"\n")[:-1]
            start = max(0, wanted - block.first)
            while start < block.count:
                end = start + 1
                nbytes = len(lines[start])
                while end < min(block.count, start + _HANDFUL) and nbytes < _HANDFUL_BYTES:
                    nbytes += len(lines[end])
                    end += 1
                yield from self._pack_in_python(lines[start:end], block.first + start)
                start = end

    def _pack_in_python(self, lines: list[bytes], number: int) -> Iterator[tuple[Partition, bytes]]:
        end = 0
        for partition, same in itertools.groupby(_decode(lines), self.place):
            begin, end = end, end + len(group := list(same))
            yield partition, self._encoder.encode(group, lines[begin:end], number + begin, *partition)

    def _pack_with_core(
        self, copier: Copier, blocks: Iterable[Block], wanted: int
    ) -> Iterator[tuple[Partition, bytes]]:
        """Do the same with the compiled core; Python handles lines of another partition than the last one."""
        partitions = self._partitions
        partition: Partition | None = None
        for block in blocks:
            lines, number, at = block.lines, block.first, 0
            while number < wanted:
                number, at = number + 1, lines.index(b"\n", at) + 1
            while number < block.first + block.count:
                if partition is not None:
                    day, part = partition
                    packed, count, at = copier.copy(
                        lines, at, _HANDFUL, number, day - EPOCH_DAY, part, *partitions.span(day)
                    )
                    if count:
                        number += count
                        yield partition, packed
                    if count or number == block.first + block.count:
                        continue
                end = lines.index(b"\n", at)
                for partition, packed in self._pack_in_python([lines[at:end]], number):
                    yield partition, packed
                number, at = number + 1, end + 1

    def place(self, row: rows.Row) -> Partition:
        """Return the partition of a row. Raises NoPartitionError if it has none yet."""
        day = self._partitions.bounded(row.received)
        partition = self._partitions.of(day)
        if partition is None:
            raise NoPartitionError(day)
        return partition


def _decode(lines: list[bytes]) -> list[rows.Row]:
    try:
        return rows.decode_lines(b"\n".join(lines) + b"\n")
    except ValueError:
        return [*map(rows.decode, lines)]  # one by one: handles lone surrogates, and a bad line raises its own error
