"""A writer's start: whichever call fails, for whatever reason, nothing is forgotten, and it is tried again."""

from __future__ import annotations

import errno
import fcntl
import gc
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from prefork_logd.config.load import loads
from prefork_logd.config.paths import JOURNAL_DIRECTORY, WRITER_LOCK
from prefork_logd.errors import OutputError
from prefork_logd.ipc.configuration import Configuration
from prefork_logd.ipc.scoreboard import JournalField
from prefork_logd.journal.journal import Journal
from prefork_logd.journal.record_log import LEAP
from tests.support.starts import Start

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(autouse=True)
def _no_descriptor_is_left() -> Iterator[None]:
    """Every test ends with the descriptors that it began with: a retry must not use them up."""
    # What tests before this one left to the collector of garbage must not be closed in the middle.
    gc.collect()
    before = len(list(Path("/proc/self/fd").iterdir()))
    yield
    gc.collect()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.fixture(autouse=True)
def _quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for no disk: only what fails counts here."""
    for call in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, call, lambda fd: None)


def make_state(state_dir: Path) -> None:
    """Leave what a writer has left that was killed: a journal with a session, a record log, an output."""
    state_dir.mkdir()
    output = state_dir / "records.jsonl"
    output.write_bytes(b"committed\n")
    start = Start(state_dir)
    assert start.advance() == ""
    start.turn(b"a line\n" * 7, 7)
    start.close()


CALLS = (
    "open",
    "posix_fallocate",
    "pwrite",
    "pwritev",
    "fdatasync",
    "fsync",
    "unlink",
    "stat",
    "fstat",
    "scandir",
    "rename",
)


@pytest.mark.slow
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EMFILE], ids=["ENOSPC", "EMFILE"])
@pytest.mark.parametrize("call", CALLS)
def test_each_call_fails_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int) -> None:
    """Whichever call it is: nothing is begun without what was known, and the next attempt finds all of it."""
    fails = 0
    while True:
        state_dir = tmp_path / f"state{fails}"
        make_state(state_dir)
        start = Start(state_dir)
        with monkeypatch.context() as patch:
            calls = _fail_at(patch, call, fails, number)
            problem = start.advance()
        failed = len(calls) > fails
        if failed and problem:
            assert os.strerror(number) in problem
            assert start.recovery.lacks_room is (number == errno.ENOSPC)
            assert not start.recovery.done
            assert start.advance() == ""
        assert start.recovery.done
        assert not start.recovery.lacks_room
        assert start.committed() == [7]
        assert start.record_log.next_number(0) == 7
        assert start.board.journal[JournalField.NUMBER] == 7
        assert start.board.journal[JournalField.ID_HIGH]
        assert (state_dir / "records.jsonl").read_bytes() == b"committed\n" + b"a line\n" * 7
        start.close()
        assert [entry.committed for entry in Journal(state_dir / JOURNAL_DIRECTORY).sessions._entries.values()] == [7]
        if not failed:
            break
        fails += 1
    assert fails or call in ("scandir", "rename"), f"{call} was never called"


def _fail_at(patch: pytest.MonkeyPatch, call: str, when: int, number: int) -> list[None]:
    """Let the call of a number, counted from 0, fail; return a list that gets an item with each call."""
    calls: list[None] = []
    real: Callable[..., Any] = getattr(os, call)

    def maybe(*arguments: Any, **more: Any) -> Any:
        calls.append(None)
        if len(calls) == when + 1:
            raise OSError(number, os.strerror(number))
        return real(*arguments, **more)

    patch.setattr(os, call, maybe)
    return calls


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES])
def test_a_journal_that_cannot_be_read_is_not_begun_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Its sessions would be forgotten, and what their clients send again would be stored twice."""
    make_state(tmp_path / "state")
    start = Start(tmp_path / "state")

    def fail(path: Path) -> bytes:
        raise OSError(number, os.strerror(number), str(path))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", fail)
        for _ in range(3):
            assert os.strerror(number) in start.advance()
    assert start.advance() == ""
    assert len(start.recovery.journal.sessions) == 1
    start.close()


def test_another_writer_is_waited_for(tmp_path: Path) -> None:
    """One that a dead master left behind keeps the outputs until it ends; then this one goes on by itself."""
    state_dir = tmp_path / "state"
    make_state(state_dir)
    with (state_dir / WRITER_LOCK).open("a") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        start = Start(state_dir)
        assert "another writer still holds the outputs" in start.advance()
    assert start.advance() == ""
    start.close()


def test_problems_of_every_configuration_are_told(tmp_path: Path) -> None:
    """An output of an earlier configuration that cannot be opened is named as well as those of the last one."""
    start = Start(tmp_path)
    (tmp_path / "a.jsonl").mkdir()
    for generation, names in ((1, "a.jsonl"), (2, "b.jsonl")):
        settings = loads(f'store = []\n[[output]]\npath = "{names}"\n', overrides={"state_dir": str(tmp_path)})
        start.configurations[generation - 1 :] = [Configuration(generation, settings, (generation,))]
    assert start.advance() == ""
    assert [problem for problem in start.recovery.problems if "a.jsonl" in problem]
    start.close()


@pytest.mark.slow
def test_numbers_that_were_left_out_stay_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy, whose stores may have later records: the second start, after a full disk, is as careful."""
    make_state(tmp_path / "state")
    start = Start(tmp_path / "state")
    assert start.advance() == ""
    start.close()
    shutil.copytree(tmp_path / "state", tmp_path / "copy")
    start = Start(tmp_path / "copy")

    def fail(*_: object) -> None:
        raise OutputError("commits", "create", OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "begin", fail)
        assert "No space left" in start.advance()
    first = start.record_log.next_number(0)
    assert first > LEAP
    start.close()
    start = Start(tmp_path / "copy")
    assert start.advance() == ""
    assert start.record_log.next_number(0) >= first
    start.close()
