"""The record log: records that wait for the stores, in segments beside the commits.

Owns the segments: numbering, appending, cutting back, rotating, removing. Knows nothing of lines, sessions and stores:
which numbers are not wanted any more is told to it. Reading is reader.py's.

What is committed is said by the commit entries, as of the outputs: the length of the current segment, and the next
record's number. A segment is known to the journal before anything is appended to it, so one that is not in the last
commit is whole. Files are named after their first record's number.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from typing import TYPE_CHECKING, NamedTuple

from prefork_logd.disk import replace_file, sync_directory
from prefork_logd.errors import OutputError
from prefork_logd.journal import aside, blocks
from prefork_logd.journal.blocks import HEADER_BYTES, JOURNAL_BYTES, Header
from prefork_logd.journal.intent import BOOT_ID, Evidence, Fate
from prefork_logd.libc import IOV_MAX, begin_writing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from prefork_logd.journal.commit import Committed

IDENTITY_FILE = "identity"
SEAL_FILE = "identity.seal"
"""Says which file the identity is in; another one is a copy."""
POSITION_FILE = "position"
"""Holds the number of the next record, as 8 bytes, for those that read the log without being a child."""
LEAP = 1 << 32
"""Numbers passed over when the last ones given may not be known any more: after a power loss a store may have records
whose commit, not synced, the journal has forgotten. Their numbers must not be given again."""
WRITTEN_BYTES = 8 << 20
"""After so many bytes the disk begins to write them: the sync at a segment's end, for which everybody waits, then finds
little to do."""
_NAME = re.compile(r"records-([0-9a-f]{16})\.segment")


class Gathered(NamedTuple):
    """Records of one session that were committed together."""

    session: bytes
    runs: Sequence[tuple[int, int]]
    """(first, count) of the session's numbers of the lines, in order."""
    count: int  # type: ignore[assignment]  # tuple.count is hidden, and meant to be
    lines: memoryview | bytes


class _Segment(NamedTuple):
    first: int
    path: Path
    nbytes: int
    """Of a segment that is finished."""


def segment_paths(directory: Path) -> list[tuple[int, Path]]:
    """Return the number of the first record and the path of each segment, in order. Raises OSError."""
    found = ((_NAME.fullmatch(path.name), path) for path in directory.iterdir())
    return sorted((int(match[1], 16), path) for match, path in found if match)


def is_copied(directory: Path) -> bool:
    """Tell whether the identity is in another file than was sealed: the directory is a copy of ours.

    A copy has another inode or another time of change, which nothing can copy. Raises OSError.
    """
    try:
        return (directory / SEAL_FILE).read_bytes() != _mark_of_identity(directory)
    except FileNotFoundError:
        return False


def _mark_of_identity(directory: Path) -> bytes:
    found = (directory / IDENTITY_FILE).stat()
    return f"{found.st_ino} {found.st_ctime_ns}\n".encode()


def segment_name(first: int) -> str:
    """Return the name of the segment that begins with a number."""
    return f"records-{first:016x}.segment"


class RecordLog:
    """The append side; only the writer has it."""

    def __init__(
        self, directory: Path, segment_bytes: int, committed: Committed, evidence: Evidence | None = None
    ) -> None:
        """Recover the segments: cut off uncommitted bytes, as far as `evidence` proves that they are.

        Raises OutputError.
        """
        self.problems: list[str] = []
        self.segment_bytes = segment_bytes
        self._directory = directory
        self._finished: list[_Segment] = []
        self._fd = -1
        self._header = Header(b"", 0, 0, 0)
        self._identity = (0, 0)
        self.length = 0
        """Of the current segment, in bytes, what is appended and not committed included."""
        self.next = 0
        """Number of the next record."""
        self.recovered: set[tuple[int, int]] = set()
        """Device and inode numbers of the segments that were there; empty ones are removed by now."""
        self._kept = (0, 0)
        """`length` and `next` as they were committed last."""
        self._unsynced = False
        self._begun = 0
        """As far as the disk was told to write the current segment."""
        try:
            self._recover(committed, evidence or Evidence())
        except OSError as error:
            self.close()
            raise OutputError(str(error.filename or directory), "recover", error) from error

    @property
    def journal(self) -> bytes:
        """What names this journal to the stores."""
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
    def finished(self) -> int:
        """How many segments could be removed."""
        return len(self._finished)

    @property
    def total(self) -> tuple[int, int]:
        """How many records and bytes were ever appended."""
        return self._total(self.length, self.next)

    @property
    def committed_total(self) -> tuple[int, int]:
        """How many records and bytes were ever committed."""
        return self._total(*self._kept)

    @property
    def committed_next(self) -> int:
        """Number of the first record that is not committed."""
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
        journal, boot = self._read_identity()
        now = BOOT_ID.read_text().strip()
        is_known = bool(committed.turn)
        last: Header | None = None
        end, length, count = committed.records, 0, 0
        begun, empty = 0, []
        for first, path in segment_paths(self._directory):
            found = path.stat()
            identity = (found.st_dev, found.st_ino)
            self.recovered.add(identity)
            size = found.st_size
            if identity in committed.files:
                size = self._cut_back(path, identity, evidence.length(identity, committed.files[identity]), evidence)
            if size <= HEADER_BYTES:
                # Begun by a recovery that died before its first commit, perhaps after numbers were left out.
                begun = max(begun, first)
                empty.append(path)
                continue
            try:
                with path.open("rb") as file:
                    last = blocks.decode_header(file.read(HEADER_BYTES))
            except ValueError as error:
                self.problems.append(f"{path}: {error}")
                last = Header(journal, first, last.ordinal + count if last else 0, last.offset + length if last else 0)
            self._finished.append(_Segment(first, path, size))
            length = size
            count = 0
        if last is not None and self._finished:
            following = self._scan(self._finished[-1].path, last.first, length)
            if following < committed.records < last.first + LEAP:
                following = committed.records  # what could not be read was there all the same
            count = max(0, following - last.first)
            end = max(end, following)
            if not boot:
                journal = last.journal
        if not is_known and self._finished:
            self.problems.append(f"{self._directory}: the number of the last record is not known; {LEAP} are left out")
        is_copy = bool(boot) and is_copied(self._directory)
        if boot and not (self._directory / SEAL_FILE).exists():
            self._seal()
        if is_copy:
            self.problems.append(
                f"{self._directory}: is a copy, or was set back: stores may have later records than it; many numbers "
                "are left out"
            )
            # By chance, and more than any number of boots may have left out since the copy was made.
            end += LEAP * (256 + int.from_bytes(os.urandom(2)))
        elif (self._finished and (boot != now or not is_known)) or (boot and boot != now):
            end += LEAP
        end = max(end, begun)
        header = Header(journal, end, last.ordinal + count if last else 0, last.offset + length if last else 0)
        self._begin(header)
        for path in empty:
            if path != self._path:
                path.unlink()
        if boot != now or is_copy:
            self._write_identity(journal, now)

    def _cut_back(self, path: Path, identity: tuple[int, int], length: int, evidence: Evidence) -> int:
        """Bring a segment back to its committed length, where nothing more is in it that counts; return its length."""
        with path.open("r+b") as file:
            size = os.fstat(file.fileno()).st_size
            if size <= length:
                return size
            fate = evidence.fate(identity, length, size)
            if fate is Fate.KEEP:
                self.problems.append(f"{path}: has {size - length} bytes more than the journal knows of; they are kept")
                return size
            what = "cut back to what was committed"
            if fate is Fate.SET_ASIDE:
                what += f"; the rest is in {aside.copy_end(file.fileno(), length, size, str(path))}"
            os.ftruncate(file.fileno(), length)
            self.problems.append(f"{path}: {what}")
        return length

    @staticmethod
    def _scan(path: Path, first: int, size: int) -> int:
        """Return the number after the last intact block of a segment, which is what stores will get of it."""
        end, position = first, HEADER_BYTES
        with path.open("rb") as file:
            while position < size:
                file.seek(position)
                head = file.read(blocks.BLOCK_BYTES)
                nbytes = blocks.block_size(head, 0)
                if not nbytes or position + nbytes > size:
                    break
                end = blocks.block_end(head)
                position += nbytes
        return end

    def _read_identity(self) -> tuple[bytes, str]:
        """Return the journal's name, made once, and the boot in which it was last appended to."""
        path = self._directory / IDENTITY_FILE
        try:
            document = json.loads(path.read_bytes())
            journal, boot = bytes.fromhex(document["journal"]), str(document["boot"])
        except FileNotFoundError:
            pass
        except (ValueError, KeyError, TypeError) as error:
            self.problems.append(f"{path}: {error}; the journal gets another name, and stores begin with its oldest")
        else:
            if len(journal) == JOURNAL_BYTES:
                return journal, boot
            self.problems.append(f"{path}: what names the journal has another length")
        return os.urandom(JOURNAL_BYTES), ""

    def _seal(self) -> None:
        fd = os.open(self._directory / SEAL_FILE, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, _mark_of_identity(self._directory))
            with contextlib.suppress(OSError):  # without it, a power loss makes a copy of what is none, at worst
                os.fsync(fd)
        finally:
            os.close(fd)

    def _write_identity(self, journal: bytes, boot: str) -> None:
        path = self._directory / IDENTITY_FILE
        replace_file(path, json.dumps({"journal": journal.hex(), "boot": boot}).encode())
        self._seal()
        sync_directory(self._directory)

    def _begin(self, header: Header) -> None:
        """Begin a segment. Raises OSError; then the one before it is still the current one."""
        path = self._directory / segment_name(header.first)
        # One of this name can only be empty: of a life that ended before anything was appended.
        path.unlink(missing_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            data = blocks.encode_header(header)
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
        self._begun = 0

    # Appending

    def rotate(self, *, even_if_small: bool = False) -> bool:
        """Begin the next segment if this one is full; only ever between commits. Raises OutputError."""
        if self.length < (HEADER_BYTES + 1 if even_if_small else self.segment_bytes):
            return False
        try:
            # Of an append that failed, there may be more in it.
            os.ftruncate(self._fd, self.length)
            if self._unsynced:
                os.fdatasync(self._fd)
            finished = _Segment(self._header.first, self._path, self.length)
            ordinal, offset = self.total
            self._begin(Header(self.journal, self.next, ordinal, offset))
        except OSError as error:
            raise OutputError(str(self._path), "go on after", error) from error
        self._finished.append(finished)
        return True

    @property
    def _path(self) -> Path:
        return self._directory / segment_name(self._header.first)

    def append(self, gathered: Sequence[Gathered], time_ns: int) -> None:
        """Append blocks, all or none of them. Raises OutputError."""
        parts: list[bytes | memoryview] = []
        position, number = self.length, self.next
        for session, runs, count, lines in gathered:
            head = blocks.encode_block(self._header.first, position, number, count, time_ns, session, runs, (lines,))
            parts += (head, lines)
            position += len(head) + len(lines)
            number += count
        try:
            self._write(parts, self.length)
        except OSError as error:
            raise OutputError(str(self._path), "write", error) from error
        self.length, self.next = position, number
        self._unsynced = True
        if position - self._begun >= WRITTEN_BYTES:
            begin_writing(self._fd, self._begun, position - self._begun)
            self._begun = position

    def _write(self, parts: list[bytes | memoryview], position: int) -> None:
        for start in range(0, len(parts), IOV_MAX):
            some = parts[start : start + IOV_MAX]
            nbytes = sum(map(len, some))
            written = os.pwritev(self._fd, some, position)
            if written < nbytes:
                # Whatever stands in the way (a full disk) is met by going on.
                rest = memoryview(b"".join(some))[written:]
                while rest:
                    more = os.pwrite(self._fd, rest, position + written)
                    written += more
                    rest = rest[more:]
            position += nbytes

    def sync(self) -> None:
        """Wait until everything appended is on the disk. Raises OutputError: then call `abandon`."""
        if not self._unsynced:
            return
        try:
            os.fdatasync(self._fd)
        except OSError as error:
            raise OutputError(str(self._path), "sync", error) from error
        self._unsynced = False
        self._begun = self.length

    def abandon(self) -> None:
        """After a sync that failed: go on in a new segment; what was not committed has to be appended again.

        Raises OutputError; then this has to be tried again first.
        """
        length, number = self._kept
        try:
            os.ftruncate(self._fd, length)
            self.length, self.next = length, number
            finished = _Segment(self._header.first, self._path, length)
            ordinal, offset = self.total
            if length == HEADER_BYTES:
                # Its name is the next one's.
                self._begin(Header(self.journal, self.next, ordinal, offset - length))
                return
            self._begin(Header(self.journal, self.next, ordinal, offset))
        except OSError as error:
            raise OutputError(str(self._path), "go on after", error) from error
        self._finished.append(finished)

    def committed(self) -> None:
        """Take note that all that was appended is committed."""
        self._kept = (self.length, self.next)

    def remove_below(self, number: int, keep: int = 0) -> int:
        """Remove the finished segments that have no record from `number` on, but for the last few; return how many."""
        removed = 0
        while len(self._finished) > keep:
            following = self._finished[1].first if len(self._finished) > 1 else self._header.first
            if following > number:
                break
            try:
                self._finished[0].path.unlink(missing_ok=True)
            except OSError:
                break
            del self._finished[0]
            removed += 1
        return removed

    def close(self) -> None:
        """Sync and close."""
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                os.fdatasync(self._fd)
            os.close(self._fd)
            self._fd = -1
