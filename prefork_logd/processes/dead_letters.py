"""Records that a store refuses for good: one file for each store.

Owns the file's form, and that each is in it once. Knows no stores.

A line is a JSON object: `number` (the journal's), `journal`, `reason`, `time` and `record`. It is synced before the
store commits its position after the record; when that commit fails, the record is refused again, and its number tells
that it is here already.
"""

from __future__ import annotations

import fcntl
import os
import time
from typing import TYPE_CHECKING

import msgspec

from prefork_logd.errors import StoreError
from prefork_logd.outputs.opening import cut_torn_line, sync_directory

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class DeadLetter(msgspec.Struct, frozen=True):
    """One refused record."""

    time: float
    journal: str
    number: int
    reason: str
    record: msgspec.Raw


class DeadLetters:
    """The dead letters of one store, as its shipper adds to them."""

    def __init__(self, path: Path, journal: str) -> None:
        """Go on after what is there. Raises StoreError."""
        self._path = path
        self._journal = journal
        try:
            self._last = self._find_last()
        except OSError as error:
            raise StoreError(f"{path}: cannot read it: {error.strerror}") from error

    def _find_last(self) -> int:
        """Return the highest number of this journal that is here; -1 if none is."""
        try:
            fd = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return -1
        try:
            cut_torn_line(fd)
        finally:
            os.close(fd)
        ours = (letter.number for letter in read_letters(self._path) if letter.journal == self._journal)
        return max(ours, default=-1)

    def add(self, number: int, line: bytes, reason: str) -> bool:
        """Keep a refused record, synced; tell whether it was not here yet. Raises StoreError."""
        if number <= self._last:
            return False
        letter = DeadLetter(time.time(), self._journal, number, reason, msgspec.Raw(line.rstrip(b"\n")))
        data = msgspec.json.encode(letter) + b"\n"
        try:
            with opened(self._path) as fd:
                size = os.fstat(fd).st_size
                try:
                    rest = data
                    while rest:
                        rest = rest[os.write(fd, rest) :]
                    os.fdatasync(fd)
                except OSError:
                    os.ftruncate(fd, size)
                    raise
                if not size:
                    sync_directory(str(self._path.parent))
        except OSError as error:
            raise StoreError(f"{self._path}: cannot write to it: {error.strerror}") from error
        self._last = number
        return True


class opened:  # noqa: N801 - used as a function
    """The file, locked: a context that is entered with its descriptor, made if there is none. Raises OSError."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1

    def __enter__(self) -> int:
        """Open and lock; a file that was renamed while we waited for its lock is not the one."""
        while True:
            self._fd = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._fd, fcntl.LOCK_EX)
            try:
                if self._path.stat().st_ino == os.fstat(self._fd).st_ino:
                    return self._fd
            except FileNotFoundError:
                pass
            os.close(self._fd)

    def __exit__(self, *error: object) -> None:
        """Unlock and close."""
        os.close(self._fd)


def read_letters(path: Path) -> Iterator[DeadLetter]:
    """Yield the dead letters of a file; lines that are none are passed over. Raises OSError."""
    decode = msgspec.json.Decoder(DeadLetter).decode
    with path.open("rb") as file:
        for line in file:
            try:
                yield decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue
