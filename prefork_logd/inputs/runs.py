"""Runs: records end to end, each behind its length of 4 bytes, big-endian, as frames and the records of a BATCH are.

Owns how far a run goes. The compiled core has functions that do the same, and a worker puts them in these ones' place.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LENGTH = struct.Struct(">I")
WHOLE = struct.Struct(">IIQI")
"""A BATCH up to its records: magic and kind, bytes behind these and the length, number of the first, how many."""
MARK = b"\xf7\x50"
"""What a BATCH begins with. No record's length does, for records are not that large."""

BATCH_BYTES = WHOLE.size - 8
"""Of a BATCH's own fields, which its length counts."""
MAX_NUMBER = (1 << 64) - 2
"""Largest number of a record of a session: the number after it still fits into 64 bits."""


class Run(NamedTuple):
    """Whole records of one stretch of bytes, which may be a view of a buffer that is soon used again."""

    data: memoryview
    records: int
    header_bytes: int = 0
    """What each BATCH among them begins with; 0: the bytes are records and nothing else."""
    batches: int = 0
    """How many begin there."""

    @property
    def nbytes(self) -> int:
        """Bytes of the records alone."""
        return len(self.data) - LENGTH.size * self.records - self.header_bytes * self.batches

    def bodies(self) -> Iterator[bytes]:
        """Yield a copy of each record."""
        position = 0
        for _ in range(self.records):
            while self.header_bytes and self.data[position : position + 2] == MARK:
                position += self.header_bytes
            (nbytes,) = LENGTH.unpack_from(self.data, position)
            position += LENGTH.size + nbytes
            yield bytes(self.data[position - nbytes : position])


def measure_in_python(data: memoryview, start: int, stop: int, count: int, max_bytes: int) -> tuple[int, int]:
    """Return where the run at `start` ends, and its records: at most `count`, whole before `stop`, none too large."""
    unpack_length = LENGTH.unpack_from
    taken = 0
    while taken < count and start + LENGTH.size <= stop:
        (nbytes,) = unpack_length(data, start)
        end = start + LENGTH.size + nbytes
        if nbytes > max_bytes or end > stop:
            break
        start = end
        taken += 1
    return start, taken


def measure_batches_in_python(
    data: memoryview, start: int, number: int, head: int, max_bytes: int, max_batch_bytes: int
) -> tuple[int, int, int]:
    """Return where whole BATCHes in order end that begin at `start`, their records, and how many they are.

    `number` is that of the next record, `head` what a BATCH begins with, as a number of four bytes.
    """
    first_number, size, batches = number, len(data), 0
    while start + WHOLE.size <= size:
        found, length, first, count = WHOLE.unpack_from(data, start)
        begin = start + WHOLE.size
        end = begin - BATCH_BYTES + length
        if found != head or first != number or end > size or length > max_batch_bytes:
            break
        if begin > end or not 0 < count <= MAX_NUMBER + 1 - number:
            break
        stop, taken = measure_in_python(data, begin, end, count, max_bytes)
        if taken != count or stop != end:
            break
        number += count
        batches += 1
        start = end
    return start, number - first_number, batches


measure: Callable[[memoryview, int, int, int, int], tuple[int, int]] = measure_in_python
"""What is used: the same, perhaps compiled."""

measure_batches: Callable[[memoryview, int, int, int, int, int], tuple[int, int, int]] = measure_batches_in_python
