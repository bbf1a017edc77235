"""Counters in memory that all processes share: one slot for each child, one place for each output.

Owns their layout. Each slot has one writer (the child; the master sets its life-cycle fields while no child runs), and
an aligned 8-byte store is never seen half done, so nobody locks. Counters survive the child that made them.
"""

from __future__ import annotations

import enum
import mmap

from prefork_logd.settings import MAX_OUTPUTS

MAX_WORKERS = 256
PLACES = 2 * MAX_OUTPUTS
"""Places for outputs: a reload may replace every one, while lines for the old ones are still on their way."""


class Field(enum.IntEnum):
    """A counter of one child."""

    PID = 0
    STARTS = enum.auto()
    CONNECTIONS = enum.auto()
    ACCEPTING = enum.auto()
    ACCEPTED = enum.auto()
    RECORDS = enum.auto()
    RECEIVED_BYTES = enum.auto()
    REJECTED = enum.auto()
    DROPPED = enum.auto()
    PAUSED = enum.auto()
    REFUSED = enum.auto()


class OutputField(enum.IntEnum):
    """A counter of one output."""

    RECORDS = 0
    BYTES = enum.auto()
    FAILED = enum.auto()


SLOT_FIELDS = 16
OUTPUT_FIELDS = 4
WRITER_SLOT = 0
"""Workers have the slots from 1 on."""


class Scoreboard:
    """The shared counters; made by the master before its first fork."""

    def __init__(self) -> None:
        slots = (1 + MAX_WORKERS) * SLOT_FIELDS
        self._map = mmap.mmap(-1, 8 * (1 + slots + (PLACES + 1) * OUTPUT_FIELDS))
        cells = memoryview(self._map).cast("Q")
        self._highest = cells[:1]
        self._slots = cells[1 : 1 + slots]
        self._outputs = cells[1 + slots :]

    def slot(self, index: int) -> memoryview:
        """Return the counters of one child, indexed by Field."""
        return self._slots[index * SLOT_FIELDS : (index + 1) * SLOT_FIELDS]

    def output(self, place: int) -> memoryview:
        """Return the counters of one output, indexed by OutputField; place 0 is rejected.jsonl."""
        return self._outputs[place * OUTPUT_FIELDS : (place + 1) * OUTPUT_FIELDS]

    def use_slots(self, highest: int) -> None:
        """Let `loads` and `total` look at the workers' slots up to this one; only ever called by the master."""
        self._highest[0] = max(self._highest[0], highest)

    def loads(self) -> list[tuple[int, int, int]]:
        """Return (slot, connections, accepted) of each worker that accepts connections."""
        cells = self._slots
        return [
            (start // SLOT_FIELDS, cells[start + _CONNECTIONS], cells[start + _ACCEPTED])
            for start in range(SLOT_FIELDS, (self._highest[0] + 1) * SLOT_FIELDS, SLOT_FIELDS)
            if cells[start + _ACCEPTING]
        ]

    def total(self, field: Field) -> int:
        """Return the sum of one counter over all workers, those that are gone included."""
        return sum(self._slots[SLOT_FIELDS + int(field) :: SLOT_FIELDS])


_CONNECTIONS, _ACCEPTED, _ACCEPTING = int(Field.CONNECTIONS), int(Field.ACCEPTED), int(Field.ACCEPTING)
