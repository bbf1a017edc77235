"""Finds the record log's segments after a start, and cuts them back to their committed lengths.

Owns their names, and the facts about each before records are appended again. Does not know lines, sessions or stores;
record_log.py appends.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, NamedTuple

from prefork_logd.config.values import format_count
from prefork_logd.journal import aside, record_block
from prefork_logd.journal.intent import Evidence, Fate
from prefork_logd.journal.record_block import HEADER_BYTES, Header

if TYPE_CHECKING:
    from pathlib import Path

    from prefork_logd.journal.commit_entry import Committed

_NAME = re.compile(r"records-([0-9a-f]{16})\.segment")


class Segment(NamedTuple):
    """A finished segment."""

    first: int
    path: Path
    nbytes: int
    """Size of the file."""


def segment_paths(directory: Path) -> list[tuple[int, Path]]:
    """Return the number of the first record and the path of each segment, in order. Raises OSError."""
    found = ((_NAME.fullmatch(path.name), path) for path in directory.iterdir())
    return sorted((int(match[1], 16), path) for match, path in found if match)


def segment_name(first: int) -> str:
    """Return the file name of the segment that begins with a number."""
    return f"records-{first:016x}.segment"


class FoundSegments:
    """The segments of a directory, cut back to their committed lengths."""

    def __init__(self, directory: Path, journal: bytes, committed: Committed, evidence: Evidence) -> None:
        """Examine each segment, and cut off the bytes that `evidence` proves to be uncommitted.

        `journal` is the journal's name, for a segment whose header cannot be read. Raises OSError.
        """
        self.segments: list[Segment] = []
        """Segments with records, in order."""
        self.identities: set[tuple[int, int]] = set()
        """Device and inode numbers of all segments."""
        self.empty: list[Path] = []
        """Segments without records, of a recovery that died before its first commit; it may have left numbers out."""
        self.begun = 0
        """The highest first number of an empty segment."""
        self.last: Header | None = None
        """Header of the last segment that holds records."""
        self.problems: list[str] = []
        for first, path in segment_paths(directory):
            found = path.stat()
            identity = (found.st_dev, found.st_ino)
            self.identities.add(identity)
            size = found.st_size
            if identity in committed.files:
                size = self._cut_back(path, identity, evidence.length(identity, committed.files[identity]), evidence)
            if size <= HEADER_BYTES:
                self.begun = max(self.begun, first)
                self.empty.append(path)
                continue
            self.last = self._read_header(path, first, journal)
            self.segments.append(Segment(first, path, size))

    def _read_header(self, path: Path, first: int, journal: bytes) -> Header:
        try:
            with path.open("rb") as file:
                return record_block.decode_header(file.read(HEADER_BYTES))
        except ValueError as error:
            self.problems.append(f"{path}: {error}")
            last = self.last
            return Header(journal, first, last.ordinal if last else 0, last.offset + self.length if last else 0)

    @property
    def length(self) -> int:
        """Bytes of the last segment that holds records."""
        return self.segments[-1].nbytes if self.segments else 0

    def end(self, committed_records: int, most: int) -> int:
        """Return the number after the last record of the last segment.

        Committed records count even if they cannot be read, unless they are `most` or more after its beginning.
        """
        if self.last is None:
            return 0
        end = _scan(self.segments[-1].path, self.last.first, self.length)
        return committed_records if end < committed_records < self.last.first + most else end

    def _cut_back(self, path: Path, identity: tuple[int, int], length: int, evidence: Evidence) -> int:
        """Cut a segment back to its committed length, unless later bytes in it may count; return its length."""
        with path.open("r+b") as file:
            size = os.fstat(file.fileno()).st_size
            if size <= length:
                return size
            fate = evidence.fate(identity, length, size)
            if fate is Fate.KEEP:
                self.problems.append(
                    f"{path}: has {format_count(size - length, 'byte')} more than the journal knows, which are kept"
                )
                return size
            what = "cut back to its committed length"
            if fate is Fate.SET_ASIDE:
                what += f"; the rest is in {aside.copy_end(file.fileno(), length, size, str(path))}"
            os.ftruncate(file.fileno(), length)
            self.problems.append(f"{path}: {what}")
        return length


def _scan(path: Path, first: int, size: int) -> int:
    """Return the number after the last intact block of a segment: stores get the records before it."""
    end, position = first, HEADER_BYTES
    with path.open("rb") as file:
        while position < size:
            file.seek(position)
            head = file.read(record_block.BLOCK_BYTES)
            nbytes = record_block.block_size(head, 0)
            if not nbytes or position + nbytes > size:
                break
            end = record_block.block_end(head)
            position += nbytes
    return end
