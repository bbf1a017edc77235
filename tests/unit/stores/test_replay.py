"""A replay gives every dead letter to the store once, also if it was killed before; what is refused again stays."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from prefork_logd.config.paths import dead_letters_path
from prefork_logd.errors import StoreError
from prefork_logd.stores import replay
from prefork_logd.stores.dead_letters import Addition, DeadLetters, read_letters
from prefork_logd.stores.replay import Replay
from tests.support.file_store import FileStore

if TYPE_CHECKING:
    from pathlib import Path

NAME, JOURNAL = "archive", "a" * 32
GOOD, BAD = b'{"message":"good %d"}\n', b'{"message":"poison %d"}\n'


class _Place:
    """A state directory with dead letters, and the store that they are for."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.letters = dead_letters_path(path, NAME)
        self.store_directory = path / "store"
        self.store = FileStore(str(self.store_directory))
        self.advanced: list[int] = []
        self._count = 0

    def refuse(self, *lines: bytes) -> None:
        """Add dead letters, as the store's shipper does; their numbers are 0, 1 and so on."""
        letters = DeadLetters(self.letters, JOURNAL, 1 << 20)
        for line in lines:
            assert letters.add(self._count, line, "the first reason") is Addition.KEPT
            self._count += 1

    def replay(self) -> tuple[int, int]:
        return Replay(self.path, NAME).run(self.store, self.advanced.append)

    @property
    def stored(self) -> bytes:
        return (self.store_directory / "records").read_bytes()

    @property
    def kept(self) -> list[int]:
        """The numbers of the dead letters."""
        return [letter.number for letter in read_letters(self.letters)]

    @property
    def parts(self) -> list[Path]:
        """The files of replays that have not ended."""
        return [*self.path.glob("*.replay-*")]


@pytest.fixture
def place(tmp_path: Path) -> _Place:
    return _Place(tmp_path)


def test_every_letter_is_sent_once(place: _Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """In order, a chunk at a time, with the progress of each; nothing is left to send again."""
    monkeypatch.setattr(replay, "CHUNK", 2)
    lines = [GOOD % number for number in range(5)]
    place.refuse(*lines)
    assert place.replay() == (5, 0)
    assert place.stored == b"".join(lines)
    assert place.advanced == [2, 2, 1]
    assert place.replay() == (0, 0)
    assert place.parts == []


def test_a_letter_that_is_refused_again_stays_one(place: _Place) -> None:
    """With its journal and number, and the new reason."""
    place.refuse(GOOD % 0, BAD % 1, GOOD % 2)
    assert place.replay() == (2, 1)
    assert place.stored == GOOD % 0 + GOOD % 2
    (letter,) = read_letters(place.letters)
    assert (letter.journal, letter.number, letter.reason) == (JOURNAL, 1, "it holds poison")
    assert bytes(letter.record) + b"\n" == BAD % 1
    assert place.replay() == (0, 1)
    assert place.kept == [1]


def test_a_replay_that_has_failed_is_continued(place: _Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the store's position on, also with letters that have come since; none is stored or kept twice."""
    monkeypatch.setattr(replay, "CHUNK", 2)
    place.refuse(GOOD % 0, BAD % 1, BAD % 2, GOOD % 3)
    obstacle = place.store_directory / "fail-midway"
    first = Replay(place.path, NAME)
    assert first.total == 4
    with pytest.raises(StoreError):
        first.run(place.store, lambda _: obstacle.touch())
    assert place.kept == [1, 2]
    obstacle.unlink()
    place.refuse(GOOD % 4)
    # Of the first part the second chunk is sent again; the second part has the letters that were kept, and the new one.
    assert Replay(place.path, NAME).total == 4 + 3
    assert place.replay() == (2, 3)
    assert sorted(place.stored.splitlines(keepends=True)) == [GOOD % 0, GOOD % 3, GOOD % 4]
    assert sorted(place.kept) == [1, 2]
    assert place.parts == []


def test_a_letter_that_cannot_be_kept_stays_in_the_replay(place: _Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full: the error names the file, half a letter is removed, and the next replay sends it again."""
    place.refuse(BAD % 0)
    write = os.write

    def write_half(fd: int, data: bytes) -> int:
        if len(data) < 20:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(fd, data[: len(data) // 2])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write_half)
        with pytest.raises(StoreError, match=rf"{place.letters}: cannot write to it: No space left"):
            place.replay()
    assert place.letters.read_bytes() == b""
    assert place.replay() == (0, 1)
    assert place.kept == [0]


def test_a_letter_after_a_torn_one_is_kept(place: _Place) -> None:
    """A shipper that has died during the replay has left half of a letter, which its store refuses anew."""
    place.refuse(BAD % 0)
    begun = Replay(place.path, NAME)
    place.letters.write_bytes(b'{"time":1,"journal":"')
    assert begun.run(place.store, place.advanced.append) == (0, 1)
    assert place.kept == [0]
