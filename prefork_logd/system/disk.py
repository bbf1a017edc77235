"""Makes files and directories safe on the disk: syncs a directory, cuts a torn line, replaces a file; measures space.

Owns the order of the system calls that survives a power loss. Does not know the content of files, except for the
newline at the end of a line.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BLOCK_BYTES = 64 * 1024
MAX_TORN_BYTES = 512 * 1024 * 1024
"""More than the longest line: the largest frame with every character escaped. A longer tail is not the collector's."""


SMALL_DISK_SHARE = 20
"""Of a small disk one part in so many is kept free, whatever the configured minimum."""


class Space(NamedTuple):
    """The free space of a disk, and how much of it is to stay free, in bytes."""

    free: int
    wanted: int


def measure_space(path: str | Path, min_free_bytes: int) -> Space:
    """Return the space of the disk that a path is on. Raises OSError.

    Free is what any user may write (statvfs(3), f_bavail): blocks reserved for root do not count.
    """
    disk = os.statvfs(path)
    whole = disk.f_blocks * disk.f_frsize
    return Space(disk.f_bavail * disk.f_frsize, min(min_free_bytes, whole // SMALL_DISK_SHARE))


def sync_directory(path: str | Path, *, missing_ok: bool = False) -> None:
    """Wait until the names in a directory are on the disk. Raises OSError.

    `missing_ok`: a missing directory is not an error.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        if missing_ok:
            return
        raise
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno != errno.EINVAL:  # EINVAL: the file system cannot sync directories (fsync(2)).
            raise
    finally:
        os.close(fd)


def write_all(fd: int, data: bytes) -> None:
    """Write all of `data`, however little each write(2) takes. Raises OSError."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


@contextlib.contextmanager
def naming_file(path: Path) -> Iterator[None]:
    """Name a file in an OSError of a descriptor, which has only the number and the reason (write(2), fsync(2))."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def replace_file(path: Path, data: bytes, mode: int = 0o666) -> None:
    """Replace a file's content in one step: readers find the old content or all of the new, also after a power loss.

    The new content is written to `path` + ".new" first; `mode` is as for open(2), so the umask applies. Raises OSError;
    then the old file is unchanged.
    """
    beside = path.with_name(f"{path.name}.new")
    fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    with naming_file(path), os.fdopen(fd, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(fd)
    beside.rename(path)
    sync_directory(path.parent)


def cut_torn_line(fd: int) -> int:
    """Cut a regular file back to its last newline; return the number of bytes cut.

    Raises OSError, and cuts nothing, if it is not a regular file, or has no newline within the longest possible line.
    """
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.ENOTSUP, "it is neither a file, a FIFO nor a character device")
    size = status.st_size
    length = _end_of_last_line(fd, size)
    if length < size:
        os.ftruncate(fd, length)
    return size - length


def _end_of_last_line(fd: int, size: int) -> int:
    end = size
    floor = max(0, size - MAX_TORN_BYTES)
    while end > floor:
        start = max(floor, end - BLOCK_BYTES)
        newline = os.pread(fd, end - start, start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    if floor:
        raise OSError(errno.EILSEQ, f"no newline in its last {MAX_TORN_BYTES} bytes; it is not a log file")
    return 0
