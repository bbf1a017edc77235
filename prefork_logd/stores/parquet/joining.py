"""Joins segments by copying their row groups as they are, which costs a hundredth of writing them again.

Owns which segments are joined, and the new file's layout. Does not know DuckDB, or when segments are merged.

The columns of a row group lie one after the other; the footer has the offset of each. So a file with the row groups of
several files has their octets behind each other, and a footer with other offsets. Row groups that are too small to be
read and compressed well are not joined: DuckDB writes their records again.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from prefork_logd.errors import StoreError, describe_refusal
from prefork_logd.stores.parquet import index as indexes
from prefork_logd.stores.parquet.footer import MAGIC, Footer, FooterError, make_footer, moved, read_footer
from prefork_logd.system.disk import write_all

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

LEAST_ROWS = 30_000
"""Records of a row group that is large enough, on the average of its file."""
LEAST_BYTES = 1 << 20
"""Its compressed size in bytes, if it has fewer records."""

_PIECE_BYTES = 1 << 20


class UnlikeError(StoreError):
    """Segments have different columns, and cannot be joined."""


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        yield fd
    finally:
        os.close(fd)


def has_large_groups(path: Path) -> bool:
    """Return whether a file can be joined to others, and has row groups that are large enough. Raises OSError."""
    with _opened(path) as fd:
        found = indexes.read_index(fd)
        if found is None or not found.is_current or not found.head.groups:
            return False
        groups = found.head.groups
        return found.head.records >= LEAST_ROWS * groups or found.start >= LEAST_BYTES * groups


def has_current_columns(path: Path) -> bool:
    """Return whether a file has the columns of this version. Raises OSError."""
    with _opened(path) as fd:
        found = indexes.read_index(fd)
        return found is not None and found.is_current


def filters_of(paths: Sequence[Path]) -> Iterator[tuple[int, int, bytes]]:
    """Yield the filters of files, each with the numbers that it is about. Raises OSError."""
    for path in paths:
        with _opened(path) as fd:
            found = indexes.read_index(fd)
            if found is not None:
                yield from found.filters()


def join(paths: Sequence[Path], target: Path, check: Callable[[], object]) -> None:
    """Write the records of files, which have an index, to the file `target`, with an index of its own.

    Calls `check` before each piece of a megabyte; an error that it raises ends the work. Raises UnlikeError, StoreError
    that names a file whose columns are damaged, and OSError.
    """
    out = os.open(target, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
    try:
        joined = _Joined(out, check)
        for path in paths:
            with _opened(path) as fd:
                joined.add(fd, path)
        joined.finish(paths)
    finally:
        os.close(out)


def concatenate(paths: Sequence[Path], target: Path) -> None:
    """Write the row groups of files, which have no index, to a new file, and remove these files one after the other.

    The memory that it takes does not depend on their rows. Raises UnlikeError, StoreError, OSError.
    """
    out = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        write_all(out, MAGIC)
        like: Footer | None = None
        groups: list[bytes] = []
        rows, size = 0, len(MAGIC)
        for path in paths:
            with _opened(path) as fd:
                end, octets = indexes.read_tail(fd)
                footer = _read_footer(path, octets)
                distance = size - len(MAGIC)
                groups += [moved(group, distance, len(groups) + at) for at, group in enumerate(footer.groups)]
                if like is not None and footer.schema != like.schema:
                    raise UnlikeError(f"{path} has other columns")
                like = like or footer
                rows += footer.rows
                for at in range(len(MAGIC), end, _PIECE_BYTES):
                    write_all(out, os.pread(fd, min(_PIECE_BYTES, end - at), at))
                size += end - len(MAGIC)
            path.unlink()
        if like is None:
            raise StoreError("there is no file to join")
        ending = make_footer(like, rows, groups)
        write_all(out, ending + len(ending).to_bytes(4, "little") + MAGIC)
    finally:
        os.close(out)


def _read_footer(path: Path, octets: bytes) -> Footer:
    try:
        return read_footer(octets)
    except FooterError as error:
        raise StoreError(f"{path}: the footer {error}") from error


class _Joined:
    """A file that gets the row groups of other files."""

    def __init__(self, out: int, check: Callable[[], object]) -> None:
        self._out = out
        self._check = check
        self._like: Footer | None = None
        self._groups: list[bytes] = []
        self._pieces: list[tuple[int, int]] = []
        self._facts: list[indexes.Facts] = []
        self._rows = 0
        self._size = len(MAGIC)
        write_all(out, MAGIC)

    def add(self, fd: int, path: Path) -> None:
        """Copy the row groups of an open file."""
        found = indexes.read_index(fd)
        if found is None or not found.is_current:
            raise UnlikeError(f"{path} has no index, or columns of an earlier version")
        _, octets = indexes.read_tail(fd)
        try:
            footer = read_footer(octets)
            distance = self._size - len(MAGIC)
            self._groups += [moved(group, distance, len(self._groups) + at) for at, group in enumerate(footer.groups)]
        except FooterError as error:
            raise StoreError(f"{path}: the footer {error}") from error
        if self._like is not None and footer.schema != self._like.schema:
            raise UnlikeError(f"{path} has other columns")
        self._like = self._like or footer
        at = len(MAGIC)
        for nbytes, checksum in found.head.pieces:
            if indexes.checksum(fd, at, nbytes, self._write) != checksum:
                raise StoreError(f"{path}: the checksum of its columns is wrong")
            at += nbytes
        self._pieces += found.head.pieces
        self._facts.append(indexes.facts_of(found))
        self._rows += footer.rows

    def _write(self, octets: bytes) -> None:
        self._check()
        write_all(self._out, octets)
        self._size += len(octets)

    def finish(self, paths: Sequence[Path]) -> None:
        """Write the index and the footer; `paths` are the files that were added."""
        if self._like is None:
            raise StoreError("there is no file to join")
        footer = make_footer(self._like, self._rows, self._groups)
        indexes.write_index(self._out, self._pieces, indexes.joined(self._facts), filters_of(paths), footer)


def check_columns(path: str, name: str) -> None:
    """Compare the columns of a file with the checksums in its index, if it has one.

    Raises StoreError with the file's `name` if they differ.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise StoreError(f"{name}: {describe_refusal(error)}") from error
    try:
        found = indexes.read_index(fd)
        at = len(MAGIC)
        for nbytes, checksum in found.head.pieces if found is not None else ():
            if indexes.checksum(fd, at, nbytes) != checksum:
                raise StoreError(f"{name}: the checksum of its columns is wrong")
            at += nbytes
    except OSError as error:
        raise StoreError(f"{name}: {describe_refusal(error)}") from error
    finally:
        os.close(fd)
