"""Partitions by name, bounds and day, without a server: a catalogue in memory answers."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any, cast

import pytest

from prefork_logd.stores.postgresql import partitions as module
from prefork_logd.stores.postgresql.partitions import ALWAYS_KEPT_DAYS, GAP_S, Partition, Partitions, parse

if TYPE_CHECKING:
    from prefork_logd.stores.postgresql.connection import Connection

TODAY = 20_800
"""2026-12-13."""


class Answer(list[tuple[Any, ...]]):
    """The rows of a query."""

    def fetchall(self) -> list[tuple[Any, ...]]:
        return self

    def fetchone(self) -> tuple[Any, ...] | None:
        return self[0] if self else None


class Catalogue:
    """A server that knows its day, the attached partitions, and what other collectors keep."""

    def __init__(self, *partitions: Partition) -> None:
        self.today = TODAY
        self.partitions = list(partitions)
        self.retained: list[int] = []
        self.left_over: list[tuple[str, bool]] = []

    def execute(self, query: Any, parameters: object = ()) -> Answer:
        text = query if isinstance(query, str) else query.as_string()
        if "AT TIME ZONE" in text:
            return Answer([(self.today,)])
        if "retain_days" in text:
            return Answer([(days,) for days in self.retained])
        if "pg_get_expr" in text:
            return Answer([("logs", found.table, bounds(found)) for found in self.partitions])
        if "obj_description" in text:
            return Answer(self.left_over)
        raise AssertionError(text)


def bounds(partition: Partition) -> str:
    """Return the bounds of a partition as PostgreSQL writes them."""
    day = re.sub(r"records_(\d{4})(\d\d)(\d\d)_\d+", r"\1-\2-\3", partition.table)
    return f"FOR VALUES FROM ('{day}', {partition.slice}) TO ('{day}', {partition.slice + 1})"


def known(catalogue: Catalogue, retain_days: int | None = 30) -> Partitions:
    """Return the partitions as read from a catalogue."""
    found = Partitions(cast("Connection", catalogue), "logs", retain_days, 1 << 20)
    found.refresh()
    return found


@pytest.mark.parametrize(
    ("partition", "table"),
    [
        (Partition(0, 0), "records_19700101_0"),
        (Partition(-1, 7), "records_19691231_7"),
        (Partition(TODAY, 999_999_999), "records_20261213_999999999"),
        (Partition(19_782, 1), "records_20240229_1"),
    ],
)
def test_a_name_has_the_day_and_the_slice(partition: Partition, table: str) -> None:
    """And is read back."""
    assert partition.table == table
    assert parse(table) == partition


@pytest.mark.parametrize(
    "table",
    ["records", "records_20261123", "records_20261123_", "records_20261323_0", "records_20230229_0",
     "records_20261123_0_message", "records_2026112_0", "records_00000101_0", "records_20261123_1234567890",
     "Records_20261123_0", "records_20261123_0\n", " records_20261123_0", "records_20261123_-1"],
)  # fmt: skip
def test_a_table_of_another_name_is_none_of_ours(table: str) -> None:
    """Indexes, days that do not exist, an operator's tables."""
    assert parse(table) is None


@pytest.mark.parametrize(
    ("text", "partition"),
    [
        ("FOR VALUES FROM ('1970-01-02', 3) TO ('1970-01-02', 4)", Partition(1, 3)),
        ("FOR VALUES FROM ('1970-01-02', 3) TO ('1970-01-02', 5)", None),
        ("FOR VALUES FROM ('1970-01-02', 3) TO ('1970-01-03', 4)", None),
        ("FOR VALUES FROM (MINVALUE, MINVALUE) TO ('1970-01-03', 4)", None),
        ("DEFAULT", None),
        ("", None),
        (None, None),
    ],
)
def test_a_partition_is_known_by_its_bounds(text: str | None, partition: Partition | None) -> None:
    """An operator may have renamed its table; one with other bounds is the operator's."""
    catalogue = Catalogue()
    found = known(catalogue)
    catalogue.execute = lambda *_: Answer([("own", "renamed", text)])  # type: ignore[method-assign]
    assert found.all() == ([partition] if partition else [])
    if partition:
        assert found.table(partition).as_string() == '"own"."renamed"'


def test_the_open_slice_is_the_last_of_its_day() -> None:
    """In whatever order the server lists them."""
    slices = [Partition(TODAY, 2), Partition(TODAY - 1, 0), Partition(TODAY, 10), Partition(TODAY, 0)]
    found = known(Catalogue(*slices))
    assert found.all() == sorted(slices)
    assert found.of(TODAY) == Partition(TODAY, 10)
    assert found.of(TODAY - 1) == Partition(TODAY - 1, 0)
    assert found.of(TODAY + 1) is None
    assert found.table(Partition(TODAY, 2)).as_string() == '"logs"."records_20261213_2"'


@pytest.mark.parametrize(
    ("received", "day"),
    [
        (TODAY * 86_400.0, TODAY),
        (TODAY * 86_400.0 - 0.001, TODAY - 1),
        ((TODAY - 30) * 86_400.0, TODAY - 30),
        ((TODAY - 31) * 86_400.0, TODAY - 30),
        (0.0, TODAY - 30),
        (-1e14, TODAY - 30),
        ((TODAY + 1) * 86_400.0, TODAY + 1),
        ((TODAY + 2) * 86_400.0, TODAY + 1),
        (1e14, TODAY + 1),
        (1e300, TODAY),
        (float("inf"), TODAY),
        (float("-inf"), TODAY),
        (float("nan"), TODAY),
    ],
)
def test_every_time_of_arrival_has_a_day_that_is_kept(received: float, day: int) -> None:
    """No clock makes many partitions, or one that is dropped at once; and the day's span has the record in it."""
    found = known(Catalogue())
    assert found.bounded(received) == day
    if 0 <= received < 1e15:
        first, end = found.span(day)
        assert first <= received < end


@pytest.mark.parametrize(
    ("ours", "others", "kept"),
    [(30, [], 30), (30, [7, 60], 60), (30, [-1], None), (None, [7], None), (7, [7], 7), (1, [0], 1)],
)
def test_the_longest_time_of_all_collectors_counts(ours: int | None, others: list[int], kept: int | None) -> None:
    """They share one table; for ever is the longest."""
    catalogue = Catalogue()
    catalogue.retained = others
    found = known(catalogue, ours)
    assert found.retain_days == kept
    assert found.oldest_day == TODAY - (ALWAYS_KEPT_DAYS if kept is None else kept)


@pytest.fixture
def _same_day(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the local clock agree with the server's."""
    monkeypatch.setattr(time, "time", lambda: TODAY * 86_400.0 + 5)


@pytest.mark.usefixtures("_same_day")
def test_the_oldest_partition_that_is_not_kept_is_dropped() -> None:
    """One at a time, and none that is within the time."""
    old, older = Partition(TODAY - 31, 0), Partition(TODAY - 40, 0)
    catalogue = Catalogue(old, older, Partition(TODAY - 30, 0), Partition(TODAY, 0))
    found = known(catalogue)
    for partition in (older, old):
        doomed = found.next_drop()
        assert doomed is not None
        assert doomed[0] == partition.table
        catalogue.partitions.remove(partition)
    assert found.next_drop() is None
    assert known(Catalogue(old), None).next_drop() is None


@pytest.mark.usefixtures("_same_day")
def test_a_table_that_a_crash_left_half_dropped_comes_first() -> None:
    """If its day is over; another name or a later day is left alone."""
    catalogue = Catalogue(Partition(TODAY - 50, 0), Partition(TODAY, 0))
    later = Partition(TODAY - 1, 0).table
    catalogue.left_over = [("backup", False), (later, False), (Partition(TODAY - 35, 1).table, True)]
    doomed = known(catalogue).next_drop()
    assert doomed is not None
    assert doomed[0] == Partition(TODAY - 35, 1).table
    assert [statement.as_string().split(" ")[0] for statement in doomed[1]] == ["ALTER", "DROP"]


@pytest.mark.parametrize(
    ("ahead", "certain"), [(-2, False), (-1, True), (0, True), (1, True), (2, False), (400, False)]
)
def test_nothing_is_dropped_while_two_clocks_disagree(
    monkeypatch: pytest.MonkeyPatch, ahead: int, certain: bool
) -> None:
    """By more than a day; the warning says so, and goes when they agree."""
    monkeypatch.setattr(time, "time", lambda: (TODAY + ahead) * 86_400.0 + 5)
    found = known(Catalogue(Partition(TODAY - 50, 0), Partition(TODAY, 0)))
    assert (found.next_drop() is not None) is certain
    assert bool(found.warning) is not certain
    monkeypatch.setattr(time, "time", lambda: TODAY * 86_400.0 + 5)
    assert found.next_drop() is not None
    assert found.warning == ""


@pytest.mark.usefixtures("_same_day")
def test_after_days_without_records_nothing_is_dropped_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both clocks may have been set ahead."""
    now_s = 1000.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now_s)
    catalogue = Catalogue(Partition(TODAY - 50, 0), Partition(TODAY - 2, 0))
    found = known(catalogue)
    assert found.next_drop() is None
    now_s += GAP_S
    assert found.next_drop() is None
    now_s += 1
    assert found.next_drop() is not None
    catalogue.partitions.append(Partition(TODAY, 0))
    assert found.next_drop() is not None
    catalogue.partitions.pop()
    assert found.next_drop() is None
