"""The trouble of a store is logged when it begins and when it is over, and tried again less and less often."""

from __future__ import annotations

import pytest

from prefork_logd.processes.shipper import trouble
from prefork_logd.processes.shipper.trouble import FIRST_RETRY_S, LINE_EVERY_S, LONGEST_RETRY_S, MOST_LINES, Trouble
from prefork_logd.system import backoff


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the monotonic time, which passes when a test says so; no delay is spread."""
    now_s = [1000.0]
    monkeypatch.setattr(trouble.time, "monotonic", lambda: now_s[0])
    monkeypatch.setattr(backoff.random, "uniform", lambda *_: 1.0)
    return now_s


def test_one_line_when_it_begins_and_one_when_it_is_over(caplog: pytest.LogCaptureFixture) -> None:
    """The same problem again is no news."""
    found = Trouble("days")
    for _ in range(5):
        found.begin("the disk is full")
    assert found.problem == "the disk is full"
    found.end(70)
    assert found.problem == ""
    assert caplog.messages == [
        "store days: the disk is full; tried again until it works",
        "store days: works again; it lags by 70 records",
    ]


def test_another_problem_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """Of the same trouble."""
    found = Trouble("days")
    found.begin("no connection")
    found.begin("no rights")
    assert caplog.messages[1] == "store days: still fails, now with: no rights"


def test_no_trouble_ends_without_a_line(caplog: pytest.LogCaptureFixture) -> None:
    """Each batch that is written ends it."""
    found = Trouble("days")
    found.end(1)
    assert caplog.messages == []


def test_the_time_to_the_next_try_doubles_until_it_works() -> None:
    """Up to a bound, and from the first one on after each success."""
    found = Trouble("days")
    delays = [found.begin("no") for _ in range(9)]
    assert delays[:4] == [FIRST_RETRY_S, 0.2, 0.4, 0.8]
    assert delays[-1] == LONGEST_RETRY_S
    found.end(1)
    assert found.begin("no") == FIRST_RETRY_S


def test_trouble_that_comes_and_goes_does_not_fill_the_log(
    caplog: pytest.LogCaptureFixture, clock: list[float]
) -> None:
    """A few lines at once, then one in a while; an end is told only of what was told."""
    found = Trouble("days")
    for number in range(20):
        found.begin(f"problem {number}")
        found.end(1)
    assert len(caplog.messages) == 2 * MOST_LINES
    caplog.clear()
    clock[0] += LINE_EVERY_S
    for number in range(20):
        found.begin(f"problem {number}")
    assert caplog.messages == ["store days: problem 0; tried again until it works"]
    found.end(3)
    assert caplog.messages[1:] == ["store days: works again; it lags by 3 records"]


def test_trouble_of_maintenance_is_no_longer_that_once_a_write_fails() -> None:
    """Then a write ends it."""
    found = Trouble("days")
    found.begin("cannot drop a partition", in_maintenance=True)
    assert found.in_maintenance
    found.begin("cannot write")
    assert not found.in_maintenance
    found.begin("cannot drop a partition", in_maintenance=True)
    assert not found.in_maintenance
    found.end(0)
    found.begin("cannot drop a partition", in_maintenance=True)
    assert found.in_maintenance
    found.end(0)
    assert not found.in_maintenance
