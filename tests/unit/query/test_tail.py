"""What came last is shown, and what comes is followed, whatever becomes of files, watches and readers."""

from __future__ import annotations

import os
import threading
import time
import tracemalloc
from itertools import islice
from typing import TYPE_CHECKING

import pytest

from prefork_logd.config.load import loads
from prefork_logd.errors import ProcessError
from prefork_logd.files.tail import OutputTail
from prefork_logd.query import tail as query_tail
from prefork_logd.query.filters import Filters
from prefork_logd.query.tail import Matcher, follow, last_lines, open_tail
from prefork_logd.query.tree import level_from
from prefork_logd.system import inotify, libc
from tests.support import odd_lines

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LINES = [b'{"created":%d.5,"levelno":%d,"message":"m"}\n' % (number, number % 2 * 40) for number in range(200)]
EVERY = Filters()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return an output with lines in it."""
    path = tmp_path / "records.jsonl"
    path.write_bytes(b"".join(LINES))
    return path


@pytest.fixture
def reader() -> Iterator[tuple[int, int]]:
    """Return a pipe for what is shown: where it is read, and where it is written."""
    ends = os.pipe()
    yield ends
    for fd in ends:
        try:
            os.close(fd)
        except OSError:
            continue


def open_output(path: Path) -> tuple[OutputTail, list[str]]:
    """Return the tail of an output, and its complaints."""
    said: list[str] = []
    return OutputTail(path, said.append), said


@pytest.mark.parametrize("held", [1 << 20, 500])
def test_the_last_ones_that_match(path: Path, monkeypatch: pytest.MonkeyPatch, held: int) -> None:
    """As many as asked for, in order, whether they are held or read again; what comes then follows once."""
    monkeypatch.setattr(query_tail, "HELD_BYTES", held)
    for count in (0, 1, 7, 99, 100, 300):
        tail, _ = open_output(path)
        wanted = LINES[1::2]
        errors = Matcher(Filters(tree=level_from(40)))
        assert [*last_lines(tail, count, errors)] == wanted[len(wanted) - min(count, 100) :]
        assert [*tail.read_new_lines()] == []
    with path.open("ab") as file:
        file.write(LINES[0])
    assert [*tail.read_new_lines()] == [LINES[0]]


def test_many_lines_take_little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many are asked for, and however large they are."""
    path = tmp_path / "records.jsonl"
    with path.open("wb") as file:
        for number in range(40):
            file.write(b'{"created":%d.5,"message":"%b"}\n' % (number, b"x" * 1_000_000))
    monkeypatch.setattr(query_tail, "HELD_BYTES", 4_000_000)
    tail, _ = open_output(path)
    tracemalloc.start()
    try:
        assert sum(1 for _ in last_lines(tail, 1000, Matcher(EVERY))) == 40
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 20_000_000


def test_lines_that_are_no_records_are_counted(tmp_path: Path) -> None:
    """They are neither shown nor an end of it; it is said when there are many more of them."""
    path = tmp_path / "records.jsonl"
    path.write_bytes(b"".join(line for line, _ in odd_lines.foreign) + LINES[0])
    tail, _ = open_output(path)
    matches = Matcher(EVERY)
    said: list[str] = []
    records = [line for line, is_record in odd_lines.foreign if is_record]
    shown = [*last_lines(tail, 1000, matches)]
    assert shown == [*records, LINES[0]]
    matches.report(said.append)
    matches.report(said.append)
    assert len(said) == 1
    assert said[0].startswith(f"lines that are not records and not shown: {matches.unread}; the first one is ")


@pytest.mark.parametrize("missing", ["nothing", "inotify_init1", "inotify_add_watch"])
def test_what_comes_is_followed_without_watches_too(
    path: Path, monkeypatch: pytest.MonkeyPatch, reader: tuple[int, int], missing: str
) -> None:
    """Instances or watches of inotify used up: it looks again and again."""

    class Library:
        def __getattr__(self, name: str) -> object:
            return (lambda *_: -1) if name == missing else getattr(real, name)

    real = libc._libc
    monkeypatch.setattr(libc, "_libc", Library())
    monkeypatch.setattr(inotify, "LOOK_ANYWAY_S", 5.0)
    tail, _ = open_output(path)
    assert [*last_lines(tail, 0, Matcher(EVERY))] == []
    batches = follow(tail, Matcher(EVERY), reader[1])
    assert [*next(batches)] == []

    def grow() -> None:
        with path.open("ab") as file:
            file.write(LINES[0])

    waiting = threading.Timer(0.05, grow)
    waiting.start()
    began_s = time.monotonic()
    assert next(line for lines in islice(batches, 100) for line in lines) == LINES[0]
    assert time.monotonic() - began_s < 3
    waiting.join()
    batches.close()


def test_a_reader_that_has_gone_ends_it(path: Path, monkeypatch: pytest.MonkeyPatch, reader: tuple[int, int]) -> None:
    """At once, though nothing more comes."""
    monkeypatch.setattr(inotify, "LOOK_ANYWAY_S", 30.0)
    tail, _ = open_output(path)
    batches = follow(tail, Matcher(EVERY), reader[1])
    assert len([*next(batches)]) == 200
    gone = threading.Timer(0.05, os.close, [reader[0]])
    gone.start()
    began_s = time.monotonic()
    with pytest.raises(BrokenPipeError):
        next(batches)
    assert time.monotonic() - began_s < 10
    gone.join()


def test_a_state_directory_without_records_is_named(tmp_path: Path) -> None:
    """The default store and output are configured, and have nothing yet."""
    settings = loads("", "", {"state_dir": str(tmp_path)})
    with pytest.raises(ProcessError, match=f"{tmp_path}: nothing is stored there yet"):
        open_tail(settings, pytest.fail)
