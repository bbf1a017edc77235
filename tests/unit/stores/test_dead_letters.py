"""A refused record is a dead letter once, synced, whatever happens on the way."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import msgspec
import pytest

from prefork_logd.errors import StoreError
from prefork_logd.stores import dead_letters
from prefork_logd.stores.dead_letters import Addition, DeadLetters, opened, read_letters

if TYPE_CHECKING:
    from pathlib import Path

JOURNAL, OTHER = "a" * 32, "b" * 32
LINE = b'{"message":"poison"}\n'
ROOM = 1 << 20
SPARE = 20
"""The times in letters differ in length."""
KEPT, KNOWN, FULL = Addition


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where the letters of a store are."""
    return tmp_path / "dead-letters-archive.jsonl"


def numbers(path: Path) -> list[tuple[str, int]]:
    """Return journal and number of each letter."""
    return [(letter.journal, letter.number) for letter in read_letters(path)]


def test_a_record_is_kept_once_however_often_it_is_refused(path: Path) -> None:
    """A batch whose commit failed comes again, also to another shipper; another journal has numbers of its own."""
    letters = DeadLetters(path, JOURNAL, ROOM)
    assert not path.exists()
    assert [letters.add(number, LINE, "why") for number in (3, 7, 3, 7)] == [KEPT, KEPT, KNOWN, KNOWN]
    again = DeadLetters(path, JOURNAL, ROOM)
    assert [again.add(number, LINE, "why") for number in (3, 7, 8)] == [KNOWN, KNOWN, KEPT]
    assert DeadLetters(path, OTHER, ROOM).add(3, LINE, "why") is KEPT
    assert numbers(path) == [(JOURNAL, 3), (JOURNAL, 7), (JOURNAL, 8), (OTHER, 3)]
    letter = next(read_letters(path))
    assert (letter.reason, bytes(letter.record)) == ("why", LINE.rstrip())
    assert letter.time > 1e9
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_torn_line_is_cut_off(path: Path) -> None:
    """A shipper that died while it wrote leaves no half letter, and the record is refused anew."""
    letters = DeadLetters(path, JOURNAL, ROOM)
    letters.add(1, LINE, "why")
    whole = path.read_bytes()
    letters.add(2, LINE, "why")
    path.write_bytes(path.read_bytes()[:-9])
    letters = DeadLetters(path, JOURNAL, ROOM)
    assert path.read_bytes() == whole
    assert letters.add(2, LINE, "why") is KEPT
    assert numbers(path) == [(JOURNAL, 1), (JOURNAL, 2)]


def test_a_letter_that_cannot_be_synced_leaves_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shipper tries the batch again; the letter is there once."""
    letters = DeadLetters(path, JOURNAL, ROOM)
    letters.add(1, LINE, "why")
    whole = path.read_bytes()

    def fail(fd: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", fail)
        with pytest.raises(StoreError, match=r"dead-letters-archive.jsonl: cannot write to it: No space left"):
            letters.add(2, LINE, "why")
    assert path.read_bytes() == whole
    assert letters.add(2, LINE, "why") is KEPT
    assert numbers(path) == [(JOURNAL, 1), (JOURNAL, 2)]


def test_a_file_that_was_taken_away_is_begun_anew(path: Path) -> None:
    """A replay renames the file; what comes then is in a new one, and none of it in the old one."""
    letters = DeadLetters(path, JOURNAL, ROOM)
    letters.add(1, LINE, "why")
    taken = path.with_name("taken")
    with opened(path):
        path.rename(taken)
    assert letters.add(2, LINE, "why") is KEPT
    assert (numbers(taken), numbers(path)) == ([(JOURNAL, 1)], [(JOURNAL, 2)])


def test_what_is_no_letter_is_passed_over(path: Path) -> None:
    """Somebody has edited the file: the letters beside are read."""
    letters = DeadLetters(path, JOURNAL, ROOM)
    letters.add(1, LINE, "why")
    path.write_bytes(b"garbage\n{}\n\xff\n" + path.read_bytes())
    assert numbers(path) == [(JOURNAL, 1)]
    assert msgspec.json.decode(path.read_bytes().splitlines()[-1])["number"] == 1


def test_a_file_that_cannot_be_read_is_a_store_error(path: Path) -> None:
    """It is told with its name, and tried again like any failure of a store."""
    path.mkdir()
    with pytest.raises(StoreError, match=r"dead-letters-archive.jsonl: cannot read it: Is a directory"):
        DeadLetters(path, JOURNAL, ROOM)


ODD = [
    b'{"a":' * 3000 + b"1" + b"}" * 3000,
    b'{"message":"\\ud800"}',
    b"\xff\x00 no JSON",
    b'{"n":',
    b"",
    b'"},"record":1}',
]


@pytest.mark.parametrize("record", ODD, ids=["deep", "surrogate", "octets", "cut", "empty", "quotes"])
def test_a_letter_of_any_record_is_read_again(path: Path, record: bytes) -> None:
    """Whatever was refused: it is there once, as it was, and a replay finds it."""
    letters = DeadLetters(path, JOURNAL, ROOM)
    assert letters.add(5, record + b"\n", 'why "so"\\') is KEPT
    assert DeadLetters(path, JOURNAL, ROOM).add(5, record, "why") is KNOWN
    (letter,) = read_letters(path)
    assert (letter.number, letter.reason, bytes(letter.record)) == (5, 'why "so"\\', record)


def test_what_was_added_can_be_taken_back(path: Path) -> None:
    """Back to a mark, and no further; never in a file that a replay has begun."""
    letters = DeadLetters(path, JOURNAL, ROOM)
    mark = letters.mark()
    letters.add(1, LINE, "why")
    letters.go_back(mark)
    assert numbers(path) == []
    assert letters.add(1, LINE, "why") is KEPT
    mark = letters.mark()
    letters.add(2, LINE, "why")
    path.rename(path.with_name("taken"))
    letters.add(3, LINE, "why")
    letters.go_back(mark)
    assert numbers(path) == [(JOURNAL, 3)]
    assert numbers(path.with_name("taken")) == [(JOURNAL, 1), (JOURNAL, 2)]


def test_a_letter_whose_name_cannot_be_synced_leaves_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first letter makes the file: until its name is safe it is not there."""

    def fail(directory: Path, *, missing_ok: bool) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    letters = DeadLetters(path, JOURNAL, ROOM)
    with monkeypatch.context() as patch:
        patch.setattr(dead_letters, "sync_directory", fail)
        with pytest.raises(StoreError, match="Input/output error"):
            letters.add(1, LINE, "why")
    assert letters.add(1, LINE, "why") is KEPT
    assert numbers(path) == [(JOURNAL, 1)]


def test_the_file_is_bounded(path: Path) -> None:
    """A letter beyond it is not kept, whoever adds it, and there is room again after a replay has taken the file."""
    letters = DeadLetters(path, JOURNAL, ROOM)
    letters.add(1, LINE, "why")
    two = 2 * path.stat().st_size + SPARE
    letters = DeadLetters(path, JOURNAL, two)
    assert [letters.add(number, LINE, "why") for number in (2, 3, 3, 4)] == [KEPT, FULL, KNOWN, FULL]
    assert path.stat().st_size <= two
    assert DeadLetters(path, OTHER, two).add(1, LINE, "why") is FULL
    path.rename(path.with_name("replayed"))
    assert letters.add(5, LINE, "why") is KEPT
    assert numbers(path) == [(JOURNAL, 5)]


def test_no_letter_is_kept_without_room(path: Path) -> None:
    """With 0 bytes the file stays empty."""
    assert DeadLetters(path, JOURNAL, 0).add(1, LINE, "why") is FULL
    assert not path.read_bytes()
