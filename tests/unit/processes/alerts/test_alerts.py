"""The process of the alerts waits for a rule, reports what it does, and ends with its master."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from prefork_logd.config.load import loads
from prefork_logd.ipc.messages import Alive, Drain, Probe, Ready, Reopen, StatusReport
from prefork_logd.ipc.scoreboard import (
    ALERTS_SLOT,
    WRITER_SLOT,
    DiskState,
    Field,
    JournalField,
    Scoreboard,
    StoreField,
)
from prefork_logd.processes.alerts import alerts
from prefork_logd.processes.alerts.alerts import AlertsProcess, Scoreboards, _Lock
from tests.support.forked import MEMORY_BYTES, ForkedProcess
from tests.support.harness import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

RULE = """
[[alert]]
name = "r"
send = ["c"]
[[receiver]]
name = "c"
type = "command"
command = ["/bin/true"]
"""


class Child(ForkedProcess):
    """A process of the alerts, with this one as its master."""

    def __init__(self, state_dir: Path, toml: str) -> None:
        self.board = Scoreboard()
        settings = loads(toml, "", {"state_dir": str(state_dir)})
        super().__init__(
            lambda channel: AlertsProcess(ALERTS_SLOT, self.board, channel, settings, {"parquet": 0}).run()
        )


@pytest.fixture
def make_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Child]]:
    """Return a function that forks the process."""
    monkeypatch.setattr(alerts, "MOST_MEMORY_BYTES", MEMORY_BYTES)
    made: list[Child] = []

    def make(toml: str) -> Child:
        made.append(Child(tmp_path, toml))
        return made[-1]

    yield make
    for child in made:
        child.close()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_without_a_rule_nothing_is_opened(make_child: Callable[[str], Child], tmp_path: Path) -> None:
    """It answers its master, and ends at once."""
    child = make_child("")
    assert child.receive() == Ready()
    assert child.board.slot(ALERTS_SLOT)[Field.PID] == child.pid
    child.send(Probe())
    assert child.receive() == Alive()
    child.send(Reopen(1))
    child.send(Drain(fast=False))
    wait_for(child.has_ended, "the end")
    assert child.status == 0
    assert not (tmp_path / "alerts.db").exists()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_rule_is_evaluated_and_reported(make_child: Callable[[str], Child], tmp_path: Path) -> None:
    """A second process waits for the first one to end."""
    child = make_child(RULE)
    assert child.receive() == Ready()
    report = child.receive()
    while not (isinstance(report, StatusReport) and report.details):
        report = child.receive()
    assert (report.problem, report.details["rules"]) == ("", 1)
    assert not _Lock(tmp_path / "alerts.lock").acquire()
    child.send(Drain(fast=True))
    wait_for(child.has_ended, "the end")
    assert child.status == 0
    assert _Lock(tmp_path / "alerts.lock").acquire()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_lost_master_ends_it(make_child: Callable[[str], Child]) -> None:
    """At once."""
    child = make_child("")
    assert child.receive() == Ready()
    child.ours.close()
    wait_for(child.has_ended, "the end")


def test_what_is_seen_of_the_collector() -> None:
    """By the shared counters."""
    board = Scoreboard()
    seen = Scoreboards(board, {"parquet": 1})
    assert seen.journal() == ("", 0)
    assert not seen.is_listening(), "there is no writer yet"
    board.journal[JournalField.ID_LOW], board.journal[JournalField.NUMBER] = 0xAB, 7
    assert seen.journal() == (f"{0xAB:032x}", 7)
    board.slot(WRITER_SLOT)[Field.PID] = 1
    assert seen.is_listening()
    for counters, field, value in (
        (board.slot(WRITER_SLOT), Field.PAUSED, 1),
        (board.journal, JournalField.FULL, 1),
        (board.journal, JournalField.DISKS, DiskState.STOPPED),
    ):
        counters[field] = value
        assert not seen.is_listening()
        counters[field] = 0
    board.journal[JournalField.DISKS] = DiskState.LOW
    assert seen.is_listening()
    assert (seen.lag_s("parquet"), seen.lag_s("unknown")) == (0.0, 0.0)
    board.store(1)[StoreField.SINCE_MS] = int((time.time() - 60) * 1000)
    assert 59 < seen.lag_s("parquet") < 65
