"""Counts what `status` shows, in memory that all processes share: a slot for each child, output and store.

Owns their layout. Each slot has one writer (the child; the master sets its life-cycle fields while no child runs), and
an aligned 8-byte store is never seen half done, so nobody locks. Counters survive the child that made them.
"""

from __future__ import annotations

import enum
import itertools
import mmap
import os
import threading

import msgspec

from prefork_logd.config.values import MAX_OUTPUTS, MAX_STORES

MAX_WORKERS = 256
PLACES = 2 * MAX_OUTPUTS
"""Places for outputs: a reload may replace every one, while lines for the old ones are still on their way."""


STORE_PLACES = 2 * MAX_STORES
"""Places for stores, for the same reason."""


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
    PLACED = enum.auto()
    """Connections that have sent something: these count for limits.max_connections."""


class OutputField(enum.IntEnum):
    """A counter of one output."""

    RECORDS = 0
    BYTES = enum.auto()
    FAILED = enum.auto()
    SKIPPED = enum.auto()
    """Records that an output with on_error = "skip" has not got."""


class JournalField(enum.IntEnum):
    """What the writer says of the record log."""

    NUMBER = 0
    """The journal's number of the next record: those below are committed."""
    ORDINAL = enum.auto()
    """How many records were ever committed."""
    OFFSET = enum.auto()
    """How many bytes."""
    BYTES = enum.auto()
    """Bytes of the segments there are."""
    FULL = enum.auto()
    """Whether the writer waits for the stores."""
    ID_HIGH = enum.auto()
    ID_LOW = enum.auto()


class StoreField(enum.IntEnum):
    """What a shipper says of its store."""

    READY = 0
    """Whether POSITION is known."""
    POSITION = enum.auto()
    """The journal's number of the first record that the store has not."""
    ORDINAL = enum.auto()
    OFFSET = enum.auto()
    """How many of all records, and bytes, precede it."""
    WAITING = enum.auto()
    """Whether the shipper is to be woken."""
    SINCE_MS = enum.auto()
    """When the oldest record that waits was committed, in milliseconds since 1970; 0 if none waits."""
    RECORDS = enum.auto()
    REFUSED = enum.auto()
    LOST = enum.auto()
    FAILING = enum.auto()
    BEGAN = enum.auto()
    """One more than the journal's number when the writer began, until the store has been opened; then OPENED."""


OPENED = 1 << 63
SLOT_FIELDS = 16
JOURNAL_FIELDS = 8
STORE_FIELDS = 12
OUTPUT_FIELDS = 4
WRITER_SLOT = 0
"""Workers have the slots from 1 on."""
SHIPPER_SLOT = 1 + MAX_WORKERS
"""Shippers have the slots from this one on, each that of its store's place."""


class Layout(msgspec.Struct, frozen=True):
    """Where a scoreboard has what, for a program of another version. Counts are of 8-byte cells."""

    slots: int
    """Of the writer and the workers; those of others may follow."""
    slots_at: int
    slot_fields: int
    outputs: int
    outputs_at: int
    output_fields: int
    fields: dict[str, int]
    """Name of each counter of a child to its place in the slot."""
    of_output: dict[str, int]


LAYOUT = Layout(
    1 + MAX_WORKERS,
    1,
    SLOT_FIELDS,
    PLACES + 1,
    1 + (SHIPPER_SLOT + STORE_PLACES) * SLOT_FIELDS,
    OUTPUT_FIELDS,
    {field.name: int(field) for field in Field},
    {field.name: int(field) for field in OutputField},
)


class Scoreboard:
    """The shared counters; made by the master before its first fork."""

    def __init__(self) -> None:
        sizes = (
            1,
            (SHIPPER_SLOT + STORE_PLACES) * SLOT_FIELDS,
            (PLACES + 1) * OUTPUT_FIELDS,
            JOURNAL_FIELDS,
            STORE_PLACES * STORE_FIELDS,
        )
        self.fd = os.memfd_create("scoreboard", os.MFD_CLOEXEC)
        """The memory as a file: what the next version of this program reads it through."""
        os.ftruncate(self.fd, 8 * sum(sizes))
        self._map = mmap.mmap(self.fd, 8 * sum(sizes))
        cells = memoryview(self._map).cast("Q")
        ends = list(itertools.accumulate(sizes))
        self._highest, self._slots, self._outputs, self.journal, self._stores = (
            cells[end - size : end] for size, end in zip(sizes, ends, strict=True)
        )
        self._lock = threading.Lock()

    def slot(self, index: int) -> memoryview:
        """Return the counters of one child, indexed by Field."""
        return self._slots[index * SLOT_FIELDS : (index + 1) * SLOT_FIELDS]

    def output(self, place: int) -> memoryview:
        """Return the counters of one output, indexed by OutputField; place 0 is rejected.jsonl."""
        return self._outputs[place * OUTPUT_FIELDS : (place + 1) * OUTPUT_FIELDS]

    def store(self, place: int) -> memoryview:
        """Return what is known of one store, indexed by StoreField."""
        return self._stores[place * STORE_FIELDS : (place + 1) * STORE_FIELDS]

    def barrier(self) -> None:
        """Let no later load of this process overtake an earlier store: taking a lock is a full barrier.

        One side stores a number and then looks whether the other waits; the other says that it waits and then looks at
        the number. Without this, each could miss what the other has just said.
        """
        with self._lock:
            pass

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
        return sum(self._slots[SLOT_FIELDS + int(field) : SHIPPER_SLOT * SLOT_FIELDS : SLOT_FIELDS])


_CONNECTIONS, _ACCEPTED, _ACCEPTING = int(Field.CONNECTIONS), int(Field.ACCEPTED), int(Field.ACCEPTING)
