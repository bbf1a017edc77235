"""What is committed: the length of each output's file, and the last batch of each worker that is in them.

Owns the commit entry and the shared memory it survives the writer's death in. Knows nothing of lines or pipes.

The writer commits once a turn, after the bytes are in the files. If it is killed, its successor cuts every file back to
its committed length and tells each worker the number of its last committed batch; the worker sends the later ones
again. So the death of the writer neither loses a line nor doubles one.
"""

from __future__ import annotations

import mmap
import struct
import zlib
from typing import NamedTuple

from prefork_logd.scoreboard import MAX_WORKERS, PLACES

_COUNTS = struct.Struct("<QII")
_FILE = struct.Struct("<QQQ")
_WORKER = struct.Struct("<QQ")
_CHECK = struct.Struct("<II")
MAX_FILES, MAX_BATCHES = 2 * (PLACES + 1), 4 * MAX_WORKERS
_CELL_BYTES = _CHECK.size + _COUNTS.size + _FILE.size * MAX_FILES + _WORKER.size * MAX_BATCHES


class Committed(NamedTuple):
    """One commit entry."""

    turn: int
    """Grows by one with each commit."""
    files: dict[tuple[int, int], int]
    """Device and inode number of each output's file to its committed length in bytes."""
    batches: dict[int, int]
    """Worker (the master's number for one life of it) to the number of its last committed batch."""


NOTHING = Committed(0, {}, {})


def encode(entry: Committed) -> bytes:
    """Return the entry as bytes, its checksum in front."""
    body = b"".join(
        (
            _COUNTS.pack(entry.turn, len(entry.files), len(entry.batches)),
            *(_FILE.pack(device, inode, length) for (device, inode), length in entry.files.items()),
            *(_WORKER.pack(worker, number) for worker, number in entry.batches.items()),
        )
    )
    return _CHECK.pack(len(body), zlib.crc32(body)) + body


def decode(data: bytes | memoryview) -> Committed | None:
    """Return the entry that `data` begins with, or None if there is no whole one."""
    size, check = _CHECK.unpack_from(data)
    body = data[_CHECK.size : _CHECK.size + size]
    if size < _COUNTS.size or len(body) != size or zlib.crc32(body) != check:
        return None
    turn, file_count, worker_count = _COUNTS.unpack_from(body)
    split = _COUNTS.size + _FILE.size * file_count
    if split + _WORKER.size * worker_count != size:
        return None
    return Committed(
        turn,
        {(device, inode): length for device, inode, length in _FILE.iter_unpack(body[_COUNTS.size : split])},
        dict(_WORKER.iter_unpack(body[split:])),
    )


class CommitCells:
    """Two places in shared memory that take turns, so that one is whole whenever the writer dies.

    Made by the master before the writer's first life. The last entry is the valid one with the higher turn.
    """

    def __init__(self) -> None:
        self._map = mmap.mmap(-1, 2 * _CELL_BYTES)

    def write(self, entry: Committed) -> None:
        """Make `entry` the last one. Raises ValueError if it holds more files or workers than there is place for."""
        data = encode(entry)
        if len(data) > _CELL_BYTES:
            raise ValueError(f"an entry of {len(data)} bytes does not fit into {_CELL_BYTES}")
        start = (entry.turn % 2) * _CELL_BYTES
        self._map[start : start + len(data)] = data

    def read(self) -> Committed:
        """Return the last entry written; NOTHING before the first."""
        with memoryview(self._map) as view:
            cells = (decode(view[:_CELL_BYTES]), decode(view[_CELL_BYTES:]))
        return max((cell for cell in cells if cell is not None), key=lambda cell: cell.turn, default=NOTHING)
