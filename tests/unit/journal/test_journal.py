"""What the journal says is committed is committed, whenever its writer dies."""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING

import pytest

from prefork_logd.errors import OutputError
from prefork_logd.journal import journal as module
from prefork_logd.journal.commit_entry import NOTHING, Committed
from prefork_logd.journal.journal import Journal

if TYPE_CHECKING:
    from pathlib import Path

SESSION = b"s" * 16


def begun(directory: Path) -> Journal:
    journal = Journal(directory)
    journal.begin(Committed(journal.committed.turn + 1, journal.committed.files, journal.committed.batches))
    return journal


def commit(journal: Journal, length: int, number: int = 0, *, sync: bool = False) -> None:
    if number:
        journal.sessions.commit(SESSION, 1, number, 0)
    journal.commit(Committed(journal.committed.turn + 1, {(1, 2): length}, {3: length}), sync=sync)


def number_of(journal: Journal) -> int:
    return journal.sessions.open(SESSION, 1, 0).committed


def test_nothing_is_committed_at_first(tmp_path: Path) -> None:
    """A new directory is made, for nobody else's eyes."""
    journal = Journal(tmp_path / "journal")
    assert journal.committed == NOTHING
    assert journal.problems == []
    assert (tmp_path / "journal").stat().st_mode & 0o777 == 0o700


def test_a_file_that_goes_while_room_is_measured(tmp_path: Path) -> None:
    """A writer at work replaces its file: a restart is not refused for that."""
    assert module.room_to_begin(tmp_path / "none") == module.GROWTH_BYTES
    (tmp_path / "commits-0000000000000007.journal").write_bytes(bytes(module.GROWTH_BYTES + 1))
    (tmp_path / "commits-0000000000000008.journal").symlink_to("gone")
    assert module.room_to_begin(tmp_path) == module.GROWTH_BYTES + 1


def test_the_last_commit_is_recovered(tmp_path: Path) -> None:
    """Files, batches and sessions are as the last commit said, however often it is recovered."""
    journal = begun(tmp_path)
    commit(journal, 10, 4)
    commit(journal, 20, 9, sync=True)
    # Not closed: its writer was killed.
    for _ in range(3):
        again = Journal(tmp_path)
        assert (again.committed.files, again.committed.batches) == ({(1, 2): 20}, {3: 20})
        assert number_of(again) == 9
        assert again.problems == []
    journal.close()


def test_announcing_files_commits_nothing(tmp_path: Path) -> None:
    """Lines that are about to be appended are not yet anyone's."""
    journal = begun(tmp_path)
    commit(journal, 10, 4)
    journal.sessions.commit(SESSION, 1, 8, 0)
    journal.announce(Committed(9, {(1, 2): 10, (1, 3): 0}, {3: 10}), sync=False)
    again = Journal(tmp_path)
    assert again.committed.files == {(1, 2): 10, (1, 3): 0}
    assert number_of(again) == 4
    journal.close()


def test_files_follow_one_another_and_only_the_last_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full file is followed by one that begins with everything."""
    monkeypatch.setattr(module, "GROWTH_BYTES", 1000)
    journal = begun(tmp_path)
    first = list(tmp_path.iterdir())
    for number in range(1, 100):
        commit(journal, number, number)
    assert list(tmp_path.iterdir()) != first
    assert len(list(tmp_path.iterdir())) == 1
    again = Journal(tmp_path)
    assert again.committed.files == {(1, 2): 99}
    assert number_of(again) == 99
    journal.close()


def test_a_file_that_was_never_finished_does_not_count(tmp_path: Path) -> None:
    """The one before it is still there, and does; the next writer does not stumble over it."""
    journal = begun(tmp_path)
    commit(journal, 10, 4)
    (tmp_path / "commits-00000000000000ff.journal").write_bytes(b"PLJ2" + bytes(100))
    again = begun(tmp_path)
    assert again.committed.files == {(1, 2): 10}
    assert any("never finished" in problem for problem in again.problems)
    assert len(list(tmp_path.iterdir())) == 1
    assert number_of(Journal(tmp_path)) == 4
    journal.close()
    again.close()


def test_a_commit_that_fails_never_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It can be tried again, and until then what was committed before counts."""
    journal = begun(tmp_path)
    commit(journal, 10, 4)
    monkeypatch.setattr(os, "pwrite", _refuse(errno.EIO))
    journal.sessions.commit(SESSION, 1, 8, 0)
    with pytest.raises(OutputError, match="Input/output error"):
        journal.commit(Committed(9, {(1, 2): 20}, {}), sync=True)
    monkeypatch.undo()
    assert number_of(Journal(tmp_path)) == 4
    journal.commit(Committed(9, {(1, 2): 20}, {}), sync=True)
    again = Journal(tmp_path)
    assert again.committed.files == {(1, 2): 20}
    assert number_of(again) == 8
    journal.close()


def test_after_a_failed_sync_a_new_file_is_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sync that failed is never tried again on the same file."""
    journal = begun(tmp_path)
    before = set(tmp_path.iterdir())
    calls = []
    real = os.fdatasync

    def once(fd: int) -> None:
        calls.append(fd)
        if len(calls) == 1:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(fd)

    monkeypatch.setattr(os, "fdatasync", once)
    commit(journal, 10, 4, sync=True)
    assert calls[1] != calls[0]
    assert set(tmp_path.iterdir()).isdisjoint(before)
    assert number_of(Journal(tmp_path)) == 4
    journal.close()


def test_a_file_that_failed_takes_no_commit_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While no new one can be begun, nothing is committed: the next sync of the old one would find nothing wrong."""
    journal = begun(tmp_path)
    commit(journal, 10, 4)
    journal.sessions.commit(SESSION, 1, 8, 0)
    monkeypatch.setattr(os, "fdatasync", _refuse(errno.EIO))
    with pytest.raises(OutputError, match="Input/output error"):
        journal.commit(Committed(9, {(1, 2): 20}, {}), sync=True)
    monkeypatch.undo()
    monkeypatch.setattr(os, "posix_fallocate", _refuse(errno.ENOSPC))
    with pytest.raises(OutputError, match="No space left"):
        journal.commit(Committed(9, {(1, 2): 20}, {}), sync=True)
    with pytest.raises(OutputError, match="No space left"):
        journal.announce(Committed(9, {(1, 2): 10, (1, 3): 0}, {}), sync=False)
    monkeypatch.undo()
    # What is announced then must not stand beside the sessions of the commit that failed.
    journal.announce(Committed(9, {(1, 2): 10, (1, 3): 0}, {}), sync=False)
    again = Journal(tmp_path)
    assert again.committed.files == {(1, 2): 10, (1, 3): 0}
    assert number_of(again) == 4
    journal.close()


def test_what_is_announced_holds_after_a_power_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is synced on demand; if that fails a new file says it, without what sessions have got to meanwhile."""
    journal = begun(tmp_path)
    commit(journal, 10, 4)
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", synced.append)
    journal.announce(Committed(9, {(1, 2): 10, (1, 3): 0}, {}), sync=True)
    assert len(synced) == 1
    journal.sessions.commit(SESSION, 1, 8, 0)
    journal.sessions.commit(b"another session!", 1, 3, 0)
    failures = iter([OSError(errno.EIO, "Input/output error")])

    def refuse_once(fd: int) -> None:
        for error in failures:
            raise error

    monkeypatch.setattr(os, "fdatasync", refuse_once)
    journal.announce(Committed(10, {(1, 2): 10, (1, 4): 0}, {}), sync=True)
    again = Journal(tmp_path)
    assert again.committed.files == {(1, 2): 10, (1, 4): 0}
    assert number_of(again) == 4
    assert len(again.sessions) == 1
    journal.commit(Committed(11, {(1, 2): 20}, {}), sync=True)
    assert number_of(Journal(tmp_path)) == 8
    journal.close()


def test_a_file_that_cannot_be_removed_holds_nothing_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It counts no more, for there is a newer one; it goes when it can."""
    from pathlib import Path

    monkeypatch.setattr(module, "GROWTH_BYTES", 1000)
    journal = begun(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", _refuse_path)
        for number in range(1, 50):
            with contextlib.suppress(OutputError):
                commit(journal, number, number)
    assert len(list(tmp_path.iterdir())) > 1
    assert number_of(Journal(tmp_path)) == 49
    begun(tmp_path).close()
    assert len(list(tmp_path.iterdir())) == 1
    journal.close()


def test_a_lost_journal_is_told(tmp_path: Path) -> None:
    """A directory without one is no first start."""
    begun(tmp_path / "journal").close()
    for path in (tmp_path / "journal").iterdir():
        path.unlink()
    assert any("start again" in problem for problem in Journal(tmp_path / "journal").problems)


@pytest.mark.slow
def test_many_sessions_are_recovered_quickly(tmp_path: Path) -> None:
    """A start stays short with a hundred thousand of them."""
    import time

    journal = begun(tmp_path)
    for number in range(100_000):
        journal.sessions.commit(number.to_bytes(16, "big"), 1, number + 1, 0)
    commit(journal, 10)
    began_s = time.process_time()
    again = begun(tmp_path)
    assert len(again.sessions) == 100_000
    assert time.process_time() - began_s < 1.0
    journal.close()
    again.close()


def _refuse(number: int):
    def refuse(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    return refuse


def _refuse_path(self: Path, *, missing_ok: bool = False) -> None:
    if self.exists() or not missing_ok:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))


def test_a_file_at_the_place_of_the_directory_is_named_with_the_remedy(tmp_path: Path) -> None:
    """People have to move it away."""
    (tmp_path / "journal").touch()
    with pytest.raises(OutputError, match=r"/journal: cannot read: File exists; move away what is there$"):
        Journal(tmp_path / "journal")
