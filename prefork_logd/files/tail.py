"""Reads the end of a JSON output, and the lines appended since, through rotations.

A file that was rotated is read to its end. Then follow the files that were begun and rotated since, by their sequence
numbers (rotated_files.py) or, where another program has renamed them, by their records (renamed_files.py), and the file
at the path. Does not know filters.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from prefork_logd.config.values import format_count
from prefork_logd.errors import LogdError
from prefork_logd.files import renamed_files, rotated_files
from prefork_logd.files.opening import Identity
from prefork_logd.files.renamed_files import MOST_LINE_BYTES, Passed, received_s
from prefork_logd.files.unpacking import Splitter, Unpacked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

OUTPUT_READ_BYTES = 1 << 20


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
        self._passed: int | None = None
        """Sequence number of the newest rotated file before the open one; None: no file was open yet."""
        self._must_catch_up = False
        """Whether files before the open one may not have been read."""
        self._last_line = b""
        """The last line that was read."""
        self._opened_s = 0.0
        """When the first file was opened, in seconds since 1970."""
        self._renamed: Passed | None = None
        """The file before the open one, if another program has renamed it."""

    def _open(self) -> bool:
        try:
            self._fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            return False
        except OSError as error:
            self._say(f"{self._path}: cannot read it: {error.strerror}")
            return False
        self._complained = ""
        self._must_catch_up = True
        self._opened_s = self._opened_s or time.time()
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
            if self._must_catch_up:
                self._must_catch_up = False
                yield from self._read_renamed()
                yield from self._read_rotated()
            is_gone = self._is_gone()
            try:
                while data := os.read(self._fd, OUTPUT_READ_BYTES):
                    yield from self._noted(self._splitter.feed(data))
            except OSError as error:
                self._say(f"{self._path}: cannot read it: {error.strerror}")
                return
            if not is_gone:
                return
            self._pass_own()
            os.close(self._fd)
            self._fd = -1
            self._splitter.forget()

    read_new_lines = read_lines

    def _noted(self, lines: Iterable[bytes | None]) -> Iterator[bytes]:
        """Yield lines, and remember the last one."""
        for line in lines:
            if line is not None:
                self._last_line = line
                yield line

    def _rotated(self) -> dict[int, rotated_files.Sibling]:
        """Return the rotated files by their sequence numbers. An empty one is a name that is only reserved."""
        try:
            found, _ = rotated_files.find(os.path.realpath(self._path))
        except OSError as error:
            self._say(f"{self.directory}: cannot read it: {error.strerror}")
            return {}
        # A file that was just compressed may be there twice: the packed one is sorted behind the other.
        return {one.sequence: one for one in found if one.nbytes}

    def _own_number(self, rotated: Mapping[int, rotated_files.Sibling]) -> int | None:
        """Return the sequence number of the open file; None if it is not one of the rotated files."""
        ours = os.fstat(self._fd)
        return next((n for n, one in rotated.items() if one.identity == (ours.st_dev, ours.st_ino)), None)

    def _pass_own(self) -> None:
        """Note that the open file, which is no longer at the path, was read, and under which kind of name it is now."""
        if self._passed is None:
            return
        own = self._own_number(self._rotated())
        status = os.fstat(self._fd)
        # A file without any name was compressed or removed already; one with another name was renamed by others.
        self._passed = own if own is not None else self._passed + (not status.st_nlink)
        if own is None:
            head = os.pread(self._fd, OUTPUT_READ_BYTES, 0).partition(b"\n")
            self._renamed = Passed(
                Identity(status.st_dev, status.st_ino),
                status.st_mtime_ns,
                head[0] + head[1],
                received_s(self._last_line) or self._opened_s,
            )

    def _read_renamed(self) -> Iterator[bytes]:
        """Yield the lines of files that were begun, and renamed by others, between the file before and the open one."""
        passed, self._renamed = self._renamed, None
        if passed is None:
            return
        ours = os.fstat(self._fd)
        try:
            found = renamed_files.find(os.path.realpath(self._path), passed, Identity(ours.st_dev, ours.st_ino))
        except OSError as error:
            self._say(f"{self.directory}: cannot read it: {error.strerror}")
            return
        for path in found:
            with contextlib.suppress(FileNotFoundError):
                yield from self._read_file(path)

    def _read_rotated(self) -> Iterator[bytes]:
        """Yield the lines of files that were begun and rotated between the file before and the open one."""
        found = self._rotated()
        own = self._own_number(found)
        newest = max((number for number in found if own is None or number < own), default=0)
        passed, self._passed = self._passed, newest
        if passed is None:
            return
        missing = 0
        for number in range(passed + 1, newest + 1):
            try:
                yield from self._read_file(Path((found.get(number) or self._rotated()[number]).path))
            except (KeyError, FileNotFoundError):
                missing += 1
        if missing:
            self._complain(
                f"{self._path}: {format_count(missing, 'rotated file')} that followed the last one read "
                "had been removed; these lines are missing"
            )

    def _read_file(self, path: Path) -> Iterator[bytes]:
        """Yield the lines of a rotated file, compressed or not. Raises FileNotFoundError."""
        try:
            with path.open("rb") as file:
                unpacked = Unpacked(file, path, MOST_LINE_BYTES)
                yield from self._noted(unpacked.lines())
            if unpacked.trouble:
                self._complain(f"{path}: {unpacked.trouble}")
        except FileNotFoundError:
            raise
        except (OSError, LogdError) as error:
            self._complain(f"{path}: cannot read it: {getattr(error, 'strerror', None) or error}")

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
