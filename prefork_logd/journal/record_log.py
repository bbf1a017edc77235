"""Appends records that wait for the stores to the record log, in segments beside the commits.

Owns numbering, appending, rotating and removing. Does not know lines, sessions or stores: the caller passes the first
number that is still needed. record_segments.py finds the segments after a start, and record_reader.py reads them.

As for outputs, the commit entries decide what is committed: the length of the current segment, and the next record's
number. The journal knows a segment before anything is appended to it, so a segment that is not in the last commit is
complete. Files are named after their first record's number.

A finished segment is not synced at its end: clients would wait for the disk, and stores often pass a segment before the
kernel writes it by itself. The next commit that is acknowledged syncs the finished segments, too, so everything before
an acknowledged record is on the disk.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, NamedTuple

from prefork_logd.errors import OutputError
from prefork_logd.journal import record_block
from prefork_logd.journal.identity import is_copied, is_sealed, read_identity, seal_identity, write_identity
from prefork_logd.journal.intent import BOOT_ID, Evidence
from prefork_logd.journal.record_block import HEADER_BYTES, Header
from prefork_logd.journal.record_segments import FoundSegments, Segment, segment_name
from prefork_logd.system.disk import sync_directory
from prefork_logd.system.libc import IOV_MAX

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from prefork_logd.journal.commit_entry import Committed

POSITION_FILE = "position"
"""File with the number of the next record, as 8 bytes, for readers that are not children of the master."""
COPY_LEAPS = 1 << 16
"""Largest random number of leaps if the directory is a copy; twice as many if that is not known."""
LEAP = 1 << 32
"""Numbers passed over if the last ones given may be lost: after a power loss a store may have records whose commit was
not synced and is lost. Their numbers must not be given again."""


class Gathered(NamedTuple):
    """Records of one session that were committed together."""

    session: bytes
    runs: Sequence[tuple[int, int]]
    """(first, count) of the session's numbers of the lines, in order."""
    count: int  # type: ignore[assignment]  # tuple.count is hidden, and meant to be
    lines: memoryview | bytes


class RecordLog:
    """The append side; only the writer has it."""

    def __init__(
        self, directory: Path, segment_bytes: int, committed: Committed, evidence: Evidence | None = None
    ) -> None:
        """Recover the segments: cut off the bytes that `evidence` proves to be uncommitted.

        Raises OutputError.
        """
        self.problems: list[str] = []
        self.segment_bytes = segment_bytes
        self._directory = directory
        self._finished: list[Segment] = []
        self._fd = -1
        self._header = Header(b"", 0, 0, 0)
        self._identity = (0, 0)
        self.length = 0
        """Bytes of the current segment, uncommitted ones included."""
        self.next = 0
        """Number of the next record."""
        self.recovered: set[tuple[int, int]] = set()
        """Device and inode numbers of the segments found; empty ones have been removed since."""
        self._kept = (0, 0)
        """`length` and `next` at the last commit."""
        self._unsynced = False
        self._unsynced_paths: list[Path] = []
        """Finished segments that may not be on the disk yet."""
        try:
            self._recover(committed, evidence or Evidence())
        except OSError as error:
            self.close()
            raise OutputError(str(error.filename or directory), "recover", error) from error
        self._unsynced_paths = [segment.path for segment in self._finished]

    @property
    def journal(self) -> bytes:
        """The name of this journal, for stores."""
        return self._header.journal

    @property
    def nbytes(self) -> int:
        """Bytes of all segments."""
        return self.length + sum(segment.nbytes for segment in self._finished)

    @property
    def has_any(self) -> bool:
        """Whether any segment holds a record."""
        return bool(self._finished) or self.length > HEADER_BYTES

    @property
    def first(self) -> int:
        """Number of the first record that is kept."""
        return self._finished[0].first if self._finished else self._header.first

    @property
    def finished(self) -> int:
        """Number of segments that can be removed."""
        return len(self._finished)

    @property
    def total(self) -> tuple[int, int]:
        """Number of records and bytes ever appended."""
        return self._total(self.length, self.next)

    @property
    def committed_total(self) -> tuple[int, int]:
        """Number of records and bytes ever committed."""
        return self._total(*self._kept)

    @property
    def committed_next(self) -> int:
        """Number of the first uncommitted record."""
        return self._kept[1]

    def _total(self, length: int, following: int) -> tuple[int, int]:
        return self._header.ordinal + following - self._header.first, self._header.offset + length

    def lengths(self) -> dict[tuple[int, int], int]:
        """Return the current segment's device and inode number, and its length, for a commit."""
        return {self._identity: self.length}

    @property
    def reach(self) -> tuple[tuple[int, int], int, int]:
        """The current segment's device and inode number, its committed length, and its length."""
        return self._identity, self._kept[0], self.length

    # Recovering

    def _recover(self, committed: Committed, evidence: Evidence) -> None:
        journal, boot = read_identity(self._directory, self.problems)
        now = BOOT_ID.read_text().strip()
        found = FoundSegments(self._directory, journal, committed, evidence)
        self.problems += found.problems
        self._finished, self.recovered = found.segments, found.identities
        end, ordinal, offset = committed.records, 0, 0
        if found.last is not None:
            following = found.end(committed.records, LEAP)
            end = max(end, following)
            ordinal = found.last.ordinal + max(0, following - found.last.first)
            offset = found.last.offset + found.length
            if not boot:
                journal = found.last.journal
        is_known = bool(committed.turn)
        if not is_known and self._finished:
            self.problems.append(
                f"{self._directory}: the number of the last record is lost; {LEAP} numbers are passed over"
            )
        is_copy = bool(boot) and is_copied(self._directory)
        if boot and not is_sealed(self._directory):
            seal_identity(self._directory)
        if is_copy:
            self.problems.append(
                f"{self._directory}: is a copy, or was set back, or its owner or mode has changed (chown, chmod): "
                "stores may have later records, so many numbers are passed over; no record is lost by that"
            )
            # A random number, larger than all boots since the copy can have passed over.
            end += LEAP * (256 + int.from_bytes(os.urandom(2)) % (COPY_LEAPS - 256))
        elif self._finished and not boot:
            # An operator has removed the identity, because a store is ahead: perhaps by the numbers of a copy.
            end += LEAP * 2 * COPY_LEAPS
        elif (self._finished and (boot != now or not is_known)) or (boot and boot != now):
            end += LEAP
        self._begin(Header(journal, max(end, found.begun), ordinal, offset))
        for path in found.empty:
            if path != self._path:
                path.unlink()
        if boot != now or is_copy:
            write_identity(self._directory, journal, now)

    def _begin(self, header: Header) -> None:
        """Begin a segment. Raises OSError; then the present one stays the current one."""
        path = self._directory / segment_name(header.first)
        # A file of this name can only be empty: its writer ended before anything was appended.
        path.unlink(missing_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            data = record_block.encode_header(header)
            os.posix_fallocate(fd, 0, len(data))
            os.pwrite(fd, data, 0)
            os.fdatasync(fd)
            sync_directory(self._directory)
            found = os.fstat(fd)
        except OSError:
            os.close(fd)
            with contextlib.suppress(OSError):
                path.unlink()
            raise
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._header = fd, header
        self._identity = (found.st_dev, found.st_ino)
        self.length, self.next = HEADER_BYTES, header.first
        self._kept = (self.length, self.next)
        self._unsynced = False

    # Appending

    def rotate(self, *, even_if_small: bool = False) -> bool:
        """Begin the next segment if this one is full; call it only between commits. Raises OutputError."""
        if self.length < (HEADER_BYTES + 1 if even_if_small else self.segment_bytes):
            return False
        try:
            # A failed append may have left bytes in it.
            os.ftruncate(self._fd, self.length)
            is_unsynced = self._unsynced
            finished = Segment(self._header.first, self._path, self.length)
            ordinal, offset = self.total
            self._begin(Header(self.journal, self.next, ordinal, offset))
        except OSError as error:
            raise OutputError(str(self._path), "begin the next file after it", error) from error
        self._finished.append(finished)
        if is_unsynced:
            self._unsynced_paths.append(finished.path)
        return True

    @property
    def _path(self) -> Path:
        return self._directory / segment_name(self._header.first)

    def append(self, gathered: Sequence[Gathered], time_ns: int) -> None:
        """Append blocks, all or none of them. Raises OutputError."""
        parts: list[bytes | memoryview] = []
        position, number = self.length, self.next
        for session, runs, count, lines in gathered:
            head = record_block.encode_block(
                self._header.first, position, number, count, time_ns, session, runs, (lines,)
            )
            parts += (head, lines)
            position += len(head) + len(lines)
            number += count
        try:
            self._write(parts, self.length)
        except OSError as error:
            raise OutputError(str(self._path), "write", error) from error
        self.length, self.next = position, number
        self._unsynced = True

    def _write(self, parts: list[bytes | memoryview], position: int) -> None:
        for start in range(0, len(parts), IOV_MAX):
            some = parts[start : start + IOV_MAX]
            nbytes = sum(map(len, some))
            written = os.pwritev(self._fd, some, position)
            if written < nbytes:
                # A lasting problem, such as a full disk, makes the next append fail.
                rest = memoryview(b"".join(some))[written:]
                while rest:
                    more = os.pwrite(self._fd, rest, position + written)
                    written += more
                    rest = rest[more:]
            position += nbytes

    def sync(self) -> None:
        """Wait until everything appended is on the disk. Raises OutputError; then call `abandon`."""
        self._sync_finished()
        if not self._unsynced:
            return
        try:
            os.fdatasync(self._fd)
        except OSError as error:
            raise OutputError(str(self._path), "sync", error) from error
        self._unsynced = False

    def _sync_finished(self) -> None:
        """Wait until the finished segments are on the disk. Raises OutputError."""
        while self._unsynced_paths:
            path = self._unsynced_paths[-1]
            try:
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:  # removed by hand
                self._unsynced_paths.pop()
                continue
            except OSError as error:
                raise OutputError(str(path), "sync", error) from error
            # Once: a second sync of a file that could not be written succeeds without its lost pages (fsync(2)).
            self._unsynced_paths.pop()
            try:
                os.fdatasync(fd)
            except OSError as error:
                raise OutputError(str(path), "sync", error) from error
            finally:
                os.close(fd)

    def abandon(self) -> None:
        """After a failed sync: go on in a new segment; uncommitted records must be appended again.

        Raises OutputError; then call it again before anything else.
        """
        length, number = self._kept
        try:
            os.ftruncate(self._fd, length)
            self.length, self.next = length, number
            finished = Segment(self._header.first, self._path, length)
            ordinal, offset = self.total
            if length == HEADER_BYTES:
                # The next segment has the same name.
                self._begin(Header(self.journal, self.next, ordinal, offset - length))
                return
            self._begin(Header(self.journal, self.next, ordinal, offset))
        except OSError as error:
            raise OutputError(str(self._path), "begin the next file after it", error) from error
        self._finished.append(finished)

    def committed(self) -> None:
        """Record that everything appended is committed."""
        self._kept = (self.length, self.next)

    def remove_below(self, number: int, keep: int = 0) -> int:
        """Remove finished segments without records from `number` on, except for the last few; return how many."""
        removed = 0
        while len(self._finished) > keep:
            following = self._finished[1].first if len(self._finished) > 1 else self._header.first
            if following > number:
                break
            try:
                self._finished[0].path.unlink(missing_ok=True)
            except OSError:
                break
            with contextlib.suppress(ValueError):
                self._unsynced_paths.remove(self._finished[0].path)
            del self._finished[0]
            removed += 1
        return removed

    def close(self) -> None:
        """Sync every segment, and close the current one."""
        if self._fd >= 0:
            with contextlib.suppress(OutputError):
                self._sync_finished()
            with contextlib.suppress(OSError):
                os.fdatasync(self._fd)
            os.close(self._fd)
            self._fd = -1
