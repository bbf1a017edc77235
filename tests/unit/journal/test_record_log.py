"""The record log: what is committed is read, each record once and in order; what is damaged is said."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefork_logd.errors import OutputError
from prefork_logd.journal import record_log
from prefork_logd.journal.commit_entry import NOTHING
from prefork_logd.journal.record_log import LEAP
from prefork_logd.journal.record_segments import segment_name, segment_paths
from tests.support.record_logs import Log, block, read

if TYPE_CHECKING:
    pass


@pytest.fixture
def log(tmp_path: Path) -> Log:
    """Return a log in an empty directory."""
    return Log(tmp_path)


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 40), max_size=25), st.data())
def test_every_committed_record_is_read_once(
    tmp_path_factory: pytest.TempPathFactory, counts: list[int], data: st.DataObject
) -> None:
    """From any number on, over segments and recoveries; what was not committed is never seen."""
    log = Log(tmp_path_factory.mktemp("log"))
    for count in counts:
        log.add([count])
        step = data.draw(st.sampled_from(["", "again", "uncommitted"]))
        if step == "uncommitted":
            log.log.append([block(log.log.next, 3)], 1)
            found, _ = read(log.directory, log.committed.records)
            assert found == list(range(log.committed.records))
        if step:
            log.again()
    total = sum(counts)
    assert log.log.next == total
    start = data.draw(st.integers(0, total))
    found, reader = read(log.directory, total, start)
    assert found[-(total - start) :] == list(range(start, total)) if start < total else not found
    assert not reader.problems
    assert log.log.total[0] == total
    log.log.close()


def test_a_segment_goes_when_it_is_passed(log: Log) -> None:
    """And none before."""
    log.add([40] * 10)
    firsts = [first for first, _ in segment_paths(log.directory)]
    assert len(firsts) > 3
    assert log.log.remove_below(firsts[2] - 1) == 1
    assert log.log.remove_below(firsts[2]) == 1
    assert log.log.remove_below(10**6) == len(firsts) - 3
    assert [first for first, _ in segment_paths(log.directory)] == [firsts[-1]]
    found, _ = read(log.directory, 400)
    assert found == list(range(firsts[-1], 400))


def test_numbers_leap_after_a_boot(log: Log, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What a store may know of, and the journal not, is never numbered again; nothing counts as lost for it."""
    log.add([5])
    boot = tmp_path / "boot"
    boot.write_text("another")
    monkeypatch.setattr(record_log, "BOOT_ID", boot)
    journal = log.log.journal
    log.again()
    assert log.log.next == 5 + LEAP
    assert log.log.journal == journal
    log.add([2])
    found, reader = read(log.directory, 7 + LEAP)
    assert found == [0, 1, 2, 3, 4, 5 + LEAP, 6 + LEAP]
    assert not reader.lost
    assert log.log.total[0] == 7
    log.again()
    assert log.log.next == 7 + LEAP


def test_without_any_commit_nothing_is_numbered_twice(log: Log) -> None:
    """When the commits are lost, whole segments stay, and numbers leap."""
    log.add([5])
    log.committed = NOTHING
    log.again()
    assert log.log.next == 5 + LEAP
    assert read(log.directory, log.log.next)[0] == [0, 1, 2, 3, 4]


def test_after_a_sync_that_failed_another_segment_begins(log: Log) -> None:
    """It has again what was not committed, and the old one has it no more."""
    log.add([5])
    log.log.append([block(5, 5)], 1)
    log.log.abandon()
    assert log.log.next == 5
    log.add([5])
    assert read(log.directory, 10)[0] == list(range(10))


class Syncs:
    """The files that were synced, by name; those in `failing` cannot be."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.names: list[str] = []
        self.failing: set[str] = set()
        monkeypatch.setattr(os, "fdatasync", self._sync)

    def _sync(self, fd: int) -> None:
        name = Path(f"/proc/self/fd/{fd}").readlink().name
        self.names.append(name)
        if name in self.failing:
            raise OSError(errno.EIO, "it cannot be written")


def test_a_finished_segment_is_synced_with_the_next_commit_that_is_acknowledged(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each once; a removed one is left out, also one that was removed by hand."""
    for _ in range(12):
        log.add([40])
    finished = [segment_name(first) for first, _ in segment_paths(log.directory)]
    assert len(finished) > 3
    current = finished.pop()
    log.log.remove_below(segment_paths(log.directory)[1][0])
    assert [path.name for path in log.log._unsynced_paths] == finished[1:]
    (log.directory / finished.pop(1)).unlink()
    syncs = Syncs(monkeypatch)
    log.log.append([block(log.log.next, 1)], 1)
    log.log.sync()
    assert sorted(syncs.names) == [*finished[1:], current]
    log.log.append([block(log.log.next, 1)], 1)
    log.log.sync()
    assert syncs.names[len(finished) :] == [current]


def test_the_segments_of_a_writer_that_died_are_synced_too(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing tells whether it has done so."""
    log.add([5])
    name = segment_name(segment_paths(log.directory)[0][0])
    log.again()
    syncs = Syncs(monkeypatch)
    log.log.append([block(log.log.next, 1)], 1)
    log.log.sync()
    assert syncs.names[0] == name


def test_a_finished_segment_that_cannot_be_synced_is_reported_once(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commit fails; later ones do not wait for records that no client waits for."""
    for _ in range(4):
        log.add([40])
    name = segment_name(segment_paths(log.directory)[0][0])
    syncs = Syncs(monkeypatch)
    syncs.failing = {name}
    log.log.append([block(log.log.next, 1)], 1)
    with pytest.raises(OutputError, match=name):
        log.log.sync()
    log.log.sync()
    assert syncs.names.count(name) == 1
