"""A JSON output is read to its end, whatever becomes of the file."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from prefork_logd.files.tail import OutputTail

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Opener = Callable[[Path], tuple[OutputTail, list[str]]]

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
