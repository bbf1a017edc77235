"""Writes records as segments, and keeps the store within its bounds.

Owns when a batch becomes a segment, and which segment it becomes. Does not know shippers; segments.py has the names,
rows.py the rows, merging.py the merges, retention.py what is removed.

A batch is one segment for each day of `received` that it has. Each segment begins where the one before it ended, so a
shipper that is killed between two of them goes on after the first. Import of old files can change the day with every
record: of more than MOST_DAYS changes the rest of a batch stays together, in the directory of its latest day.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from prefork_logd.config.values import format_count
from prefork_logd.stores.base import block_from, split_block
from prefork_logd.stores.parquet import engine, schema, segments
from prefork_logd.stores.parquet.index import write_segment
from prefork_logd.stores.parquet.merging import Merger
from prefork_logd.stores.parquet.retention import Retention
from prefork_logd.stores.parquet.rows import make_rows
from prefork_logd.stores.parquet.segments import failing_as_store_error
from prefork_logd.stores.parquet.word_filter import make_filter
from prefork_logd.system.disk import write_all

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from prefork_logd.config.stores.parquet import ParquetStoreSettings
    from prefork_logd.stores.base import Block

MOST_DAYS = 8
"""Segments that a batch may become."""
PIECE_BYTES = 4 << 20
"""Lines that are made rows at once."""
IDLE_S = 60.0
MERGING_S = 0.5
"""Time until the next look at a merge that runs."""


def make_store(settings: ParquetStoreSettings) -> ParquetStore:
    """Return the store of these settings, not opened yet."""
    return ParquetStore(settings)


def import_libraries() -> None:
    """Import DuckDB, which otherwise only the processes that use it import. Starts no thread. Raises ImportError."""
    import duckdb  # noqa: F401 - it takes 26 MB


class _Part(NamedTuple):
    """The rows of one segment: where they begin in the file of rows, and their day."""

    offset: int
    number: int
    day: int


class ParquetStore:
    """A Store (stores/base.py) of Parquet files in a directory."""

    def __init__(self, settings: ParquetStoreSettings) -> None:
        """Keep records by `settings`, whose path is absolute."""
        self._settings = settings
        self._root = Path(settings.path)
        self._directory = segments.Directory(self._root)
        self._merger = Merger(self._directory, settings.memory_bytes)
        self._retention = Retention(self._directory, settings.retain_s, settings.retain_bytes, settings.min_free_bytes)
        self._journal = ""
        self._next = 0
        """Number of the first record that is needed."""
        self._end = 0
        """Number after the newest segment: where the next one begins, so that a range has no hole."""

    def open(self, journal: str) -> int:
        """Make the directory, remove files of a killed shipper, and return the number of the first record needed."""
        self.close()
        with failing_as_store_error(self._root):
            self._directory.make()
            with self._directory.locked():
                self._directory.clear_temporary()
                found = segments.positions(self._root, segments.find_files(self._root))
        self._next = self._end = found.get(journal, 0)
        self._journal = journal
        return self._next

    def write(self, blocks: Sequence[Block], refuse: Callable[[int, bytes, str], None]) -> None:
        """Store every record of `blocks` that is not stored yet, as one segment for each day."""
        end = blocks[-1].first + blocks[-1].count
        if end <= self._next:
            return
        wanted = [part for block in blocks if (part := block_from(block, self._next)) is not None]
        with failing_as_store_error(self._root):
            fd = os.memfd_create("rows", os.MFD_CLOEXEC)
            try:
                parts, longest = self._make_parts(fd, wanted, refuse)
                with self._directory.locked():
                    self._retention.make_room()
                    self._write_parts(fd, parts, longest, end, wanted)
            finally:
                os.close(fd)
        self._next = end

    @staticmethod
    def _make_parts(
        fd: int, blocks: Sequence[Block], refuse: Callable[[int, bytes, str], None]
    ) -> tuple[list[_Part], int]:
        """Write the rows of blocks into a file; return its parts by day, and the length of the longest row or more."""
        parts: list[_Part] = []
        offset = longest = 0
        for lines, first in _pieces(blocks):
            made = make_rows(lines, first, refuse)
            for day in made.days:
                if not parts or parts[-1].day != day.day:
                    if len(parts) < MOST_DAYS:
                        parts.append(_Part(offset + day.offset, day.number, day.day))
                    else:
                        parts[-1] = parts[-1]._replace(day=max(day.day, parts[-1].day))
            # A row is at most the longest line twice, as JSON in JSON has a backslash before each quote.
            longest = max(longest, len(made.data) if len(made.data) < PIECE_BYTES else _longest(made.data))
            offset += len(made.data)
            write_all(fd, made.data)
        return parts, longest

    def _write_parts(self, fd: int, parts: Sequence[_Part], longest: int, end: int, blocks: Sequence[Block]) -> None:
        """Write each part as a segment, in order, with the filter of its words. Raises OSError, StoreError."""
        for index, part in enumerate(parts):
            following = parts[index + 1] if index + 1 < len(parts) else None
            stop = following.number if following is not None else end
            source = fd
            if len(parts) > 1:
                size = (following.offset if following is not None else os.fstat(fd).st_size) - part.offset
                source = _copy(fd, part.offset, size)
            try:
                rows = schema.rows_source(f"/proc/self/fd/{source}", self._journal, longest)
                words = make_filter(block.lines for block in _between(blocks, self._end, stop))
                self._write_segment(rows, segments.day_name(part.day), stop, words)
            finally:
                if source != fd:
                    os.close(source)
            self._next = self._end = stop

    def _write_segment(self, rows: str, day: str, stop: int, words: bytes) -> None:
        path = segments.segment_path(self._root, day, self._journal, self._end, stop)
        temporary = self._directory.temporary(path)
        try:
            with (
                engine.connect(self._settings.memory_bytes, 1, self._directory.spill) as connection,
                engine.failing_as_store_error(),
            ):
                write_segment(connection, rows, str(temporary), [(self._end, stop, words)] if words else [])
            self._directory.publish(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

    def maintain(self) -> float:
        """Remove segments beyond the bounds, and begin or finish a merge."""
        with failing_as_store_error(self._root), self._directory.locked():
            self._retention.apply()
        return MERGING_S if self._merger.go_on() else IDLE_S

    def status(self) -> dict[str, Any]:
        """Return number and size of the files, and warnings about files that cannot be read."""
        with failing_as_store_error(self._root):
            found = segments.find_segments(self._root)
            damaged = segments.damaged_files(self._root)
        nbytes = sum(one.nbytes for one in found)
        days = f", {found[0].day} to {found[-1].day}" if found else ""
        report: dict[str, Any] = {
            "segments": len(found),
            "bytes": nbytes,
            "damaged": len(damaged),
            "summary": f"{format_count(len(found), 'file')}, {nbytes / 1e6:.1f} MB{days}",
        }
        if damaged:
            report["warnings"] = [
                f"{format_count(len(damaged), 'damaged file')}, the first one {damaged[0]}: restore or remove each"
            ]
        return report

    def close(self) -> None:
        """End a merge that runs; its parts stay."""
        self._merger.stop()


def _between(blocks: Sequence[Block], first: int, stop: int) -> Iterator[Block]:
    """Yield the records of blocks with numbers from `first` on, before `stop`."""
    for block in blocks:
        part = block_from(block, first)
        if part is not None and part.first < stop:
            yield part if part.first + part.count <= stop else split_block(part, stop - part.first)[0]


def _pieces(blocks: Sequence[Block]) -> Iterator[tuple[bytes, int]]:
    """Yield lines with consecutive numbers, joined up to PIECE_BYTES, each with the number of the first."""
    some: list[bytes] = []
    first = following = size = 0
    for block in blocks:
        if some and (block.first != following or size >= PIECE_BYTES):
            yield b"".join(some), first
            some, size = [], 0
        if not some:
            first = block.first
        some.append(block.lines)
        size += len(block.lines)
        following = block.first + block.count
    if some:
        yield b"".join(some), first


def _longest(data: bytes) -> int:
    longest = at = 0
    while at < len(data):
        end = data.index(b"\n", at) + 1
        longest = max(longest, end - at)
        at = end
    return longest


def _copy(fd: int, offset: int, size: int) -> int:
    """Return a new file in memory with a part of another. Raises OSError."""
    copy = os.memfd_create("rows", os.MFD_CLOEXEC)
    try:
        while size:
            done = os.sendfile(copy, fd, offset, size)
            offset += done
            size -= done
    except BaseException:
        os.close(copy)
        raise
    return copy
