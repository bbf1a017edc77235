"""Reads the end of the record log, and the lines committed since.

Reads only committed records: after each commit the writer writes the next number into a file beside the log. Does not
know filters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefork_logd.journal.record_log import POSITION_FILE
from prefork_logd.journal.record_reader import RecordReader
from prefork_logd.journal.record_segments import segment_paths
from prefork_logd.records.stored import split_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class RecordTail:
    """The end of the record log."""

    def __init__(self, directory: Path, complain: Callable[[str], None]) -> None:
        """Read the record log in a directory; `complain` gets a sentence for each part that cannot be read."""
        self.directory = directory
        self._reader = RecordReader(directory)
        self._complain = complain
        self._number = self._committed() or 0

    def _committed(self) -> int | None:
        """Return the number after the last committed record; None if it cannot be read now."""
        try:
            octets = (self.directory / POSITION_FILE).read_bytes()[:8]
        except OSError:
            return None
        return int.from_bytes(octets, "little") if len(octets) == 8 else None

    def rewind(self, count: int) -> bool:
        """Go back to `count` records before the end; return whether no record is before that."""
        if not count:
            self._reader.seek(self._number)
            return True
        oldest = min((first for first, _ in segment_paths(self.directory)), default=self._number)
        start = max(oldest, self._number - count)
        self._reader.seek(start)
        return start <= oldest

    def read_lines(self) -> Iterator[bytes]:
        """Yield the lines from here to the end."""
        while (entry := self._reader.read(self._number)) is not None:
            yield from split_lines(entry.lines)
        for problem in self._reader.problems:
            self._complain(problem)
        self._reader.problems.clear()

    def read_new_lines(self) -> Iterator[bytes]:
        """Yield the lines that were committed since the end was read."""
        number = self._committed()
        if number is None:
            return
        if number < self._number:
            # Another journal has replaced this one.
            self._reader.seek(0)
        self._number = number
        yield from self.read_lines()

    def close(self) -> None:
        """Close the file that is being read."""
        self._reader.close()
