"""The ends of many files are one: in the order of arrival, with files that come, grow, and are replaced."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, NoReturn

import pytest

from prefork_logd.config.load import loads
from prefork_logd.query import set_tail
from prefork_logd.query.filters import Filters
from prefork_logd.query.set_tail import SetTail
from prefork_logd.query.tail import Matcher, last_lines, open_tail

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def line(number: int) -> bytes:
    """Return a record that arrived at this time."""
    return b'{"created":1.5,"message":"m%d","received":%d.5}\n' % (number, number)


@pytest.fixture
def said() -> list[str]:
    """Return the list of complaints."""
    return []


@pytest.fixture
def tail(tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[SetTail]:
    """Return the end of files that do not exist yet; new ones are noticed at once."""
    monkeypatch.setattr(set_tail, "LIST_EVERY_S", 0.0)
    made = SetTail(f"{tmp_path}/logs/{{service}}/{{logger}}.jsonl", said.append)
    yield made
    made.close()


def write(tmp_path: Path, name: str, *numbers: int) -> Path:
    """Append records to a file."""
    path = tmp_path / "logs" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        file.write(b"".join(map(line, numbers)))
    return path


def test_lines_come_in_the_order_of_their_arrival(tmp_path: Path, tail: SetTail) -> None:
    """Those of all files, the rotated ones left out; then new lines and new files."""
    write(tmp_path, "shop/a.jsonl", 1, 4, 5)
    write(tmp_path, "shop/b.jsonl", 2, 6)
    write(tmp_path, "cart/a.jsonl", 3)
    write(tmp_path, "cart/a.jsonl.20261129T000000Z.000001", 0)
    write(tmp_path, "cart/notes.txt", 9)
    matches = Matcher(Filters())
    assert list(last_lines(tail, 4, matches)) == [line(number) for number in (3, 4, 5, 6)]
    assert list(tail.read_new_lines()) == []
    write(tmp_path, "shop/a.jsonl", 8)
    write(tmp_path, "new/a.jsonl", 7)
    assert list(tail.read_new_lines()) == [line(7), line(8)]
    assert list(tail.read_new_lines()) == []


def test_a_failure_is_told_once_until_it_ends(
    tmp_path: Path, tail: SetTail, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files are looked for again and again."""

    def fail(base: str, _: object) -> NoReturn:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), base)

    write(tmp_path, "shop/a.jsonl", 1)
    for told in (1, 2):
        with monkeypatch.context() as patch:
            patch.setattr(set_tail.pattern_files, "read", fail)
            for _ in range(3):
                list(tail.read_new_lines())
        assert said == [f"{tmp_path}/logs: cannot read it: Too many open files"] * told
        list(tail.read_new_lines())


def test_a_rotated_file_is_read_to_its_end(tmp_path: Path, tail: SetTail) -> None:
    """And then the one that replaces it."""
    path = write(tmp_path, "shop/a.jsonl", 1)
    assert list(tail.read_new_lines()) == [line(1)]
    write(tmp_path, "shop/a.jsonl", 2)
    path.rename(f"{path}.20261129T000000Z.000001")
    write(tmp_path, "shop/a.jsonl", 3)
    assert list(tail.read_new_lines()) == [line(2), line(3)]


def test_open_files_are_bounded(
    tmp_path: Path, tail: SetTail, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those written last are read; another one is read from where it was as soon as it is written again."""
    monkeypatch.setattr(set_tail, "MOST_FILES", 2)
    for number in range(4):
        os.utime(write(tmp_path, f"s{number}/a.jsonl", number), (number, number))
    tail.rewind(0)
    assert list(tail.read_lines()) == [line(2), line(3)]
    assert said == ["4 files; reading the 2 that were written last"]
    for number in (0, 1, 2):
        write(tmp_path, f"s{number}/a.jsonl", 10 + number)
        assert list(tail.read_new_lines()) == [line(10 + number)]


def test_a_directory_that_cannot_be_read_is_told_once(
    tmp_path: Path, tail: SetTail, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is open is read further; lines that are no records come first."""
    write(tmp_path, "shop/a.jsonl", 1)
    path = write(tmp_path, "shop/b.jsonl")
    path.write_bytes(b"no record\n")
    assert list(tail.read_new_lines()) == [b"no record\n", line(1)]

    def refuse(directory: object) -> None:
        raise PermissionError(13, "not yours", str(directory))

    monkeypatch.setattr(os, "scandir", refuse)
    write(tmp_path, "shop/a.jsonl", 2)
    assert list(tail.read_new_lines()) == [line(2)]
    assert list(tail.read_new_lines()) == []
    assert said == [f"{tmp_path}/logs: cannot read it: not yours"]


def test_tail_reads_it_where_there_is_no_store(tmp_path: Path, said: list[str]) -> None:
    """As it reads an output with one file."""
    toml = 'store = []\n[[output]]\npath = "logs/{service}.jsonl"\n'
    found = open_tail(loads(toml, overrides={"state_dir": str(tmp_path)}), said.append)
    assert isinstance(found, SetTail)
    assert found.directory == tmp_path / "logs"
    assert said == [f"no record log without a store; reading {tmp_path}/logs/{{service}}.jsonl"]
