"""Existing files of JSON lines brought into a store, each line once.

Owns the way from a file to a store's blocks. Knows no shipper and prints nothing.

A file is a journal of its own, named by its inode and its first line, and its lines are numbered from 0. The store
keeps how far it is in the transaction with the records, so an import that was killed goes on where it was, and one that
is repeated adds what was appended.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib
import io
import time
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, TypeVar, cast

import msgspec

from prefork_logd.errors import ProcessError, StoreError
from prefork_logd.records.foreign import canonical
from prefork_logd.stores.base import Block
from prefork_logd.stores.rows import decode, render

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from prefork_logd.stores.base import Store

_T = TypeVar("_T")

BATCH_LINES = 20_000
BATCH_BYTES = 8 << 20
_FIRST_LINE_BYTES = 1 << 20
_RETRIES_S = (0.5, 1, 2, 5, 10, 10, 10, 10)
"""How long to wait before each further try with a store that cannot be used just now."""


class Imported(NamedTuple):
    """What became of one file."""

    stored: int
    """Records that were stored now."""
    before: int
    """Lines that an earlier import had dealt with."""
    refused: int
    """Lines that are no record."""


def import_file(
    store: Store,
    path: Path,
    advance: Callable[[int], object],
    complain: Callable[[int, str], object],
    wait: Callable[[float], object] = time.sleep,
) -> Imported:
    """Store every line of a file, plain, .gz or .zst, that is not stored yet.

    `advance` gets the number of bytes of the file that were dealt with since the last call, `complain` the line number
    (from 1) and a reason for each line that is refused. Raises ProcessError if the file cannot be read, StoreError if
    the store stays unusable for most of a minute.
    """
    try:
        with path.open("rb", buffering=0) as file:
            return _Import(store, _journal(path), complain, wait).run(file, path, advance)
    except (OSError, EOFError) as error:
        raise ProcessError(f"{path}: cannot read it: {getattr(error, 'strerror', None) or error}") from error


class _Import:
    """One file on its way."""

    def __init__(
        self, store: Store, journal: str, complain: Callable[[int, str], object], wait: Callable[[float], object]
    ) -> None:
        self._store = store
        self._journal = journal
        self._complain = complain
        self._wait = wait
        self._refused = 0

    def run(self, file: io.FileIO, path: Path, advance: Callable[[int], object]) -> Imported:
        begin = self._retried(lambda: self._store.open(self._journal))
        now, number, at = time.time(), 0, 0
        with _plain(file, path) as plain:
            for lines in _batches(plain):
                if number + len(lines) > begin:
                    skipped = max(0, begin - number)
                    self._write(number + skipped, [self._fitted(line, now) for line in lines[skipped:]])
                number += len(lines)
                position = file.tell()
                advance(position - at)
                at = position
        before = min(begin, number)
        return Imported(number - before - self._refused, before, self._refused)

    @staticmethod
    def _fitted(line: bytes, now: float) -> bytes:
        try:
            if render(decode(line)) == line:
                return line
        except (ValueError, msgspec.DecodeError):
            pass
        try:
            return canonical(line, now)
        except ValueError:
            return line  # for the store to refuse, with its reason

    def _write(self, number: int, lines: list[bytes]) -> None:
        block = Block(number, len(lines), bytes(16), (), b"".join(lines))
        refused: dict[int, str] = {}

        def refuse(at: int, _: bytes, reason: str) -> None:
            refused[at] = reason

        self._retried(lambda: self._store.write([block], refuse))
        self._refused += len(refused)
        for at, reason in sorted(refused.items()):
            self._complain(at + 1, reason)

    def _retried(self, action: Callable[[], _T]) -> _T:
        """Do it, with a store that is opened anew after each failure: it may be locked by a collector for a while."""
        for wait_s in _RETRIES_S:
            try:
                return action()
            except StoreError:
                self._store.close()
                self._wait(wait_s)
                try:
                    self._store.open(self._journal)
                except StoreError:
                    continue
        return action()


def _journal(path: Path) -> str:
    """Return the name of a file's journal. Two files may begin alike, and an inode is used again in time."""
    with path.open("rb") as file:
        first = file.readline(_FIRST_LINE_BYTES)
    name = hashlib.blake2b(first, digest_size=16, salt=path.stat().st_ino.to_bytes(16, "big"), person=b"import")
    return name.hexdigest()


def _plain(file: io.FileIO, path: Path) -> BinaryIO:
    """Return the file decompressed, if its name says that it is compressed."""
    if path.suffix == ".gz":
        return cast("BinaryIO", gzip.GzipFile(fileobj=file))
    if path.suffix == ".zst":
        try:
            zstandard = importlib.import_module("zstandard")
        except ImportError as error:
            what = 'zstd needs a package that is not installed: pip install "prefork-logd[zstd]"'
            raise ProcessError(f"{path}: {what}") from error
        return cast(
            "BinaryIO", io.BufferedReader(zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True))
        )
    return cast("BinaryIO", io.BufferedReader(file, 1 << 20))


def _batches(file: BinaryIO) -> Iterator[list[bytes]]:
    """Yield the lines in pieces; a last one without a newline gets one."""
    lines: list[bytes] = []
    size = 0
    for line in file:
        lines.append(line if line.endswith(b"\n") else line + b"\n")
        size += len(line)
        if len(lines) >= BATCH_LINES or size >= BATCH_BYTES:
            yield lines
            lines, size = [], 0
    if lines:
        yield lines
