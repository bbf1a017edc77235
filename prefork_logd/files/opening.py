"""Opens a path for appending.

Owns which kinds of file are accepted, their lock and mode, and missing directories. Does not keep state or know
records.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
from pathlib import Path
from typing import NamedTuple

from prefork_logd.system.disk import cut_torn_line

_FLAGS = os.O_APPEND | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK

_FLOCK = struct.Struct("hhqqi4x")
"""struct flock (fcntl(2)): type, whence, start, length, and pid, which must be 0."""
_WHOLE_FILE = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)


class Identity(NamedTuple):
    """Device and inode number, which identify a file under any name."""

    device: int
    inode: int


class Opened(NamedTuple):
    """A file just opened."""

    fd: int
    identity: Identity
    is_regular: bool
    length: int
    torn_bytes: int
    """Bytes cut away after the last newline."""
    changed_directories: list[str]
    """Directories in which a name was created, to be synced; the innermost first."""
    lacks_lock: bool = False
    """Whether a reader's lock stands in the way of ours; then call `lock` again later."""

    @property
    def is_new(self) -> bool:
        """Whether the file was created."""
        return bool(self.changed_directories)


def open_path(
    path: str, mode: int, held: tuple[int, Identity | None] = (-1, None), base: str = "", home: str = ""
) -> Opened:
    """Open a file for appending: create it and its directories, lock it, and cut away a torn last line.

    `held`: an open descriptor and the identity of its file; if the path leads to that file, the descriptor is
    duplicated and keeps its lock. `base`: a directory above the file, below which no symbolic link is followed, and
    only a regular file is opened; "": links are followed. `home`: a directory that is never made, as for
    `make_directories`. Raises OSError; then nothing is left open, but directories may have been created.
    """
    changed_directories: list[str] = []
    if base:
        fd = _open_beneath(base, path, mode, changed_directories, home)
    else:
        fd = _open_or_create(path, mode, changed_directories, home)
    try:
        status = os.fstat(fd)
        identity = Identity(status.st_dev, status.st_ino)
        if base and not stat.S_ISREG(status.st_mode):
            raise OSError(errno.ENOTSUP, "it is not a regular file")  # noqa: TRY301 - the remedy is the same
        if stat.S_ISFIFO(status.st_mode) or stat.S_ISCHR(status.st_mode):
            return Opened(fd, identity, is_regular=False, length=0, torn_bytes=0, changed_directories=[])
        lacks_lock = False
        if identity == held[1]:
            os.dup2(held[0], fd, inheritable=False)
        else:
            lacks_lock = not lock(fd, identity)
        torn_bytes = cut_torn_line(fd)
    except OSError:
        os.close(fd)
        raise
    return Opened(
        fd,
        identity,
        is_regular=True,
        length=status.st_size - torn_bytes,
        torn_bytes=torn_bytes,
        changed_directories=changed_directories[::-1],
        lacks_lock=lacks_lock,
    )


def lock(fd: int, identity: Identity) -> bool:
    """Lock a file, so that only this process appends to it as long as the descriptor is open.

    Two writers would cut off each other's lines when one of them recovers. Raises OSError if another one has the lock.
    Returns False if a reader's lock stands in the way: that must not hold up all clients.

    The lock is one of F_OFD_SETLK (fcntl(2)), for writing: only a process that may write to the file can have such a
    lock. Whoever may read it can have any lock of flock(2), and so keep us out.
    """
    own = os.fstat(2)
    if stat.S_ISREG(own.st_mode) and (own.st_dev, own.st_ino) == identity:
        raise OSError(errno.EBUSY, "the collector's own log is written to it; choose another file")
    for _ in range(2):
        try:
            fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _WHOLE_FILE)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                # A file system without locks: go on without one.
                return True
        else:
            return True
        kind, *_ = _FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _WHOLE_FILE))
        if kind == fcntl.F_RDLCK:
            # No collector has such a lock.
            return False
        if kind == fcntl.F_WRLCK:
            break
    raise OSError(errno.EBUSY, "another collector, or another output, has it open; give each a file of its own")


def directory_mode(mode: int) -> int:
    """Return the mode of a directory for files of `mode`: x where it has r, rwx for us, never world-writable."""
    return (mode | (mode & 0o444) >> 2 | 0o700) & 0o775


def _open_or_create(path: str, mode: int, changed_directories: list[str], home: str) -> int:
    try:
        # Reading is for the torn line, and to rescue the lines of a removed file. A FIFO is opened for writing only:
        # with a reading end of our own, open(2) would not report that it has no other reader (fifo(7)).
        access = os.O_RDWR if stat.S_ISREG(Path(path).stat().st_mode) else os.O_WRONLY
        return os.open(path, access | _FLAGS)
    except FileNotFoundError:
        pass
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise OSError(errno.ENXIO, "it has no reader") from error
        raise
    # A link to a file that does not exist yet: create the file that it points to.
    target = os.path.realpath(path)
    directory = Path(target).parent
    make_directories(directory, directory_mode(mode), changed_directories, home)
    fd = os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL | _FLAGS, mode)
    changed_directories.append(str(directory))
    try:
        os.fchmod(fd, mode)
    except OSError:
        os.close(fd)
        raise
    return fd


def make_directories(directory: Path, mode: int, changed_directories: list[str], home: str = "") -> None:
    """Make a directory and those above it, as far as they are missing; add those to be synced. Raises OSError.

    `home`: the state directory. If it is missing it was moved or removed, and a new one would be in its way back.
    """
    missing = []
    while not directory.is_dir():
        if home and directory == Path(os.path.realpath(home)):
            raise FileNotFoundError(errno.ENOENT, "the state directory was moved or removed", home)
        missing.append(directory)
        directory = directory.parent
    for path in reversed(missing):
        path.mkdir(mode)
        path.chmod(mode)
        changed_directories.append(str(path.parent))


_DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def _open_beneath(base: str, path: str, mode: int, changed_directories: list[str], home: str) -> int:
    """Open or create a file and its directories below `base`, without following a symbolic link on the way there.

    Whoever can write in one of these directories could otherwise lead us to any file.
    """
    if not Path(base).is_dir():
        make_directories(Path(base), directory_mode(mode), changed_directories, home)
    *directories, name = path[len(base) :].strip("/").split("/")
    above, fd = base, os.open(base, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for directory in directories:
            lower = _enter(fd, directory, directory_mode(mode), above, changed_directories)
            os.close(fd)
            fd, above = lower, f"{above}/{directory}"
        flags = os.O_RDWR | os.O_NOFOLLOW | _FLAGS
        try:
            return os.open(name, flags, dir_fd=fd)
        except FileNotFoundError:
            found = os.open(name, flags | os.O_CREAT | os.O_EXCL, mode, dir_fd=fd)
        changed_directories.append(above)
        try:
            os.fchmod(found, mode)
        except OSError:
            os.close(found)
            raise
        return found
    finally:
        os.close(fd)


def _enter(fd: int, directory: str, mode: int, above: str, changed_directories: list[str]) -> int:
    """Return the descriptor of a directory in the directory `fd`, whose path is `above`; make it if it is missing."""
    try:
        return os.open(directory, _DIRECTORY_FLAGS, dir_fd=fd)
    except FileNotFoundError:
        os.mkdir(directory, mode, dir_fd=fd)
    lower = os.open(directory, _DIRECTORY_FLAGS, dir_fd=fd)
    changed_directories.append(above)
    try:
        os.fchmod(lower, mode)
    except OSError:
        os.close(lower)
        raise
    return lower
