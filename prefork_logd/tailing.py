"""What was collected last, and what comes: from the record log, else from a JSON output.

Owns where lines are read from, and waiting for more. Prints nothing; what a filter means is query/'s.

Only what is committed is read from the record log: the writer writes the next number to a file beside it after each
commit, and inotify(7) tells of that. Where its instances or watches are used up, the files are looked at a few times a
second instead. However many lines are asked for, few are held: beyond HELD_BYTES they are read a second time.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self

from prefork_logd.errors import NotARecord, ProcessError
from prefork_logd.journal.reader import RecordReader
from prefork_logd.journal.records import POSITION_FILE, segment_paths
from prefork_logd.query.filters import Filters
from prefork_logd.query.search import levels_by_name
from prefork_logd.records.stored import read_fields, read_row, split_lines
from prefork_logd.settings import JOURNAL_DIRECTORY
from prefork_logd.unpacking import Splitter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prefork_logd.settings import Settings

IN_MODIFY, IN_MOVED_TO, IN_CREATE = 0x2, 0x80, 0x100
LOOK_ANYWAY_S = 1.0
"""A directory may be made anew, which its own watch does not tell."""
POLL_S = 0.2
"""How often to look where nothing tells of changes."""
WINDOW_FACTOR = 4
OUTPUT_READ_BYTES = 1 << 20
MOST_LINE_BYTES = 1 << 26
"""A longer line is none of the collector's, and is passed over."""
HELD_BYTES = 16 << 20
LEVEL_LINES = 10_000
"""Looked through for the name of a level that every collector does not know."""


class Matcher:
    """Tells whether a stored line is wanted, and counts the lines that are no records."""

    def __init__(self, filters: Filters) -> None:
        self._filters = filters
        self.unread = 0
        """Lines that are no records."""
        self._reason = ""
        self._told = 0

    def __call__(self, line: bytes) -> bool:
        """Tell whether a line is a record that the filters let through."""
        try:
            return self._filters.matches(read_fields(line))
        except NotARecord as error:
            self.unread += 1
            self._reason = self._reason or str(error)
            return False

    def tell(self, complain: Callable[[str], object]) -> None:
        """Complain of lines that are no records, if there are many more than when that was last done."""
        if self.unread >= max(1, 10 * self._told):
            self._told = self.unread
            complain(f"lines that are no record and are not shown: {self.unread:,}; the first one {self._reason}")


class Tail(Protocol):
    """A place to read the latest lines from."""

    directory: Path

    def last(self, count: int, matches: Matcher) -> Iterator[bytes]:
        """Yield the last lines that match, and go on after them."""

    def more(self) -> Iterator[bytes]:
        """Yield the lines that have come since."""


class _Last:
    """The last lines of many, as long as they are few; beyond that their number alone."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._held_bytes = 0
        self.lines: deque[bytes] | None = deque()
        """None: they are too many to be held."""
        self.found = 0

    def add(self, line: bytes) -> None:
        self.found += 1
        if self.lines is None:
            return
        self.lines.append(line)
        self._held_bytes += len(line)
        if len(self.lines) > self._count:
            self._held_bytes -= len(self.lines.popleft())
        if self._held_bytes > HELD_BYTES:
            self.lines = None

    def again(self, lines: Iterator[bytes], matches: Matcher) -> Iterator[bytes]:
        """Yield the last ones from all lines, which are read a second time."""
        unread, skipped = matches.unread, self.found - self._count
        for line in lines:
            if matches(line):
                skipped -= 1
                if skipped < 0:
                    yield line
        matches.unread = unread


class RecordTail:
    """The record log's end."""

    def __init__(self, directory: Path, complain: Callable[[str], None]) -> None:
        """Read the record log in a directory; what cannot be read is told to `complain`."""
        self.directory = directory
        self._reader = RecordReader(directory)
        self._complain = complain
        self._number = self._committed() or 0

    def _committed(self) -> int | None:
        """Return the number after the last record that is committed; None if it cannot be read just now."""
        try:
            octets = (self.directory / POSITION_FILE).read_bytes()[:8]
        except OSError:
            return None
        return int.from_bytes(octets, "little") if len(octets) == 8 else None

    def _read(self, until: int) -> Iterator[bytes]:
        while (entry := self._reader.read(until)) is not None:
            yield from split_lines(entry.lines)
        for problem in self._reader.problems:
            self._complain(problem)
        self._reader.problems.clear()

    def last(self, count: int, matches: Matcher) -> Iterator[bytes]:
        """Yield the last lines that match, and go on after them."""
        until = self._number
        if not count:
            self._reader.seek(until)
            return
        oldest = min((first for first, _ in segment_paths(self.directory)), default=until)
        window = count
        while True:
            start = max(oldest, until - window)
            self._reader.seek(start)
            picked, unread = _Last(count), matches.unread
            for line in self._read(until):
                if matches(line):
                    picked.add(line)
            if picked.found >= count or start <= oldest:
                break
            matches.unread = unread
            window *= WINDOW_FACTOR
        if picked.lines is not None:
            yield from picked.lines
            return
        self._reader.seek(start)
        yield from picked.again(self._read(until), matches)

    def more(self) -> Iterator[bytes]:
        """Yield the lines that have come since."""
        number = self._committed()
        if number is None:
            return
        if number < self._number:
            # Another journal has taken the place of this one.
            self._reader.seek(0)
        self._number = number
        yield from self._read(number)


class OutputTail:
    """A JSON output's end, through rotations."""

    def __init__(self, path: Path, complain: Callable[[str], None]) -> None:
        """Read a file that may not be there yet; errors go to `complain`."""
        self._path = path
        self.directory = path.parent
        self._complain = complain
        self._complained = ""
        self._fd = -1
        self._splitter = Splitter(MOST_LINE_BYTES)

    def _open(self) -> bool:
        try:
            self._fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            return False
        except OSError as error:
            self._say(f"{self._path}: cannot read it: {error.strerror}")
            return False
        self._complained = ""
        return True

    def _say(self, problem: str) -> None:
        """Complain once of the same."""
        if problem != self._complained:
            self._complain(problem)
        self._complained = problem

    def last(self, count: int, matches: Matcher) -> Iterator[bytes]:
        """Yield the last lines that match, and go on after them."""
        picked = _Last(count)
        for line in self._lines():
            if matches(line):
                picked.add(line)
        if picked.lines is not None:
            yield from picked.lines
        elif self._fd >= 0:
            # The second reading ends at the same place as the first one, or later.
            os.lseek(self._fd, 0, os.SEEK_SET)
            self._splitter.forget()
            yield from picked.again(self._lines(), matches)

    def more(self) -> Iterator[bytes]:
        """Yield the lines that have come since."""
        return self._lines()

    def _lines(self) -> Iterator[bytes]:
        while self._fd >= 0 or self._open():
            is_gone = self._is_gone()
            try:
                while data := os.read(self._fd, OUTPUT_READ_BYTES):
                    yield from (line for line in self._splitter.feed(data) if line is not None)
            except OSError as error:
                self._say(f"{self._path}: cannot read it: {error.strerror}")
                return
            if not is_gone:
                return
            os.close(self._fd)
            self._fd = -1
            self._splitter.forget()

    def _is_gone(self) -> bool:
        """Tell whether the path leads to another file by now, so that what can be read is all of this one."""
        try:
            found = self._path.stat()
        except OSError:
            return False
        ours = os.fstat(self._fd)
        if ours.st_size < os.lseek(self._fd, 0, os.SEEK_CUR):
            os.lseek(self._fd, 0, os.SEEK_SET)  # cut by others (copytruncate)
            self._splitter.forget()
        return (found.st_dev, found.st_ino) != (ours.st_dev, ours.st_ino)


def levels(settings: Settings) -> dict[str, int]:
    """Return the levels that the latest records carry by name, in capitals; none if there is nothing to read."""
    try:
        tail = open_tail(settings, lambda _: None)
    except ProcessError:
        return {}
    lines = tail.last(LEVEL_LINES, Matcher(Filters()))
    return levels_by_name((record.levelname, record.levelno) for record in map(read_row, lines))


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
            return OutputTail(Path(output.path), complain)
    if settings.store or any(output.format == "json" for output in settings.output):
        state_dir = settings.server.state_dir
        raise ProcessError(f"{state_dir}: nothing is stored there yet; --state-dir names another state directory")
    raise ProcessError('nothing to read: there is neither a store nor an output with format = "json"')


def follow(tail: Tail, matches: Matcher, reader_fd: int) -> Iterator[Iterator[bytes]]:
    """Yield lines as they come, for ever; each time all that have come have to be taken.

    Raises BrokenPipeError when the reader of `reader_fd`, to which they are written, has gone.
    """
    with _Watch(tail.directory, reader_fd) as watch:
        while True:
            yield (line for line in tail.more() if matches(line))
            watch.wait()


class _Watch:
    """Watches one directory by inotify(7), if there is an instance left, and the reader of the output."""

    def __init__(self, directory: Path, reader_fd: int) -> None:
        self._directory = directory
        self._reader_fd = reader_fd
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = -1
        self._poll = select.poll()
        self._poll.register(reader_fd, 0)  # errors and hang-ups are always told

    def __enter__(self) -> Self:
        self._fd = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd >= 0:
            self._poll.register(self._fd, select.POLLIN)
        self._watch()
        return self

    def _watch(self) -> bool:
        """Watch the directory that is there now, and tell whether it is watched: the limit may be reached."""
        path = os.fsencode(self._directory)
        return self._fd >= 0 and self._libc.inotify_add_watch(self._fd, path, IN_MODIFY | IN_MOVED_TO | IN_CREATE) >= 0

    def wait(self) -> None:
        """Wait for a change, but not for ever. Raises BrokenPipeError."""
        # Again each time, as the directory may be another one: for the same one this changes nothing.
        longest_s = LOOK_ANYWAY_S if self._watch() else POLL_S
        ready = dict(self._poll.poll(1000 * longest_s))
        if ready.pop(self._reader_fd, 0):
            raise BrokenPipeError
        if ready:
            with contextlib.suppress(BlockingIOError):
                while os.read(self._fd, 65_536):
                    pass

    def __exit__(self, *error: object) -> None:
        if self._fd >= 0:
            os.close(self._fd)
