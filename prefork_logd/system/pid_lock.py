"""Locks the pid file, so that a state directory has one collector.

Owns the file and its lock. Does not know the work of the collector.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from typing import TYPE_CHECKING, Self

from prefork_logd.errors import NO_ROOM, ProcessError, describe_refusal
from prefork_logd.system.own_files import open_lock
from prefork_logd.system.privileges import acting_as
from prefork_logd.system.running import describe_holder

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType


GLANCE_S = 0.1
"""Longer than a command that checks for a running collector (running.py) holds the lock."""


class PidLock:
    """A pid file that is locked for as long as its process lives.

    The lock (flock(2)) counts, not the content: a file left by a dead collector never prevents a start, even if its pid
    now belongs to another process. Children must close `fd`, else the lock outlives the master. Only its owner can
    open the file: a lock of another user would prevent a start.
    """

    def __init__(self, path: Path, user: str = "") -> None:
        """Use the file at `path`, opened and removed with the rights of `user` (privileges.py)."""
        self.path = path
        self._user = user
        self.fd = -1
        self.was_stale = False
        """Whether the last holder died without removing its file: children of it may still be finishing."""
        self._lacks_pid = False

    def __enter__(self) -> Self:
        """Take the lock. Raises ProcessError with the pid of the process that holds it, or with another problem."""
        if self.fd >= 0:
            return self
        try:
            with acting_as(self._user):
                self.fd = self._locked()
            os.ftruncate(self.fd, 0)
            self._write_pid()
        except OSError as error:
            self.close()
            raise ProcessError(f"{self.path}: cannot be written: {describe_refusal(error)}") from error
        return self

    def _write_pid(self) -> None:
        """Write the pid into the file. Raises OSError; on a full disk the file stays empty, since the lock counts."""
        try:
            os.pwrite(self.fd, b"%d\n" % os.getpid(), 0)
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            self._lacks_pid = True
        else:
            self._lacks_pid = False

    def complete(self) -> None:
        """Write the pid, if there was no room for it when the lock was taken. Raises OSError."""
        if self._lacks_pid:
            self._write_pid()

    @classmethod
    def adopt(cls, path: Path, fd: int) -> Self:
        """Return the lock that this process took before it executed another program."""
        lock = cls(path)
        lock.fd = fd
        lock._lacks_pid = not os.fstat(fd).st_size
        os.set_inheritable(fd, False)
        return lock

    def _locked(self) -> int:
        """Return a descriptor of the file at the path, with the lock on it."""
        deadline_s = time.monotonic() + GLANCE_S
        while True:
            # Not by its content: there may have been no room for that.
            self.was_stale = self.path.exists()
            fd = open_lock(self.path)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = describe_holder(fd)
                os.close(fd)
                if time.monotonic() > deadline_s:
                    raise ProcessError(
                        f"already running with {holder} ({self.path} is locked); stop it first, "
                        "or choose another --state-dir"
                    ) from None
                time.sleep(0.01)
                continue
            if _is_at(self.path, fd):
                return fd
            # Its last holder removed it after it was opened here: the next collector would lock another file.
            os.close(fd)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Remove the file and release the lock.

        A file that cannot be removed stays: without the lock it means nothing. Nor is that of another collector
        removed, which may have begun in a directory that has taken the place of this one.
        """
        if self.fd >= 0:
            with acting_as(self._user), contextlib.suppress(OSError):
                if self.is_in_place():
                    self.path.unlink(missing_ok=True)
            self.close()

    def is_in_place(self) -> bool:
        """Tell whether the path still leads to the locked file. Raises OSError if that cannot be found out."""
        return _is_at(self.path, self.fd)

    def close(self) -> None:
        """Close the descriptor in a child, which must not hold the lock."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def _is_at(path: Path, fd: int) -> bool:
    """Tell whether a path leads to the file of a descriptor."""
    try:
        return os.path.samestat(path.stat(), os.fstat(fd))
    except (FileNotFoundError, NotADirectoryError):
        return False
