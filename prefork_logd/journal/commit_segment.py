"""Writes and reads one file of the journal: entries, each with its length and checksum.

Owns the file's form, and finds its intact entries. Does not know the content of an entry.

    magic "PLJ2" | 0 u32 | sequence u64                 16 bytes, little-endian
    then for each entry: mark "PLJE" | body bytes u32 | CRC-32 u32 | body
    then zeros

The whole file is allocated when it is created, so that a full disk is noticed then and not in the middle of a commit.
The CRC-32 is of the sequence, the entry's position (both u64) and the body: an entry copied to another position fails
its checksum.

A torn or changed entry is ignored; the intact ones after it count. A power loss can tear only entries that were not
synced: the last one, or those before it that acknowledged nothing. Elsewhere the disk has changed the entry, and the
outputs agree with the later entries.
"""

from __future__ import annotations

import contextlib
import os
import struct
import zlib
from typing import TYPE_CHECKING, NamedTuple

from prefork_logd.errors import OutputError

if TYPE_CHECKING:
    from pathlib import Path

MAGIC = b"PLJ2"

_HEADER = struct.Struct("<4sIQ")
_MARK = b"PLJE"
_ENTRY = struct.Struct("<4sII")
_PLACE = struct.Struct("<QQ")


class Segment(NamedTuple):
    """The content of a file of the journal."""

    bodies: list[bytes]
    problem: str
    """Description of the damage; empty for none."""


class SegmentWriter:
    """A new file of the journal."""

    def __init__(self, path: Path, sequence: int, size: int) -> None:
        """Create the file with room for `size` bytes. Raises OutputError; then nothing of it is left."""
        self.path = path
        self.position = _HEADER.size
        self._sequence = sequence
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise OutputError(str(path), "create", error) from error
        try:
            os.posix_fallocate(self._fd, 0, size)
            os.pwrite(self._fd, _HEADER.pack(MAGIC, 0, sequence), 0)
        except OSError as error:
            self.close()
            with contextlib.suppress(OSError):
                path.unlink()
            raise OutputError(str(path), "create", error) from error

    def append(self, body: bytes) -> None:
        """Write an entry. Raises OutputError; then the entry does not count."""
        data = _ENTRY.pack(_MARK, len(body), _check(self._sequence, self.position, body)) + body
        try:
            written = os.pwrite(self._fd, data, self.position)
            while written < len(data):
                written += os.pwrite(self._fd, data[written:], self.position + written)
        except OSError as error:
            raise OutputError(str(self.path), "write", error) from error
        self.position += len(data)

    def sync(self) -> None:
        """Wait until every entry is on the disk. Raises OutputError; then this file must not be trusted any more."""
        try:
            os.fdatasync(self._fd)
        except OSError as error:
            raise OutputError(str(self.path), "sync", error) from error

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


def read_segment(path: Path, sequence: int) -> Segment:
    """Return the intact entries of the file with this sequence. Raises OSError if it cannot be read."""
    data = path.read_bytes()
    bodies: list[bytes] = []
    problems: list[str] = []
    if not data.startswith(_HEADER.pack(MAGIC, 0, sequence)):
        problems.append("its header is damaged")
    position, end = _HEADER.size, len(data.rstrip(b"\0"))
    while 0 <= position < end:
        body = _entry(data, sequence, position)
        if body is not None:
            bodies.append(body)
            position += _ENTRY.size + len(body)
        else:
            problems.append(f"the entry at byte {position} is torn or was changed")
            position = _next_entry(data, sequence, position + 1)
    return Segment(bodies, "; ".join(problems))


def _check(sequence: int, position: int, body: bytes) -> int:
    return zlib.crc32(body, zlib.crc32(_PLACE.pack(sequence, position)))


def _entry(data: bytes, sequence: int, position: int) -> bytes | None:
    """Return the body of the entry at a position; None if no intact entry is there."""
    if position + _ENTRY.size > len(data):
        return None
    mark, length, check = _ENTRY.unpack_from(data, position)
    body = data[position + _ENTRY.size : position + _ENTRY.size + length]
    if mark != _MARK or not length or len(body) < length or _check(sequence, position, body) != check:
        return None
    return body


def _next_entry(data: bytes, sequence: int, position: int) -> int:
    """Return the position of the next intact entry; -1 if there is none."""
    while (position := data.find(_MARK, position)) >= 0:
        if _entry(data, sequence, position) is not None:
            break
        position += 1
    return position
