"""Announces the writer's next append before it is made, and keeps a second copy of the last commit.

Owns their form, and the verdict on bytes after the committed length of a file when a writer starts. The journal alone
cannot give it: it may be an older copy, or damaged, and then those bytes were acknowledged. Does not know outputs.

Both are in a file outside the journal (writer.lock) that is never synced: it counts only in the boot in which it was
written, as only then the page cache has every write in order.

    at 0         magic "PLIA" | CRC-32 u32 | boot 16 bytes | turn u64 | files u32 | 0 u32
                 for each file: device u64 | inode u64 | length before the turn u64 | largest length after it u64
    at COPY_AT   magic "PLIC" | CRC-32 u32 | boot 16 bytes | turn u64 | body bytes u32 | 0 u32 | body

Little-endian. A CRC-32 is of everything after it. The body is the journal's entry; left out above LONGEST_COPY bytes.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import os
import struct
import uuid
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from prefork_logd.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Mapping

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
COPY_AT = 1 << 20
LONGEST_COPY = 1 << 20
PENDING = 1 << 63
"""Bit in the largest length of a file whose last turn could not be cut off yet: its verdict stays."""
LONGEST_ASIDE = 64 << 20
"""More than one turn, and more than a power loss can leave unwritten: the journal is an older copy."""

_CHECKED = struct.Struct("<4sI")
_ANNOUNCED = struct.Struct("<4sI16sQII")
_FILE = struct.Struct("<QQQQ")
_ANNOUNCED_MAGIC, _COPY_MAGIC = b"PLIA", b"PLIC"
_BOOT_BYTES = 16
_MOST_FILES = (COPY_AT - _ANNOUNCED.size) // _FILE.size

Identity = tuple[int, int]


class Fate(enum.Enum):
    """What to do with bytes after the committed length of a file."""

    CUT = enum.auto()
    """The writer's last turn, proven not to be committed: its clients send it again."""
    SET_ASIDE = enum.auto()
    """Perhaps not committed: they are moved into a file beside it."""
    KEEP = enum.auto()
    """They stay: the journal is older than the file, or another program writes to the file."""


class Announced(NamedTuple):
    """The turn announced last."""

    turn: int
    files: Mapping[Identity, tuple[int, int]]
    """Length before the turn, and the largest after it."""


class Evidence(NamedTuple):
    """The facts for the verdict."""

    turn: int = 0
    """The turn of the last commit."""
    announced: Announced | None = None
    """None: there is no announcement of this boot, or it cannot be read."""
    copied_turn: int = 0
    """The turn of the second copy."""
    is_copy: bool = False
    """Whether the state directory is a restored copy: it is older than the files."""

    def length(self, identity: Identity, committed: int) -> int:
        """Return the committed length of a file; its owner may have truncated it since that commit."""
        if self.announced is None or identity not in self.announced.files:
            return committed
        base, reach = self.announced.files[identity]
        return min(committed, base) if self.announced.turn == self.turn + 1 or reach & PENDING else committed

    def fate(self, identity: Identity, length: int, size: int) -> Fate:
        """Return the verdict on the bytes from a committed length to the size of a file."""
        if self.announced is None or identity not in self.announced.files:
            return Fate.KEEP if self.is_copy or size - length > LONGEST_ASIDE else Fate.SET_ASIDE
        reach = self.announced.files[identity][1]
        if reach & PENDING:
            return Fate.CUT if size <= reach ^ PENDING else Fate.KEEP
        if self.announced.turn != self.turn + 1 or size > reach:
            return Fate.KEEP
        # A second copy of this commit proves that the journal has lost it.
        return Fate.CUT if self.copied_turn < self.announced.turn else Fate.SET_ASIDE

    def pending(self, identity: Identity, length: int) -> tuple[int, int] | None:
        """Return the announcement for a file that is not cut to its length yet, so that the verdict stays the same.

        Returns None if the file must not be in the table.
        """
        if self.announced is None or identity not in self.announced.files:
            return None
        reach = self.announced.files[identity][1]
        if reach & PENDING:
            return length, reach
        if self.announced.turn != self.turn + 1:
            return length, 0
        return (length, reach | PENDING) if self.copied_turn < self.announced.turn else None


class Intent:
    """The file, which the writer has open and locked."""

    def __init__(self, path: Path, fd: int) -> None:
        """Use the descriptor of `path`. Raises OSError."""
        self._path = path
        self._fd = fd
        try:
            self._boot = uuid.UUID(BOOT_ID.read_text().strip()).bytes
        except FileNotFoundError:
            # Without /proc boots cannot be told apart (proc(5)): announcements of earlier writers do not count.
            self._boot = os.urandom(_BOOT_BYTES)

    def read(self) -> tuple[Announced | None, int, bytes]:
        """Return the last announcement, and the turn and body of the second copy; nothing from another boot.

        Raises OSError.
        """
        return self._read_announced(), *self._read_copy()

    def _read_announced(self) -> Announced | None:
        data = os.pread(self._fd, _ANNOUNCED.size, 0)
        if len(data) < _ANNOUNCED.size:
            return None
        _, _, _, turn, count, _ = _ANNOUNCED.unpack(data)
        if count > _MOST_FILES:
            return None
        data += os.pread(self._fd, count * _FILE.size, _ANNOUNCED.size)
        if len(data) < _ANNOUNCED.size + count * _FILE.size or not self._is_intact(data, _ANNOUNCED_MAGIC):
            return None
        entries = _FILE.iter_unpack(data[_ANNOUNCED.size :])
        return Announced(turn, {(device, inode): (base, reach) for device, inode, base, reach in entries})

    def _read_copy(self) -> tuple[int, bytes]:
        data = os.pread(self._fd, _ANNOUNCED.size + LONGEST_COPY, COPY_AT)
        if len(data) < _ANNOUNCED.size:
            return 0, b""
        _, _, _, turn, nbytes, _ = _ANNOUNCED.unpack_from(data)
        data = data[: _ANNOUNCED.size + nbytes]
        if len(data) < _ANNOUNCED.size + nbytes or not self._is_intact(data, _COPY_MAGIC):
            return 0, b""
        return turn, data[_ANNOUNCED.size :]

    def _is_intact(self, data: bytes, magic: bytes) -> bool:
        found, check, boot, *_ = _ANNOUNCED.unpack_from(data)
        return bool(found == magic and boot == self._boot and check == zlib.crc32(data[_CHECKED.size :]))

    def announce(self, turn: int, files: Mapping[Identity, tuple[int, int]]) -> None:
        """Announce the next turn, and for each file its length and the largest that it may get. Raises OutputError.

        A table too large for its place is left out: then the turn cannot be proven.
        """
        entries = [_FILE.pack(*identity, *lengths) for identity, lengths in files.items()][: _MOST_FILES + 1]
        if len(entries) > _MOST_FILES:
            entries = []
        self._write(_ANNOUNCED_MAGIC, 0, turn, len(entries), b"".join(entries))

    def copy(self, turn: int, body: bytes) -> None:
        """Write a second copy of the last commit; if that fails, the journal has the only one."""
        if len(body) > LONGEST_COPY:
            body = b""
        with contextlib.suppress(OutputError):
            self._write(_COPY_MAGIC, COPY_AT, turn, len(body), body)

    def _write(self, magic: bytes, at: int, turn: int, count: int, rest: bytes) -> None:
        head = _ANNOUNCED.pack(magic, 0, self._boot, turn, count, 0)
        check = zlib.crc32(rest, zlib.crc32(head[_CHECKED.size :]))
        try:
            written = os.pwritev(self._fd, (_CHECKED.pack(magic, check), head[_CHECKED.size :], rest), at)
        except OSError as error:
            raise OutputError(str(self._path), "write", error) from error
        if written < len(head) + len(rest):
            raise OutputError(str(self._path), "write", OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
