"""Counts what `status` shows, in memory that all processes share: a slot for each child, output and store.

Owns their layout. Does not know what is counted. No locks are needed: each slot has one writer (the child; the master
sets its life-cycle fields while no child runs), and an aligned store of 8 bytes is atomic. Counters survive the child
that wrote them.
"""

from __future__ import annotations

import enum
import itertools
import math
import mmap
import os
import threading
import time
from typing import TYPE_CHECKING

import msgspec

from prefork_logd.config.client_limits import MAX_LIMITS
from prefork_logd.config.values import MAX_OUTPUTS, MAX_STORES
from prefork_logd.ipc.client_table import ClientTable

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_WORKERS = 256
PLACES = 2 * MAX_OUTPUTS
"""Slots for outputs: a reload may replace every one while lines for the old ones are still in pipes."""


STORE_PLACES = 2 * MAX_STORES
"""Slots for stores, for the same reason."""
LIMIT_PLACES = 2 * MAX_LIMITS
"""Slots for limits of clients, for the same reason."""


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
    """Connections that have sent any byte; these count for limits.max_connections."""
    REDACTED = enum.auto()
    """Records with a secret that was replaced."""
    GAPS = enum.auto()
    """Records that clients report as dropped by themselves; DROPPED has them, too."""
    LIMITED = enum.auto()
    """Clients that are beyond a limit, or were within the last seconds."""
    LIMIT_DROPPED = enum.auto()
    """Records beyond a limit with action = "drop"; DROPPED has them, too."""
    SAMPLED = enum.auto()
    """Records that were not kept because of `[[sample]]`."""
    COMMIT_NS = enum.auto()
    """The writer's time in commits, in nanoseconds."""
    COMMITTED_MS = enum.auto()
    """When the writer's last commit ended, in milliseconds since 1970; 0 before the first one."""
    COMMITS_1_MS = enum.auto()
    """The writer's commits that took up to a millisecond. The next counters go on from the limit before."""
    COMMITS_5_MS = enum.auto()
    COMMITS_25_MS = enum.auto()
    COMMITS_100_MS = enum.auto()
    COMMITS_500_MS = enum.auto()
    COMMITS_2500_MS = enum.auto()
    COMMITS_10000_MS = enum.auto()
    COMMITS_LONGER = enum.auto()
    TLS_TIMEOUT = enum.auto()
    """TLS handshakes that failed because they took too long. The next counters are the other reasons (net/tls.py)."""
    TLS_PROTOCOL = enum.auto()
    TLS_VERSION = enum.auto()
    TLS_CERTIFICATE = enum.auto()
    TLS_ALERT = enum.auto()
    TLS_CLOSED = enum.auto()
    TLS_PLAIN = enum.auto()
    TLS_CROWDED = enum.auto()
    HANDSHAKES = enum.auto()
    """TLS handshakes that were completed."""


COMMIT_LIMITS_S: tuple[tuple[float, Field], ...] = (
    (0.001, Field.COMMITS_1_MS),
    (0.005, Field.COMMITS_5_MS),
    (0.025, Field.COMMITS_25_MS),
    (0.1, Field.COMMITS_100_MS),
    (0.5, Field.COMMITS_500_MS),
    (2.5, Field.COMMITS_2500_MS),
    (10.0, Field.COMMITS_10000_MS),
    (math.inf, Field.COMMITS_LONGER),
)
"""The longest time in seconds of the commits that a counter counts, in rising order."""


class ListenerField(enum.IntEnum):
    """A counter of one listener in one worker."""

    CONNECTIONS = 0
    RECORDS = enum.auto()
    RECEIVED_BYTES = enum.auto()


class LimitField(enum.IntEnum):
    """A counter of one limit of clients in one worker."""

    DROPPED = 0
    """Records dropped beyond it."""
    WAITS = enum.auto()
    """Times that a connection was not read because of it."""
    WAITED_US = enum.auto()
    """Microseconds for which connections were not read, summed over the connections."""
    REFUSED = enum.auto()
    """Connections that found no place because of it."""
    CLOSED = enum.auto()
    """Connections closed because its memory was used up."""
    LIMITED = enum.auto()
    """Clients that are beyond it, or were within the last seconds."""


class OutputField(enum.IntEnum):
    """A counter of one output."""

    RECORDS = 0
    BYTES = enum.auto()
    FAILED = enum.auto()
    SKIPPED = enum.auto()
    """Records that an output with on_error = "skip" has left out."""
    OPEN_FILES = enum.auto()
    """Open files of an output whose path has fields."""
    OVERFLOWED = enum.auto()
    """Records of such an output that got no file of their own."""


class JournalField(enum.IntEnum):
    """A counter of the record log, written by the writer."""

    NUMBER = 0
    """The number of the next record in the journal; all below are committed."""
    ORDINAL = enum.auto()
    """Number of records committed since the journal began."""
    OFFSET = enum.auto()
    """Number of bytes committed since then."""
    BYTES = enum.auto()
    """Bytes of the present segments."""
    FULL = enum.auto()
    """Whether the writer waits for the stores."""
    ID_HIGH = enum.auto()
    ID_LOW = enum.auto()
    DISKS = enum.auto()
    """The worst DiskState of the disks."""


class DiskState(enum.IntEnum):
    """The free space of a disk, compared with limits.min_free_bytes."""

    ENOUGH = 0
    LOW = 1
    """Less is free; stores make room."""
    STOPPED = 2
    """Clients wait."""


class StoreField(enum.IntEnum):
    """A counter of one store, written by its shipper."""

    READY = 0
    """Whether POSITION is known."""
    POSITION = enum.auto()
    """The number of the first record in the journal that the store does not have."""
    ORDINAL = enum.auto()
    OFFSET = enum.auto()
    """The number of committed records, and bytes, before it."""
    WAITING = enum.auto()
    """Whether the shipper sleeps, and must be woken."""
    SINCE_MS = enum.auto()
    """When the oldest waiting record was committed, in milliseconds since 1970; 0 if none waits."""
    RECORDS = enum.auto()
    REFUSED = enum.auto()
    LOST = enum.auto()
    FAILING = enum.auto()
    BEGAN = enum.auto()
    """One more than the journal's number when the writer began, until the store has been opened; then OPENED."""


OPENED = 1 << 63
SLOT_FIELDS = 48
JOURNAL_FIELDS = 8
STORE_FIELDS = 12
OUTPUT_FIELDS = 8
MAX_LISTENERS = 64
"""Listeners with counters of their own; those from the last one on share its counters."""
LISTENER_FIELDS = 4
LIMIT_FIELDS = 8
REASON_FIELDS = 16
"""Room for the reasons of rejections (ingest/rejections.py)."""
WRITER_SLOT = 0
"""Workers have the slots from 1 on."""
SHIPPER_SLOT = 1 + MAX_WORKERS
"""Shippers have the slots from this one on, in the order of their stores' slots."""
PAGE_SLOT = SHIPPER_SLOT + STORE_PLACES
ALERTS_SLOT = PAGE_SLOT + 1
_SLOTS = ALERTS_SLOT + 1


Cells = tuple[int, int, int]
"""A counter of the whole collector: its first cell, the step to the next one, and their number."""


class Layout(msgspec.Struct, frozen=True):
    """The layout of a scoreboard, for a program of another version. Sizes and offsets are in 8-byte cells."""

    slots: int
    """Number of slots for the writer and workers."""
    slots_at: int
    slot_fields: int
    outputs: int
    outputs_at: int
    output_fields: int
    fields: dict[str, int]
    """Name of each counter of a child to its index in the slot."""
    of_output: dict[str, int]


LAYOUT = Layout(
    1 + MAX_WORKERS,
    1,
    SLOT_FIELDS,
    PLACES + 1,
    1 + _SLOTS * SLOT_FIELDS,
    OUTPUT_FIELDS,
    {field.name: int(field) for field in Field},
    {field.name: int(field) for field in OutputField},
)


class Scoreboard:
    """The shared counters; made by the master before its first fork."""

    def __init__(self) -> None:
        sizes = (
            1,
            _SLOTS * SLOT_FIELDS,
            (PLACES + 1) * OUTPUT_FIELDS,
            JOURNAL_FIELDS,
            STORE_PLACES * STORE_FIELDS,
            (1 + MAX_WORKERS) * MAX_LISTENERS * LISTENER_FIELDS,
            (1 + MAX_WORKERS) * REASON_FIELDS,
            LIMIT_PLACES * (1 + MAX_WORKERS) * LIMIT_FIELDS,
        )
        self.fd = os.memfd_create("scoreboard", os.MFD_CLOEXEC)
        """The memory as a file, through which the next program reads the counters after an upgrade."""
        os.ftruncate(self.fd, 8 * sum(sizes))
        self._map = mmap.mmap(self.fd, 8 * sum(sizes))
        self._cells = cells = memoryview(self._map).cast("Q")
        ends = list(itertools.accumulate(sizes))
        self._stores_at, self._listeners_at, self._reasons_at, self._limits_at = ends[3:7]
        parts = [cells[end - size : end] for size, end in zip(sizes, ends, strict=True)]
        self._highest, self._slots, self._outputs, self.journal, self._stores = parts[:5]
        self._listeners, self._reasons, self._limits = parts[5:]
        self._lock = threading.Lock()
        self.clients = ClientTable(1 + MAX_WORKERS)
        """What limited clients have used, by worker."""

    def slot(self, index: int) -> memoryview:
        """Return the counters of one child, indexed by Field."""
        return self._slots[index * SLOT_FIELDS : (index + 1) * SLOT_FIELDS]

    def output(self, output_id: int) -> memoryview:
        """Return the counters of one output, indexed by OutputField; slot 0 is rejected.jsonl."""
        return self._outputs[output_id * OUTPUT_FIELDS : (output_id + 1) * OUTPUT_FIELDS]

    def store(self, store_id: int) -> memoryview:
        """Return the counters of one store, indexed by StoreField."""
        return self._stores[store_id * STORE_FIELDS : (store_id + 1) * STORE_FIELDS]

    def listener(self, slot: int, index: int) -> memoryview:
        """Return a worker's counters of one listener, indexed by ListenerField."""
        begin = (slot * MAX_LISTENERS + min(index, MAX_LISTENERS - 1)) * LISTENER_FIELDS
        return self._listeners[begin : begin + LISTENER_FIELDS]

    def limit(self, slot: int, limit_id: int) -> memoryview:
        """Return a worker's counters of one limit of clients, indexed by LimitField.

        Those of one limit are side by side: the memory of a limit that does not exist is never touched.
        """
        begin = (limit_id * (1 + MAX_WORKERS) + slot) * LIMIT_FIELDS
        return self._limits[begin : begin + LIMIT_FIELDS]

    def clear_limit(self, limit_id: int) -> None:
        """Set the counters of one limit to 0 in all workers."""
        for slot in range(1 + MAX_WORKERS):
            self.limit(slot, limit_id)[:] = _NO_LIMIT

    def clear_clients(self, slot: int, limit_ids: Iterable[int] = ()) -> None:
        """Set the numbers of connections and of limited clients of a worker that has none to 0."""
        for index in range(MAX_LISTENERS):
            self.listener(slot, index)[ListenerField.CONNECTIONS] = 0
        for limit_id in limit_ids:
            self.limit(slot, limit_id)[LimitField.LIMITED] = 0

    def reasons(self, slot: int) -> memoryview:
        """Return a worker's counters of rejections, in the order of the reasons."""
        return self._reasons[slot * REASON_FIELDS : (slot + 1) * REASON_FIELDS]

    def cells_of_listener(self, index: int, field: ListenerField) -> Cells:
        """Return the cells of a listener's counter in all workers."""
        first = self._listeners_at + min(index, MAX_LISTENERS - 1) * LISTENER_FIELDS + field
        return first, MAX_LISTENERS * LISTENER_FIELDS, 1 + MAX_WORKERS

    def cells_of_reason(self, index: int) -> Cells:
        """Return the cells of a reason's counter in all workers."""
        return self._reasons_at + index, REASON_FIELDS, 1 + MAX_WORKERS

    def cells_of_limit(self, limit_id: int, field: LimitField) -> Cells:
        """Return the cells of a limit's counter in all workers."""
        first = self._limits_at + limit_id * (1 + MAX_WORKERS) * LIMIT_FIELDS + field
        return first, LIMIT_FIELDS, 1 + MAX_WORKERS

    def cells_of_store(self, store_id: int, field: StoreField) -> Cells:
        """Return the cell of a store's counter."""
        return self._stores_at + store_id * STORE_FIELDS + field, 1, 1

    def sum(self, cells: Cells) -> int:
        """Return the sum of cells."""
        return sum_of(self._cells, cells)

    @staticmethod
    def count_commit(counters: memoryview, duration_ns: int) -> None:
        """Count a commit that has just ended in the writer's counters."""
        duration_s = duration_ns / 1e9
        field = next(field for limit_s, field in COMMIT_LIMITS_S if duration_s <= limit_s)
        counters[field] += 1
        counters[Field.COMMIT_NS] += duration_ns
        counters[Field.COMMITTED_MS] = int(time.time() * 1000)

    def barrier(self) -> None:
        """Order all earlier stores of this process before its later loads: acquiring a lock is a full barrier.

        The writer stores a number and then loads WAITING; the shipper stores WAITING and then loads the number. Without
        a barrier on both sides, each could miss the other's store.
        """
        with self._lock:
            pass

    def use_slots(self, highest: int) -> None:
        """Make `loads` include the workers' slots up to this one. Only the master calls this."""
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
        """Return the sum of one counter over all workers, ended ones included."""
        return sum(self._slots[SLOT_FIELDS + int(field) : SHIPPER_SLOT * SLOT_FIELDS : SLOT_FIELDS])


_NO_LIMIT = memoryview(bytes(8 * LIMIT_FIELDS)).cast("Q")


def sum_of(memory: memoryview, cells: Cells) -> int:
    """Return the sum of cells in a scoreboard's memory."""
    first, step, count = cells
    return sum(memory[first : first + step * count : step])


_CONNECTIONS, _ACCEPTED, _ACCEPTING = int(Field.CONNECTIONS), int(Field.ACCEPTED), int(Field.ACCEPTING)
