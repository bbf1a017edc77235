"""The writer's side of the record log: room or waiting clients, shippers that are woken, disks that fail."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from prefork_logd.config.server import LimitSettings, ServerSettings
from prefork_logd.config.settings import Settings
from prefork_logd.config.stores.custom import CustomStoreSettings
from prefork_logd.config.stores.errors import ErrorsSettings
from prefork_logd.ipc.configuration import Configuration
from prefork_logd.ipc.scoreboard import JournalField, Scoreboard, StoreField
from prefork_logd.journal.commit_entry import NOTHING
from prefork_logd.journal.record_log import LEAP, POSITION_FILE
from prefork_logd.journal.record_segments import segment_paths
from prefork_logd.processes.writer.record_log import RecordLogWriter
from tests.support.writer_log import JOURNAL, LINE, PLACE, SEGMENT, Writer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    """Return a writer with one store."""
    made = Writer(tmp_path)
    assert not made.problem
    yield made
    made.record_log.close()


def test_what_is_committed_is_told_and_nothing_else(writer: Writer) -> None:
    """The number on the scoreboard and in the file for `tail` moves with the commit."""
    writer.record_log.add_runs(bytes(16), ((1, 3),), 3, memoryview(LINE * 3))
    assert writer.record_log.prepare()
    assert writer.record_log.append()
    assert writer.number() == 0
    assert writer.record_log.sync()
    assert writer.number() == 0
    writer.record_log.committed()
    assert writer.number() == writer.record_log.next_number(99) == 3
    assert int.from_bytes((writer.directory / POSITION_FILE).read_bytes(), "little") == 3
    assert writer.read() == [LINE] * 3
    assert writer.board.journal[JournalField.BYTES] > 3000


def test_a_reload_in_the_middle_of_a_turn_tells_no_number(writer: Writer) -> None:
    """An output's disk is full: what is appended may never be committed, and a store must not have it."""
    assert writer.turn(2)
    writer.record_log.add_runs(bytes(16), ((3, 5),), 5, memoryview(LINE * 5))
    assert writer.record_log.prepare()
    assert writer.record_log.append()
    told = tuple(writer.board.journal[field] for field in (JournalField.ORDINAL, JournalField.OFFSET))
    writer.configure("archive")
    assert writer.number() == 2
    assert int.from_bytes((writer.directory / POSITION_FILE).read_bytes(), "little") == 2
    assert told == tuple(writer.board.journal[field] for field in (JournalField.ORDINAL, JournalField.OFFSET))
    assert writer.record_log.sync()
    writer.record_log.committed()
    assert writer.number() == 7


def test_a_shipper_that_waits_is_woken_once(writer: Writer) -> None:
    """One that does not wait is let be; a wake-up clears the word that asked for it."""
    waker = os.eventfd(0, os.EFD_NONBLOCK)
    writer.record_log.set_waker(PLACE, os.dup(waker))
    assert os.eventfd_read(waker) == 1  # it may have waited for longer than the writer lives
    writer.turn()
    with pytest.raises(BlockingIOError):
        os.eventfd_read(waker)
    writer.store[StoreField.WAITING] = 1
    writer.turn()
    writer.turn()
    assert os.eventfd_read(waker) == 1
    assert writer.store[StoreField.WAITING] == 0
    os.close(waker)


@pytest.mark.slow
def test_a_full_journal_holds_up_and_goes_on(writer: Writer, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is appended beyond the limit; a warning comes before, and what waited is not lost."""
    turns = 0
    while writer.turn():
        turns += 1
    assert writer.board.journal[JournalField.FULL]
    assert writer.board.journal[JournalField.BYTES] <= JOURNAL
    assert not writer.turn(0)
    text = caplog.text
    assert text.index("% full: ") < text.index("journal: full: ")
    assert text.count("wait for store archive") == 2
    # The store catches up with the older half: whole segments go, and what waited is appended.
    writer.passed(writer.number() // 2)
    assert writer.turn(0)
    assert not writer.board.journal[JournalField.FULL]
    assert "journal: has room again" in caplog.text
    assert writer.number() == 40 * (turns + 1)
    assert len(writer.read()) < 40 * (turns + 1)


@pytest.mark.slow
def test_a_store_that_may_miss_records_holds_up_nobody(writer: Writer, caplog: pytest.LogCaptureFixture) -> None:
    """The groups of errors keep nothing in a log that is half full; the other store keeps what it needs."""
    errors = writer.board.store(PLACE + 1)
    errors[StoreField.READY] = errors[StoreField.POSITION] = 1
    settings = Settings(
        server=ServerSettings(state_dir=str(writer.state_dir)),
        limits=LimitSettings(journal_bytes=JOURNAL, journal_segment_bytes=SEGMENT),
        store=(CustomStoreSettings(name="archive", factory="a:b"),),
        errors=ErrorsSettings(enabled=True),
    )
    both = Configuration(1, settings, (), (PLACE, PLACE + 1))
    writer.record_log.configure(both, NOTHING)
    for _ in range(20):
        assert writer.turn()
        writer.passed(writer.number())
    assert caplog.text.count("store errors is too slow, or fails, and passes over records below number ") == 1
    assert writer.board.journal[JournalField.BYTES] <= JOURNAL // 2 + SEGMENT
    errors[StoreField.POSITION] = writer.number()
    needed = writer.number()
    while writer.turn():
        pass
    assert writer.board.journal[JournalField.FULL]
    assert len(writer.read()) >= writer.number() - needed
    assert "wait for store archive; clients" in caplog.text


def test_a_store_that_has_everything_makes_room_even_in_one_segment(writer: Writer) -> None:
    """The current segment is given up, too, when it is all that stands in the way."""
    for _ in range(3 * JOURNAL // (40 * len(LINE))):
        writer.passed(writer.number())
        assert writer.turn()
    assert not writer.board.journal[JournalField.FULL]


def test_segments_go_when_the_slowest_store_has_passed_them(writer: Writer) -> None:
    """One is kept for `tail`; a store that was not reached yet has passed nothing."""
    for _ in range(5):
        assert writer.turn()
    before = segment_paths(writer.directory)
    assert len(before) > 2
    assert writer.record_log.has_finished
    writer.record_log.remove_passed()
    assert segment_paths(writer.directory) == before
    writer.passed(writer.number())
    writer.record_log._removed_s = 0.0
    writer.record_log.remove_passed()
    assert segment_paths(writer.directory) == before[-2:]
    assert not writer.record_log.has_finished


def test_a_sync_that_fails_is_done_again_in_another_segment(
    writer: Writer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """After it nobody knows what is on the disk: the records are appended anew, and read once."""
    assert writer.turn(5, b"before\n")

    def fail(fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", fail)
        assert not writer.turn(5, b"spoilt\n")
        assert not writer.record_log.append()
    assert writer.number() == 5
    assert writer.turn(2, b"after\n")
    assert writer.number() == 12
    assert writer.read() == [b"before\n"] * 5 + [b"spoilt\n"] * 5 + [b"after\n"] * 2
    assert len(segment_paths(writer.directory)) == 2
    assert caplog.text.count("Input/output error") == 1
    assert "journal: records are written again" in caplog.text


def test_without_a_store_nothing_is_kept(writer: Writer) -> None:
    """Records of workers that do not know yet are let go; what is there waits for the next store."""
    assert writer.turn(5)
    writer.configure()
    assert writer.turn(5)
    assert not writer.record_log.has_finished
    writer.configure("archive")
    assert writer.turn(1)
    assert writer.number() == 6


def test_a_log_that_was_never_begun_is_not_begun_for_nobody(tmp_path: Path) -> None:
    """Without a store there are no files, and numbers stay what the journal says."""
    board = Scoreboard()
    record_log = RecordLogWriter(board)
    settings = Settings(server=ServerSettings(state_dir=str(tmp_path)), store=())
    record_log.configure(Configuration(1, settings, (), ()), NOTHING)
    assert (record_log.next_number(7), record_log.lengths()) == (7, {})
    assert record_log.prepare()
    assert record_log.append()
    assert record_log.sync()
    record_log.committed()
    record_log.close()
    assert not list(tmp_path.iterdir())


def test_a_log_that_cannot_be_begun_holds_up_until_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A full disk at a reload that adds the first store: no record passes it by."""

    def fail(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", fail)
        writer = Writer(tmp_path)
        assert "No space left" in writer.problem
        assert not writer.turn(3)
        assert not writer.turn(0)
    assert writer.turn(0)
    assert writer.number() == 3
    assert writer.read() == [LINE] * 3
    assert writer.board.journal[JournalField.ID_HIGH]
    assert caplog.text.count("No space left") == 1
    assert "journal: records are written again" in caplog.text
    writer.record_log.close()


def test_a_full_journal_without_a_store_holds_up_nobody(writer: Writer) -> None:
    """Lines gathered for stores that a reload has taken away are dropped."""
    while writer.turn():
        pass
    assert writer.board.journal[JournalField.FULL]
    writer.configure()
    assert writer.turn(0)
    assert not writer.board.journal[JournalField.FULL]


def test_the_position_is_told_once_it_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """`tail` reads it: a lack of descriptors at the start does not leave it behind for ever."""
    real = os.open

    def fail(path: object, *more: int) -> int:
        if str(path).endswith(POSITION_FILE):
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return real(path, *more)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", fail)
        writer = Writer(tmp_path)
        writer.record_log._position_due_s = 0.0
        assert writer.turn(1)
    writer.record_log._position_due_s = 0.0
    assert writer.turn(1)
    assert int.from_bytes((writer.directory / POSITION_FILE).read_bytes(), "little") == 2
    assert caplog.text.count("Too many open files") == 1
    writer.record_log.close()


@pytest.mark.slow
@pytest.mark.parametrize("remove", [False, True])
def test_a_directory_that_was_set_back_gives_no_number_twice(tmp_path: Path, *, remove: bool) -> None:
    """A copy of it, put in its place: what stores have got since was numbered, and those numbers are left out."""
    state = tmp_path / "state"
    state.mkdir()
    writer = Writer(state)
    assert writer.turn()
    writer.record_log.close()
    backup = tmp_path / "backup"
    subprocess.run(["cp", "-a", str(state), str(backup)], check=True)
    writer = Writer(state)
    journal = writer.board.journal[JournalField.ID_HIGH]
    first = writer.number()
    for _ in range(3):
        assert writer.turn()
    given = writer.number()
    writer.record_log.close()
    if remove:
        shutil.rmtree(state)
    else:
        state.rename(tmp_path / "old")
    subprocess.run(["cp", "-a", str(backup), str(state)], check=True)
    writer = Writer(state)
    assert writer.board.journal[JournalField.ID_HIGH] == journal
    assert writer.number() - LEAP * 255 > given > first
    assert writer.turn()
    number = writer.number()
    writer.record_log.close()
    # It is ours now: the next start leaves out what it does where the last commit is not known.
    writer = Writer(state)
    assert writer.number() == number + LEAP
    writer.record_log.close()
