"""Rows for COPY: each with its partition, the same from the compiled core and from Python."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("psycopg")

from prefork_logd.stores.base import Block, Run
from prefork_logd.stores.postgresql import row_packer
from prefork_logd.stores.postgresql.copy_rows import Encoder
from prefork_logd.stores.postgresql.row_packer import NoPartitionError, RowPacker

DAY_S = 86_400.0
LINE = (
    b'{"created":%d.0,"time":"2023-11-14T22:13:20.000000Z","name":"app","levelno":20,"levelname":"INFO",'
    b'"message":"m%d","pathname":"/x.py","filename":"x.py","module":"x","lineno":1,"funcName":"f","process":1,'
    b'"processName":"MainProcess","thread":1,"threadName":"MainThread","peer":"127.0.0.1:1","received":%d.0}\n'
)


class Partitions:
    """A partition for each of some days."""

    def __init__(self, *days: int) -> None:
        self.days = days

    def bounded(self, received: float) -> int:
        return int(received // DAY_S)

    def of(self, day: int) -> tuple[int, int] | None:
        return (day, 0) if day in self.days else None

    def span(self, day: int) -> tuple[float, float]:
        return day * DAY_S, (day + 1) * DAY_S


def _block(first: int, days: list[int]) -> Block:
    lines = b"".join(LINE % (day * DAY_S + 5, n, day * DAY_S + 5) for n, day in enumerate(days, first))
    return Block(first, len(days), b"s" * 16, (Run(first + 1, len(days)),), lines)


def _packed(partitions: Any, blocks: list[Block], wanted: int = 0) -> dict[tuple[int, int], bytes]:
    """Partition to its rows."""
    found: dict[tuple[int, int], bytes] = {}
    for partition, rows in RowPacker(partitions, Encoder()).pack(blocks, wanted):
        found[tuple(partition)] = found.get(tuple(partition), b"") + rows  # type: ignore[index]
    return found


@pytest.fixture(params=["core", "python"])
def either(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use the compiled core, or Python."""
    if request.param == "python":
        monkeypatch.setattr(row_packer.rows_core, "Copier", None)
    elif row_packer.rows_core.Copier is None:
        pytest.skip("there is no compiled core")


@pytest.mark.usefixtures("either")
def test_each_row_has_the_partition_of_its_day() -> None:
    """However the days change within a block."""
    found = _packed(Partitions(19675, 19676), [_block(0, [19675, 19675, 19676, 19675]), _block(4, [19676])])
    assert {partition: [rows.count(b"m%d" % n) for n in range(5)] for partition, rows in found.items()} == {
        (19675, 0): [1, 1, 0, 1, 0],
        (19676, 0): [0, 0, 1, 0, 1],
    }


@pytest.mark.usefixtures("either")
def test_rows_that_are_stored_are_left_out() -> None:
    """From the first number on that is wanted."""
    (rows,) = _packed(Partitions(19675), [_block(0, [19675] * 3), _block(3, [19675] * 3)], wanted=4).values()
    assert [rows.count(b"m%d" % n) for n in range(6)] == [0, 0, 0, 0, 1, 1]


@pytest.mark.usefixtures("either")
def test_a_day_without_a_partition() -> None:
    """The caller makes it, and begins again."""
    with pytest.raises(NoPartitionError) as raised:
        _packed(Partitions(19675), [_block(0, [19675, 19676])])
    assert raised.value.day == 19676


@pytest.mark.usefixtures("either")
def test_a_line_that_is_no_record() -> None:
    """It is looked for by the caller then, one line at a time."""
    block = Block(0, 1, b"s" * 16, (Run(1, 1),), b"no record\n")
    with pytest.raises(ValueError, match=r".+"):
        _packed(Partitions(19675), [block])


def test_both_make_the_same_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """More than a handful, too."""
    if row_packer.rows_core.Copier is None:
        pytest.skip("there is no compiled core")
    blocks = [_block(0, [19675] * 300 + [19676] * 200)]
    ours = _packed(Partitions(19675, 19676), blocks)
    monkeypatch.setattr(row_packer.rows_core, "Copier", None)
    assert _packed(Partitions(19675, 19676), blocks) == ours
