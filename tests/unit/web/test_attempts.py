"""Tries to log in are limited for each address and in total, in bounded memory."""

from __future__ import annotations

import pytest

from prefork_logd.web import attempts
from prefork_logd.web.attempts import (
    A_MINUTE,
    FAILURES,
    MOST_ADDRESSES,
    TOTAL_FAILURES,
    Attempts,
    address_key,
)


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tries(clock: Clock) -> Attempts:
    return Attempts(clock)


def test_failures_of_an_address_are_limited(tries: Attempts, clock: Clock) -> None:
    """They come back one by one; others are not affected."""
    assert [tries.begin("192.0.2.1") for _ in range(FAILURES)] == [0.0] * FAILURES
    wait_s = tries.begin("192.0.2.1")
    assert wait_s == pytest.approx(60 / A_MINUTE)
    assert tries.begin("192.0.2.2") == 0
    clock.now_s += wait_s
    assert tries.begin("192.0.2.1") == 0
    assert tries.begin("192.0.2.1") > 0
    clock.now_s += 1e6
    assert [tries.begin("192.0.2.1") for _ in range(FAILURES + 1)][-2] == 0


def test_who_succeeds_is_not_limited(tries: Attempts) -> None:
    for _ in range(10 * TOTAL_FAILURES):
        assert tries.begin("192.0.2.1") == 0
        tries.succeeded("192.0.2.1")


def test_many_addresses_are_limited_together(tries: Attempts) -> None:
    """A net of guessers does not get more tries than this; a refused try costs nothing."""
    allowed = [tries.begin(f"10.0.{number // 256}.{number % 256}") == 0 for number in range(3 * TOTAL_FAILURES)]
    assert sum(allowed) == TOTAL_FAILURES


def test_addresses_are_forgotten(tries: Attempts, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest ones first: memory is bounded whoever tries."""
    monkeypatch.setattr(attempts, "MOST_ADDRESSES", 10)
    for number in range(100):
        tries.begin(f"10.0.0.{number}")
    assert list(tries._addresses) == [f"10.0.0.{number}" for number in range(90, 100)]
    assert MOST_ADDRESSES > 1000


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("unix", "unix"),
    ],
)
def test_an_ipv6_network_counts_as_one(address: str, key: str) -> None:
    """One host may use all of its addresses."""
    assert address_key(address) == key
