"""Reads the segments of a spool, and finds the next whole entry where one is damaged.

A segment is a magic and entries, each with a checksum that is salted with the session: no text of a record passes for
an entry. Knows nothing of locks and of who writes.
"""
from __future__ import absolute_import, division

import errno
import os
import re
import stat
import struct
import zlib

from ._files import O_CAREFULLY, from_hex, unlink_quietly

SPOOL_MAGIC = b"\xf7PSPOOL2"
_UNSALTED_MAGIC = b"\xf7PSPOOL1"  # an earlier form: its checksums are not salted
ENTRY = struct.Struct(">IIQd")  # length of the pickle, CRC-32 of the rest, number, created
READ_BYTES = 1 << 18
_MOST_ENTRY_BYTES = 1 << 28
_RESYNC_BYTES = 64 << 20
"""How much of a file is searched for the next whole entry after damage."""
_RESYNC_WORK = 32
"""How many times its size may be checksummed in that search."""
_HEADER_LIKE = re.compile(b"(?=[\\x00-\\x0f].{7}\\x00\\x00(?!\\x00{6}).{6}[\\x00-\\x7f])", re.DOTALL)
"""Where an entry may begin: a length below 256 MiB, a number that is not 0 and below 2^48, a positive time."""
_DAMAGED_FILES, _DAMAGED_BYTES = 16, 64 << 20
"""Damaged segments that are kept, the newest ones, and their bytes."""


def read_segment(path, offset=0, max_bytes=READ_BYTES):
    """Return `(entries, next offset, damaged)`; an entry is (number, created, pickle).

    `damaged` counts the places where bytes that are not a whole entry were skipped. At least one entry is returned
    where there is one. Raises EnvironmentError.
    """
    entries, damaged, taken = [], 0, 0
    with _open_segment(path) as source:
        magic = source.read(len(SPOOL_MAGIC))
        if offset == 0:
            offset = len(SPOOL_MAGIC)
            damaged += magic not in (SPOOL_MAGIC, _UNSALTED_MAGIC)
        salt = 0 if magic == _UNSALTED_MAGIC else crc32_of(from_hex(os.path.basename(path)[:32]))
        while taken < max_bytes:
            source.seek(offset)
            head = source.read(ENTRY.size)
            if not head:
                break
            entry = _read_entry(head, source, salt)
            if entry is None:
                damaged += 1
                offset = _resynchronise(source, offset + 1, salt)
                if offset is None:
                    source.seek(0, 2)
                    offset = source.tell()
                    break
                continue
            entries.append(entry)
            taken += ENTRY.size + len(entry[2])
            offset += ENTRY.size + len(entry[2])
    return entries, offset, damaged


def _open_segment(path):
    """Open a regular file for reading. Raises EnvironmentError."""
    descriptor = os.open(path, os.O_RDONLY | O_CAREFULLY)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise EnvironmentError(errno.EINVAL, "not a regular file", path)
    return os.fdopen(descriptor, "rb")


def _read_entry(head, source, salt):
    """Return (number, created, pickle) of the entry that begins with `head`; None if it is not whole."""
    if len(head) < ENTRY.size:
        return None
    length, crc, number, created = ENTRY.unpack(head)
    if length > _MOST_ENTRY_BYTES or not number:
        return None
    data = source.read(length)
    if len(data) < length or crc32_of(head[8:] + data, salt) != crc:
        return None
    return number, created, data


def _resynchronise(source, offset, salt):
    """Return the offset of the next whole entry, None if there is none within reach."""
    source.seek(offset)
    data = source.read(_RESYNC_BYTES)
    work = _RESYNC_WORK * len(data)
    for place in _places_like_headers(data):
        length, crc, _, _ = ENTRY.unpack_from(data, place)
        end = place + ENTRY.size + length
        if end > len(data):
            continue
        work -= length + ENTRY.size
        if work < 0:
            break
        if crc32_of(data[place + 8 : end], salt) == crc:
            return offset + place
    return None


def _places_like_headers(data):
    """Yield the places in `data` where an entry may begin."""
    # In pieces: other threads run only between two calls of a regular expression.
    step = 1 << 16
    for start in range(0, len(data) - ENTRY.size + 1, step):
        for match in _HEADER_LIKE.finditer(data, start, start + step + ENTRY.size):
            if match.start() + ENTRY.size <= len(data):
                yield match.start()


def crc32_of(data, salt=0):
    """Return the CRC-32 of data as an unsigned number; Python 2 has signed ones."""
    return zlib.crc32(data, salt) & 0xFFFFFFFF


def discard_segment(path, damaged):
    """Remove a segment; rename it to *.damaged if it is damaged, and keep the newest of those. Raises nothing."""
    if not damaged:
        unlink_quietly(path)
        return
    directory = os.path.dirname(path)
    try:
        os.rename(path, path + ".damaged")
        kept = []
        for name in os.listdir(directory):
            if name.endswith(".spool.damaged"):
                status = os.stat(os.path.join(directory, name))
                kept.append((status.st_mtime, status.st_size, os.path.join(directory, name)))
    except EnvironmentError:
        return
    total = 0
    for place, (_, size, other) in enumerate(sorted(kept, reverse=True)):
        total += size
        if place >= _DAMAGED_FILES or (total > _DAMAGED_BYTES and place):
            unlink_quietly(other)
