"""Reads the latest records that match a filter, then new ones: from the record log, else from a JSON output.

Does not know how records are printed. Few lines are held: beyond HELD_BYTES they are read a second time.
"""

from __future__ import annotations

import contextlib
import os
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from prefork_logd.config.output_paths import PathPattern
from prefork_logd.config.paths import JOURNAL_DIRECTORY
from prefork_logd.errors import NotARecord, ProcessError
from prefork_logd.files.tail import OutputTail
from prefork_logd.journal.record_log import POSITION_FILE
from prefork_logd.journal.tail import RecordTail
from prefork_logd.query.filters import Filters
from prefork_logd.query.search import levels_by_name
from prefork_logd.query.set_tail import SetTail
from prefork_logd.records.stored import read_fields, read_row
from prefork_logd.system.inotify import DirectoryWatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prefork_logd.config.settings import Settings

WINDOW_FACTOR = 4
"""Factor by which each further step into the past is longer."""
HELD_BYTES = 16 << 20
LEVEL_LINES = 10_000
"""Number of latest records that are searched for the name of an unknown level."""


class Matcher:
    """Tells whether a stored line matches, and counts the lines that are not records."""

    def __init__(self, filters: Filters) -> None:
        self._filters = filters
        self.unread = 0
        """Number of lines that are not records."""
        self._reason = ""
        self._reported = 0

    def __call__(self, line: bytes) -> bool:
        """Tell whether a line is a record that matches."""
        try:
            return self._filters.matches(read_fields(line))
        except NotARecord as error:
            self.unread += 1
            self._reason = self._reason or str(error)
            return False

    def report(self, complain: Callable[[str], object]) -> None:
        """Report lines that are not records, if there are ten times as many as at the last report."""
        if self.unread >= max(1, 10 * self._reported):
            self._reported = self.unread
            complain(f"lines that are not records and not shown: {self.unread:,}; the first one {self._reason}")


class Tail(Protocol):
    """A file or record log with the latest lines."""

    directory: Path

    def rewind(self, count: int) -> bool:
        """Go back to `count` records before the end, or further; return whether no record is before that."""

    def read_lines(self) -> Iterator[bytes]:
        """Yield the lines from here to the end."""

    def read_new_lines(self) -> Iterator[bytes]:
        """Yield the lines added since the end was read."""

    def close(self) -> None:
        """Close every file."""


class _LastLines:
    """The last lines of many; above HELD_BYTES only their number."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._held_bytes = 0
        self.lines: deque[bytes] | None = deque()
        """None: they are too large to be held."""
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

    def pick(self, lines: Iterator[bytes], matches: Matcher) -> Iterator[bytes]:
        """Yield the last lines, from all lines read a second time if need be."""
        unread, skipped = matches.unread, self.found - self._count
        for line in lines:
            if matches(line):
                skipped -= 1
                if skipped < 0:
                    yield line
        # The first reading has counted them.
        matches.unread = unread


def last_lines(tail: Tail, count: int, matches: Matcher) -> Iterator[bytes]:
    """Yield the last `count` lines that match; afterwards the tail is at its end."""
    window = count
    while True:
        is_start = tail.rewind(window)
        last, unread = _LastLines(count), matches.unread
        for line in tail.read_lines():
            if matches(line):
                last.add(line)
        if last.found >= count or is_start:
            break
        matches.unread = unread
        window *= WINDOW_FACTOR
    if last.lines is not None:
        yield from last.lines
        return
    # A file may have grown: the second reading ends at the same line as the first one, or later.
    tail.rewind(window)
    yield from last.pick(tail.read_lines(), matches)


def levels(settings: Settings) -> dict[str, int]:
    """Return the levels that the latest records carry by name, in capitals; none if no record can be read."""
    try:
        tail = open_tail(settings, lambda _: None)
    except ProcessError:
        return {}
    with contextlib.closing(tail):
        lines = last_lines(tail, LEVEL_LINES, Matcher(Filters()))
        return levels_by_name((record.levelname, record.levelno) for record in map(read_row, lines))


def open_tail(settings: Settings, complain: Callable[[str], None]) -> Tail:
    """Return the record log or output with the latest records.

    A member of the group of the state directory may read outputs, but not the record log. Raises ProcessError if
    neither is there, OSError if neither may be read.
    """
    directory = Path(settings.server.state_dir) / JOURNAL_DIRECTORY
    reason, refusal = "no record log without a store", None
    if settings.store:
        try:
            (directory / POSITION_FILE).open("rb").close()
        except PermissionError as error:
            reason, refusal = f"{error.filename}: {error.strerror}", error
        except (FileNotFoundError, NotADirectoryError):
            reason = "no record log yet"
        else:
            return RecordTail(directory, complain)
    for output in settings.output:
        path = PathPattern(output.path).base if output.has_fields else output.file_path
        if output.format == "json" and (not settings.store or os.access(path, os.R_OK)):
            complain(f"{reason}; reading {output.path}")
            return SetTail(output.path, complain) if output.has_fields else OutputTail(Path(path), complain)
    if refusal is not None:
        raise refusal
    if settings.store or any(output.format == "json" for output in settings.output):
        state_dir = settings.server.state_dir
        raise ProcessError(f"{state_dir}: nothing is stored there yet; --state-dir names another state directory")
    raise ProcessError('nothing to read: there is neither a store nor an output with format = "json"')


def follow(tail: Tail, matches: Matcher, reader_fd: int) -> Iterator[Iterator[bytes]]:
    """Yield iterators of new lines for ever; each must be exhausted.

    Raises BrokenPipeError if the reader of `reader_fd`, to which the lines are written, has gone.
    """
    with DirectoryWatch(tail.directory, reader_fd) as watch:
        while True:
            yield (line for line in tail.read_new_lines() if matches(line))
            watch.wait()
