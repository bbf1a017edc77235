"""Runs: records end to end, each behind its length of 4 bytes, big-endian, as frames and the records of a BATCH are.

Owns how far a run goes. The compiled core has a function that does the same, and a worker puts it in this one's place.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LENGTH = struct.Struct(">I")


class Run(NamedTuple):
    """Whole records of one stretch of bytes, which may be a view of a buffer that is soon used again."""

    data: memoryview
    records: int

    def bodies(self) -> Iterator[bytes]:
        """Yield a copy of each record."""
        position = 0
        for _ in range(self.records):
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


measure: Callable[[memoryview, int, int, int, int], tuple[int, int]] = measure_in_python
"""What is used: the same, perhaps compiled."""
