"""A JSON output is read to its end, whatever becomes of the file."""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from prefork_logd.files import renamed_files, rotated_files
from prefork_logd.files.tail import OutputTail

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Opener = Callable[[Path], tuple[OutputTail, list[str]]]

RECEIVED_S = 1_796_008_000
LINES = [b'{"created":%d.5,"message":"m"}\n' % number for number in range(200)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return an output with lines in it."""
    path = tmp_path / "records.jsonl"
    path.write_bytes(b"".join(LINES))
    return path


@pytest.fixture
def open_output() -> Iterator[Opener]:
    """Return a function that returns the tail of an output and its complaints."""
    tails: list[OutputTail] = []

    def make(path: Path) -> tuple[OutputTail, list[str]]:
        said: list[str] = []
        tails.append(OutputTail(path, said.append))
        return tails[-1], said

    yield make
    for tail in tails:
        tail.close()


def test_a_file_that_is_replaced_cut_or_removed(path: Path, open_output: Opener) -> None:
    """Each line once: those of the file that was, then those of the file that is; half a line is none."""
    tail, said = open_output(path)
    assert [*tail.read_lines()] == LINES
    with path.open("ab") as file:
        file.write(LINES[0] + b'{"created":')
    assert [*tail.read_new_lines()] == LINES[:1]
    with path.open("ab") as file:
        file.write(b"\n" + LINES[1])
    path.rename(path.with_suffix(".1"))
    path.write_bytes(LINES[2])
    assert [*tail.read_new_lines()] == [b'{"created":\n', LINES[1], LINES[2]]
    with path.open("ab") as file:
        file.write(LINES[3][:-5])
    assert [*tail.read_new_lines()] == []
    os.truncate(path, 0)  # copytruncate, in the middle of a line
    with path.open("ab") as file:
        file.write(LINES[4][:20])
    assert [*tail.read_new_lines()] == []
    with path.open("ab") as file:
        file.write(LINES[4][20:])
    assert [*tail.read_new_lines()] == [LINES[4]]
    path.unlink()
    assert [*tail.read_new_lines()] == []
    path.write_bytes(LINES[5])
    assert [*tail.read_new_lines()] == [LINES[5]]
    assert said == []


def rotate(path: Path, lines: list[bytes], *, pack: bool = False) -> Path:
    """Rotate an output as the writer does, and begin a new file with lines; return the rotated one."""
    name = rotated_files.reserve(str(path), 1e9)
    path.rename(name)
    path.write_bytes(b"".join(lines))
    if pack:
        Path(f"{name}.gz").write_bytes(gzip.compress(Path(name).read_bytes()))
        Path(name).unlink()
    return Path(name)


@pytest.mark.parametrize("pack", [False, True])
def test_rotations_between_two_looks_skip_no_file(path: Path, open_output: Opener, pack: bool) -> None:
    """Each line once and in order, compressed or not; files that were rotated before the first look are not read."""
    rotate(path, LINES[:2])
    rotate(path, LINES[2:4])
    tail, said = open_output(path)
    assert [*tail.read_lines()] == LINES[2:4]
    for _ in range(2):
        for number in range(4, 10):
            rotate(path, LINES[number : number + 1], pack=pack)
        assert [*tail.read_new_lines()] == LINES[4:10]
        assert [*tail.read_new_lines()] == []
    assert said == []


def test_rotated_files_that_are_gone_are_reported(path: Path, open_output: Opener) -> None:
    """The lines of the others are there; the own file does not count, as it was read."""
    tail, said = open_output(path)
    assert [*tail.read_lines()] == LINES
    gone = [rotate(path, LINES[number : number + 1]) for number in range(4)][:3]
    for file in gone:
        file.unlink()
    assert [*tail.read_new_lines()] == LINES[2:4]
    assert said == [
        f"{path}: 2 rotated files that followed the last one read had been removed; these lines are missing"
    ]


def test_a_rotation_by_another_program_counts_for_nothing(path: Path, open_output: Opener) -> None:
    """The file that it renamed is read to its end, and no number is passed over."""
    tail, said = open_output(path)
    assert [*tail.read_lines()] == LINES
    path.rename(path.with_suffix(".1"))
    path.write_bytes(LINES[0])
    rotate(path, LINES[1:2])
    assert [*tail.read_new_lines()] == LINES[:2]
    reserved = rotated_files.reserve(str(path), 1e9)
    path.unlink()
    path.write_bytes(LINES[2])
    assert [*tail.read_new_lines()] == LINES[2:3]
    path.rename(reserved)
    path.write_bytes(LINES[3])
    assert [*tail.read_new_lines()] == LINES[3:4]
    assert said == []


def _received(number: int) -> bytes:
    return b'{"received":%d.5,"message":"m"}\n' % (RECEIVED_S + number)


def _logrotate(path: Path, keep: int = 9, *, packs: bool = False) -> None:
    """Rename an output as logrotate does: the newest file is .1; with `packs` all but that one are packed."""
    for number in range(keep, 0, -1):
        for old in path.parent.glob(f"{path.name}.{number}*"):
            old.rename(str(old).replace(f".{number}", f".{number + 1}"))
    second = path.with_name(f"{path.name}.2")
    if packs and second.exists():
        packed = Path(f"{second}.gz")
        packed.write_bytes(gzip.compress(second.read_bytes()))
        status = second.stat()
        os.utime(packed, ns=(status.st_atime_ns, status.st_mtime_ns))
        second.unlink()
    path.rename(f"{path}.1")


def _write(path: Path, *numbers: int) -> None:
    """Append records, the last one of which was received when the file is written."""
    with path.open("ab") as file:
        file.write(b"".join(map(_received, numbers)))
    os.utime(path, (RECEIVED_S + numbers[-1],) * 2)


@pytest.mark.parametrize("packs", [False, True])
def test_renamings_by_others_between_two_looks_skip_no_file(tmp_path: Path, open_output: Opener, packs: bool) -> None:
    """Each line once and in order. Files of before, copies, and other outputs of the directory are not read."""
    path = tmp_path / "all.jsonl"
    _write(path, 1, 2)
    _logrotate(path)
    _write(path, 100, 101)
    tail, said = open_output(path)
    assert [*tail.read_lines()] == [_received(100), _received(101)]
    _write(tmp_path / "all-errors.jsonl", 250, 251)
    (tmp_path / "all.jsonl.copy").write_bytes(path.read_bytes())
    for number in (200, 300, 400, 500):
        _logrotate(path, packs=packs)
        _write(path, number, number + 1)
    (tmp_path / "all.jsonl.new").write_bytes(path.read_bytes())
    expected = [_received(number + more) for number in (200, 300, 400, 500) for more in (0, 1)]
    assert [*tail.read_new_lines()] == expected
    assert [*tail.read_new_lines()] == []
    _write(path, 502)
    _logrotate(path, packs=packs)
    _write(path, 600)
    assert [*tail.read_new_lines()] == [_received(502), _received(600)]
    assert said == []


def test_a_date_in_the_name_is_one_of_a_renamed_file(tmp_path: Path, open_output: Opener) -> None:
    """As logrotate writes it with `dateext` and `extension`; a file that was empty when it was read counts, too."""
    path = tmp_path / "all.jsonl"
    path.touch()
    tail, said = open_output(path)
    assert [*tail.read_lines()] == []
    now = int(path.stat().st_mtime) - RECEIVED_S + 100
    for day, number in ((28, now), (29, now + 100), (30, now + 200)):
        path.rename(tmp_path / f"all-202611{day}.jsonl")
        _write(path, number)
    assert [*tail.read_new_lines()] == [_received(now), _received(now + 100), _received(now + 200)]
    assert said == []


def test_so_many_renamed_files_are_read(tmp_path: Path, open_output: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest ones: a directory may have any number."""
    monkeypatch.setattr(renamed_files, "MOST_FILES", 3)
    path = tmp_path / "all.jsonl"
    _write(path, 100)
    tail, _ = open_output(path)
    assert [*tail.read_lines()] == [_received(100)]
    for number in range(200, 800, 100):
        _logrotate(path)
        _write(path, number)
    assert [*tail.read_new_lines()] == [_received(number) for number in (400, 500, 600, 700)]


def test_a_damaged_rotated_file_costs_its_own_lines(path: Path, open_output: Opener) -> None:
    """And is named."""
    tail, said = open_output(path)
    assert [*tail.read_lines()] == LINES
    rotate(path, LINES[:1])
    damaged = rotate(path, LINES[1:2], pack=True).with_suffix(".000002.gz")
    damaged.write_bytes(damaged.read_bytes()[:-9])
    assert [*tail.read_new_lines()] == LINES[:2]
    assert said == [f"{damaged}: ends within its packed data"]


def test_a_file_that_cannot_be_opened_is_named_once(tmp_path: Path, open_output: Opener) -> None:
    """And read when it can be."""
    path = tmp_path / "loop"
    path.symlink_to(path)
    tail, said = open_output(path)
    assert [*tail.read_lines(), *tail.read_new_lines(), *tail.read_new_lines()] == []
    assert said == [f"{path}: cannot read it: {os.strerror(40)}"]
    path.unlink()
    path.write_bytes(LINES[0])
    assert [*tail.read_new_lines()] == LINES[:1]


def test_rewinding_leads_to_the_first_line(tmp_path: Path, open_output: Opener) -> None:
    """Of a file that is open; before that it changes nothing. Half a line is forgotten with it."""
    path = tmp_path / "records.jsonl"
    tail, _ = open_output(path)
    assert tail.rewind(1) is True
    assert [*tail.read_lines()] == []
    path.write_bytes(LINES[0] + LINES[1][:9])
    for _ in range(2):
        assert [*tail.read_lines()] == LINES[:1]
        assert [*tail.read_lines()] == []
        assert tail.rewind(0) is True
