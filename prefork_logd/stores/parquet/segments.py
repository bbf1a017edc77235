"""Names, finds, publishes and removes segments: the Parquet files of the store.

Owns the layout of the directory, and the order of system calls that makes each step one step. Does not know the
content of a file.

    records/2026-11-29/0123456789abcdef0123456789abcdef-0-100000.parquet

A segment is in the directory of the UTC day on which its records were received, and is named by its journal and its
range of journal numbers: the first one, and the one after the last. It gets its name when it is complete and on the
disk. So the name makes writing it again harmless, and the largest number after the last is the store's position.

A merged segment has the range of its parts, all of it. A segment whose range lies within another's is ignored, so that
one rename puts the merged segment in the place of its parts.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import shutil
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from prefork_logd.errors import StoreError, describe_refusal
from prefork_logd.system.disk import replace_file, sync_directory
from prefork_logd.system.own_files import open_lock

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MODE = 0o640
DIRECTORY_MODE = 0o750
DAMAGED = ".damaged"
"""Added to the name of a file that cannot be read."""
POSITIONS_FILE = "positions.json"
"""For journals whose newest segment was removed: {journal: number after its last record}."""
MOST_POSITIONS = 10_000
LOCK_FILE = ".lock"

_DAY = re.compile(r"\d{4}-\d\d-\d\d")
_NAME = re.compile(r"([0-9a-f]{32})-(\d{1,20})-(\d{1,20})\.parquet")
_TEMPORARY = re.compile(r"\..*\.(\d+)\.tmp")
_decode_positions = msgspec.json.Decoder(dict[str, int]).decode


class Segment(NamedTuple):
    """A Parquet file with a range of a journal's records."""

    path: Path
    day: str
    """The UTC day of `received`, as 2026-11-29."""
    journal: str
    first: int
    """Number of its first record, or of an earlier one that no segment has."""
    next: int
    """Number after its last record."""
    nbytes: int
    written_s: float
    """When its newest record was written, in seconds since 1970: the file's time of modification."""


def day_name(day: int) -> str:
    """Return the name of a day, given in days since 1970."""
    return time.strftime("%Y-%m-%d", time.gmtime(day * 86_400))


def segment_path(root: Path, day: str, journal: str, first: int, following: int) -> Path:
    """Return the path of a segment."""
    return root / day / f"{journal}-{first}-{following}.parquet"


def find_files(root: Path, ending: str = "") -> list[Segment]:
    """Return every segment of a store, also those within another, in the order of days, journals and numbers.

    With the `ending` DAMAGED return those that were put aside. Raises OSError. A symbolic link is not followed, and no
    other file counts.
    """
    found: list[Segment] = []
    try:
        days = [entry for entry in os.scandir(root) if _DAY.fullmatch(entry.name)]
    except FileNotFoundError:
        return []
    for day in days:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            if day.is_dir(follow_symlinks=False):
                found += _of_day(day, ending)
    return sorted(found, key=lambda one: (one.day, one.journal, one.first, -one.next))


def _of_day(day: os.DirEntry[str], ending: str) -> Iterator[Segment]:
    for entry in os.scandir(day.path):
        match = _NAME.fullmatch(entry.name.removesuffix(ending)) if entry.name.endswith(ending) else None
        if match is None:
            continue
        with contextlib.suppress(FileNotFoundError):  # merged into another meanwhile
            state = entry.stat(follow_symlinks=False)
            if stat.S_ISREG(state.st_mode) and int(match[2]) < int(match[3]):
                yield Segment(
                    Path(entry.path), day.name, match[1], int(match[2]), int(match[3]), state.st_size, state.st_mtime
                )


def split_covered(files: Iterable[Segment]) -> tuple[list[Segment], list[Segment]]:
    """Return the segments to read, and those whose range lies within another's."""
    wanted, covered = [], []
    reach: dict[str, int] = {}
    for one in sorted(files, key=lambda one: (one.journal, one.first, -one.next, one.day)):
        if one.next <= reach.get(one.journal, -1):
            covered.append(one)
        else:
            reach[one.journal] = one.next
            wanted.append(one)
    return sorted(wanted, key=lambda one: (one.day, one.journal, one.first)), covered


def find_segments(root: Path) -> list[Segment]:
    """Return the segments to read: all records of the store, each once. Raises OSError."""
    return split_covered(find_files(root))[0]


def positions(root: Path, files: Iterable[Segment]) -> dict[str, int]:
    """Return for each journal the number after the last record that the store has or had. Raises OSError."""
    found: dict[str, int] = {}
    with contextlib.suppress(FileNotFoundError, msgspec.DecodeError):
        found |= _decode_positions((root / POSITIONS_FILE).read_bytes())
    for one in files:
        found[one.journal] = max(found.get(one.journal, 0), one.next)
    return found


def damaged_files(root: Path) -> list[Path]:
    """Return the files that were put aside because they cannot be read."""
    return [one.path for one in find_files(root, DAMAGED)]


class Directory:
    """The directory of a store, for the one process that changes it at a time."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._fd = -1

    def make(self) -> None:
        """Make the directory. Raises OSError."""
        if not self.root.is_dir():
            self.root.mkdir(DIRECTORY_MODE, parents=True, exist_ok=True)
            self.root.chmod(DIRECTORY_MODE)
            sync_directory(self.root.parent)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep every other process from changing the directory, such as an import. Raises OSError.

        The lock is that of a file for the owner alone: who may only read the directory could lock that for ever.
        """
        fd = open_lock(self.root / LOCK_FILE)
        try:
            owner = self.root.stat()
            if not os.geteuid() and owner.st_uid != os.fstat(fd).st_uid:
                # An import by root must not keep out the collector's own user.
                os.fchown(fd, owner.st_uid, owner.st_gid)
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def temporary(self, path: Path) -> Path:
        """Make and return the empty file in which a segment is written, with its day's directory. Raises OSError."""
        day = path.parent
        if not day.is_dir():
            day.mkdir(DIRECTORY_MODE, exist_ok=True)
            day.chmod(DIRECTORY_MODE)
            sync_directory(self.root)
        temporary = day / f".{path.name}.{os.getpid()}.tmp"
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, MODE)
        try:
            os.fchmod(fd, MODE)
        finally:
            os.close(fd)
        return temporary

    def publish(self, temporary: Path, path: Path, written_s: float = 0.0) -> None:
        """Give a complete file its name. `written_s` is the time of its newest record, 0: now. Raises OSError."""
        fd = os.open(temporary, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fchmod(fd, MODE)
            if written_s:
                os.utime(fd, (written_s, written_s))
            os.fsync(fd)
        finally:
            os.close(fd)
        temporary.rename(path)
        sync_directory(path.parent)

    def remove(self, segments: Iterable[Segment]) -> None:
        """Remove segments and empty directories of days; keep the positions of their journals. Raises OSError."""
        gone = list(segments)
        left = {one.path for one in gone}
        files = find_files(self.root)
        known = positions(self.root, files)
        kept = positions(self.root, [one for one in files if one.path not in left])
        lost = {journal: number for journal, number in known.items() if kept.get(journal, -1) < number}
        if lost:
            newest = [*(kept | lost).items()][-MOST_POSITIONS:]
            replace_file(self.root / POSITIONS_FILE, msgspec.json.encode(dict(newest)), MODE)
        for one in gone:
            one.path.unlink(missing_ok=True)
        for day in {one.path.parent for one in gone}:
            with contextlib.suppress(OSError):  # not empty
                day.rmdir()

    def put_aside(self, segment: Segment) -> Path:
        """Rename a file that cannot be read, so that it is not read again; return its new path. Raises OSError."""
        aside = segment.path.with_name(segment.path.name + DAMAGED)
        segment.path.rename(aside)
        sync_directory(aside.parent)
        return aside

    @property
    def spill(self) -> Path:
        """The directory for DuckDB's temporary files; each process has one."""
        return self.root / f".merge.{os.getpid()}.tmp"

    def clear_temporary(self) -> None:
        """Remove the temporary files of killed processes. Raises OSError."""
        for path in [*self.root.glob("????-??-??/.*.tmp"), *self.root.glob(".*.tmp")]:
            match = _TEMPORARY.fullmatch(path.name)
            if match is None or (int(match[1]) != os.getpid() and _is_alive(int(match[1]))):
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return True


@contextlib.contextmanager
def failing_as_store_error(root: Path) -> Iterator[None]:
    """Raise StoreError for an OSError, with the path that it is about."""
    try:
        yield
    except OSError as error:
        path = Path(error.filename or root)
        # The name of a temporary file is another one at each try, and would be news to the log.
        is_missing = error.errno == errno.ENOENT and path.name == LOCK_FILE
        place = path.parent if is_missing or _TEMPORARY.fullmatch(path.name) else path
        raise StoreError(f"{place}: {describe_refusal(error)}") from error
