"""Makes a record log with the commits that the writer would make, and reads it back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefork_logd.journal.commit_entry import NOTHING, Committed
from prefork_logd.journal.identity import write_identity
from prefork_logd.journal.intent import BOOT_ID
from prefork_logd.journal.record_log import POSITION_FILE, Gathered, RecordLog
from prefork_logd.journal.record_reader import RecordReader

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SEGMENT = 600


def block(first: int, count: int) -> Gathered:
    """Return records that say their numbers."""
    return Gathered(bytes(16), ((first + 1, count),), count, b"".join(b"%d\n" % n for n in range(first, first + count)))


def write_log(directory: Path, journal: str, lines: Sequence[bytes]) -> None:
    """Write a record log of this name with lines, from number 0 on, as a writer leaves it."""
    write_identity(directory, bytes.fromhex(journal), BOOT_ID.read_text().strip())
    log = RecordLog(directory, 1 << 20, NOTHING)
    for first in range(0, len(lines), 7):
        some = lines[first : first + 7]
        log.append([Gathered(bytes(16), (), len(some), b"".join(some))], 1)
        log.committed()
    assert log.next == len(lines)
    (directory / POSITION_FILE).write_bytes(log.next.to_bytes(8, "little"))
    log.close()


class Log:
    """A log with the commits that the writer would make."""

    def __init__(self, directory: Path, segment_bytes: int = SEGMENT) -> None:
        self.directory = directory
        self.committed = NOTHING
        self.segment_bytes = segment_bytes
        self.log = RecordLog(directory, segment_bytes, NOTHING)
        self.commit()

    def commit(self) -> None:
        """Commit what was appended."""
        self.log.committed()
        self.committed = Committed(self.committed.turn + 1, self.log.lengths(), {}, self.log.next)

    def add(self, counts: Sequence[int]) -> None:
        """Append blocks of so many records, each in a commit of its own."""
        for count in counts:
            self.log.rotate()
            self.log.append([block(self.log.next, count)], 1)
            self.commit()

    def again(self) -> None:
        """Recover from the last commit."""
        self.log.close()
        self.log = RecordLog(self.directory, self.segment_bytes, self.committed)
        self.commit()


def read(directory: Path, until: int, start: int = 0) -> tuple[list[int], RecordReader]:
    """Return the numbers that the readable lines say, and the reader."""
    reader = RecordReader(directory)
    reader.seek(start)
    found: list[int] = []
    while (entry := reader.read(until)) is not None:
        numbers = [int(line) for line in entry.lines.split()]
        assert numbers == list(range(entry.first, entry.first + entry.records))
        assert entry.runs == ((entry.first + 1, entry.records),)
        found += numbers
    reader.close()
    return found, reader


class GrowingLog:
    """A log of this name that a writer goes on with; each `add` is a commit that readers see."""

    def __init__(self, directory: Path, journal: str, segment_bytes: int = 1 << 20) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        write_identity(directory, bytes.fromhex(journal), BOOT_ID.read_text().strip())
        self._directory = directory
        self.log = RecordLog(directory, segment_bytes, NOTHING)
        self._commit()

    @property
    def next(self) -> int:
        """Number of the next record."""
        return self.log.next

    def _commit(self) -> None:
        self.log.committed()
        (self._directory / POSITION_FILE).write_bytes(self.log.next.to_bytes(8, "little"))

    def add(self, lines: Sequence[bytes]) -> None:
        """Append and commit lines."""
        self.log.rotate()
        self.log.append([Gathered(bytes(16), (), len(lines), b"".join(lines))], 1)
        self._commit()

    def close(self) -> None:
        """Close the file."""
        self.log.close()
