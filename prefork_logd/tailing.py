"""What was collected last, and what comes: from the record log, else from a JSON output.

Owns where lines are read from, and waiting for more. Prints nothing; what a filter means is query/'s.

Only what is committed is read from the record log: the writer writes the next number to a file beside it after each
commit, and inotify(7) tells of that.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import struct
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self

from prefork_logd.errors import NotARecord, ProcessError
from prefork_logd.journal.reader import RecordReader
from prefork_logd.journal.records import POSITION_FILE, segment_paths
from prefork_logd.records.stored import read_fields, split_lines
from prefork_logd.settings import JOURNAL_DIRECTORY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prefork_logd.query.filters import Filters
    from prefork_logd.settings import Settings

IN_MODIFY, IN_MOVED_TO, IN_CREATE = 0x2, 0x80, 0x100
LOOK_ANYWAY_S = 1.0
"""A directory may be made anew, which its own watch does not tell."""
WINDOW_FACTOR = 4
OUTPUT_READ_BYTES = 1 << 20


class Tail(Protocol):
    """A place to read the latest lines from."""

    directory: Path

    def last(self, count: int, matches: Callable[[bytes], bool]) -> list[bytes]:
        """Return the last lines that match, and go on after them."""

    def more(self) -> list[bytes]:
        """Return the lines that have come since."""


class RecordTail:
    """The record log's end."""

    def __init__(self, directory: Path, complain: Callable[[str], None]) -> None:
        """Read the record log in a directory; what cannot be read is told to `complain`."""
        self.directory = directory
        self._reader = RecordReader(directory)
        self._complain = complain
        self._number = self._committed()

    def _committed(self) -> int:
        try:
            return int.from_bytes((self.directory / POSITION_FILE).read_bytes()[:8], "little")
        except OSError:
            return 0

    def _read(self, until: int) -> Iterator[bytes]:
        while (entry := self._reader.read(until)) is not None:
            yield from split_lines(entry.lines)
        for problem in self._reader.problems:
            self._complain(problem)
        self._reader.problems.clear()

    def last(self, count: int, matches: Callable[[bytes], bool]) -> list[bytes]:
        """Return the last lines that match, and go on after them."""
        until = self._number
        oldest = min((first for first, _ in segment_paths(self.directory)), default=until)
        window = max(count, 1)
        while True:
            start = max(oldest, until - window)
            self._reader.seek(start if count else until)
            found = deque((line for line in self._read(until) if matches(line)), maxlen=count)
            if len(found) >= count or start <= oldest:
                return list(found)
            window *= WINDOW_FACTOR

    def more(self) -> list[bytes]:
        """Return the lines that have come since."""
        number = self._committed()
        if number < self._number:
            # Another journal has taken the place of this one.
            self._reader.seek(0)
        self._number = number
        return list(self._read(number))


class OutputTail:
    """A JSON output's end, through rotations."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.directory = path.parent
        self._fd = -1
        self._rest = b""

    def _open(self) -> bool:
        try:
            self._fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        return True

    def last(self, count: int, matches: Callable[[bytes], bool]) -> list[bytes]:
        """Return the last lines that match, and go on after them."""
        return list(deque((line for line in self._lines() if matches(line)), maxlen=count))

    def more(self) -> list[bytes]:
        """Return the lines that have come since."""
        return list(self._lines())

    def _lines(self) -> Iterator[bytes]:
        while self._fd >= 0 or self._open():
            is_gone = self._is_gone()
            while data := os.read(self._fd, OUTPUT_READ_BYTES):
                *lines, self._rest = (self._rest + data).split(b"\n")
                yield from (line + b"\n" for line in lines)
            if not is_gone:
                return
            os.close(self._fd)
            self._fd, self._rest = -1, b""

    def _is_gone(self) -> bool:
        """Tell whether the path leads to another file by now, so that what can be read is all of this one."""
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return False
        ours = os.fstat(self._fd)
        if found.st_ino == ours.st_ino and found.st_size < os.lseek(self._fd, 0, os.SEEK_CUR):
            os.lseek(self._fd, 0, os.SEEK_SET)  # cut by others (copytruncate)
        return (found.st_dev, found.st_ino) != (ours.st_dev, ours.st_ino)


def open_tail(settings: Settings, complain: Callable[[str], None]) -> Tail:
    """Return where the latest records are. Raises ProcessError if they are nowhere that can be read."""
    directory = Path(settings.server.state_dir) / JOURNAL_DIRECTORY
    if settings.store and (directory / POSITION_FILE).exists():
        return RecordTail(directory, complain)
    for output in settings.output:
        if output.format == "json" and (not settings.store or Path(output.path).exists()):
            complain(
                f"no record log: {'there is no store' if not settings.store else 'not yet'}; reading {output.path}"
            )
            return OutputTail(Path(output.path))
    raise ProcessError('nothing to read: there is neither a store nor an output with format = "json"')


def matcher(filters: Filters) -> Callable[[bytes], bool]:
    """Return what tells whether a stored line is wanted."""

    def matches(line: bytes) -> bool:
        try:
            return filters.matches(read_fields(line))
        except NotARecord:
            return False

    return matches


def follow(tail: Tail, matches: Callable[[bytes], bool]) -> Iterator[list[bytes]]:
    """Yield lines as they come, for ever."""
    with _Watch(tail.directory) as watch:
        while True:
            lines = [line for line in tail.more() if matches(line)]
            if lines:
                yield lines
            watch.wait(LOOK_ANYWAY_S)


class _Watch:
    """inotify(7) on one directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = -1

    def __enter__(self) -> Self:
        self._fd = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise ProcessError(f"cannot wait for changes (inotify): {os.strerror(ctypes.get_errno())}")
        self._libc.inotify_add_watch(self._fd, os.fsencode(self._directory), IN_MODIFY | IN_MOVED_TO | IN_CREATE)
        return self

    def wait(self, longest_s: float) -> None:
        """Wait for a change, but not for ever."""
        ready, _, _ = select.select([self._fd], [], [], longest_s)
        if ready:
            with contextlib.suppress(BlockingIOError):
                while len(os.read(self._fd, 65_536)) >= struct.calcsize("iIII"):
                    pass

    def __exit__(self, *error: object) -> None:
        os.close(self._fd)
