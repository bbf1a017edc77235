"""Keeps the records that a store refuses for good, in one file for each store.

Owns the file's form and bound, and keeps each record in it once. Does not know stores.

A line is a JSON object: `number` (in the journal), `journal`, `reason`, `time` and `record`. It is synced before the
store commits its position after the record. If that commit fails, the record is refused again, and recognized by its
number.
"""

from __future__ import annotations

import enum
import fcntl
import math
import os
import re
import time
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from prefork_logd.errors import StoreError, describe_refusal
from prefork_logd.system.disk import cut_torn_line, sync_directory, write_all

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


_HEAD = re.compile(rb'\{"time":[^,"]*,"journal":"([0-9a-f]{32})","number":(\d{1,19}),')
_LETTER = re.compile(
    rb'\{"time":([0-9.e+-]{1,32}),"journal":"([0-9a-f]{32})","number":(\d{1,19}),'
    rb'"reason":("(?:[^"\\]++|\\.)*+"),"record":(.*)\}\n'
)
_HEAD_BYTES = 256
_READ_BYTES = 1 << 20


class DeadLetter(msgspec.Struct, frozen=True):
    """One refused record."""

    time: float
    journal: str
    number: int
    reason: str
    record: msgspec.Raw


class Addition(enum.Enum):
    """The outcome of adding a record."""

    KEPT = enum.auto()
    KNOWN = enum.auto()
    """It is in the file already."""
    FULL = enum.auto()
    """The file has no room for it."""


class Mark(NamedTuple):
    """A place in the file to go back to."""

    inode: int
    nbytes: int
    last: int


class DeadLetters:
    """The dead letters of one store, as its shipper adds to them."""

    def __init__(self, path: Path, journal: str, most_bytes: int) -> None:
        """Append to the file, if there is one, while it has at most `most_bytes`. Raises StoreError."""
        self._path = path
        self._most_bytes = most_bytes
        self.journal = journal
        try:
            self._last = self._find_last()
        except OSError as error:
            raise StoreError(f"{path}: cannot read it: {describe_refusal(error)}") from error

    def _find_last(self) -> int:
        """Return the highest number of this journal in the file; -1 if there is none."""
        try:
            fd = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return -1
        try:
            cut_torn_line(fd)
        finally:
            os.close(fd)
        last, ours = -1, self.journal.encode()
        with self._path.open("rb") as file:
            # Only the beginning of a letter is parsed: its record may be of any size and depth.
            while head := file.readline(_HEAD_BYTES):
                match = _HEAD.match(head)
                if match is not None and match[1] == ours:
                    last = max(last, int(match[2]))
                while head and not head.endswith(b"\n"):
                    head = file.readline(_READ_BYTES)
        return last

    def add(self, number: int, line: bytes, reason: str) -> Addition:
        """Append a refused record, and sync. Raises StoreError."""
        if number <= self._last:
            return Addition.KNOWN
        letter = DeadLetter(time.time(), self.journal, number, reason, msgspec.Raw(line.rstrip(b"\n")))
        is_kept = append_letter(self._path, letter, self._most_bytes)
        self._last = number
        return Addition.KEPT if is_kept else Addition.FULL

    def mark(self) -> Mark:
        """Return the end of the file. Raises StoreError."""
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return Mark(0, 0, self._last)
        except OSError as error:
            raise StoreError(f"{self._path}: cannot read it: {describe_refusal(error)}") from error
        return Mark(found.st_ino, found.st_size, self._last)

    def go_back(self, mark: Mark) -> None:
        """Remove the letters added since, unless a replay has renamed the file. Raises StoreError."""
        self._last = mark.last
        try:
            with opened(self._path) as fd:
                found = os.fstat(fd)
                if mark.inode in (0, found.st_ino) and found.st_size > mark.nbytes:
                    os.ftruncate(fd, mark.nbytes)
        except OSError as error:
            raise StoreError(f"{self._path}: cannot write to it: {describe_refusal(error)}") from error


def append_letter(path: Path, letter: DeadLetter, most_bytes: float = math.inf) -> bool:
    """Append a letter to a file, and sync; return False, and append nothing, if the file has no room for it.

    Raises StoreError, and leaves nothing of the letter in the file.
    """
    data = msgspec.json.encode(letter) + b"\n"
    try:
        with opened(path) as fd:
            # A partial line of a process that died, or one that could not be removed after a failure.
            cut_torn_line(fd)
            size = os.fstat(fd).st_size
            if size + len(data) > most_bytes:
                return False
            try:
                write_all(fd, data)
                os.fdatasync(fd)
                if not size:
                    sync_directory(path.parent, missing_ok=True)
            except OSError:
                os.ftruncate(fd, size)
                raise
    except OSError as error:
        raise StoreError(f"{path}: cannot write to it: {describe_refusal(error)}") from error
    return True


class opened:  # noqa: N801 - used as a function
    """A context that opens the file, or makes it, locks it, and returns its descriptor. Raises OSError."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1

    def __enter__(self) -> int:
        """Open and lock; open again if the file was renamed during the wait for its lock."""
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
    """Yield the dead letters of a file, without other lines. Raises OSError."""
    decode = msgspec.json.Decoder(DeadLetter).decode
    with path.open("rb") as file:
        for line in file:
            try:
                yield decode(line)
            except (ValueError, RecursionError):
                letter = _read_odd(line)
                if letter is not None:
                    yield letter


def _read_odd(line: bytes) -> DeadLetter | None:
    """Return a letter with a record that is not JSON, or too deep for a parser; None if the line is not a letter."""
    match = _LETTER.fullmatch(line)
    if match is None:
        return None
    try:
        reason = msgspec.json.decode(match[4], type=str)
        return DeadLetter(float(match[1]), match[2].decode(), int(match[3]), reason, msgspec.Raw(match[5]))
    except ValueError:
        return None
