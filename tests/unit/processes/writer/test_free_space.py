"""Clients wait before a disk is full, and go on when it has room again; stores are asked to make room earlier."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from prefork_logd.config.load import loads
from prefork_logd.ipc.scoreboard import DiskState, JournalField, Scoreboard
from prefork_logd.processes.writer import free_space as module
from prefork_logd.processes.writer.free_space import FreeSpace
from prefork_logd.system.disk import Space

if TYPE_CHECKING:
    from pathlib import Path

MIN = 1000


class Rig:
    """Disks whose free space the test sets, by directory."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, least: int = MIN) -> None:
        self.free = {"/state": 5000, "/logs": 5000}
        self.now_s = 100.0
        self.measured: list[str] = []
        self.woken = 0
        self.counters = Scoreboard().journal
        monkeypatch.setattr(module, "measure_space", self._measure)
        monkeypatch.setattr(time, "monotonic", lambda: self.now_s)
        settings = loads(f"[limits]\nmin_free_bytes = {least}\n", "", {"state_dir": "/state"})
        self.disks = FreeSpace(self.counters, self._wake, settings)

    def _measure(self, directory: str, least: int) -> Space:
        self.measured.append(directory)
        if directory not in self.free:
            raise FileNotFoundError(directory)
        if self.free[directory] < 0:
            raise OSError("it fails")
        return Space(self.free[directory], least)

    def _wake(self) -> None:
        self.woken += 1

    def may_append(self, nbytes: int = 1) -> bool:
        return self.disks.may_append(nbytes, lambda: {"/logs"})

    @property
    def state(self) -> DiskState:
        return DiskState(self.counters[JournalField.DISKS])


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Rig:
    """Return disks with room."""
    return Rig(monkeypatch)


def test_clients_wait_before_a_disk_is_full(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """Below half of the minimum, until three quarters are free; each change is logged once."""
    assert rig.may_append()
    for free, goes_on, state in [
        (1000, True, DiskState.ENOUGH), (999, True, DiskState.LOW), (500, True, DiskState.LOW),
        (499, False, DiskState.STOPPED), (749, False, DiskState.STOPPED), (750, True, DiskState.LOW),
        (1000, True, DiskState.ENOUGH),
    ]:  # fmt: skip
        rig.free["/logs"] = free
        rig.now_s += 1
        assert (rig.may_append(), rig.state) == (goes_on, state)
    assert rig.woken == 5
    stopped, resumed = caplog.messages
    assert stopped.startswith("/logs: only 0.0 MB of its disk are free")
    assert resumed == "disks have room again; clients go on"


def test_each_disk_counts(rig: Rig) -> None:
    """Also the journal's; one that cannot be measured is left to the append, which reports it."""
    rig.free = {"/state": 10, "/logs": -1}
    assert not rig.may_append()
    rig.free = {"/state": 1000, "/logs": 1000}
    assert rig.may_append()
    rig.free["/logs"] = -1
    assert rig.may_append()


def test_a_full_disk_that_cannot_be_measured_is_not_one_with_room(rig: Rig) -> None:
    """A state directory that is moved has its files open: clients wait until it is measured again."""
    rig.free["/state"] = 10
    assert not rig.may_append()
    rig.free["/state"] = -1
    assert not rig.may_append()
    assert rig.state is DiskState.STOPPED
    rig.free["/state"] = 1000
    assert rig.may_append()


def test_a_removed_directory_does_not_keep_clients_waiting(rig: Rig) -> None:
    """People remove a directory of logs to make room: the append makes it again, on the disk of the one above."""
    rig.free = {"/": 10, "/state": 1000, "/logs": 10}
    assert not rig.may_append()
    del rig.free["/logs"]
    assert not rig.may_append()
    rig.free["/"] = 1000
    assert rig.may_append()


def test_a_state_directory_that_was_moved_is_not_measured_above(rig: Rig) -> None:
    """Nothing is made at its path, so the disk of the directory above does not count."""
    rig.free = {"/": 1000, "/state": 10, "/logs": 1000}
    assert not rig.may_append()
    del rig.free["/state"]
    assert not rig.may_append()


def test_disks_are_measured_when_half_of_the_room_is_used(rig: Rig) -> None:
    """Or after a second; a system call for each batch would be for nothing."""
    rig.free["/state"] = 1500
    assert rig.may_append()
    for nbytes, passed_s, times in ((499, 0.0, 1), (2, 0.0, 2), (1, 0.5, 2), (1, 0.5, 3)):
        rig.now_s += passed_s
        assert rig.may_append(nbytes)
        assert rig.measured.count("/state") == times


def test_waiting_clients_go_on_at_once(rig: Rig) -> None:
    """Each try measures again."""
    rig.free["/state"] = 0
    assert not rig.may_append()
    rig.free["/state"] = 5000
    assert rig.may_append()


def test_the_last_lines_are_written(rig: Rig) -> None:
    """At the collector's end the space that is left is used: lines that wait would be lost."""
    rig.free["/state"] = 0
    rig.disks.is_ending = True
    assert rig.may_append()


def test_no_minimum(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the disk may be filled, and outputs are not asked where they are."""
    rig = Rig(monkeypatch, 0)
    rig.free = {"/state": 0, "/logs": 0}
    assert rig.may_append()
    assert rig.measured == ["/state"]


def test_a_small_disk(tmp_path: Path) -> None:
    """At most a twentieth of a disk is kept free."""
    free, wanted = module.measure_space(tmp_path, 1 << 62)
    assert 0 < wanted < 1 << 50
    assert free >= 0
    assert module.measure_space(tmp_path, 5).wanted == 5
