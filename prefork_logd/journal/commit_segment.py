"""One file of the journal: entries, each with its length and checksum.

Owns the file's form, and where an intact part of it ends. Knows nothing of what entries say.

    magic "PLJ2" | 0 u32 | sequence u64                 16 bytes, little-endian
    then for each entry: mark "PLJE" | body bytes u32 | CRC-32 u32 | body
    then zeros

The file is allocated whole when it is made, so that a full disk is met then and not in the middle of a commit. The
CRC-32 is of the sequence, the entry's position (both u64) and the body: nothing that lies anywhere else is an entry.

An entry that is torn or was changed never counts; the intact ones after it do. By a power loss only what was not synced
can be torn: the last entry, or those before it that acknowledged nothing. In the middle it is the disk that has changed
it, and the outputs hold what later entries say.
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
    """What a file of the journal holds."""

    bodies: list[bytes]
    problem: str
    """What is not as it should be; empty if all is."""


class SegmentWriter:
    """A new file of the journal."""

    def __init__(self, path: Path, sequence: int, size: int) -> None:
        """Make the file with room for `size` bytes. Raises OutputError; nothing of it is left then."""
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
        """Write an entry. Raises OutputError; the entry then never was."""
        data = _ENTRY.pack(_MARK, len(body), _check(self._sequence, self.position, body)) + body
        try:
            written = os.pwrite(self._fd, data, self.position)
            while written < len(data):
                written += os.pwrite(self._fd, data[written:], self.position + written)
        except OSError as error:
            raise OutputError(str(self.path), "write", error) from error
        self.position += len(data)

    def sync(self) -> None:
        """Wait until every entry is on the disk. Raises OutputError: then this file is not to be trusted any more."""
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
        problems.append("it does not begin as it should")
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
    """Return the body of the entry at a position; None if there is none that is intact."""
    if position + _ENTRY.size > len(data):
        return None
    mark, length, check = _ENTRY.unpack_from(data, position)
    body = data[position + _ENTRY.size : position + _ENTRY.size + length]
    if mark != _MARK or not length or len(body) < length or _check(sequence, position, body) != check:
        return None
    return body


def _next_entry(data: bytes, sequence: int, position: int) -> int:
    """Return where the next intact entry begins; -1 if there is none."""
    while (position := data.find(_MARK, position)) >= 0:
        if _entry(data, sequence, position) is not None:
            break
        position += 1
    return position
