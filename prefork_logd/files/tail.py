"""Reads the end of a JSON output, and the lines appended since, through rotations.

Does not know filters.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from prefork_logd.files.unpacking import Splitter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

OUTPUT_READ_BYTES = 1 << 20
MOST_LINE_BYTES = 1 << 26
"""A longer line is skipped: the collector never writes one."""


class OutputTail:
    """The end of a JSON output."""

    def __init__(self, path: Path, complain: Callable[[str], None]) -> None:
        """Read a file that may not exist yet; `complain` gets a sentence for each error."""
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
        """Report a problem, once as long as it stays the same."""
        if problem != self._complained:
            self._complain(problem)
        self._complained = problem

    def rewind(self, _count: int) -> bool:
        """Go back to the first line, as a file has no index of its lines; return True."""
        if self._fd >= 0:
            os.lseek(self._fd, 0, os.SEEK_SET)
            self._splitter.forget()
        return True

    @property
    def position(self) -> int:
        """The offset of the next byte to read."""
        return os.lseek(self._fd, 0, os.SEEK_CUR) if self._fd >= 0 else 0

    def skip(self, offset: int) -> None:
        """Open the file and go to an offset, the beginning of a line."""
        if offset and (self._fd >= 0 or self._open()):
            os.lseek(self._fd, offset, os.SEEK_SET)

    def read_lines(self) -> Iterator[bytes]:
        """Yield the lines from here to the end, also those of a file that has replaced this one."""
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

    read_new_lines = read_lines

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _is_gone(self) -> bool:
        """Tell whether the path now leads to another file; then this one gets no more lines."""
        try:
            found = self._path.stat()
        except OSError:
            return False
        ours = os.fstat(self._fd)
        if ours.st_size < os.lseek(self._fd, 0, os.SEEK_CUR):
            # Another program has truncated the file (logrotate's copytruncate).
            os.lseek(self._fd, 0, os.SEEK_SET)
            self._splitter.forget()
        return (found.st_dev, found.st_ino) != (ours.st_dev, ours.st_ino)
