"""Shares between workers how much each limited client has used: a region for each worker, in memory that all can read.

Owns the layout, and where a client's row is. Does not know limits or connections (processes/worker/client_limits.py).

No locks are needed: each region has one writer, and an aligned store of 8 bytes is atomic. A row that its worker
gives to another client while it is read is not counted.
"""

from __future__ import annotations

import hashlib
import mmap
import os
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

ROWS = 1024
"""Rows in the region of a worker."""
MOST_PROBES = 8
"""Rows that a client may have: the one of its key, and the next ones."""
_CELLS = 8
"""Of a row: the key, then a Usage."""


class Usage(NamedTuple):
    """What the other workers' rows of one client say together."""

    connections: int
    records: int
    """Taken since the workers remember the client; only differences matter."""
    nbytes: int
    records_full_ms: int
    """When its budget of records is whole again, on the monotonic clock (the same in all processes)."""
    bytes_full_ms: int

    def plus(self, other: Usage) -> Usage:
        """Return the sum of two workers' use; of times the later one."""
        return Usage(
            self.connections + other.connections,
            self.records + other.records,
            self.nbytes + other.nbytes,
            max(self.records_full_ms, other.records_full_ms),
            max(self.bytes_full_ms, other.bytes_full_ms),
        )


class ClientTable:
    """The regions of all workers; made by the master before its first fork.

    Memory that no worker has written to takes no room.
    """

    def __init__(self, slots: int) -> None:
        self._cells = memoryview(mmap.mmap(-1, 8 * slots * ROWS * _CELLS)).cast("Q")
        self._secret = os.urandom(16)
        """Lets no client choose the row that it gets."""

    def key(self, limit: str, client: str) -> int:
        """Return the number that stands for a client of a limit in every worker."""
        text = f"{limit}\0{client}".encode(errors="surrogatepass")
        return int.from_bytes(hashlib.blake2b(text, digest_size=8, key=self._secret).digest()) or 1

    def clear(self, slot: int) -> None:
        """Empty the region of a worker that starts."""
        begin = slot * ROWS * _CELLS
        for row in range(begin, begin + ROWS * _CELLS, _CELLS):
            if self._cells[row]:
                self._cells[row] = 0

    def take_row(self, slot: int, key: int) -> int:
        """Return a free row for a client in the region of a worker; -1 if there is none."""
        for row in _rows(slot, key):
            if not self._cells[row]:
                self._cells[row + 1 : row + _CELLS] = _EMPTY
                self._cells[row] = key
                return row
        return -1

    def free_row(self, row: int) -> None:
        """Give a row back."""
        if row >= 0:
            self._cells[row] = 0

    def publish(self, row: int, usage: Usage) -> None:
        """Write what this worker knows about a client into its row."""
        if row >= 0:
            for index, value in enumerate(usage, 1):
                self._cells[row + index] = value

    def others(self, slots: Iterable[int], key: int) -> Usage:
        """Return what the workers in `slots` have written about a client, added up; of times the latest."""
        cells, total = self._cells, Usage(0, 0, 0, 0, 0)
        for slot in slots:
            for row in _rows(slot, key):
                if cells[row] == key:
                    one = Usage(*cells[row + 1 : row + 1 + len(total)])
                    # Its worker may have given the row to another client while it was read.
                    if cells[row] == key:
                        total = total.plus(one)
                    break
        return total


_EMPTY = memoryview(bytes(8 * (_CELLS - 1))).cast("Q")


def _rows(slot: int, key: int) -> list[int]:
    """Return the places of the rows that a client may have in the region of a worker."""
    begin = slot * ROWS
    return [(begin + (key + probe) % ROWS) * _CELLS for probe in range(MOST_PROBES)]
