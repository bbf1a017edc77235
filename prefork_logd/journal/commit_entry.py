"""Encodes and decodes a commit: each file's length, the last batch of each worker, the next record's number.

Owns the commit entry and its form in the journal. Does not know files or pipes.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from prefork_logd.config.values import format_count

_COUNTS = struct.Struct("<QIIQ")
_FILE = struct.Struct("<QQQ")
_WORKER = struct.Struct("<QQ")


class Committed(NamedTuple):
    """One commit."""

    turn: int
    """Grows by one with each commit."""
    files: dict[tuple[int, int], int]
    """Device and inode number of each output's file to its committed length in bytes."""
    batches: dict[int, int]
    """Worker (its spawn id) to the number of its last committed batch."""
    records: int = 0
    """The number of the next record in the record log (record_log.py)."""


NOTHING = Committed(0, {}, {})


def encode(commit: Committed) -> bytes:
    """Return the commit as bytes."""
    return b"".join(
        (
            _COUNTS.pack(commit.turn, len(commit.files), len(commit.batches), commit.records),
            *(_FILE.pack(device, inode, length) for (device, inode), length in commit.files.items()),
            *(_WORKER.pack(worker, number) for worker, number in commit.batches.items()),
        )
    )


def decode(data: bytes) -> tuple[Committed, bytes]:
    """Return the commit at the beginning of `data`, and the bytes after it. Raises ValueError if it is cut short."""
    if len(data) < _COUNTS.size:
        raise ValueError(f"a commit of {format_count(len(data), 'byte')}")
    turn, file_count, worker_count, records = _COUNTS.unpack_from(data)
    workers_at = _COUNTS.size + _FILE.size * file_count
    end = workers_at + _WORKER.size * worker_count
    if len(data) < end:
        raise ValueError(f"a commit of {format_count(len(data), 'byte')} instead of {end:,}")
    files = {(device, inode): length for device, inode, length in _FILE.iter_unpack(data[_COUNTS.size : workers_at])}
    return Committed(turn, files, dict(_WORKER.iter_unpack(data[workers_at:end])), records), data[end:]
