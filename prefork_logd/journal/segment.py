"""One file of the journal: entries, each with its length and checksum.

Owns the file's form, and where an intact part of it ends. Knows nothing of what entries say.

    magic "PLJ1" | 0 u32 | sequence u64                 16 bytes, little-endian
    then for each entry: body bytes u32 | CRC-32 of the body u32 | body
    then zeros

The file is allocated whole when it is made, so that a full disk is met then and not in the middle of a commit. An entry
that is torn or was changed ends the file: what follows was never told to anyone, or cannot be trusted.
"""

from __future__ import annotations

import os
import struct
import zlib
from typing import TYPE_CHECKING, NamedTuple

from prefork_logd.errors import OutputError

if TYPE_CHECKING:
    from pathlib import Path

MAGIC = b"PLJ1"

_HEADER = struct.Struct("<4sIQ")
_ENTRY = struct.Struct("<II")


class Segment(NamedTuple):
    """What a file of the journal holds."""

    sequence: int
    bodies: list[bytes]
    problem: str
    """Why reading ended before the file did; empty if all of it is as it should be."""


class SegmentWriter:
    """A new file of the journal."""

    def __init__(self, path: Path, sequence: int, size: int) -> None:
        """Make the file with room for `size` bytes. Raises OutputError; nothing of it is left then."""
        self.path = path
        self.position = _HEADER.size
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise OutputError(str(path), "create", error) from error
        try:
            os.posix_fallocate(self._fd, 0, size)
            os.pwrite(self._fd, _HEADER.pack(MAGIC, 0, sequence), 0)
        except OSError as error:
            self.close()
            path.unlink()
            raise OutputError(str(path), "create", error) from error

    def append(self, body: bytes) -> None:
        """Write an entry. Raises OutputError; the entry then never was."""
        data = _ENTRY.pack(len(body), zlib.crc32(body)) + body
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


def read_segment(path: Path) -> Segment:
    """Return the intact entries of a file. Raises OSError if it cannot be read."""
    data = path.read_bytes()
    if len(data) < _HEADER.size:
        return Segment(0, [], "it is shorter than its header")
    magic, _, sequence = _HEADER.unpack_from(data)
    if magic != MAGIC:
        return Segment(0, [], "it does not begin as a journal does")
    bodies: list[bytes] = []
    position = _HEADER.size
    while position + _ENTRY.size <= len(data):
        length, check = _ENTRY.unpack_from(data, position)
        body = data[position + _ENTRY.size : position + _ENTRY.size + length]
        if not length:
            break
        if len(body) < length or zlib.crc32(body) != check:
            return Segment(sequence, bodies, f"the entry at byte {position} is torn or was changed")
        bodies.append(body)
        position += _ENTRY.size + length
    rest = data[position:]
    return Segment(
        sequence, bodies, f"there is something after its end at byte {position}" if rest.strip(b"\0") else ""
    )
