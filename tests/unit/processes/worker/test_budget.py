"""A budget allows its burst at once and its rate on average, in records and in bytes."""

from __future__ import annotations

import math

import pytest

from prefork_logd.processes.worker.budget import Bucket, Budget

NOW_S = 1000.0


def test_a_burst_is_allowed_and_then_the_rate() -> None:
    """Time fills the bucket up to the burst, however long it was."""
    budget = Budget(records_per_s=10, bytes_per_s=0, burst_s=2, now_s=NOW_S)
    assert budget.allowed(NOW_S) == 20
    budget.take(20, 1e9)
    assert budget.allowed(NOW_S) == 0
    assert budget.allowed(NOW_S + 0.55) == 5
    assert budget.allowed(NOW_S + 3600) == 20


def test_whole_records_are_allowed() -> None:
    """A fraction is kept for the next one."""
    budget = Budget(records_per_s=1, bytes_per_s=0, burst_s=1, now_s=NOW_S)
    budget.take(1, 0)
    assert budget.allowed(NOW_S + 0.9) == 0
    assert budget.allowed(NOW_S + 1.0) == 1


def test_a_debt_of_bytes_is_paid_first() -> None:
    """Bytes are charged afterwards: nothing is allowed until the bucket has something again."""
    budget = Budget(records_per_s=0, bytes_per_s=100, burst_s=1, now_s=NOW_S)
    assert budget.allowed(NOW_S) > 1e9
    budget.take(5, 300)
    assert budget.allowed(NOW_S + 2.0) == 0, "300 of 100 + 200: it is empty"
    assert budget.allowed(NOW_S + 2.1) > 1e9


def test_a_slow_rate_allows_one_record() -> None:
    """With a burst of less than a record none would ever be allowed."""
    budget = Budget(records_per_s=0.1, bytes_per_s=0, burst_s=1, now_s=NOW_S)
    assert budget.allowed(NOW_S) == 1
    budget.take(1, 0)
    assert budget.allowed(NOW_S + 9.9) == 0
    assert budget.allowed(NOW_S + 10.0) == 1


def test_a_clock_of_another_worker_that_is_behind_takes_nothing_away() -> None:
    """Times come from several places; one from before the last adds nothing."""
    budget = Budget(records_per_s=10, bytes_per_s=10, burst_s=1, now_s=NOW_S)
    budget.take(4, 4)
    assert budget.allowed(NOW_S - 100) == 6


@pytest.mark.parametrize(("taken", "full_in_s"), [(0, 0.0), (5, 0.5), (30, 3.0)])
def test_the_time_until_a_bucket_is_full(taken: int, full_in_s: float) -> None:
    """Also one with a debt."""
    bucket = Bucket(10, 1)
    bucket.take(taken)
    assert bucket.full_in_s() == full_in_s
    bucket.fill(full_in_s)
    assert bucket.full_in_s() == 0.0


def test_a_bucket_without_a_limit_is_always_full() -> None:
    """Whatever is taken."""
    bucket = Bucket(0, 5)
    bucket.take(1e300)
    bucket.fill(0.0)
    assert bucket.left == math.inf
    assert bucket.full_in_s() == 0.0
