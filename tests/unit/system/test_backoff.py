"""The time between attempts."""

from __future__ import annotations

import pytest

from prefork_logd.system.backoff import Backoff, delay_s


def test_the_delay_doubles_up_to_a_bound() -> None:
    """From the first one on, and it stays at the longest however often it fails."""
    backoff = Backoff(0.5, 5.0)
    assert [backoff.failed() for _ in range(6)] == [0.5, 1.0, 2.0, 4.0, 5.0, 5.0]
    assert backoff.failures == 6


def test_a_success_begins_anew() -> None:
    """The next failure has the shortest delay."""
    backoff = Backoff(0.5, 5.0)
    assert [backoff.failed(), backoff.failed()] == [0.5, 1.0]
    backoff.worked()
    assert backoff.failures == 0
    assert backoff.failed() == 0.5


def test_the_spread_is_around_the_delay() -> None:
    """Each delay is a random part of the one without it, and not always the same part."""
    found = []
    for _ in range(100):
        backoff = Backoff(1.0, 8.0, spread=(0.5, 1.0))
        delays = [backoff.failed() for _ in range(5)]
        for delay, longest in zip(delays, (1.0, 2.0, 4.0, 8.0, 8.0), strict=True):
            assert longest / 2 <= delay <= longest
        found.append(delays[0])
    assert len(set(found)) > 1


@pytest.mark.parametrize(("failures", "expected"), [(0, 0.1), (1, 0.1), (2, 0.2), (9, 25.6), (10, 30.0), (10**9, 30.0)])
def test_any_number_of_failures_has_a_delay(failures: int, expected: float) -> None:
    """Also one that would overflow a float."""
    assert delay_s(failures, 0.1, 30.0) == pytest.approx(expected)
