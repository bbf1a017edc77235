"""Reads records as they are committed, with their numbers: from the journal, or from a JSON output without a store.

Owns how much is read at once. Does not know filters or viewers. Blocks, so it runs in a thread.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from prefork_logd.config.paths import JOURNAL_DIRECTORY
from prefork_logd.journal.identity import IDENTITY_FILE, read_identity
from prefork_logd.journal.record_log import POSITION_FILE
from prefork_logd.journal.record_reader import RecordReader
from prefork_logd.query.tail import open_tail
from prefork_logd.records.stored import split_lines

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prefork_logd.config.settings import Settings
    from prefork_logd.query.tail import Tail

log = logging.getLogger("prefork_logd.web")

MOST_BEHIND = 100_000
"""Records by which the follower may be behind the writer; it passes over the others."""
PIECE_BYTES = 4 << 20
"""Lines that are read at once, or one block of the journal."""


class Committed(NamedTuple):
    """Records that were committed one after the other."""

    lines: list[tuple[int | None, bytes]]
    """Number and line of each; None for a record of an output."""
    passed_over: int = 0
    """Number of records that were not read, because there were too many."""


NOTHING = Committed([])


class Follower(Protocol):
    """Reads the records that are committed from now on."""

    journal: str
    """The journal's id; empty if records have no numbers."""
    position: int
    """Number of the next record to read."""

    def read(self) -> Committed:
        """Return the records committed since, as far as they are read at once."""

    def close(self) -> None:
        """Close every file."""


def open_follower(settings: Settings) -> Follower:
    """Return the follower of the journal, else of an output. Raises ProcessError if there is neither."""
    directory = Path(settings.server.state_dir) / JOURNAL_DIRECTORY
    if settings.store and committed(directory) is not None:
        return JournalFollower(directory)
    return OutputFollower(open_tail(settings, log.warning))


def committed(directory: Path) -> int | None:
    """Return the number after the last committed record; None if it cannot be read now."""
    try:
        octets = (directory / POSITION_FILE).read_bytes()[:8]
    except OSError:
        return None
    return int.from_bytes(octets, "little") if len(octets) == 8 else None


def journal_id(directory: Path) -> str:
    """Return the id of the journal in a directory; empty if it has none."""
    if not (directory / IDENTITY_FILE).exists():
        return ""
    try:
        return read_identity(directory, [])[0].hex()
    except OSError:
        return ""


class JournalFollower:
    """Follows the record log."""

    def __init__(self, directory: Path) -> None:
        """Begin behind the last committed record."""
        self._directory = directory
        self._reader = RecordReader(directory)
        self.journal = journal_id(directory)
        self.position = committed(directory) or 0
        self._reader.seek(self.position)

    def read(self) -> Committed:
        """Return the records committed since; those of another journal from its beginning on."""
        until = committed(self._directory)
        if until is None or until == self.position:
            return NOTHING
        passed_over = 0
        if until < self.position:
            self.journal, self.position = journal_id(self._directory), 0
            self._reader.seek(0)
        if until - self.position > MOST_BEHIND:
            passed_over = until - MOST_BEHIND // 2 - self.position
            self._reader.seek(until - MOST_BEHIND // 2)
        lines = [*_read_piece(self._reader, until)]
        self.position = min(until, self._reader.next)
        return Committed(lines, passed_over)

    def close(self) -> None:
        """Close the file that is being read."""
        self._reader.close()


class OutputFollower:
    """Follows an output, whose records have no numbers."""

    def __init__(self, tail: Tail) -> None:
        """Begin at its end."""
        self._tail = tail
        self.journal = ""
        self.position = 0
        tail.rewind(0)
        for _ in tail.read_lines():
            pass

    def read(self) -> Committed:
        """Return the lines written since."""
        lines: list[tuple[int | None, bytes]] = []
        passed_over = 0
        for line in self._tail.read_new_lines():
            if len(lines) < MOST_BEHIND:
                lines.append((None, line))
            else:
                passed_over += 1
        return Committed(lines, passed_over)

    def close(self) -> None:
        """Close every file."""
        self._tail.close()


class PastRecords:
    """Reads the records of the journal between two numbers, a piece at a time."""

    def __init__(self, directory: Path, start: int, stop: int) -> None:
        """Read from number `start` on, before `stop`; `start` grows if older ones are in the journal no longer."""
        self._reader = RecordReader(directory)
        self._reader.seek(start)
        self._stop = stop
        self.start = max(start, self._reader.next)

    def read(self) -> list[tuple[int | None, bytes]]:
        """Return the next numbers and lines; none at the end."""
        return [*_read_piece(self._reader, self._stop)]

    def close(self) -> None:
        """Close the file that is being read."""
        self._reader.close()


def _read_piece(reader: RecordReader, until: int) -> Iterator[tuple[int | None, bytes]]:
    nbytes = 0
    while nbytes < PIECE_BYTES:
        wanted = reader.next
        entry = reader.read(until)
        if entry is None:
            break
        nbytes += len(entry.lines)
        for number, line in enumerate(split_lines(entry.lines), entry.first):
            # A block that begins before the wanted record is returned as a whole.
            if number >= wanted:
                yield number, line
    for problem in reader.problems:
        log.warning("journal: %s", problem)
    reader.problems.clear()
