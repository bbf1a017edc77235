"""Opens the files that the collector keeps for itself: the pid file, locks, its log.

Owns the accepted kinds of file and their mode, whatever the umask. Does not know their content.

The directory may belong to another user (server.user), who can replace any of them by a link: no link is followed, and
only regular files are accepted.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LOCK_MODE = 0o600
"""Mode of the pid file and locks: a user who can open one can hold its lock, and so prevent a start."""
LOG_MODE = 0o640

_FLAGS = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK


def open_lock(path: Path) -> int:
    """Return the descriptor of a lock file, created if it is missing, only for its owner. Raises OSError."""
    fd = _open(path, os.O_RDWR | os.O_CREAT, LOCK_MODE)
    with _closed_on_error(fd):
        status = os.fstat(fd)
        # 0644 in releases that were never published; only the owner may change it.
        if stat.S_IMODE(status.st_mode) != LOCK_MODE and status.st_uid == os.geteuid():
            os.fchmod(fd, LOCK_MODE)
    return fd


def open_log(path: Path) -> int:
    """Return the descriptor of a log to append to. Raises OSError.

    A new log gets our mode; an existing one keeps its mode, but is never world-writable.
    """
    append = os.O_WRONLY | os.O_APPEND
    try:
        fd = _open(path, append | os.O_CREAT | os.O_EXCL, LOG_MODE)
    except FileExistsError:
        fd = _open(path, append, LOG_MODE)
        with _closed_on_error(fd):
            status = os.fstat(fd)
            if status.st_mode & stat.S_IWOTH and status.st_uid == os.geteuid():
                os.fchmod(fd, stat.S_IMODE(status.st_mode) & ~stat.S_IWOTH)
    else:
        with _closed_on_error(fd):
            os.fchmod(fd, LOG_MODE)
    return fd


def open_to_read(path: Path) -> int:
    """Return the descriptor of one of these files for reading. Raises OSError."""
    return _open(path, os.O_RDONLY, 0)


def _open(path: Path, flags: int, mode: int) -> int:
    try:
        fd = os.open(path, flags | _FLAGS, mode)
    except OSError as error:
        # ENXIO: a FIFO without a reader (open(2)).
        if error.errno == errno.ELOOP or (error.errno == errno.ENXIO and path.is_fifo()):
            raise _refused(path, "a link" if error.errno == errno.ELOOP else "not a regular file") from error
        raise
    with _closed_on_error(fd):
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise _refused(path, "not a regular file")
        if status.st_nlink > 1 and status.st_uid == 0 and path.parent.stat().st_uid != 0:
            raise _refused(path, "another name of a file of root (a hard link)")
    return fd


@contextlib.contextmanager
def _closed_on_error(fd: int) -> Iterator[None]:
    try:
        yield
    except OSError:
        os.close(fd)
        raise


def _refused(path: Path, what: str) -> OSError:
    number = errno.ELOOP if what == "a link" else errno.EEXIST
    return OSError(number, f"it is {what}, which is neither read nor written", str(path))
