"""Reads committed blocks of the record log in order, from any number on.

Owns finding the segment and the block, and messages about records that cannot be read. Does not know stores. Never
reads beyond a number that it is given: records there may still be cut off.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from prefork_logd.journal import record_block
from prefork_logd.journal.record_block import HEADER_BYTES, MARK, Entry, Header, decode_block, decode_header
from prefork_logd.journal.record_segments import segment_name, segment_paths

if TYPE_CHECKING:
    from pathlib import Path

READ_BYTES = 1 << 20
_UNKNOWN = 1 << 64


class RecordReader:
    """Reads one journal; `problems` collects sentences for the log."""

    def __init__(self, directory: Path) -> None:
        self.next = 0
        """Number of the next record to return or pass over."""
        self.lost = 0
        """Number of records that could not be read."""
        self.problems: list[str] = []
        self._directory = directory
        self._fd = -1
        self._header = Header(b"", 0, 0, 0)
        self._position = 0
        self._data = memoryview(b"")
        self._data_at = 0
        self._data_until = 0
        """The committed number when the data was read: later bytes may be cut off and written again."""
        self._passed_end = _UNKNOWN
        """Number after the last record of this segment, if `next` is beyond it."""

    @property
    def total(self) -> tuple[int, int]:
        """Number of records and bytes ever appended before `next`."""
        following = min(self.next, self._passed_end)
        return self._header.ordinal + max(0, following - self._header.first), self._header.offset + self._position

    @property
    def is_open(self) -> bool:
        """Whether a segment is open."""
        return self._fd >= 0

    def seek(self, number: int) -> None:
        """Continue with a number; if it is not there any more, with the oldest record."""
        self.close()
        self.next = number
        found = self._segments()
        if not found:
            return
        first = max((first for first, _ in found if first <= number), default=found[0][0])
        if first > number:
            self.next = first
        self._open(first, dict(found)[first])

    def _segments(self) -> list[tuple[int, Path]]:
        try:
            return segment_paths(self._directory)
        except FileNotFoundError:
            return []

    def _open(self, first: int, path: Path) -> None:
        """Continue at the beginning of a segment. Raises FileNotFoundError if it has been removed."""
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.close()
        self._fd = fd
        self._position = HEADER_BYTES
        self._passed_end = _UNKNOWN
        try:
            self._header = decode_header(os.pread(fd, HEADER_BYTES, 0))
        except ValueError as error:
            self.problems.append(f"{path}: {error}")
            self._header = Header(b"", first, *self.total)

    def read(self, until: int) -> Entry | None:
        """Return the next block whose records are all below `until`; None if there is none."""
        while self.next < until:
            if self._fd < 0:
                self.seek(self.next)
                if self._fd < 0:
                    return None
            entry = self._block(until)
            if entry is None:
                entry = self._next_intact(until)
                if entry is None:
                    if self._is_replaced():
                        self.seek(self.next)
                        continue
                    if not self._next_segment():
                        return None
                    continue
            if entry.first + entry.records > until:
                return None
            if entry.first > self.next:
                self._note_lost(entry.first)
            self._position = entry.end
            end = entry.first + entry.records
            if end <= self.next:
                self._passed_end = end
                continue
            self.next = end
            self._passed_end = _UNKNOWN
            return entry
        return None

    def pass_over(self, until: int) -> None:
        """Go to the block that `next` is in, past those before it, so that `total` counts their bytes.

        Every record below `until` is committed; other blocks may be written again, and are left for `read`.
        """
        until = min(until, self.next)
        end = _UNKNOWN
        while self._fd >= 0 and (entry := self._block(until)) is not None and entry.first + entry.records <= until:
            self._position = entry.end
            end = entry.first + entry.records
        if self._fd >= 0 and entry is None:
            self._passed_end = end

    def peek_time_ns(self, until: int) -> int:
        """Return the commit time of the next block, in nanoseconds since 1970; 0 if there is none."""
        position, number = self._position, self.next
        entry = self._block(until) if self._fd >= 0 and self.next < until else None
        self._position, self.next = position, number
        return entry.time_ns if entry is not None else 0

    def _block(self, until: int) -> Entry | None:
        """Return the block at the current position; None if no intact one is there."""
        at = self._position - self._data_at
        if 0 <= at < len(self._data):
            size = record_block.block_size(self._data, at)
            if size and at + size <= len(self._data):
                entry = decode_block(self._data, at, self._header.first, self._position)
                if entry is not None and entry.first + entry.records <= self._data_until:
                    return entry
        # Missing, incomplete, or read before it was committed.
        self._data_until = until
        self._fill(READ_BYTES)
        size = record_block.block_size(self._data, 0)
        if size > len(self._data):
            self._fill(size)
        return decode_block(self._data, 0, self._header.first, self._position)

    def _fill(self, nbytes: int) -> None:
        self._data = memoryview(os.pread(self._fd, nbytes, self._position))
        self._data_at = self._position

    def _next_intact(self, until: int) -> Entry | None:
        """Return the next intact block of this segment after the current position; None if there is none."""
        size = os.fstat(self._fd).st_size
        position = self._position + 1
        overlap = len(MARK) - 1
        while position < size:
            data = os.pread(self._fd, READ_BYTES, position)
            at = data.find(MARK)
            if at < 0:
                position += max(1, len(data) - overlap)
                continue
            position += at
            head = os.pread(self._fd, record_block.BLOCK_BYTES, position)
            nbytes = record_block.block_size(head, 0)
            if nbytes and position + nbytes <= size:
                whole = memoryview(os.pread(self._fd, nbytes, position))
                entry = decode_block(whole, 0, self._header.first, position)
                if entry is not None and self.next < entry.first + entry.records <= until:
                    return entry
            position += 1
        return None

    def _is_replaced(self) -> bool:
        """Tell whether another file has this segment's name: a writer died before it committed to this one."""
        try:
            found = (self._directory / segment_name(self._header.first)).stat()
        except FileNotFoundError:
            return False
        ours = os.fstat(self._fd)
        return (found.st_dev, found.st_ino) != (ours.st_dev, ours.st_ino)

    def _next_segment(self) -> bool:
        """Continue with the next segment; return whether there is one."""
        for first, path in self._segments():
            if first > self._header.first:
                try:
                    ordinal = self.total[0]
                    self._open(first, path)
                except FileNotFoundError:
                    continue
                lost = self._header.ordinal - ordinal
                if lost > 0 and self._header.journal:
                    self._note_lost(self.next + lost)
                self.next = max(self.next, first)
                return True
        return False

    def _note_lost(self, first: int) -> None:
        self.lost += first - self.next
        self.problems.append(f"records {self.next} to {first - 1} cannot be read, and are passed over")

    def close(self) -> None:
        """Close the open segment."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1
        self._data = memoryview(b"")
        self._data_at = 0
