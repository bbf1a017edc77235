"""Takes a snapshot of a store for queries: the segments, and the records of the journal that are in no segment yet.

Owns what a query reads. Does not know conditions, or what a query is about.

Every segment is opened at once, and read by its descriptor, so that a merge or the removal of old records does not
disturb a query. The end of the journal becomes a file of rows, in memory if it is small.
"""

from __future__ import annotations

import contextlib
import os
import resource
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from prefork_logd.errors import StoreError, describe_refusal
from prefork_logd.journal.identity import IDENTITY_FILE, read_identity
from prefork_logd.journal.record_log import POSITION_FILE
from prefork_logd.journal.record_reader import RecordReader
from prefork_logd.stores.base import block_from
from prefork_logd.stores.parquet import engine, schema, segments
from prefork_logd.stores.parquet.index import read_index
from prefork_logd.stores.parquet.rows import make_rows
from prefork_logd.stores.record_filter import RecordFilter
from prefork_logd.system.disk import write_all

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prefork_logd.config.stores.parquet import ParquetStoreSettings
    from prefork_logd.stores.base import Block
    from prefork_logd.stores.parquet.index import Index

MEMORY_BYTES = 64 << 20
"""Rows of the journal's end that are kept in memory; more are in a temporary file."""
_PIECE_RECORDS = 2_000
_SHRINKS = 4
"""How many times shorter a row becomes in a file, at least."""
_SPARE_FILES = 64
"""Descriptors for everything but segments."""


class Snapshot:
    """What a query reads, as it was at one moment."""

    def __init__(self, settings: ParquetStoreSettings, journal: Path | None, complain: Callable[[str], None]) -> None:
        """Open the store of these settings, and the end of the journal in the directory `journal` (None: without it).

        `complain` takes a sentence about each part that cannot be read. Raises StoreError.
        """
        self._resources = contextlib.ExitStack()
        self._complain = complain
        self.segments: list[segments.Segment] = []
        self.files: dict[str, segments.Segment] = {}
        """The segments that are read, by the path that leads to them even after they are removed."""
        self._indexes: dict[str, Index | None] = {}
        self._tail_octets = 0.0
        self.tail: tuple[str, str, int] | None = None
        """Path of the rows of the journal's end, the journal, and the length of the longest row or more."""
        root = Path(settings.path)
        try:
            with segments.failing_as_store_error(root):
                known = self._open(root)
                if journal is not None:
                    self._read_journal(settings, journal, known)
        except BaseException:
            self.close()
            raise

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to read."""
        return not self.files and self.tail is None

    def _open(self, root: Path) -> dict[str, int]:
        """Open all segments; return the position of each journal."""
        while True:
            files = segments.find_files(root)
            found = segments.split_covered(files)[0]
            _allow_files(len(found) + _SPARE_FILES)
            opened: dict[str, segments.Segment] = {}
            stack = contextlib.ExitStack()
            try:
                for one in found:
                    fd = os.open(one.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
                    stack.callback(os.close, fd)
                    opened[f"/proc/self/fd/{fd}"] = one
            except FileNotFoundError:
                stack.close()  # merged meanwhile
                continue
            except BaseException:
                stack.close()
                raise
            self._resources.push(stack.pop_all())
            self.segments, self.files = found, opened
            return segments.positions(root, files)

    def _read_journal(self, settings: ParquetStoreSettings, directory: Path, known: dict[str, int]) -> None:
        problems: list[str] = []
        try:
            if not (directory / IDENTITY_FILE).exists():
                return
            journal = read_identity(directory, problems)[0].hex()
            octets = (directory / POSITION_FILE).read_bytes()[:8]
        except FileNotFoundError:
            return
        except PermissionError as error:
            why = f"{error.filename}: {describe_refusal(error)}"
            self._complain(f"{why}. The newest records, which are in no file yet, are missing")
            return
        until = int.from_bytes(octets, "little")
        start = known.get(journal, 0)
        if start >= until:
            return
        file = _RowsFile(self._resources)
        for data in _rows(settings, directory, start, until, problems):
            file.write(data)
        for problem in problems:
            self._complain(f"journal: {problem}")
        self._tail_octets = os.fstat(file.fd).st_size / (until - start) / _SHRINKS
        if file.longest:
            self.tail = f"/proc/self/fd/{file.fd}", journal, file.longest

    @property
    def paths(self) -> list[str]:
        """The files of `source`."""
        return [*self.files, *([self.tail[0]] if self.tail is not None else [])]

    def source(self, journal: str = "", number: int = 0) -> str:
        """Return the query of all records, in the columns of a segment.

        With a journal, only of the places where its record of this number may be; empty if there is none.
        """
        paths = [
            path
            for path, one in self.files.items()
            if not journal or (one.journal == journal and one.first <= number < one.next)
        ]
        parts = []
        if paths:
            some = ([path for path in paths if self.is_current(path) is wanted] for wanted in (True, False))
            parts.append(schema.records_source(*(engine.text_list(each) if each else "" for each in some)))
        if self.tail is not None and (not journal or self.tail[1] == journal):
            parts.append(schema.rows_source(*self.tail))
        return f"({' UNION ALL '.join(parts)})" if parts else ""

    @property
    def record_octets(self) -> float:
        """Size of a record in the file with the largest ones, on the average; of the journal's as if in a file.

        Raises StoreError.
        """
        sizes = [self._tail_octets]
        for path in self.files:
            index = self.index(path)
            if index is not None and index.head.records:
                sizes.append(os.fstat(index.fd).st_size / index.head.records)
        return max(sizes)

    def is_current(self, path: str) -> bool:
        """Return whether one of `files` has the columns of this version. Raises StoreError."""
        index = self.index(path)
        return index is not None and index.is_current

    def index(self, path: str) -> Index | None:
        """Return the index of one of `files`; None if it has none. Raises StoreError."""
        if path not in self._indexes:
            with segments.failing_as_store_error(self.files[path].path):
                self._indexes[path] = read_index(int(path.rpartition("/")[2]))
        return self._indexes[path]

    def drop_damaged(self) -> bool:
        """Leave out the segments that cannot be read, and complain about each; return whether there was one."""
        from prefork_logd.stores.parquet.merging import check_path  # noqa: PLC0415 - only after an error

        damaged = []
        for path, one in self.files.items():
            try:
                check_path(path, str(one.path))
            except StoreError as error:
                damaged.append(path)
                self._complain(f"{error}; records {one.first} to {one.next - 1} of that file are missing")
        for path in damaged:
            del self.files[path]
        return bool(damaged)

    def close(self) -> None:
        """Close every file."""
        self._resources.close()


class _RowsFile:
    """A file of rows: in memory up to MEMORY_BYTES, then in the directory for temporary files."""

    def __init__(self, resources: contextlib.ExitStack) -> None:
        """Make the file, which `resources` closes."""
        self._resources = resources
        self.fd = os.memfd_create("rows", os.MFD_CLOEXEC)
        resources.callback(os.close, self.fd)
        self.longest = 0
        """Length of the longest row or more; 0: there is none."""
        self._nbytes = 0
        self._in_memory = True

    def write(self, data: bytes) -> None:
        """Append rows. Raises OSError."""
        if self._in_memory and self._nbytes + len(data) > MEMORY_BYTES:
            file = self._resources.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - `resources` closes it
            offset = 0
            while offset < self._nbytes:
                offset += os.sendfile(file.fileno(), self.fd, offset, self._nbytes - offset)
            os.ftruncate(self.fd, 0)
            self.fd, self._in_memory = file.fileno(), False
        write_all(self.fd, data)
        self._nbytes += len(data)
        self.longest = max(self.longest, len(data))


def _rows(
    settings: ParquetStoreSettings, directory: Path, start: int, until: int, problems: list[str]
) -> Iterator[bytes]:
    """Yield rows of the journal's records from `start` on, before `until`."""
    reader = RecordReader(directory)
    chosen = RecordFilter(settings)
    some: list[Block] = []
    count = 0
    try:
        reader.seek(start)
        while (entry := reader.read(until)) is not None:
            for picked in chosen.pick(entry):
                block = block_from(picked, start)
                if block is None:
                    continue
                if some and (count >= _PIECE_RECORDS or block.first != some[-1].first + some[-1].count):
                    yield _made(some)
                    some, count = [], 0
                some.append(block)
                count += block.count
        if some:
            yield _made(some)
        problems += reader.problems
    finally:
        reader.close()


def _made(blocks: list[Block]) -> bytes:
    return make_rows(b"".join(block.lines for block in blocks), blocks[0].first, lambda *_: None).data


def _allow_files(count: int) -> None:
    """Raise the limit of open files to `count`, or as far as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count:
        wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
