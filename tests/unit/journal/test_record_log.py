"""The record log: what is committed is read, each record once and in order; what is damaged is said."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefork_logd.journal import record_log
from prefork_logd.journal.commit_entry import NOTHING
from prefork_logd.journal.record_log import LEAP
from prefork_logd.journal.record_segments import segment_paths
from prefork_logd.system import libc
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


def test_the_disk_begins_to_write_before_a_segment_ends(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """Piece by piece, from where it was told last or synced; a new segment begins at its beginning."""
    begun: list[tuple[int, int]] = []
    monkeypatch.setattr(record_log, "WRITTEN_BYTES", 150)
    monkeypatch.setattr(record_log, "begin_writing", lambda _, start, nbytes: begun.append((start, start + nbytes)))
    ends = []
    for _ in range(4):
        log.add([40])
        ends.append(log.log.length)
    assert begun == [(0, ends[0]), (ends[0], ends[1]), (ends[1], ends[2]), (0, ends[3])]
    log.log.sync()
    log.add([5])
    assert begun[4:] == []
    log.add([40])
    assert begun[4:] == [(ends[3], log.log.length)]
    assert read(log.directory, log.log.next)[0] == list(range(log.log.next))


def test_a_file_that_cannot_be_written_early_is_written_later(tmp_path: Path) -> None:
    """It is a hint to the kernel; a real file takes it, and a descriptor that is none harms nobody."""
    path = tmp_path / "file"
    path.write_bytes(b"x" * 10_000)
    with path.open("rb+") as file:
        libc.begin_writing(file.fileno(), 0, 10_000)
    libc.begin_writing(-1, 0, 10_000)
    assert path.read_bytes() == b"x" * 10_000
