"""A batch of a store: bounded by records and bytes, from where the store is, without the suspects."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from prefork_logd.errors import StoreError
from prefork_logd.journal.record_block import Entry
from prefork_logd.processes.shipper.record_batch import RecordBatch
from prefork_logd.processes.shipper.suspects import Suspects


class Reader:
    """A journal with blocks of ten records."""

    def __init__(self) -> None:
        self.next = 0
        self.fails = False

    def seek(self, number: int) -> None:
        if self.fails:
            raise OSError(5, "Input/output error", "records.segment")
        self.next = number // 10 * 10

    def pass_over(self, end: int) -> None:
        pass

    def read(self, until: int) -> Entry | None:
        if self.fails:
            raise OSError(5, "Input/output error", "records.segment")
        if self.next >= until:
            return None
        first, self.next = self.next, self.next + 10
        return Entry(first, 10, 1000 + first, bytes(16), ((first + 1, 10),), b"{}\n" * 10, 0)


def _batch(reader: Reader, records: int = 1000, nbytes: int = 1 << 20) -> tuple[RecordBatch, list[int]]:
    settings: Any = SimpleNamespace(batch_records=records, batch_bytes=nbytes, is_filtered=False)
    began: list[int] = []
    return RecordBatch(settings, reader, began.append), began  # type: ignore[arg-type]


def _numbers(batch: RecordBatch) -> list[int]:
    return [number for block in batch.blocks for number in range(block.first, block.first + block.count)]


def test_it_gathers_what_is_committed() -> None:
    """From the store's position on; the time of its first block is told once."""
    batch, began = _batch(Reader())
    batch.begin(5, 100)
    batch.gather(30, 5, Suspects())
    assert _numbers(batch) == list(range(5, 30))
    assert began == [1000]
    batch.gather(40, 5, Suspects())
    assert _numbers(batch) == list(range(5, 40))
    assert began == [1000]
    assert not batch.is_full


@pytest.mark.parametrize(("records", "nbytes"), [(20, 1 << 20), (1000, 60)])
def test_it_is_bounded(records: int, nbytes: int) -> None:
    """By records and by bytes; what is written makes room."""
    batch, _ = _batch(Reader(), records, nbytes)
    batch.gather(100, 0, Suspects())
    assert batch.is_full
    assert _numbers(batch) == list(range(20))
    batch.keep([])
    assert not batch.is_full
    batch.gather(100, 0, Suspects())
    assert _numbers(batch) == list(range(20, 40))


def test_suspects_are_left_out() -> None:
    """Those without a verdict, and the guilty."""
    suspects = Suspects()
    suspects.waiting[3] = (b"{}", "why")
    batch, _ = _batch(Reader())
    batch.gather(10, 0, suspects)
    assert _numbers(batch) == [0, 1, 2, 4, 5, 6, 7, 8, 9]


def test_a_segment_that_cannot_be_read() -> None:
    """It is named."""
    reader = Reader()
    batch, _ = _batch(reader)
    reader.fails = True
    for attempt in (lambda: batch.begin(0, 10), lambda: batch.gather(10, 0, Suspects())):
        with pytest.raises(StoreError, match=r"journal: cannot read records\.segment: Input/output error"):
            attempt()
