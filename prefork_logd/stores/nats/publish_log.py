"""Logs the ranges that were published to a stream and may have to be published again, in a file beside the journal.

Owns the file: the ranges, their sequences in the stream, and which of them are safe. Does not know connections.

JetStream acknowledges a message before it is on a disk, so a range stays in the log until the servers have synced it
(`settle`). A range is logged before it is published, so that after a crash it gets the same bounds and the same id
again. The file is a log of entries, little-endian:

    magic "PLNW" | version u32 = 1 | journal 16 bytes                                       24 bytes
    then for each entry: first u64 | end u64 | low u64 | high u64 | CRC-32 of these u32      36 bytes

`low` and `high` are the stream's sequences; 0 for a range that is not acknowledged. An entry replaces the one with the
same `first`. An entry without numbers (`first` = `end`) means that everything before it is settled. A torn trailing
entry is ignored. When the file has become long, a new one replaces it.
"""

from __future__ import annotations

import contextlib
import os
import struct
import zlib
from typing import TYPE_CHECKING

from prefork_logd.errors import StoreError, describe_refusal
from prefork_logd.system.disk import sync_directory

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

_HEAD = struct.Struct("<4sI16s")
_ENTRY = struct.Struct("<QQQQI")
_MAGIC = b"PLNW"
_VERSION = 1
_SLACK = 4096
"""Outdated entries that are kept before a new file is written."""


class PublishedRange:
    """A range that is published as a unit (docs/nats.md)."""

    __slots__ = ("acked_s", "elsewhere", "end", "first", "high", "low")

    def __init__(self, first: int, end: int, low: int = 0, high: int = 0, acked_s: float = 0.0) -> None:
        self.first = first
        self.end = end
        self.low = low
        """Lowest sequence of its messages in the stream; 0 if not acknowledged."""
        self.high = high
        self.acked_s = acked_s
        """When it was acknowledged, on the monotonic clock; for ranges of an earlier process the start of this one."""
        self.elsewhere: dict[int, str] = {}
        """Sequence to id of messages that the stream had already, as found by this process."""

    def __repr__(self) -> str:
        return f"PublishedRange({self.first}, {self.end}, {self.low}, {self.high})"


class PublishLog:
    """The ranges that are not settled, in order and without holes."""

    def __init__(self, path: Path, journal: str, now_s: float) -> None:
        """Read the file; ignore one of another journal. Raises StoreError if it cannot be read."""
        self.is_new = True
        self.base = 0
        """Every number below is settled."""
        self._path = path
        self._journal = bytes.fromhex(journal)
        self._ranges: dict[int, PublishedRange] = {}
        self._fd = -1
        self._length = 0
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            data = b""
        except OSError as error:
            raise StoreError(f"{path}: cannot read it: {describe_refusal(error)}") from error
        if data[: _HEAD.size] == _HEAD.pack(_MAGIC, _VERSION, self._journal):
            self._read(memoryview(data)[_HEAD.size :], now_s)

    def _read(self, data: memoryview, now_s: float) -> None:
        ranges: dict[int, PublishedRange] = {}
        for position in range(0, len(data) - _ENTRY.size + 1, _ENTRY.size):
            first, end, low, high, check = _ENTRY.unpack_from(data, position)
            if check != zlib.crc32(data[position : position + _ENTRY.size - 4]):
                break
            if first == end:
                self.base, self.is_new = max(self.base, first), False
            else:
                ranges[first] = PublishedRange(first, end, low, high, now_s)
        at = self.base
        for first in sorted(ranges):
            if first == at:
                at = ranges[first].end
                self._ranges[first] = ranges[first]

    def __iter__(self) -> Iterator[PublishedRange]:
        return iter(self._ranges.values())

    def __len__(self) -> int:
        return len(self._ranges)

    @property
    def end(self) -> int:
        """The number after the last range."""
        if not self._ranges:
            return self.base
        return next(reversed(self._ranges.values())).end

    @property
    def wanted(self) -> int:
        """The first number that is not acknowledged."""
        return next((published.first for published in self if not published.low), self.end)

    def at(self, first: int) -> PublishedRange | None:
        """Return the range that begins with a number, if there is one."""
        return self._ranges.get(first)

    def begin(self, base: int) -> None:
        """Begin an empty log, and make its directory: everything before `base` is settled. Raises StoreError."""
        self._ranges.clear()
        self.base, self.is_new = base, False
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"{self._path}: cannot write it: {describe_refusal(error)}") from error
        self._rewrite()

    def cut(self, ranges: Iterable[PublishedRange]) -> None:
        """Add new ranges after the last one, before they are published. Raises StoreError."""
        ranges = list(ranges)
        self._ranges.update((published.first, published) for published in ranges)
        self._append(ranges)

    def acked(self, ranges: Iterable[PublishedRange]) -> None:
        """Log and sync the acknowledgements of ranges. Raises StoreError."""
        self._append(list(ranges), sync=True)

    def settle(self, before: int) -> None:
        """Forget the ranges before a number: they are on the disks of the servers. Raises StoreError."""
        while self._ranges:
            published = next(iter(self._ranges.values()))
            if published.end > before or not published.low:
                break
            del self._ranges[published.first]
            self.base = published.end
        self._append([PublishedRange(self.base, self.base)])
        if self._length > 2 * len(self._ranges) + _SLACK:
            self._rewrite()

    def _append(self, ranges: list[PublishedRange], *, sync: bool = False) -> None:
        if self._fd < 0:
            self._rewrite()
            return
        try:
            data = b"".join(map(_pack, ranges))
            if os.write(self._fd, data) != len(data):
                raise OSError(28, "No space left on device")  # noqa: TRY301 - the remedy is the same
            if sync:
                os.fdatasync(self._fd)
        except OSError as error:
            # A torn entry would end the file for its reader: the next append writes a new file.
            self.close()
            raise StoreError(f"{self._path}: cannot write it: {describe_refusal(error)}") from error
        self._length += len(ranges)

    def _rewrite(self) -> None:
        """Write a new file, and replace the old one atomically."""
        self.close()
        beside = self._path.with_name(f"{self._path.name}.new")
        entries = [PublishedRange(self.base, self.base), *self]
        try:
            fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                with open(fd, "wb", closefd=False) as file:
                    file.write(_HEAD.pack(_MAGIC, _VERSION, self._journal))
                    file.writelines(map(_pack, entries))
                os.fdatasync(fd)
                os.replace(beside, self._path)  # noqa: PTH105 - as above
                sync_directory(self._path.parent)
            except OSError:
                os.close(fd)
                raise
        except OSError as error:
            raise StoreError(f"{self._path}: cannot write it: {describe_refusal(error)}") from error
        self._fd, self._length = fd, len(entries)

    def close(self) -> None:
        """Close the file."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            with contextlib.suppress(OSError):
                os.close(fd)


def _pack(published: PublishedRange) -> bytes:
    data = _ENTRY.pack(published.first, published.end, published.low, published.high, 0)[:-4]
    return data + zlib.crc32(data).to_bytes(4, "little")
