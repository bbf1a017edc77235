"""One output from its opening to its end: gathered, appended, synced, committed, and what a failing disk changes."""

from __future__ import annotations

import errno
import logging
import os
from typing import TYPE_CHECKING

import pytest

from prefork_logd.config.load import loads
from prefork_logd.errors import OutputError, file_reason
from prefork_logd.files import failed_files
from prefork_logd.ingest.dispatcher import REJECTED_OUTPUT
from prefork_logd.ipc.scoreboard import OutputField
from prefork_logd.processes.writer import output as output_module
from prefork_logd.processes.writer.output import Output, identity_of
from tests.support.disks import Disk
from tests.support.starts import BOARD

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from prefork_logd.config.outputs import OutputSettings

PLACE = 1


def _settings(tmp_path: Path, on_error: str = "block", name: str = "all.jsonl") -> OutputSettings:
    toml = f'[[output]]\nname = "all"\npath = "{tmp_path / name}"\non_error = "{on_error}"\n'
    return loads(toml, overrides={"state_dir": str(tmp_path)}).output[0]


def _make(tmp_path: Path, on_error: str = "block", place: int = PLACE) -> Output:
    for field in OutputField:
        BOARD.output(place)[field] = 0
    return Output(_settings(tmp_path, on_error), place, BOARD)


@pytest.fixture
def output(tmp_path: Path) -> Iterator[Output]:
    """Return an open output that holds everybody up when it fails."""
    made = _make(tmp_path)
    assert made.open() == ""
    yield made
    made.close()


def _counted(place: int = PLACE) -> dict[str, int]:
    counters = BOARD.output(place)
    return {field.name: counters[field] for field in OutputField if counters[field]}


def _take(output: Output, *lines: bytes) -> None:
    for line in lines:
        output.add_lines(1, memoryview(line))


def _fail(monkeypatch: pytest.MonkeyPatch, call: str, number: int) -> None:
    """Let a call of the system fail until `monkeypatch.undo`."""

    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, call, fail)


def _read(tmp_path: Path, name: str = "all.jsonl") -> bytes:
    return (tmp_path / name).read_bytes()


def test_lines_are_gathered_and_appended_at_once(output: Output, tmp_path: Path) -> None:
    """Nothing is in the file before; both are counted afterwards."""
    _take(output, b"one\n", b"two\n")
    assert _read(tmp_path) == b""
    assert output.reach(None) == (0, 8)
    assert not output.find()
    assert output.append()
    assert output.sync()
    output.committed()
    assert _read(tmp_path) == b"one\ntwo\n"
    assert _counted() == {"RECORDS": 2, "BYTES": 8}
    assert output.reach(None) == (8, 8)


def test_nothing_gathered_is_nothing_to_do(output: Output) -> None:
    """An output that no line is for has neither a file to find nor a sync to wait for."""
    assert not output.find()
    assert output.append()
    assert output.sync()
    assert _counted() == {}


def test_the_reach_begins_at_what_is_committed(output: Output) -> None:
    """A file that is longer is cut back by who starts after a crash; one that is shorter was cut by somebody."""
    _take(output, b"one\n")
    assert output.append()
    _take(output, b"two\n")
    assert output.reach(2) == (2, 8)
    assert output.reach(400) == (4, 8)


def test_a_torn_line_is_cut_off(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It was never committed."""
    (tmp_path / "all.jsonl").write_bytes(b"whole\ntorn")
    output = _make(tmp_path)
    assert output.open() == ""
    output.close()
    assert _read(tmp_path) == b"whole\n"
    assert "cut off a torn line of 4 bytes" in caplog.text


def test_a_file_that_cannot_be_opened_is_a_problem(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is returned where clients wait for it, and logged where its records are skipped."""
    (tmp_path / "all.jsonl").mkdir()
    problem = _make(tmp_path).open()
    assert problem.startswith(f"output all: {tmp_path}/all.jsonl: ")
    output = _make(tmp_path, "skip")
    assert output.open() == ""
    assert _counted() == {"FAILED": 1}
    assert "its records are skipped until it works again" in caplog.text


def test_lines_wait_for_a_full_disk(
    output: Output, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """They are kept, and appended once there is room; one line of the log for each."""
    _take(output, b"one\n")
    _fail(monkeypatch, "writev", errno.ENOSPC)
    assert not output.append()
    assert not output.append()
    assert _counted() == {"FAILED": 1}
    monkeypatch.undo()
    _take(output, b"two\n")
    assert output.append()
    assert _read(tmp_path) == b"one\ntwo\n"
    assert _counted() == {"RECORDS": 2, "BYTES": 8}
    assert len(caplog.messages) == 2
    assert output_module.WAITING in caplog.messages[0]


def test_lines_are_skipped_where_it_is_set_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """They never come later, and are counted."""
    output = _make(tmp_path, "skip")
    output.open()
    _take(output, b"one\n", b"two\n")
    _fail(monkeypatch, "writev", errno.ENOSPC)
    assert output.append()
    assert _counted() == {"FAILED": 1, "SKIPPED": 2}
    monkeypatch.undo()
    _take(output, b"three\n")
    assert output.append()
    output.close()
    assert _read(tmp_path) == b"three\n"
    assert _counted() == {"RECORDS": 1, "BYTES": 6, "SKIPPED": 2}
    assert "skipped 2 records" in caplog.messages[-1]


def test_a_sync_that_fails_leads_to_another_file(
    output: Output, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The old one keeps what is committed: the kernel has forgotten the pages that it could not write."""
    _take(output, b"committed\n")
    assert output.append()
    assert output.sync()
    output.committed()
    _take(output, b"not synced\n")
    assert output.append()
    monkeypatch.setattr(output.file, "sync", _raise_output_error)
    assert not output.sync()
    assert _counted() == {"RECORDS": 1, "BYTES": 10}
    monkeypatch.undo()
    # It was made by the sync that failed.
    assert not output.find()
    assert output.append()
    assert output.sync()
    assert _read(tmp_path) == b"not synced\n"
    (aside,) = tmp_path.glob("all.jsonl.failed-*")
    assert aside.read_bytes() == b"committed\n"
    assert _counted() == {"RECORDS": 2, "BYTES": 21}
    assert "begins a new file" in caplog.text


def test_syncs_that_fail_for_long_leave_one_file(
    output: Output, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one with the committed part: a file without one is written again from its beginning."""
    _take(output, b"committed\n")
    assert output.append()
    assert output.sync()
    output.committed()
    _take(output, b"one\n")
    with monkeypatch.context() as patch:
        patch.setattr(output.file, "sync", _raise_output_error)
        for _ in range(5):
            output.find()
            assert output.append()
            assert not output.sync()
    output.find()
    assert output.append()
    assert output.sync()
    assert _read(tmp_path) == b"one\n"
    (aside,) = tmp_path.glob("all.jsonl.failed-*")
    assert aside.read_bytes() == b"committed\n"
    assert _counted() == {"RECORDS": 2, "BYTES": 14}


def test_too_many_files_that_could_not_be_synced_hold_the_lines_back(
    output: Output, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """No committed record is removed for another one; the log names the remedy once, and its use ends the wait."""
    _write(output, b"committed\n")
    for number in range(failed_files.MOST_FILES):
        (tmp_path / f"all.jsonl.failed-{number}").touch()
    _take(output, b"one\n")
    assert output.append()
    with monkeypatch.context() as patch:
        patch.setattr(output.file, "sync", _raise_output_error)
        assert not output.sync()
    for _ in range(3):
        assert not output.find()
        assert not output.append()
    (problem,) = [text for _, text in _logged(caplog) if "cannot begin" in text]
    assert problem == (
        f"output all: {tmp_path}/all.jsonl: cannot begin a new file in its place: 100 files "
        f"{tmp_path}/all.jsonl.failed-* have been left by failed syncs; look after the disk, then move or remove these "
        "files; clients wait until it works again"
    )
    (tmp_path / "all.jsonl.failed-0").unlink()
    assert output.find()
    assert output.append()
    assert output.sync()
    assert _read(tmp_path) == b"one\n"


def test_rejected_frames_are_never_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What strangers send does not hold up the records of others."""
    output = _make(tmp_path, "skip", REJECTED_OUTPUT)
    output.open()
    _take(output, b"rejected\n")
    assert output.append()
    monkeypatch.setattr(output.file, "sync", _raise_output_error)
    assert output.sync()
    monkeypatch.undo()
    output.close()


def test_a_file_that_was_renamed_is_made_anew(output: Output, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """By logrotate, or by hand: what comes next is at the path again."""
    caplog.set_level("INFO", "prefork_logd")
    _take(output, b"one\n")
    assert output.append()
    assert output.sync()
    output.committed()
    (tmp_path / "all.jsonl").rename(tmp_path / "old")
    _take(output, b"two\n")
    assert output.find()
    assert output.append()
    assert (_read(tmp_path, "old"), _read(tmp_path)) == (b"one\n", b"two\n")
    assert _logged(caplog) == [(logging.INFO, f"output all: {tmp_path}/all.jsonl: was renamed; a new file is begun")]


def test_a_file_that_was_removed_is_a_warning(output: Output, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Somebody has removed records; a new file has the next ones."""
    (tmp_path / "all.jsonl").unlink()
    _take(output, b"two\n")
    assert output.find()
    assert output.append()
    assert _read(tmp_path) == b"two\n"
    assert _logged(caplog) == [(logging.WARNING, f"output all: {tmp_path}/all.jsonl: was removed; a new file is begun")]


@pytest.mark.slow
def test_a_file_system_mounted_over_the_directory_gets_the_next_lines(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a restart; unmounted again, the old file goes on. The log says where the lines are."""
    (tmp_path / "logs").mkdir()
    output = Output(_settings(tmp_path, name="logs/all.jsonl"), PLACE, BOARD)
    assert output.open() == ""
    _write(output, b"one\n")
    disk = Disk(tmp_path / "logs")
    disk.mount("size=64k")
    try:
        _write(output, b"two\n")
        assert _read(tmp_path, "logs/all.jsonl") == b"two\n"
    finally:
        disk.unmount()
    _write(output, b"three\n")
    output.close()
    assert _read(tmp_path, "logs/all.jsonl") == b"one\nthree\n"
    place = f"output all: {tmp_path}/logs/all.jsonl: is on another file system (one was mounted or unmounted)"
    assert _logged(caplog) == [
        (logging.WARNING, f"{place}; a new file is begun"),
        (logging.WARNING, f"{place}; lines go to the file that is there now"),
    ]


@pytest.mark.parametrize("on_error", ["block", "skip"])
def test_lines_that_go_to_a_file_without_its_path_are_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, on_error: str
) -> None:
    """A renamed file goes on getting lines while its path cannot be opened; the log has its begin and its end."""
    output = _make(tmp_path, on_error)
    assert output.open() == ""
    _write(output, b"zero\n")
    (tmp_path / "all.jsonl").rename(tmp_path / "old")
    with monkeypatch.context() as patch:
        _fail(patch, "open", errno.EACCES)
        _write(output, b"one\n")
        _write(output, b"two\n")
    assert _read(tmp_path, "old") == b"zero\none\ntwo\n"
    (problem,) = _logged(caplog)
    assert problem[0] == logging.ERROR
    assert f"{tmp_path}/all.jsonl: cannot open: {file_reason(errno.EACCES)}; until it works, lines go to" in problem[1]
    _write(output, b"three\n")
    output.close()
    assert _read(tmp_path) == b"three\n"
    assert _logged(caplog)[1:] == [
        (logging.WARNING, f"output all: {tmp_path}/all.jsonl: lines go to the file at this path again")
    ]
    assert _counted() == {"RECORDS": 4, "BYTES": 19}


def _write(output: Output, line: bytes) -> None:
    """Commit a line."""
    _take(output, line)
    output.find()
    assert output.append()
    assert output.sync()
    output.committed()


def _logged(caplog: pytest.LogCaptureFixture) -> list[tuple[int, str]]:
    return [(record.levelno, record.getMessage()) for record in caplog.records]


def test_reopening_goes_on_at_the_path(output: Output, tmp_path: Path) -> None:
    """What is not committed yet stays where it is."""
    _take(output, b"one\n")
    assert output.append()
    (tmp_path / "all.jsonl").rename(tmp_path / "old")
    assert output.reopen() == ""
    _take(output, b"two\n")
    assert output.append()
    assert (_read(tmp_path, "old"), _read(tmp_path)) == (b"one\n", b"two\n")


def test_other_settings_are_taken_up_without_another_file(output: Output, tmp_path: Path) -> None:
    """A reload turns waiting into skipping while lines wait."""
    before = output.file.identity
    output.configure(_settings(tmp_path, "skip"))
    assert output.skips
    assert output.file.is_hasty
    assert output.file.identity == before


def test_an_output_may_go_on_as_another(output: Output, tmp_path: Path) -> None:
    """Through a link to the same file; its records are counted for the other one from then on."""
    (tmp_path / "link").symlink_to(tmp_path / "all.jsonl")
    other = BOARD.output(PLACE + 1)
    for field in OutputField:
        other[field] = 0
    output.move(_settings(tmp_path, name="link"), other)
    _take(output, b"one\n")
    assert output.append()
    assert (_counted(), _counted(PLACE + 1)) == ({}, {"RECORDS": 1, "BYTES": 4})
    assert _read(tmp_path) == b"one\n"


def test_the_identity_of_a_file_is_that_of_its_inode(tmp_path: Path) -> None:
    """A link has that of what it leads to; no file has none."""
    path, link = tmp_path / "file", tmp_path / "link"
    assert identity_of(str(path)) is None
    path.write_text("")
    link.symlink_to(path)
    assert identity_of(str(link)) == identity_of(str(path)) == (path.stat().st_dev, path.stat().st_ino)


def _raise_output_error() -> None:
    raise OutputError("all.jsonl", "sync", OSError(errno.EIO, os.strerror(errno.EIO)))
