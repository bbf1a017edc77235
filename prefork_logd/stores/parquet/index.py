"""Reads and writes the index of a segment, by which a query skips records without DuckDB.

Owns the layout of the index. Does not know queries, or when segments are made and merged.

The index lies between the columns and the footer of the Parquet file, where no reader of Parquet looks. It has the ends
of `created`, the number of records of each minute and level, the filters of words (word_filter.py) with the numbers of
their records, and checksums of the columns' octets. A file of another program has no index; it is read as a whole.

    PAR1 | columns | filters, counts, head | length and checksum of the head, MAGIC | footer | length, PAR1
"""

from __future__ import annotations

import os
import struct
import zlib
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from prefork_logd.errors import StoreError
from prefork_logd.stores.parquet import engine, schema, word_filter
from prefork_logd.stores.parquet.footer import MAGIC as PARQUET_MAGIC
from prefork_logd.stores.parquet.footer import TAIL_BYTES
from prefork_logd.system.disk import write_all

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import duckdb

MAGIC = b"prefork2"
"""The last octets of an index; another layout, or other columns of the file, get another number."""
OLD_MAGIC = b"prefork1"
"""Those of an index of the same layout, in a file without the column `peer_name`."""
MINUTE_S = 60
MOST_COUNTS = 50_000
"""Pairs of a minute and a level of a file; of more nothing is counted, so that memory is bounded."""
_TRAILER = struct.Struct("<II8s")
_CHUNK = 1 << 20


class Filter(msgspec.Struct, array_like=True, frozen=True):
    """A filter of the words of some records."""

    first: int
    """The least number of a record that it may be about."""
    next: int
    """The number after the last one."""
    at: int
    """Its offset in the file."""
    size: int
    """Its length in bytes."""


class Head(msgspec.Struct, array_like=True, frozen=True):
    """All of an index but counts and filters."""

    pieces: list[tuple[int, int]]
    """Number of octets and CRC-32 of each piece of the columns, from the first octet after the file's magic on."""
    records: int
    odd: int
    """Records with a line beside their columns."""
    least: float
    """The least `created`."""
    greatest: float
    groups: int
    """Row groups."""
    counts: tuple[int, int, int] | None
    """Offset, length and CRC-32 of the counts; None: there are none."""
    filters: list[Filter]


Count = tuple[int, int | None, int]
"""A minute since 1970, a levelno, and the number of records without a line beside their columns."""
_encode = msgspec.msgpack.Encoder().encode
_decode_head = msgspec.msgpack.Decoder(Head).decode
_decode_counts = msgspec.msgpack.Decoder(list[Count]).decode


class Index(NamedTuple):
    """The index of an open file."""

    fd: int
    head: Head
    start: int
    """Where the index begins, in octets: behind the columns."""
    is_current: bool = True
    """Whether the file has the columns of this version."""

    @property
    def counts(self) -> list[Count] | None:
        """The number of records of each minute and level; None if they were not counted, or cannot be read."""
        if self.head.counts is None:
            return None
        at, nbytes, checksum = self.head.counts
        octets = os.pread(self.fd, nbytes, at)
        return _decode_counts(octets) if zlib.crc32(octets) == checksum else None

    def finder(self, one: Filter) -> Callable[[bytes], bool]:
        """Return the function that tells whether a word may be among the words of a filter."""
        return word_filter.finder(lambda at, size: os.pread(self.fd, size, one.at + at), one.size)

    def filters(self) -> Iterator[tuple[int, int, bytes]]:
        """Yield for each filter the numbers that it is about, and its octets."""
        for one in self.head.filters:
            yield one.first, one.next, os.pread(self.fd, one.size, one.at)


class Facts(NamedTuple):
    """Facts about the records of a file."""

    records: int
    odd: int
    least: float
    greatest: float
    groups: int
    counts: list[Count] | None


def read_index(fd: int) -> Index | None:
    """Return the index of an open file; None if it has none that can be read. Raises OSError."""
    size = os.fstat(fd).st_size
    end = _columns_end(fd, size)
    trailer = os.pread(fd, _TRAILER.size, max(0, end - _TRAILER.size)) if end else b""
    if len(trailer) < _TRAILER.size or not trailer.endswith((MAGIC, OLD_MAGIC)):
        return None
    length, checksum, _ = _TRAILER.unpack(trailer)
    octets = os.pread(fd, length, max(0, end - _TRAILER.size - length))
    if zlib.crc32(octets) != checksum:
        return None
    try:
        head = _decode_head(octets)
    except msgspec.DecodeError:
        return None
    start = len(PARQUET_MAGIC) + sum(nbytes for nbytes, _ in head.pieces)
    return Index(fd, head, start, trailer.endswith(MAGIC))


def _columns_end(fd: int, size: int) -> int:
    """Return the offset of the footer; 0: this is not a file of Parquet."""
    tail = os.pread(fd, TAIL_BYTES, max(0, size - TAIL_BYTES))
    length = int.from_bytes(tail[:4], "little")
    return max(0, size - TAIL_BYTES - length) if tail.endswith(PARQUET_MAGIC) else 0


def read_tail(fd: int) -> tuple[int, bytes]:
    """Return the offset of the footer of an open file, and the footer. Raises OSError, StoreError."""
    size = os.fstat(fd).st_size
    end = _columns_end(fd, size)
    if not end:
        raise StoreError("this is not a Parquet file, or it is cut off")
    return end, os.pread(fd, size - TAIL_BYTES - end, end)


def look_up(connection: duckdb.DuckDBPyConnection, path: str) -> Facts:
    """Return the facts about the records of a file. Raises duckdb.Error."""
    # Another program may have written times that are no times.
    minute = f"TRY_CAST(floor(created / {MINUTE_S}) AS BIGINT)"
    found = connection.execute(
        f"SELECT {minute} AS minute, levelno, line IS NOT NULL AS odd, count(*), min(created), max(created) "
        f"FROM read_parquet({engine.text(path)}) GROUP BY ALL"
    )
    records = odd = 0
    least, greatest = float("inf"), float("-inf")
    counts: list[Count] | None = []
    while some := found.fetchmany(1000):
        for at, level, is_odd, count, low, high in some:
            records += count
            odd += count * is_odd
            least, greatest = min(least, low), max(greatest, high)
            if counts is not None and not is_odd:
                counts.append((at, level, count))
                if at is None or len(counts) > MOST_COUNTS:
                    counts = None
    [(groups,)] = connection.execute(
        f"SELECT num_row_groups FROM parquet_file_metadata({engine.text(path)})"
    ).fetchall()
    return Facts(records, odd, least, greatest, groups, counts)


def joined(facts: Iterable[Facts]) -> Facts:
    """Return the facts about the records of several files, of which one has records."""
    records = odd = groups = 0
    least, greatest = float("inf"), float("-inf")
    sums: dict[tuple[int, int | None], int] | None = {}
    for one in facts:
        records, odd, groups = records + one.records, odd + one.odd, groups + one.groups
        least, greatest = min(least, one.least), max(greatest, one.greatest)
        if one.counts is None:
            sums = None
        if sums is not None:
            for minute, level, count in one.counts or ():
                sums[minute, level] = sums.get((minute, level), 0) + count
            if len(sums) > MOST_COUNTS:
                sums = None
    counts = None if sums is None else [(*key, count) for key, count in sums.items()]
    return Facts(records, odd, least, greatest, groups, counts)


def facts_of(index: Index) -> Facts:
    """Return the facts in an index. Raises OSError."""
    head = index.head
    return Facts(head.records, head.odd, head.least, head.greatest, head.groups, index.counts)


def write_index(
    fd: int, pieces: list[tuple[int, int]], facts: Facts, filters: Iterable[tuple[int, int, bytes]], footer: bytes
) -> None:
    """Write an index and the footer behind the columns of a file, where `fd` stands. Raises OSError."""
    at = os.lseek(fd, 0, os.SEEK_CUR)
    kept = []
    for first, following, octets in filters:
        write_all(fd, octets)
        kept.append(Filter(first, following, at, len(octets)))
        at += len(octets)
    counts = None if facts.counts is None else _encode(sorted(facts.counts, key=_order))
    place = None if counts is None else (at, len(counts), zlib.crc32(counts))
    head = _encode(Head(pieces, facts.records, facts.odd, facts.least, facts.greatest, facts.groups, place, kept))
    trailer = _TRAILER.pack(len(head), zlib.crc32(head), MAGIC)
    write_all(fd, (counts or b"") + head + trailer + footer + len(footer).to_bytes(4, "little") + PARQUET_MAGIC)


def _order(count: Count) -> tuple[int, int]:
    return count[0], -1 if count[1] is None else count[1]


def write_segment(
    connection: duckdb.DuckDBPyConnection, rows: str, path: str, filters: Iterable[tuple[int, int, bytes]]
) -> None:
    """Write the rows of a query to an empty file, with an index. Raises OSError, duckdb.Error, StoreError."""
    # Otherwise DuckDB gives other types to columns of which it knows that they have no NULL in these rows. Files with
    # other types cannot be joined (joining.py).
    connection.execute("SET disabled_optimizers = 'statistics_propagation'")
    # The file is a temporary one with its mode already; DuckDB would write another one beside it.
    connection.execute(f"COPY ({rows}) TO {engine.text(path)} ({schema.COMPRESSION}, USE_TMP_FILE false)")
    add_index(connection, path, filters)


def add_index(connection: duckdb.DuckDBPyConnection, path: str, filters: Iterable[tuple[int, int, bytes]]) -> None:
    """Give an index to a file that DuckDB has just written. Raises OSError, duckdb.Error, StoreError."""
    facts = look_up(connection, path)
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        end, footer = read_tail(fd)
        start = len(PARQUET_MAGIC)
        pieces = [(end - start, checksum(fd, start, end - start))]
        os.lseek(fd, end, os.SEEK_SET)
        write_index(fd, pieces, facts, filters, footer)
    finally:
        os.close(fd)


def checksum(fd: int, at: int, nbytes: int, write: Callable[[bytes], Any] | None = None) -> int:
    """Return the CRC-32 of a part of a file, of which each piece is passed to `write`. Raises OSError, StoreError."""
    value = 0
    while nbytes:
        octets = os.pread(fd, min(nbytes, _CHUNK), at)
        if not octets:
            raise StoreError("the file is cut off")
        value = zlib.crc32(octets, value)
        if write is not None:
            write(octets)
        at += len(octets)
        nbytes -= len(octets)
    return value
