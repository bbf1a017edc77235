"""Measures runs of records, each after its length of 4 bytes, big-endian, as in frames and in a BATCH.

Owns the end of a run. Does not know the content of a record. The compiled core has functions that do the same, and a
worker uses them instead.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LENGTH = struct.Struct(">I")
WHOLE = struct.Struct(">IIQI")
"""A BATCH before its records: magic and kind, length of the rest, first number, count."""
MARK = b"\xf7\x50"
"""First bytes of a BATCH. No record is large enough for its length to begin so."""

BATCH_BYTES = WHOLE.size - 8
"""Bytes of a BATCH's own fields, which its length includes."""
MAX_NUMBER = (1 << 64) - 2
"""Largest number of a record of a session: the next number still fits into 64 bits."""


class Run(NamedTuple):
    """Complete records in consecutive bytes, which may be a view of a buffer that is soon reused."""

    data: memoryview
    records: int
    header_bytes: int = 0
    """Size of the header of each BATCH among them; 0: the bytes are only records."""
    batches: int = 0
    """Number of BATCHes that begin there."""

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
    """Return the end of the run at `start`, and its records: at most `count`, whole before `stop`, none too large."""
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
    """Return the end of the complete BATCHes in order from `start`, their records, and the number of these.

    `number` is that of the next record, `head` the first bytes of a BATCH as a number of four bytes.
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
"""The function in use: this one, or the compiled one."""

measure_batches: Callable[[memoryview, int, int, int, int, int], tuple[int, int, int]] = measure_batches_in_python
