"""Bars over time as they are printed: a line a slot, and one line for a long gap."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefork_logd.cli.print_histogram import print_histogram
from prefork_logd.query.histogram import zoom_in
from prefork_logd.query.search import Bar
from tests.support.queries import NOON, histogram_of

if TYPE_CHECKING:
    import pytest


def test_three_seconds_within_a_day_are_shown_as_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    """Not as one bar among many lines of nothing."""
    times = [NOON + second / 4 for second in range(12)]
    found = zoom_in(histogram_of(times), NOON - 86_400, NOON + 86_400)
    assert found[2] <= 1
    print_histogram(*found)
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].startswith("12 records")
    assert sum(line.endswith(" 0") for line in lines) <= len(lines) / 2
    assert all(line == line.rstrip() for line in lines)


def test_a_long_gap_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Of a short one each slot is shown."""
    print_histogram([Bar(0, 20, 3), Bar(3, 20, 1), Bar(50, 40, 2)], NOON, 60.0, 51)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] if "times" in line else line.split()[2] for line in lines[:6]] == [
        "3", "0", "0", "1", ["0", "46"], "2",
    ]  # fmt: skip


def test_nothing_found_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    """With no bar at all."""
    print_histogram(*zoom_in(histogram_of([]), NOON, NOON + 60))
    assert capsys.readouterr().out.split() == ["0", "records"]
