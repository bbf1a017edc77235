"""Being a daemon: the lock that makes a collector the only one, detaching, readiness.

Owns these. Knows nothing of what the daemon does.
"""

from __future__ import annotations

import fcntl
import json
import os
import resource
import time
from typing import TYPE_CHECKING, Any, NoReturn, Self

from prefork_logd.errors import ExitStatus, ProcessError
from prefork_logd.log import FILE_VARIABLE
from prefork_logd.own_files import open_lock, open_log
from prefork_logd.privileges import acting_as, make_state_dir
from prefork_logd.running import describe_holder

if TYPE_CHECKING:
    from collections.abc import Callable
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


class Readiness:
    """The writing end of a pipe on which a daemon says, once, that it is ready or why it cannot be."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def tell(self, **facts: Any) -> None:
        """Say it, and close the pipe."""
        if self.fd < 0:
            return
        try:
            os.write(self.fd, json.dumps(facts).encode() + b"\n")
        except BrokenPipeError:
            # Whoever started this has gone; the daemon goes on.
            pass
        finally:
            os.close(self.fd)
            self.fd = -1


def detach(run: Callable[[Readiness], int], log_path: Path, user: str = "") -> dict[str, Any]:
    """Run `run` in a process of its own session, and return what it says of its readiness.

    The daemon's descriptors 0 to 2 lead to /dev/null and `log_path`, its working directory is /, its umask 027. The log
    is opened with the rights of `user` (privileges.py). Raises ProcessError if it cannot be written, or the daemon ends
    without a word.
    """
    try:
        with acting_as(user):
            log = os.fdopen(open_log(log_path), "ab", buffering=0)
    except OSError as error:
        raise ProcessError(f"{log_path}: cannot write the collector's own log: {error.strerror}") from error
    read_fd, write_fd = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        os.close(read_fd)
        _become_daemon(run, Readiness(write_fd), log.fileno(), log_path)
    os.close(write_fd)
    log.close()
    with os.fdopen(read_fd, "rb") as pipe:
        # A line, not the end of the file: children that were forked meanwhile have the other end, too.
        said = pipe.readline()
    os.waitpid(pid, 0)
    if not said:
        raise ProcessError(f"the collector ended before it was ready; {log_path} says why")
    facts: dict[str, Any] = json.loads(said)
    return facts


def _become_daemon(run: Callable[[Readiness], int], ready: Readiness, log_fd: int, log_path: Path) -> NoReturn:
    from daemon import DaemonContext  # noqa: PLC0415 - what it imports takes its time, and only `start` needs it

    status: int = ExitStatus.FAILURE
    try:
        os.environ[FILE_VARIABLE] = str(log_path)
        # python-daemon closes descriptors up to the limit, one by one: a limit of a million would take its time.
        with _few_descriptors(), os.fdopen(os.dup(log_fd), "ab", buffering=0) as log:
            context = DaemonContext(
                working_directory="/",
                umask=0o027,
                detach_process=True,
                files_preserve=[ready.fd],
                stdout=log,
                stderr=log,
                signal_map={},
            )
            context.open()
        status = run(ready)
    except BaseException as error:  # noqa: BLE001 - the daemon has no other way to tell
        ready.tell(error=str(error) or type(error).__name__, status=int(ExitStatus.FAILURE))
    finally:
        os._exit(status)


class _few_descriptors:  # noqa: N801 - reads as a statement
    """Lowers the limit of descriptors for a while."""

    def __enter__(self) -> None:
        self._limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, self._limits[0]), self._limits[1]))

    def __exit__(self, *_: object) -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, self._limits)


def raise_descriptor_limit() -> None:
    """Raise the soft limit of descriptors to the hard one: each connection needs one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def prepare_state_dir(path: Path, user: str) -> None:
    """Create the state directory if it is missing, for the user that will use it. Raises ProcessError."""
    try:
        make_state_dir(path, user)
    except OSError as error:
        raise ProcessError(
            f"{path}: cannot be used as state directory: {error.strerror}; make it writable, or give another with "
            "--state-dir or server.state_dir"
        ) from error
