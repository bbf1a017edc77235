"""Encodes and decodes a record segment: a header, then blocks of records, each with its checksum.

Owns the bytes. Does not know files, stores or the meaning of a session.

    magic "PLRS" | version u32 | journal 16 bytes | first u64 | ordinal u64 | offset u64 | CRC-32 u32 | 0 u32
    then for each block:
    mark "PLRB" | CRC-32 u32 | runs u32 | bytes of lines u32 | first u64 | count u64 | time u64 | session 16 bytes
    for each run: first u64 | count u64
    the lines

Little-endian. `first` is the journal's number of the first record; `ordinal` and `offset` are the numbers of
records and bytes in all segments before this one. Numbers may leap from one segment to the next, ordinals never do. A
block's `time` is that of its commit, in nanoseconds since 1970. Its CRC-32 is of the segment's first number, the
block's position (both u64), and everything after the CRC: a block copied to another position fails its checksum.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from prefork_logd.journal.checksum import crc32

if TYPE_CHECKING:
    from collections.abc import Sequence

MAGIC = b"PLRS"
VERSION = 1
MARK = b"PLRB"
JOURNAL_BYTES = 16

_HEADER = struct.Struct("<4sI16sQQQII")
_BLOCK = struct.Struct("<4sIIIQQQ16s")
_RUN = struct.Struct("<QQ")
_PLACE = struct.Struct("<QQ")
HEADER_BYTES = _HEADER.size
BLOCK_BYTES = _BLOCK.size
_CHECKED_FROM = 8
"""Position in a block at which the bytes of its checksum begin."""


class Header(NamedTuple):
    """The header of a segment."""

    journal: bytes
    first: int
    ordinal: int
    offset: int


class Entry(NamedTuple):
    """A block that was read."""

    first: int
    records: int
    time_ns: int
    session: bytes
    runs: tuple[tuple[int, int], ...]
    lines: bytes
    end: int
    """Position of the next block in the file."""


def encode_header(header: Header) -> bytes:
    """Return a segment's header as bytes."""
    data = _HEADER.pack(MAGIC, VERSION, *header, 0, 0)
    return _HEADER.pack(MAGIC, VERSION, *header, crc32(data), 0)


def decode_header(data: bytes) -> Header:
    """Return the header of a segment. Raises ValueError with the problem."""
    if len(data) < HEADER_BYTES:
        raise ValueError("it ends within its header")
    magic, version, journal, first, ordinal, offset, check, zero = _HEADER.unpack_from(data)
    if magic != MAGIC or zero or crc32(_HEADER.pack(magic, version, journal, first, ordinal, offset, 0, 0)) != check:
        raise ValueError("its header is damaged")
    if version != VERSION:
        raise ValueError(f"its version {version} is not supported")
    return Header(journal, first, ordinal, offset)


def encode_block(
    segment: int,
    position: int,
    first: int,
    count: int,
    time_ns: int,
    session: bytes,
    runs: Sequence[tuple[int, int]],
    chunks: Sequence[bytes | memoryview],
) -> bytes:
    """Return the bytes before the lines (`chunks`) of a block at a position of the segment with this number."""
    nbytes = sum(map(len, chunks))
    table = b"".join([_RUN.pack(*run) for run in runs])
    head = _BLOCK.pack(MARK, 0, len(runs), nbytes, first, count, time_ns, session) + table
    check = crc32(head[_CHECKED_FROM:], crc32(_PLACE.pack(segment, position)))
    for chunk in chunks:
        check = crc32(chunk, check)
    return b"".join((head[:4], check.to_bytes(4, "little"), head[_CHECKED_FROM:]))


def size_of(runs: int, nbytes: int) -> int:
    """Return the size of a block with so many runs and bytes of lines."""
    return BLOCK_BYTES + _RUN.size * runs + nbytes


def block_size(data: bytes | memoryview, at: int) -> int:
    """Return the size of the block at an index, by its head; 0 if no complete head is there."""
    if at + BLOCK_BYTES > len(data) or data[at : at + 4] != MARK:
        return 0
    _, _, runs, nbytes, *_ = _BLOCK.unpack_from(data, at)
    return size_of(int(runs), int(nbytes))


def decode_block(data: memoryview, at: int, segment: int, position: int) -> Entry | None:
    """Return the block at an index of `data`, which is at `position` in its file; None if no intact one is there."""
    size = block_size(data, at)
    if not size or at + size > len(data):
        return None
    _, check, run_count, nbytes, first, count, time_ns, session = _BLOCK.unpack_from(data, at)
    whole = data[at : at + size]
    if crc32(whole[_CHECKED_FROM:], crc32(_PLACE.pack(segment, position))) != check:
        return None
    table_end = size - nbytes
    runs = tuple(_RUN.iter_unpack(whole[BLOCK_BYTES:table_end])) if run_count else ()
    return Entry(first, count, time_ns, session, runs, bytes(whole[table_end:]), position + size)


def block_end(head: bytes) -> int:
    """Return the number after the last record of the block with this head."""
    _, _, _, _, first, count, _, _ = _BLOCK.unpack_from(head)
    return int(first) + int(count)
