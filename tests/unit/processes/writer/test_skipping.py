"""Skipped records are counted, and logged once an episode."""

from __future__ import annotations

import pytest

from prefork_logd.processes.writer import skipping
from prefork_logd.processes.writer.skipping import QUIET_S, Skipping


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the monotonic time, which passes when a test says so."""
    now_s = [1000.0]
    monkeypatch.setattr(skipping.time, "monotonic", lambda: now_s[0])
    return now_s


def test_an_episode_has_two_lines(caplog: pytest.LogCaptureFixture) -> None:
    """The first reason at its beginning, the number of records at its end."""
    episodes = Skipping("shop", "its records are skipped")
    episodes.failed("no reader", 0)
    episodes.failed("no space", 7)
    episodes.failed("no space", 2)
    episodes.worked("/logs/fifo")
    assert caplog.messages == [
        "output shop: no reader; its records are skipped until it works again",
        "output shop: /logs/fifo: written again; skipped 9 records",
    ]


def test_an_output_that_works_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Each turn in which it was written ends an episode that never was."""
    Skipping("shop", "its records are skipped").worked("/logs/fifo")
    assert caplog.messages == []


def test_episodes_that_follow_at_once_are_one_in_the_log(caplog: pytest.LogCaptureFixture, clock: list[float]) -> None:
    """A reader that comes and goes does not fill the log; what was skipped meanwhile is in the next line."""
    episodes = Skipping("shop", "its records are skipped")
    for _ in range(50):
        episodes.failed("no reader", 1)
        episodes.worked("/logs/fifo")
    assert len(caplog.messages) == 2
    clock[0] += QUIET_S
    episodes.failed("no reader", 1)
    episodes.worked("/logs/fifo")
    assert caplog.messages[-1] == "output shop: /logs/fifo: written again; skipped 50 records"


def test_an_episode_that_lasts_is_logged_after_the_quiet_time(
    caplog: pytest.LogCaptureFixture, clock: list[float]
) -> None:
    """It began within that time."""
    episodes = Skipping("shop", "its records are skipped")
    episodes.failed("no reader", 1)
    episodes.worked("/logs/fifo")
    caplog.clear()
    clock[0] += QUIET_S / 2
    episodes.failed("no reader", 1)
    assert caplog.messages == []
    clock[0] += QUIET_S / 2
    episodes.failed("no reader", 1)
    assert caplog.messages == ["output shop: no reader; its records are skipped until it works again"]
