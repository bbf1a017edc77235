"""Gathers records of the journal into a batch for one store.

Owns the batch and its bounds. Does not know stores, counters or timers; journal/record_reader.py reads, and
stores/record_filter.py filters.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from prefork_logd.errors import StoreError, describe_refusal
from prefork_logd.stores.base import block_from
from prefork_logd.stores.record_filter import RecordFilter

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefork_logd.config.stores.kinds import AnyStoreSettings
    from prefork_logd.journal.record_reader import RecordReader
    from prefork_logd.processes.shipper.suspects import Suspects
    from prefork_logd.stores.base import Block


class RecordBatch:
    """The records that are written to the store next."""

    def __init__(self, settings: AnyStoreSettings, reader: RecordReader, began: Callable[[int], None]) -> None:
        """Read records from `reader`; `began` takes the time of a batch's first block (ns since 1970)."""
        self.blocks: list[Block] = []
        self.since_s = 0.0
        """When the first block of the batch was read, on the monotonic clock."""
        self._settings = settings
        self._reader = reader
        self._began = began
        self._filter = RecordFilter(settings)
        self._records = 0
        self._nbytes = 0

    @property
    def is_full(self) -> bool:
        """Whether the batch has reached its size, so that it is written at once."""
        return self._records >= self._settings.batch_records or self._nbytes >= self._settings.batch_bytes

    def begin(self, position: int, end: int) -> None:
        """Drop the batch, and begin again at record `position`, before `end`. Raises StoreError."""
        try:
            self._reader.seek(position)
            self._reader.pass_over(end)
        except OSError as error:
            raise StoreError(
                f"journal: cannot read {error.filename or 'a segment'}: {describe_refusal(error)}"
            ) from error
        self.keep([])

    def gather(self, until: int, position: int, suspects: Suspects) -> None:
        """Add records from `position` on, before `until`, without the suspects. Raises StoreError."""
        while not self.is_full:
            try:
                entry = self._reader.read(until)
            except OSError as error:
                raise StoreError(
                    f"journal: cannot read {error.filename or 'a segment'}: {describe_refusal(error)}"
                ) from error
            if entry is None:
                break
            if not self.blocks:
                self.since_s = time.monotonic()
                self._began(entry.time_ns)
            blocks = [
                part
                for block in self._filter.pick(entry)
                if (wanted := block_from(block, position)) is not None
                for part in suspects.without(wanted)
            ]
            self.blocks += blocks
            self._records += sum(block.count for block in blocks)
            self._nbytes += len(entry.lines)

    def keep(self, blocks: list[Block]) -> None:
        """Keep only these blocks; the others are written, or will be read again."""
        self.blocks = blocks
        self._records = sum(block.count for block in blocks)
        if not blocks:
            self._nbytes = 0
