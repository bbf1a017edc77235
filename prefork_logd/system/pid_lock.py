"""Locks the pid file, so that a state directory has one collector.

Owns the file and its lock. Knows nothing of what the collector does.
"""

from __future__ import annotations

import fcntl
import os
import time
from typing import TYPE_CHECKING, Self

from prefork_logd.errors import ProcessError
from prefork_logd.system.own_files import open_lock
from prefork_logd.system.privileges import acting_as
from prefork_logd.system.running import describe_holder

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType


GLANCE_S = 0.1
"""Longer than a command that looks who holds the lock (running.py) keeps it to itself."""


class PidLock:
    """A pid file that is locked for as long as its process lives.

    The lock (flock(2)) counts, not the content: a file that a dead collector left behind hinders no start, also when
    its pid belongs to another process by now. Children have to close `fd`, else the lock outlives the master. Only its
    owner can open the file: a lock of another user would hinder a start.
    """

    def __init__(self, path: Path, user: str = "") -> None:
        """Open, and remove, the file with the rights of `user` (privileges.py)."""
        self.path = path
        self._user = user
        self.fd = -1
        self.was_stale = False
        """Whether the last holder died without removing its file: children of it may still be finishing."""

    def __enter__(self) -> Self:
        """Take the lock. Raises ProcessError naming the pid of the process that holds it, or what else is wrong."""
        if self.fd >= 0:
            return self
        try:
            with acting_as(self._user):
                self.fd = self._locked()
            self.was_stale = os.fstat(self.fd).st_size > 0
            os.ftruncate(self.fd, 0)
            os.pwrite(self.fd, b"%d\n" % os.getpid(), 0)
        except OSError as error:
            self.close()
            raise ProcessError(f"{self.path}: cannot be written: {error.strerror}; it has to be, to start") from error
        return self

    @classmethod
    def adopt(cls, path: Path, fd: int) -> Self:
        """Return the lock that this very process has taken before it became another program."""
        lock = cls(path)
        lock.fd = fd
        os.set_inheritable(fd, False)
        return lock

    def _locked(self) -> int:
        """Return a descriptor of the file at the path, with the lock on it."""
        deadline_s = time.monotonic() + GLANCE_S
        while True:
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
            # Its last holder removed it after it was opened here: whoever comes next would lock another file.
            os.close(fd)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Remove the file and give the lock back."""
        if self.fd >= 0:
            with acting_as(self._user):
                self.path.unlink(missing_ok=True)
            self.close()

    def close(self) -> None:
        """Close the descriptor: in a child, which must not hold the lock."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def _is_at(path: Path, fd: int) -> bool:
    """Tell whether a path leads to an open file."""
    try:
        return os.path.samestat(path.stat(), os.fstat(fd))
    except FileNotFoundError:
        return False
