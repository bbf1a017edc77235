"""Appends batches to one output's file, each as a whole or not at all, even if the disk fails or the file is moved.

Owns the descriptor, the length, missing directories, reopening, and noticing that the file was removed. Does not know
records, rotation or processes. Logs nothing: `error` is the present failure, `news` a sentence for the log.

A path may be a symbolic link to another volume, so links are followed, except below `base`. It may also lead to a FIFO
or a character device (/dev/stdout, /dev/null): such a stream is written to, but never cut, rotated or synced.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING

from prefork_logd.errors import OutputError
from prefork_logd.files.events import Event, done, trouble
from prefork_logd.files.fifo import Stream
from prefork_logd.files.opening import Identity, Opened, lock, open_path
from prefork_logd.system import libc
from prefork_logd.system.disk import sync_directory
from prefork_logd.system.libc import IOV_MAX

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Chunk = bytes | bytearray | memoryview

COPY_BYTES = 1024 * 1024


class OutputFile:
    """The open file of one output.

    Every method that fails raises OutputError and leaves the file as it was; the same call may be tried again later.
    No other process may append to the file: a failed append cuts it back to its previous length.
    """

    def __init__(self, name: str, path: str, mode: int = 0o640, base: str = "", home: str = "") -> None:
        self.name = name
        self.path = path
        self.mode = mode
        self.base = base
        """The directory below which no symbolic link is followed (opening.py); "": links are followed."""
        self._home = home
        """The state directory, which is never made for the file; "": every directory is."""
        self.is_hasty = False
        """Whether a write to a stream with a slow reader is given up at once."""
        self.length = 0
        """The file's length in bytes after the latest append; for a stream, the bytes sent since it was opened."""
        self.identity: Identity | None = None
        self.is_regular = False
        """Whether the file can be cut, rotated and synced; False for a stream, and until the file is open."""
        self.is_new = False
        """Whether the latest opening created the file."""
        self.generation = 0
        """How often a file was opened: if it has changed, facts remembered of the open file are out of date."""
        self.torn_bytes = 0
        """Bytes of a torn last line that the latest opening cut away."""
        self._fd = -1
        self._stream: Stream | None = None
        self._errors: dict[str, OutputError] = {}
        self._told_errno: int | None = None
        self._cut_to: int | None = None
        self._removed = False
        self._lacks_lock = self._is_lack_told = False
        self._verified_length = 0
        self._changed_directories: list[str] = []

    @property
    def is_open(self) -> bool:
        """Whether there is a descriptor to append to."""
        return self._fd >= 0

    @property
    def has_unsynced_names(self) -> bool:
        """Whether the name of the file, or of a directory above it, may not be on the disk yet."""
        return bool(self._changed_directories)

    @property
    def error(self) -> OutputError | None:
        """The present failure; None without one."""
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
        """Open the file, create it and its directories if missing, and cut away a torn last line.

        Returns the number of bytes cut: those after the last newline, left by a crash in the middle of a write.
        A new file has the mode `mode`, whatever the umask.
        """
        return self.torn_bytes if self.is_open else self.reopen()

    def reopen(self) -> int:
        """Open the path again, then close the file that was open before; return as `open` does.

        If the file was removed rather than renamed, the lines appended since the last `verify` are copied to the new
        one. If anything fails, the old descriptor stays in use. One thing may stay behind in a renamed file: a part of
        a failed append that still cannot be cut away, for a disk that cannot shorten a file must not block the new one.
        """
        try:
            held = (self._fd, self.identity if self.is_regular else None)
            opened = open_path(self.path, self.mode, held, self.base, self._home)
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

    @property
    def astray(self) -> OutputError | None:
        """The reason why lines go to a file that is no longer at the path: the path cannot be opened now."""
        return self._errors.get("open") if self.is_regular and not self._removed else None

    def verify(self) -> Event | None:
        """Reopen the file if its path now leads elsewhere: it or its directory was removed, renamed or mounted over.

        Returns what has happened, None if it was in place. After it remembered values of `identity` and `length` are
        invalid. Call it each second, and before a sync that acknowledges: writing and syncing a removed file reports no
        error.
        """
        if not self.is_regular:
            return None
        links = os.fstat(self._fd).st_nlink
        if links and not self._is_elsewhere():
            self._removed = False
            self._verified_length = self.length
            self._errors.pop("open", None)
            return self._lock_again() if self._lacks_lock else None
        self._removed = not links
        before = self.identity
        self.reopen()
        now = "a new file is begun" if self.is_new else "lines go to the file that is there now"
        if not links:
            return trouble(f"{self.path}: was removed; {now}")
        if before is not None and self.identity is not None and before.device != self.identity.device:
            return trouble(f"{self.path}: is on another file system (one was mounted or unmounted); {now}")
        return done(f"{self.path}: was renamed; {now}")

    def append(self, chunks: Sequence[Chunk], nbytes: int) -> None:
        """Append all the chunks, `nbytes` together, or nothing.

        After an error the file is cut back to its previous length; if that fails too, before the next append. The
        length is read from the kernel each time, so that truncation by others (copytruncate) does no harm.
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

    def start_writing(self) -> None:
        """Let the disk begin to write the appended lines, without waiting for it."""
        if self.is_regular:
            libc.start_writing(self._fd)

    def sync(self) -> None:
        """Wait until everything appended, and the names of created files and directories, are on the disk.

        Also fails while a part of a failed append cannot be cut away.

        After a failure nothing appended since the last successful sync counts as stored, even if a later sync
        succeeds (the kernel forgets the pages it failed to write): cut it back and append it again.
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
        """Return the present length of the file, even if another program has changed it."""
        try:
            return os.fstat(self._fd).st_size
        except OSError as error:
            raise self._failed("look at", error) from error

    def cut_back(self, length: int, identity: tuple[int, int], keep: Callable[[int], None] | None = None) -> int | None:
        """Cut the file back to a committed length, for recovery; returns the number of bytes cut.

        Returns None and does nothing if the open file has another (device, inode). A shorter file is left alone. `keep`
        is called with the descriptor first; if it raises OSError, the file is not cut.
        """
        if not self.is_regular or identity != self.identity:
            return None
        try:
            excess = max(0, os.fstat(self._fd).st_size - length)
            if excess and keep is not None:
                keep(self._fd)
            if excess:
                os.ftruncate(self._fd, length)
                # A power loss must not bring back the cut bytes: the next append may be shorter, and committed.
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
        """Close the file; appended lines stay, synced or not."""
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
        """Replace the open file by the new one."""
        # The same file under a new descriptor still has to be cut; another file is cut in close, if that works now.
        is_same = opened.identity == self.identity
        cut_to = self._cut_to if is_same else None
        self.close()
        self._fd, self._cut_to = opened.fd, cut_to
        self._stream = None if opened.is_regular else Stream(opened.fd)
        self.identity, self.is_regular = opened.identity, opened.is_regular
        self.length = opened.length + carried
        self._verified_length = self.length
        self.is_new = opened.is_new or (self.is_new and is_same)
        self._lacks_lock = opened.lacks_lock or (self._lacks_lock and is_same)
        self.torn_bytes = opened.torn_bytes
        self.generation += 1
        self._changed_directories += opened.changed_directories
        self._errors.pop("open", None)

    def _lock_again(self) -> Event | None:
        """Try to take the lock that a reader stood in the way of; return an event for the log if that is new.

        Raises OutputError, and closes the file, if another collector has taken the lock meanwhile.
        """
        if self.identity is None:
            return None
        try:
            self._lacks_lock = not lock(self._fd, self.identity)
        except OSError as error:
            self.close()
            raise self._failed("open", error) from error
        if self._lacks_lock == self._is_lack_told:
            return None
        self._is_lack_told = self._lacks_lock
        if not self._lacks_lock:
            return done(f"{self.path}: is locked now")
        return trouble(
            f"{self.path}: cannot be locked yet, because a program that reads it holds a lock on it; start no other "
            "collector with this output until that program has ended (lslocks(8) shows it)"
        )

    def _is_elsewhere(self) -> bool:
        try:
            found = Path(self.path).stat()
        except OSError as error:
            # Any other error does not show whether the file can be written: the next write will.
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
        """Cut away the rest of a failed append, if that failed before."""
        if self._cut_to is not None:
            if os.fstat(self._fd).st_size > self._cut_to:
                os.ftruncate(self._fd, self._cut_to)
            self._cut_to = None

    def _carry_over(self, new_fd: int) -> int:
        """Copy the lines appended to a removed file since it was last known to be in place; return their size."""
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
    """Write all the chunks, in as many calls as the kernel needs."""
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
    """Cut a file back to `length` if it is longer; return whether that worked."""
    try:
        if os.fstat(fd).st_size > length:
            os.ftruncate(fd, length)
    except OSError:
        return False
    return True
