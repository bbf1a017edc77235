"""Reads the batches of one worker from the bytes of its pipe (batch.py has the layout).

Owns the buffers for these bytes. Does not know pipes, or what is done with a batch.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Protocol

from prefork_logd.config.values import format_count
from prefork_logd.errors import LocalProtocolError
from prefork_logd.ipc.batch import (
    FILE_COUNT,
    FILE_ENTRY,
    GROUP_ENTRY,
    HEADER,
    INLINE,
    MAGIC,
    MAGIC_WITH_FILES,
    MAX_BODY_BYTES,
    OPEN_ENTRY,
    RECORDS,
    RUN_ENTRY,
    SEGMENT_ENTRY,
    Batch,
    Group,
    Open,
    Segment,
    file_index,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

POOLED_BYTES = 393_216
"""Size of a pooled buffer: a little above what a worker sends at once."""
SMALL_BYTES = 16_384
"""A body up to this size gets new memory, because a pooled buffer is much larger."""
POOLED = 16
"""Buffers kept by each reader."""


class Shared(Protocol):
    """Memory into which another process writes lines."""

    def __getitem__(self, span: slice, /) -> memoryview:
        """Return the bytes of a range; fewer at the end of the memory."""


class BatchReader:
    """Turns the bytes of one worker's pipe into batches without copying: it provides the buffers to read into.

    Read into the buffer that `want` returns, from its start, and pass the number of bytes to `filled`.
    """

    def __init__(self, shared: Shared | None = None) -> None:
        """Read batches of a worker that may leave lines in `shared`."""
        self._shared: Shared = shared if shared is not None else memoryview(b"")
        self._free: list[memoryview] = []
        self._used: list[memoryview] = []
        self._start()

    def _start(self) -> None:
        self._buffer = memoryview(bytearray(HEADER.size))
        self._have = 0
        self._header: tuple[int, int, int, int, bool] | None = None

    @property
    def pending(self) -> bool:
        """Whether a batch is partly read."""
        return self._have > 0 or self._header is not None

    def want(self) -> memoryview:
        """Return the buffer for the next bytes; never empty."""
        return self._buffer[self._have :]

    def filled(self, nbytes: int) -> Batch | None:
        """Count bytes that were read into `want()`; return the batch if they complete one.

        Raises LocalProtocolError if they are malformed; the pipe must then be closed.
        """
        self._have += nbytes
        if self._have < len(self._buffer):
            return None
        if self._header is None:
            magic, body_bytes, number, generation, groups, opens = HEADER.unpack(self._buffer)
            if magic not in (MAGIC, MAGIC_WITH_FILES) or body_bytes > MAX_BODY_BYTES:
                raise LocalProtocolError(f"unexpected bytes in a worker's pipe: {self._buffer.hex()}")
            self._header = (number, generation, groups, opens, magic == MAGIC_WITH_FILES)
            self._buffer = self._room(body_bytes)
            self._have = 0
            if body_bytes:
                return None
        batch = _read_body(self._buffer, self._shared, *self._header)
        self._start()
        return batch

    def _room(self, nbytes: int) -> memoryview:
        """Return a buffer for a body, from the pool if possible: new memory costs more than the read itself."""
        if not SMALL_BYTES < nbytes <= POOLED_BYTES:
            return memoryview(bytearray(nbytes))
        whole = self._free.pop() if self._free else memoryview(bytearray(POOLED_BYTES))
        self._used.append(whole)
        return whole[:nbytes]

    def done_with(self) -> None:
        """Return the buffers of all returned batches to the pool; none of the batches may be used after this."""
        busy = [self._used.pop()] if self._header is not None and self._used else []
        self._free = [*self._used, *self._free][:POOLED]
        self._used = busy


def _read_body(
    body: memoryview,
    shared: Shared,
    number: int,
    generation: int,
    group_count: int,
    open_count: int,
    has_files: bool = False,
) -> Batch:
    """Return the batch that a body holds. Raises LocalProtocolError."""
    try:
        opens = [Open(*OPEN_ENTRY.unpack_from(body, OPEN_ENTRY.size * index)) for index in range(open_count)]
        groups_at = OPEN_ENTRY.size * open_count
        heads = [GROUP_ENTRY.unpack_from(body, groups_at + GROUP_ENTRY.size * index) for index in range(group_count)]
        segments_at = groups_at + GROUP_ENTRY.size * group_count
        runs_at = segments_at + SEGMENT_ENTRY.size * sum(head[6] for head in heads)
        data_at = runs_at + RUN_ENTRY.size * sum(head[7] for head in heads)
        files: list[tuple[int, str, int]] = []
        if has_files:
            files, data_at = _files(body, data_at)
        if data_at > len(body):
            raise struct.error("its body is too short")  # noqa: TRY301 - the remedy is the same
        groups = []
        for session, epoch, first, last, floor, peer, segment_count, run_count in heads:
            end = segments_at + SEGMENT_ENTRY.size * segment_count
            table = SEGMENT_ENTRY.iter_unpack(body[segments_at:end])
            segments, data_at = _segments(body, shared, table, data_at)
            if files:
                segments = [_with_file(segment, files) for segment in segments]
            segments_at = end
            runs = [RUN_ENTRY.unpack_from(body, runs_at + RUN_ENTRY.size * index) for index in range(run_count)]
            runs_at += RUN_ENTRY.size * run_count
            groups.append(Group(session, epoch, first, last, segments, runs, floor, peer))
    except struct.error as error:
        raise LocalProtocolError(f"a batch of {format_count(len(body), 'byte')} ends within its tables") from error
    if data_at != len(body):
        raise LocalProtocolError(f"a batch has {format_count(len(body) - data_at, 'byte')} after its last line")
    lines_bytes = sum(len(segment.data) for group in groups for segment in group.segments)
    return Batch(number, generation, opens, groups, lines_bytes)


def _files(body: memoryview, position: int) -> tuple[list[tuple[int, str, int]], int]:
    """Return output, name and peer of each file in the table at a position, and the offset after it.

    Raises struct.error or LocalProtocolError.
    """
    (count,) = FILE_COUNT.unpack_from(body, position)
    entries_at = position + FILE_COUNT.size
    position = entries_at + FILE_ENTRY.size * count
    files = []
    for index in range(count):
        output, nbytes, peer = FILE_ENTRY.unpack_from(body, entries_at + FILE_ENTRY.size * index)
        try:
            files.append((output, str(body[position : position + nbytes], "utf-8", "surrogateescape"), peer))
        except UnicodeDecodeError as error:
            raise LocalProtocolError("a batch with a file's name that is not text") from error
        position += nbytes
    return files, position


def _with_file(segment: Segment, files: list[tuple[int, str, int]]) -> Segment:
    """Return a segment with the name of its file, if it has one. Raises LocalProtocolError."""
    index = file_index(segment.output)
    if index < 0 or segment.output == RECORDS:
        return segment
    if index >= len(files):
        raise LocalProtocolError(f"a segment is for file {index} of {len(files)}")
    output, name, peer = files[index]
    return segment._replace(output=output, file=name, file_peer=peer)


def _segments(
    body: memoryview, shared: Shared, table: Iterable[tuple[int, int, int, int, int]], position: int
) -> tuple[list[Segment], int]:
    """Return the segments of one group, and the offset of the next group's lines. Raises LocalProtocolError."""
    segments: list[Segment] = []
    for output, lines, nbytes, like, offset in table:
        if like:
            if like > len(segments) or len(segments[like - 1].data) != nbytes:
                raise LocalProtocolError(f"segment {len(segments) + 1} of a group is like segment {like}")
            segments.append(Segment(output, lines, segments[like - 1].data))
            continue
        if offset != INLINE:
            data = shared[offset : offset + nbytes]
            if len(data) != nbytes:
                raise LocalProtocolError(f"a segment of {format_count(nbytes, 'byte')} ends after the shared memory")
            segments.append(Segment(output, lines, data))
            continue
        if position + nbytes > len(body):
            raise LocalProtocolError(f"a segment of {format_count(nbytes, 'byte')} ends after its batch")
        segments.append(Segment(output, lines, body[position : position + nbytes]))
        position += nbytes
    return segments, position
