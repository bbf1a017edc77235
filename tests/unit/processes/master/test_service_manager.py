"""The collector reports to its service manager: readiness, reloads, the stop, rates, and the writer's progress."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest

from prefork_logd.ipc.scoreboard import WRITER_SLOT
from prefork_logd.processes.master.child import Child, Kind
from prefork_logd.processes.master.lifecycle import State
from prefork_logd.processes.master.service_manager import ALIVE_EVERY, STATUS_EVERY_S, ServiceManager
from prefork_logd.system.systemd import Notifier
from tests.support.children import FakeLoop, make_child
from tests.support.service_manager import FakeServiceManager

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.children import FakeChannel

WATCHDOG_S = 4.0


class Reports:
    """A collector's writer and counters, and the reports about them."""

    def __init__(self, systemd: FakeServiceManager) -> None:
        self.systemd = systemd
        self.loop = FakeLoop()
        self.writer = make_child(Kind.WRITER, WRITER_SLOT)
        self.counts = (0, 0)
        self.manager = ServiceManager(
            self.loop.loop, Notifier(systemd.environment), lambda: self.writer, lambda: self.counts
        )

    def answer(self) -> None:
        """Let the writer answer the probe."""
        cast("FakeChannel", self.writer.channel).silent_since_s = None

    def keep_alives(self, turns: int, *, answers: bool) -> int:
        """Return the number of keep-alives in so many of the manager's turns."""
        self.systemd.take()
        for _ in range(turns):
            self.loop.pass_s(WATCHDOG_S / ALIVE_EVERY)
            if answers:
                self.answer()
        return sum("WATCHDOG" in taken for taken in self.systemd.take())


@pytest.fixture
def reports(tmp_path: Path) -> Iterator[Reports]:
    """Return a collector that systemd watches."""
    with FakeServiceManager(tmp_path / "notify", WATCHDOG_S) as systemd:
        yield Reports(systemd)


def test_readiness_a_reload_and_the_stop(reports: Reports) -> None:
    """Each has the assignments that sd_notify(3) asks for."""
    reports.manager.report_ready()
    assert reports.systemd.take()[0] == {"READY": "1", "STATUS": "Collecting"}
    reports.manager.report_reload()
    reports.manager.report_reloaded()
    begun, over = reports.systemd.take()
    assert begun["RELOADING"] == "1"
    assert int(begun["MONOTONIC_USEC"]) > 0
    assert over == {"READY": "1"}
    reports.manager.report_stop(12.5)
    (stop,) = reports.systemd.take()
    assert (stop["STOPPING"], stop["EXTEND_TIMEOUT_USEC"]) == ("1", "12500000")


def test_an_upgrade_is_not_a_second_start(reports: Reports) -> None:
    """The new program goes on with keep-alives, and reports no readiness."""
    reports.manager.report_ready(is_new=False)
    assert [*map(set, reports.systemd.take())] == [{"WATCHDOG"}]


def test_rates_and_connections(reports: Reports) -> None:
    """The status line has the rate since the last one."""
    reports.manager.report_ready()
    reports.systemd.take()
    reports.counts = (87_000, 200)
    reports.loop.pass_s(STATUS_EVERY_S)
    (status,) = [taken["STATUS"] for taken in reports.systemd.take() if "STATUS" in taken]
    rate, connections, records = status.split("; ")
    assert rate.endswith(" records/s")
    assert rate != "0 records/s"
    assert (connections, records) == ("200 connections", "87,000 records")


def test_keep_alives_follow_the_writer(reports: Reports) -> None:
    """A writer that answers keeps the collector alive; one that hangs, or that is dead, does not."""
    reports.manager.report_ready()
    reports.answer()
    assert reports.keep_alives(8, answers=True) == 8
    assert reports.keep_alives(8, answers=False) == 1  # by the answer before
    assert reports.keep_alives(8, answers=False) == 0
    reports.answer()
    assert reports.keep_alives(1, answers=True) == 1
    reports.writer.state = State.WAITING
    assert reports.keep_alives(4, answers=True) == 0
    reports.writer.state = State.STARTING
    assert reports.keep_alives(4, answers=True) == 0


def test_keep_alives_in_an_upgrade_and_a_stop(reports: Reports) -> None:
    """The writer of the last program is not asked, and a writer that has ended is not missed."""
    reports.manager.report_ready()
    reports.writer.is_inherited = True
    assert reports.keep_alives(3, answers=False) == 3
    reports.writer = Child(Kind.WRITER, WRITER_SLOT, State.GONE)
    assert reports.keep_alives(3, answers=False) == 3


def test_nothing_happens_without_a_service_manager() -> None:
    """No timer wakes the master."""
    loop = FakeLoop()
    manager = ServiceManager(loop.loop, Notifier({}), lambda: make_child(Kind.WRITER, WRITER_SLOT), lambda: (0, 0))
    manager.report_ready()
    manager.report_reload()
    manager.report_reloaded()
    manager.report_stop(1.0)
    assert loop.timers == []
