"""The connections of each service are counted as they come, name themselves and go."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from prefork_logd.processes.worker import services
from prefork_logd.processes.worker.services import ServiceCounts
from prefork_logd.records.sender import read_sender


class Clock:
    """A loop whose timers the test fires."""

    def __init__(self) -> None:
        self.timers: list[Any] = []

    def later(self, _delay_s: float, call: Any) -> Any:
        self.timers.append(call)
        return call

    def fire(self) -> None:
        due, self.timers = self.timers, []
        for call in due:
            call()


class Connection(SimpleNamespace):
    """A connection whose client has described itself, or not."""

    __hash__ = object.__hash__

    def find_sender(self) -> Any:
        return read_sender(self.sender_document, "host")


def connection(service: str = "") -> Any:
    return Connection(sender_document=b'{"service":"%b"}' % service.encode() if service else b"")


@pytest.fixture
def counted() -> tuple[ServiceCounts, Clock, list[Any]]:
    clock, sent = Clock(), []
    return (
        ServiceCounts(clock, lambda report: sent.append((report.details["services"], report.details["others"]))),
        clock,
        sent,
    )  # type: ignore[arg-type]


def test_a_connection_counts_once_under_its_latest_name(counted: tuple[ServiceCounts, Clock, list[Any]]) -> None:
    """Without a name first, then under its service; gone when it is closed, also if it was never counted."""
    counts, clock, sent = counted
    one, other, moved = connection(), connection("shop"), connection("shop")
    for each in (one, other, other, moved):
        counts.count(each)
    clock.fire()
    one.sender_document = b'{"service":"mailer"}'
    counts.count(one)
    counts.forget(other)
    counts.forget(connection("shop"))
    clock.fire()
    for each in (one, moved, moved):
        counts.forget(each)
    clock.fire()
    assert sent == [([("shop", 2)], 0), ([("shop", 1), ("mailer", 1)], 0), ([], 0)]


def test_reports_are_few_and_short(
    counted: tuple[ServiceCounts, Clock, list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any number of changes is one report, nothing is sent without a change, and a report has the largest services."""
    monkeypatch.setattr(services, "MOST_SERVICES", 2)
    counts, clock, sent = counted
    for number in range(50):
        for _ in range(number % 5 + 1):
            counts.count(connection(f"s{number % 5}"))
    assert len(clock.timers) == 1
    clock.fire()
    assert sent == [([("s4", 50), ("s3", 40)], 60)]
    known = connection("s0")
    counts.count(known)
    clock.fire()
    counts.count(known)
    assert not clock.timers
