"""Reads the ends of all files of an output whose path has fields, as one: lines in the order of their arrival.

Owns which files are read, and that a new one is noticed. Does not know filters, or how a single file is read.
"""

from __future__ import annotations

import heapq
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from prefork_logd.config.output_paths import PathPattern
from prefork_logd.config.values import format_count
from prefork_logd.files import pattern_files
from prefork_logd.files.pattern_files import PatternFile
from prefork_logd.files.tail import OutputTail

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MOST_FILES = 200
"""Files that are read: those that were written last."""
LIST_EVERY_S = 1.0


class _Arrival(msgspec.Struct):
    received: float = 0.0
    created: float = 0.0


_decode = msgspec.json.Decoder(_Arrival).decode


def _place(line: bytes) -> tuple[float, float]:
    """Return when a record arrived and when it was logged, as many arrive at once; zeros for a line that is none."""
    try:
        arrival = _decode(line)
    except msgspec.MsgspecError:
        return 0.0, 0.0
    return arrival.received, arrival.created


class SetTail:
    """The ends of the files of one output; rotated files are left out, as of an output with one file."""

    def __init__(self, path: str, complain: Callable[[str], None]) -> None:
        """Read the files of an output with this path; `complain` gets a sentence for each error."""
        self._pattern = PathPattern(path)
        self.directory = Path(self._pattern.base)
        self._complain = complain
        self._complained = ""
        self._tails: dict[str, OutputTail] = {}
        self._passed: dict[str, int] = {}
        """Files that are not read, and the offset of their first new line."""
        self._listed_s: float | None = None

    def _list(self) -> None:
        """Find the files that were written last, and open those that are not open."""
        is_first = self._listed_s is None
        self._listed_s = time.monotonic()
        try:
            found = [
                file
                for file in pattern_files.read(str(self.directory), self._pattern)
                if isinstance(file, PatternFile) and not file.sequence and not file.could_not_sync
            ]
        except OSError as error:
            problem = f"{error.filename or self.directory}: cannot read it: {error.strerror}"
            if problem != self._complained:
                self._complain(problem)
            self._complained = problem
            return
        self._complained = ""
        found.sort(key=lambda file: file.written_s, reverse=True)
        if is_first:
            self._passed = {file.path: file.nbytes for file in found[MOST_FILES:]}
            if self._passed:
                self._complain(f"{format_count(len(found), 'file')}; reading the {MOST_FILES} that were written last")
        for path in self._tails.keys() - {file.path for file in found[:MOST_FILES]}:
            tail = self._tails.pop(path)
            self._passed[path] = tail.position
            tail.close()
        for file in found[:MOST_FILES]:
            if file.path not in self._tails:
                tail = self._tails[file.path] = OutputTail(Path(file.path), self._complain)
                tail.skip(self._passed.pop(file.path, 0))

    def rewind(self, _count: int) -> bool:
        """Go back to the first line of each file; return True."""
        self._list()
        for tail in self._tails.values():
            tail.rewind(0)
        return True

    def read_lines(self) -> Iterator[bytes]:
        """Yield the lines from here to the ends, in the order of their arrival."""
        yield from heapq.merge(*[tail.read_lines() for tail in self._tails.values()], key=_place)

    def read_new_lines(self) -> Iterator[bytes]:
        """Yield the lines added since, also of new files."""
        if self._listed_s is None or time.monotonic() >= self._listed_s + LIST_EVERY_S:
            self._list()
        yield from self.read_lines()

    def close(self) -> None:
        """Close every file."""
        for tail in self._tails.values():
            tail.close()
        self._tails = {}
