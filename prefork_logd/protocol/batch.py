"""What a worker sends to the writer, and the writer to a worker.

Owns the form of both. Knows no pipes, files or records.

A batch is finished lines, sorted by output, under a number that grows by one:

    magic "PLB1" | body bytes u32 | number u64 | generation u32 | segments u32      24 bytes, little-endian
    then for each segment: output u32 | lines u32 | bytes u32                       the table
    then each segment's lines

`generation` says which configuration's outputs the numbers stand for. The writer answers with commits: the number of
the last batch whose lines are all in their files (u64). The first commit on a new pipe tells where to resume.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from prefork_logd.errors import LocalProtocolError

if TYPE_CHECKING:
    from collections.abc import Iterator

MAGIC = b"PLB1"
MAX_BODY_BYTES = 1 << 30
"""Above anything a worker makes: a larger number means that the pipe is out of step."""

_HEADER = struct.Struct("<4sIQII")
_SEGMENT = struct.Struct("<III")
_COMMIT = struct.Struct("<Q")
COMMIT_BYTES = _COMMIT.size


class Segment(NamedTuple):
    """The lines of one batch for one output."""

    output: int
    lines: int
    data: memoryview


class Batch(NamedTuple):
    """One batch as the writer receives it."""

    number: int
    generation: int
    segments: list[Segment]
    nbytes: int


class BatchBuilder:
    """Gathers finished lines by output until they are worth a batch."""

    def __init__(self, generation: int) -> None:
        self.generation = generation
        self.nbytes = 0
        self._lines: dict[int, list[bytes]] = {}

    def __len__(self) -> int:
        return self.nbytes

    def add(self, output: int, line: bytes) -> None:
        """Add one line, its newline included, for an output."""
        lines = self._lines.get(output)
        if lines is None:
            lines = self._lines[output] = []
        lines.append(line)
        self.nbytes += len(line)

    def build(self, number: int) -> bytes:
        """Return everything gathered as one batch, and start afresh."""
        parts, table = [], []
        for output, lines in self._lines.items():
            data = b"".join(lines)
            table.append(_SEGMENT.pack(output, len(lines), len(data)))
            parts.append(data)
        body_bytes = _SEGMENT.size * len(table) + self.nbytes
        header = _HEADER.pack(MAGIC, body_bytes, number, self.generation, len(table))
        self._lines = {}
        self.nbytes = 0
        return b"".join((header, *table, *parts))


class BatchReader:
    """Turns the bytes of one worker's pipe into batches without copying them: it says where to read the next bytes to.

    The buffer that `want` returns is to be filled from its start, and `filled` told how far.
    """

    def __init__(self) -> None:
        self._start()

    def _start(self) -> None:
        self._buffer = memoryview(bytearray(_HEADER.size))
        self._have = 0
        self._header: tuple[int, int, int] | None = None

    @property
    def pending(self) -> bool:
        """Whether a batch has begun and not ended."""
        return self._have > 0 or self._header is not None

    def want(self) -> memoryview:
        """Return where the next bytes go; never empty."""
        return self._buffer[self._have :]

    def filled(self, nbytes: int) -> Batch | None:
        """Take note of bytes read into `want()`; return the batch if they end one.

        Raises LocalProtocolError when they are no batch: the pipe is then of no more use.
        """
        self._have += nbytes
        if self._have < len(self._buffer):
            return None
        if self._header is None:
            magic, body_bytes, number, generation, segments = _HEADER.unpack(self._buffer)
            if magic != MAGIC or body_bytes > MAX_BODY_BYTES or segments * _SEGMENT.size > body_bytes:
                raise LocalProtocolError(f"a worker's pipe is out of step at {self._buffer.hex()}")
            self._header = (number, generation, segments)
            self._buffer = memoryview(bytearray(body_bytes))
            self._have = 0
            if body_bytes:
                return None
        number, generation, segments = self._header
        batch = Batch(number, generation, list(_segments(self._buffer, segments)), len(self._buffer))
        self._start()
        return batch


def _segments(body: memoryview, count: int) -> Iterator[Segment]:
    """Yield the segments of a batch's body."""
    position = _SEGMENT.size * count
    for index in range(count):
        output, lines, nbytes = _SEGMENT.unpack_from(body, index * _SEGMENT.size)
        if position + nbytes > len(body):
            raise LocalProtocolError(f"a segment of {nbytes} bytes ends after its batch")
        yield Segment(output, lines, body[position : position + nbytes])
        position += nbytes


def encode_commit(number: int) -> bytes:
    """Return the message that says: every batch up to this one is committed."""
    return _COMMIT.pack(number)


def last_commit(data: bytes) -> tuple[int | None, bytes]:
    """Return the last whole commit in what was read from the writer, or None, and the bytes of an unfinished one."""
    whole = len(data) // COMMIT_BYTES * COMMIT_BYTES
    if not whole:
        return None, data
    return _COMMIT.unpack_from(data, whole - COMMIT_BYTES)[0], data[whole:]
