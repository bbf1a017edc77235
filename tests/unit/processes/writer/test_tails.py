"""Bytes beyond the committed length of a file when a writer starts: no acknowledged line is destroyed."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from prefork_logd.config.load import loads
from prefork_logd.config.paths import JOURNAL_DIRECTORY
from prefork_logd.ipc.configuration import Configuration
from prefork_logd.journal import intent
from prefork_logd.journal.record_reader import RecordReader
from prefork_logd.processes.writer.tails import RETRY_S
from tests.support.starts import STORE, Start

if TYPE_CHECKING:
    from collections.abc import Callable

TOML = '[[output]]\npath = "{}/all.jsonl"\n' + STORE


class Place:
    """A state directory, and an output elsewhere."""

    def __init__(self, tmp_path: Path) -> None:
        self.state_dir = tmp_path / "state"
        self.state_dir.mkdir()
        self.outputs = tmp_path / "outputs"
        self.output = self.outputs / "all.jsonl"
        self.boot = tmp_path / "boot"

    def start(self) -> Start:
        """Return a writer that has started."""
        start = Start(self.state_dir, TOML.format(self.outputs))
        assert start.advance() == ""
        return start

    def recorded(self) -> bytes:
        """Return what a store gets."""
        reader, lines = RecordReader(self.state_dir / JOURNAL_DIRECTORY), b""
        reader.seek(0)
        while (entry := reader.read(1 << 40)) is not None:
            lines += entry.lines
        reader.close()
        return lines

    def set_aside(self) -> list[bytes]:
        """Return what lies beside the output."""
        return [path.read_bytes() for path in sorted(self.outputs.iterdir()) if path != self.output]

    def journal(self) -> Path:
        """Return the file of commits."""
        (path,) = (self.state_dir / JOURNAL_DIRECTORY).glob("commits-*")
        return path


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Return an empty place; nothing waits for a disk."""
    for call in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, call, lambda fd: None)
    return Place(tmp_path)


def test_the_last_turn_is_cut_and_leaves_nothing(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """The everyday case: its clients send it again."""
    for _ in range(3):
        start = place.start()
        start.turn(b"kept\n", 1 + len(place.output.read_bytes()) // 5)
        start.turn(b"not committed\n" * 3, 99, commit=False)
        start.close()
    place.start().close()
    assert place.output.read_bytes() == place.recorded() == b"kept\n" * 3
    assert place.set_aside() == []
    assert "clients send them again" in caplog.text


def _copy(place: Place, to: Path) -> None:
    shutil.copytree(place.state_dir, to)


def _put_back(place: Place, backup: Path) -> None:
    # In place: the record segments keep their inodes, as in a file system that was put back as a whole.
    for path in place.state_dir.rglob("*"):
        if path.is_file() and not (backup / path.relative_to(place.state_dir)).exists():
            path.unlink()
    for path in backup.rglob("*"):
        if path.is_file():
            (place.state_dir / path.relative_to(backup)).write_bytes(path.read_bytes())


@pytest.mark.parametrize("when", ["stopped", "running", "in the middle of a turn"])
@pytest.mark.parametrize("end", ["stopped", "killed"])
def test_an_older_state_directory_costs_no_line(
    place: Place, tmp_path: Path, when: str, end: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is noticed, said, and everything in the output stays, however little was written since."""
    start = place.start()
    start.turn(b"before\n", 1)
    if when == "stopped":
        start.close()
        _copy(place, tmp_path / "backup")
        start = place.start()
        start.turn(b"during\n", 2)
    else:
        start.turn(b"during\n", 2, commit=False)
        if when != "running":
            _copy(place, tmp_path / "backup")
        start.outputs.committed()
        start.turn(b"", 2)
        if when == "running":
            _copy(place, tmp_path / "backup")
    start.turn(b"since\n", 3)
    if end == "killed":
        start.turn(b"the last\n", 4, commit=False)
    written = place.output.read_bytes()
    start.close()
    _put_back(place, tmp_path / "backup")
    start = place.start()
    assert place.output.read_bytes() == written
    assert place.set_aside() == []
    assert "the state directory is older" in caplog.text
    caplog.clear()
    start.close()
    place.start().close()
    assert "older" not in caplog.text, "it is said once"


def _zero(data: bytearray, start: int) -> None:
    data[start:] = bytes(len(data) - start)


def _scramble(data: bytearray, start: int) -> None:
    data[start:] = os.urandom(50) + bytes(len(data) - start - 50)


@pytest.mark.parametrize("lost", [1, 2, 5])
@pytest.mark.parametrize("damage", [_zero, _scramble])
def test_a_journal_that_has_lost_its_last_commits_costs_no_line(
    place: Place, lost: int, damage: Callable[[bytearray, int], None]
) -> None:
    """The second copy has the lengths, and the session of the last one."""
    start = place.start()
    for number in range(1, 9):
        start.turn(b"%d\n" % number, number)
    start.turn(b"not committed\n", 9, commit=False)
    start.close()
    data = bytearray(place.journal().read_bytes())
    at = len(data)
    for _ in range(lost):
        at = data.rfind(b"PLJE", 0, at)
    damage(data, at)
    place.journal().write_bytes(data)
    start = place.start()
    assert start.committed() == [8]
    assert start.record_log.next_number(0) == 8
    start.close()
    assert place.output.read_bytes() == place.recorded() == b"".join(b"%d\n" % number for number in range(1, 9))
    assert place.set_aside() == []


def _other_boot(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.boot.write_text("01234567-89ab-cdef-0123-456789abcdef\n")
    monkeypatch.setattr(intent, "BOOT_ID", place.boot)


def test_after_a_power_loss_nothing_is_destroyed(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The rest is moved into a file beside the output, whose name no pattern of log files matches."""
    start = place.start()
    start.turn(b"kept\n", 1)
    start.turn(b"who knows\n", 2, commit=False)
    os.chmod(place.output, 0o604)  # noqa: PTH101 - any mode that no umask would give
    start.close()
    _other_boot(place, monkeypatch)
    place.start().close()
    assert place.output.read_bytes() == place.recorded() == b"kept\n"
    assert place.set_aside() == [b"who knows\n"]
    (path,) = (path for path in place.outputs.iterdir() if path != place.output)
    assert path.name.startswith("all.cut-")
    assert path.name.endswith("-jsonl")
    assert path.stat().st_mode & 0o777 == 0o604
    assert str(path) in caplog.text


def test_a_crash_loop_makes_one_file(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A recovery that dies between the copy and the cut does not copy again, and a later one appends."""
    start = place.start()
    start.turn(b"kept\n", 1)
    start.turn(b"who knows\n", 2, commit=False)
    start.close()
    _other_boot(place, monkeypatch)

    def die(fd: int, length: int) -> None:
        raise KeyboardInterrupt

    for _ in range(5):
        start = Start(place.state_dir, TOML.format(place.outputs))
        with monkeypatch.context() as patch:
            patch.setattr(os, "ftruncate", die)
            with pytest.raises(KeyboardInterrupt):
                start.advance()
        start.close()
    place.start().close()
    assert place.set_aside() == [b"who knows\n"]
    start = place.start()
    start.turn(b"more\n", 2, commit=False)
    start.close()
    place.boot.write_text("11234567-89ab-cdef-0123-456789abcdef\n")
    place.start().close()
    assert place.set_aside() == [b"who knows\nmore\n"]


def test_a_full_disk_cuts_nothing_until_there_is_room(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The output is closed meanwhile, for nothing may be appended; a part of a copy does not stay."""
    start = place.start()
    start.turn(b"kept\n", 1)
    start.turn(b"who knows\n", 2, commit=False)
    start.close()
    _other_boot(place, monkeypatch)
    real = os.write

    def fill_up(fd: int, data: bytes) -> int:
        if len(data) > 4:
            return real(fd, data[:4])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    start = Start(place.state_dir, f'store = []\n[[output]]\npath = "{place.output}"\n')
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", fill_up)
        assert "No space left" in start.advance(), "the record log is set aside first"
    monkeypatch.setattr(start.record_log, "configure", lambda *_: [])
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", fill_up)
        assert start.advance() == ""
        start.outputs.add_lines(1, "", 1, memoryview(b"new\n"))
        start.outputs.find()
        assert not start.outputs.append()
    assert place.output.read_bytes() == b"kept\nwho knows\n"
    assert place.set_aside() == [b""]
    start.outputs.find()
    assert start.outputs.append()
    start.close()
    assert place.output.read_bytes() == b"kept\nnew\n"
    assert place.set_aside() == [b"who knows\n"]


def test_a_file_that_its_owner_truncated_is_cut_back_to_what_was_there(place: Place) -> None:
    """As copytruncate does it: the lines of the last turn are sent again, and must not be there twice."""
    start = place.start()
    start.turn(b"a line that is long\n" * 10, 10)
    os.truncate(place.output, 0)
    start.turn(b"short\n", 11)
    os.truncate(place.output, 0)
    start.turn(b"not committed\n", 12, commit=False)
    start.close()
    place.start().close()
    assert place.output.read_bytes() == b""


def test_a_renamed_file_that_could_not_be_looked_for_is_cut_later(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A directory that cannot be read for want of a descriptor does not hold nothing."""
    start = place.start()
    start.turn(b"kept\n", 1)
    start.turn(b"not committed\n", 2, commit=False)
    start.close()
    renamed = place.output.rename(place.outputs / "all.jsonl.1")

    def fail(path: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", fail)
        start = place.start()
    assert start.outputs.tails.lengths
    # That writer makes commits, and dies before it has tried again.
    start.outputs.tails._due_s += 1000 * RETRY_S
    start.turn(b"new\n", 2)
    start.close()
    assert renamed.read_bytes() == b"kept\nnot committed\n"
    place.start().close()
    assert renamed.read_bytes() == b"kept\n"
    assert place.output.read_bytes() == b"new\n"


def test_one_file_under_another_path_after_a_reload(place: Place) -> None:
    """A link to an output, or what it leads to, in its place: the file is not opened a second time."""
    start = place.start()
    start.turn(b"before\n", 1)
    link = place.outputs / "link.jsonl"
    link.symlink_to(place.output)
    toml = f'[[output]]\npath = "{link}"\n{STORE}'
    settings = loads(toml, overrides={"state_dir": str(place.state_dir)})
    start.configurations.append(Configuration(2, settings, (2,), (0,)))
    assert start.outputs.configure(start.configurations[-1]) == []
    start.outputs.add_lines(1, "", 1, memoryview(b"late\n"))
    start.turn(b"after\n", 2)
    start.outputs.forget(2)
    start.turn(b"more\n", 3)
    start.close()
    assert place.output.read_bytes() == b"before\nlate\nafter\nmore\n"


def test_a_copy_that_is_put_back_after_a_reboot_costs_no_line(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing of the last boot is believed, but the directory itself is not the one that was sealed."""
    start = place.start()
    start.turn(b"before\n", 1)
    _copy(place, tmp_path / "backup")
    start.turn(b"after\n" * 2, 3)
    start.close()
    shutil.rmtree(place.state_dir)
    shutil.copytree(tmp_path / "backup", place.state_dir)
    place.boot.write_text("5ec0bd52-1ab8-4d20-8b1b-0c1d1f1f3c11\n")
    monkeypatch.setattr(intent, "BOOT_ID", place.boot)
    place.start().close()
    assert place.output.read_bytes() == b"before\n" + b"after\n" * 2
    assert place.set_aside() == []
    assert "the state directory is older than this file" in caplog.text


def _also(place: Place, start: Start, path: Path) -> None:
    toml = TOML.format(place.outputs) + f'[[output]]\nname = "b"\npath = "{path}"\non_error = "skip"\n'
    settings = loads(toml, overrides={"state_dir": str(place.state_dir)})
    start.configurations = [Configuration(1, settings, (1, 2), (0,))]


def test_a_stream_without_a_reader_keeps_no_file_waiting(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """Segments of the record log and removed files are let go of, and what stores get is what was committed."""
    fifo = place.state_dir / "fifo"
    os.mkfifo(fifo)
    for turn in range(4):
        start = Start(place.state_dir, TOML.format(place.outputs))
        _also(place, start, fifo)
        assert start.advance() == ""
        assert start.outputs.tails.lengths == {}
        start.turn(b"kept\n", 1 + turn)
        assert len(start.recovery.journal.committed.files) == 3, "rejected.jsonl, the output and a segment"
        start.turn(b"not committed\n", 99, commit=False)
        start.close()
        place.output.rename(place.outputs / f"all.jsonl.{turn}")
    start = place.start()
    start.close()
    assert place.recorded() == b"kept\n" * 4
    assert "they are kept" not in caplog.text


def test_a_new_file_is_not_cut_for_one_whose_inode_it_has(place: Place, tmp_path: Path) -> None:
    """The last writer's file was removed; another output, whose directory is away, keeps it being looked for."""
    (tmp_path / "away").write_bytes(b"")
    start = Start(place.state_dir, TOML.format(place.outputs))
    _also(place, start, tmp_path / "away" / "b.jsonl")
    assert start.advance() == ""
    start.turn(b"1234567\n", 1)
    identity = start.outputs.at(1).file.identity
    assert identity is not None
    # What the last writer had under that number: a file that was to be cut to one byte.
    tails = start.outputs.tails
    tails.lengths = {identity: 1}
    tails._evidence = intent.Evidence(1, intent.Announced(2, {identity: (1, 1000)}), 1)
    start.turn(b"abcdefg\n", 2)
    start.close()
    assert place.output.read_bytes() == b"1234567\nabcdefg\n"
    assert not tails.lengths


def test_a_file_that_is_renamed_in_the_middle_of_a_turn_is_cut_back(place: Place) -> None:
    """Another output is in the way, the turn is tried again, and the writer dies: nothing is there twice."""
    start = place.start()
    start.turn(b"kept\n", 1)
    start.turn(b"not committed\n", 2, commit=False)
    renamed = place.output.rename(place.outputs / "all.jsonl.1")
    assert start.outputs.reopen() == []
    start.turn(b"more\n", 3, commit=False)
    start.close()
    place.start().close()
    assert renamed.read_bytes() == b"kept\n"
