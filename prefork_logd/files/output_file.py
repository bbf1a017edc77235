"""One output's file: batches appended whole or not at all, whatever happens to the disk or to the file's name.

Owns the descriptor, the length, missing directories, reopening, and noticing that the file was removed. Knows nothing
of records, rotation or processes, and logs nothing: `error` is what is wrong now, `news` what to say about it.

A path may be a symbolic link to another volume, so links are followed. It may also lead to a FIFO or a character
device (/dev/stdout, /dev/null): such a stream is written to, but never cut, rotated or synced.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING

from prefork_logd.errors import OutputError
from prefork_logd.files.fifo import Stream
from prefork_logd.files.opening import Identity, Opened, open_path
from prefork_logd.system.disk import sync_directory
from prefork_logd.system.libc import IOV_MAX

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Chunk = bytes | bytearray | memoryview

COPY_BYTES = 1024 * 1024


class OutputFile:
    """The open file of one output.

    Every method that fails raises OutputError and leaves the file as it was; the same call may be tried again later.
    Nobody else may append to the file, for a failed append cuts it back to where it was.
    """

    def __init__(self, name: str, path: str, mode: int = 0o640) -> None:
        self.name = name
        self.path = path
        self.mode = mode
        self.is_hasty = False
        """Whether a stream whose reader is slow is given up at once."""
        self.length = 0
        """The file's length in bytes after the latest append; for a stream, what it was sent since it was opened."""
        self.identity: Identity | None = None
        self.is_regular = False
        """Whether the file can be cut, rotated and synced; False for a stream, and until the file is open."""
        self.is_new = False
        """Whether the open file was made by the latest opening."""
        self.generation = 0
        """How often a file was opened: whoever remembers facts of the open file compares it."""
        self.torn_bytes = 0
        """How many bytes of a torn last line the latest opening cut away."""
        self._fd = -1
        self._stream: Stream | None = None
        self._errors: dict[str, OutputError] = {}
        self._told_errno: int | None = None
        self._cut_to: int | None = None
        self._removed = False
        self._verified_length = 0
        self._changed_directories: list[str] = []

    @property
    def is_open(self) -> bool:
        """Whether there is a descriptor to append to."""
        return self._fd >= 0

    @property
    def error(self) -> OutputError | None:
        """The failure that lasts, None while all is well."""
        return next(iter(self._errors.values()), None)

    def news(self) -> str | None:
        """Return a sentence for the log if the file began to fail, or to work again, since the last call."""
        error = self.error
        number = error.errno if error else None
        if number == self._told_errno:
            return None
        self._told_errno = number
        return str(error) if error else f"{self.path}: written again"

    def open(self) -> int:
        """Open the file, create it and its directories if need be, and cut away a torn last line.

        Returns the number of bytes cut: what follows the last newline, left by a crash in the middle of a write.
        The mode of what is created is `mode`, whatever the umask.
        """
        return self.torn_bytes if self.is_open else self.reopen()

    def reopen(self) -> int:
        """Open the path anew, then close the file that was open until now; returns as `open` does.

        If the file was removed rather than renamed, what was appended to it since the last `verify` is carried over.
        When anything fails the old descriptor stays in use. Only a part of a failed append that cannot be cut away even
        now stays behind in a file that was renamed: a disk that refuses to shorten a file must not hold up the new one.
        """
        try:
            opened = open_path(self.path, self.mode, (self._fd, self.identity if self.is_regular else None))
        except OSError as error:
            raise self._failed("open", error) from error
        carried = 0
        try:
            if self.is_regular and opened.is_regular and opened.identity != self.identity:
                carried = self._carry_over(opened.fd)
        except OSError as error:
            _cut(opened.fd, opened.length)
            os.close(opened.fd)
            raise self._failed("open", error) from error
        self._adopt(opened, carried)
        return opened.torn_bytes

    def verify(self) -> bool:
        """Reopen the file if its path leads elsewhere by now: it was removed, renamed, or its directory was.

        Returns whether it did; then what is remembered of `identity` and `length` is void. Call it each second, and
        before a sync that acknowledges: a removed file takes writes and syncs without a complaint.
        """
        if not self.is_regular:
            return False
        links = os.fstat(self._fd).st_nlink
        if links and not self._is_elsewhere():
            self._removed = False
            self._verified_length = self.length
            self._errors.pop("open", None)
            return False
        self._removed = not links
        self.reopen()
        return True

    def append(self, chunks: Sequence[Chunk], nbytes: int) -> None:
        """Append all the chunks, `nbytes` together, or nothing.

        After an error the file is cut back to the length it had; if not even that works, before the next append.
        The length is asked of the kernel each time, so that a truncation by others (copytruncate) does no harm.
        """
        if self._removed:
            self.reopen()
        try:
            self._require_open()
            if self._stream is not None:
                self._stream.write(chunks, hasty=self.is_hasty)
                self.length += nbytes
            else:
                self._append_whole(chunks, nbytes)
        except OSError as error:
            raise self._failed("write", error) from error
        self._errors.pop("write", None)

    def sync(self) -> None:
        """Wait until everything appended is on the disk, and so are the names of files and directories created.

        Fails as well while a part of a failed append cannot be cut away.

        After a failure nothing appended since the last sync that worked may be taken for stored, even if a later sync
        works (the kernel forgets the pages it failed to write): cut it back and append it again.
        """
        if self.is_open and not self.is_regular:
            return
        try:
            self._require_open()
            self._finish_cut()
            os.fdatasync(self._fd)
            while self._changed_directories:
                sync_directory(self._changed_directories[-1], missing_ok=True)
                self._changed_directories.pop()
        except OSError as error:
            raise self._failed("sync", error) from error
        self._errors.pop("sync", None)

    def size(self) -> int:
        """Return the present length of the file, also when another program has changed it."""
        try:
            return os.fstat(self._fd).st_size
        except OSError as error:
            raise self._failed("look at", error) from error

    def cut_back(self, length: int, identity: tuple[int, int], keep: Callable[[int], None] | None = None) -> int | None:
        """Cut the file back to a committed length, for recovery; returns the number of bytes cut.

        None, and nothing done, if the open file is not the one with this (device, inode). A file that is shorter is
        left alone. `keep` is given the descriptor first; what it raises (OSError) leaves the file as it is.
        """
        if not self.is_regular or identity != self.identity:
            return None
        try:
            excess = max(0, os.fstat(self._fd).st_size - length)
            if excess and keep is not None:
                keep(self._fd)
            if excess:
                os.ftruncate(self._fd, length)
                # A power loss must not bring back what was cut: what comes next may be shorter, and committed.
                os.fdatasync(self._fd)
        except OSError as error:
            raise self._failed("cut back", error) from error
        self._cut_to = None
        self._errors.pop("cut back", None)
        if excess:
            self.length = length
            self._verified_length = min(self._verified_length, length)
        return excess

    def close(self) -> None:
        """Close the file; what was appended stays, synced or not."""
        if self.is_open:
            if self._cut_to is not None:
                _cut(self._fd, self._cut_to)
            os.close(self._fd)
        self._fd, self._stream, self._cut_to = -1, None, None
        self.identity, self.is_regular, self._removed = None, False, False

    def _require_open(self) -> None:
        if self._fd < 0:
            raise OSError(errno.EBADF, "it is not open")

    def _failed(self, operation: str, error: OSError) -> OutputError:
        failure = OutputError(self.path, operation, error)
        self._errors[operation] = failure
        return failure

    def _adopt(self, opened: Opened, carried: int) -> None:
        """Use the new file from now on."""
        # The same file under a new descriptor is still to be cut; another one gets a last chance in close.
        is_same = opened.identity == self.identity
        cut_to = self._cut_to if is_same else None
        self.close()
        self._fd, self._cut_to = opened.fd, cut_to
        self._stream = None if opened.is_regular else Stream(opened.fd)
        self.identity, self.is_regular = opened.identity, opened.is_regular
        self.length = opened.length + carried
        self._verified_length = self.length
        self.is_new = opened.is_new or (self.is_new and is_same)
        self.torn_bytes = opened.torn_bytes
        self.generation += 1
        self._changed_directories += opened.changed_directories
        self._errors.pop("open", None)

    def _is_elsewhere(self) -> bool:
        try:
            found = Path(self.path).stat()
        except OSError as error:
            # Anything else says nothing about the file, which may well be written: let writing find out.
            return error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
        return (found.st_dev, found.st_ino) != self.identity

    def _append_whole(self, chunks: Sequence[Chunk], nbytes: int) -> None:
        self._finish_cut()
        start = os.fstat(self._fd).st_size
        try:
            _write(self._fd, chunks, nbytes)
        except OSError:
            self.length = start
            if not _cut(self._fd, start):
                self._cut_to = start
            raise
        self.length = start + nbytes

    def _finish_cut(self) -> None:
        """Cut away what is left of a failed append, if that did not work then."""
        if self._cut_to is not None:
            if os.fstat(self._fd).st_size > self._cut_to:
                os.ftruncate(self._fd, self._cut_to)
            self._cut_to = None

    def _carry_over(self, new_fd: int) -> int:
        """Copy what a removed file took since it was last known to be in place; returns the number of bytes."""
        status = os.fstat(self._fd)
        if status.st_nlink:
            return 0
        self._removed = True
        end = status.st_size if self._cut_to is None else min(status.st_size, self._cut_to)
        start = position = min(self._verified_length, end)
        while position < end:
            piece = os.pread(self._fd, min(COPY_BYTES, end - position), position)
            if not piece:
                raise OSError(errno.EIO, "the removed file cannot be read back")
            _write(new_fd, (piece,), len(piece))
            position += len(piece)
        return end - start


def _write(fd: int, chunks: Sequence[Chunk], nbytes: int) -> None:
    """Write all the chunks, however many there are and however little the kernel takes at once."""
    written = os.writev(fd, chunks[:IOV_MAX])
    if written == nbytes:
        return
    rest = [memoryview(chunk) for chunk in chunks]
    first = 0
    while True:
        while first < len(rest) and written >= len(rest[first]):
            written -= len(rest[first])
            first += 1
        if first == len(rest):
            return
        rest[first] = rest[first][written:]
        written = os.writev(fd, rest[first : first + IOV_MAX])
        if not written:
            raise OSError(errno.ENOSPC, "nothing more can be written")


def _cut(fd: int, length: int) -> bool:
    """Cut a file back to `length` if it is longer; returns whether it is as it should be."""
    try:
        if os.fstat(fd).st_size > length:
            os.ftruncate(fd, length)
    except OSError:
        return False
    return True
