"""Being a daemon: the lock that makes a collector the only one, detaching, readiness, giving up root.

Owns these. Knows nothing of what the daemon does.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pwd
import resource
import select
import time
from typing import TYPE_CHECKING, Any, NoReturn, Self

from prefork_logd.errors import ExitStatus, ProcessError
from prefork_logd.log import FILE_VARIABLE
from prefork_logd.settings import LOG_FILE, REJECTED_FILE, WRITER_LOCK

if TYPE_CHECKING:
    import signal
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType


GLANCE_S = 0.1
"""Longer than `holder` keeps the lock to itself."""


class PidLock:
    """A pid file that is locked for as long as its process lives.

    What counts is the lock (flock(2)), not the content: a file that a dead collector left behind is no obstacle,
    whoever has its pid by now. Children are to close `fd`, else the lock outlives the master.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fd = -1
        self.was_stale = False
        """Whether the last holder died without removing its file: children of it may still be finishing."""

    def __enter__(self) -> Self:
        """Take the lock. Raises ProcessError naming the pid of the process that holds it, or what else is wrong."""
        if self.fd >= 0:
            return self
        try:
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
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pid = os.pread(fd, 32, 0).decode("ascii", "replace").strip()
                os.close(fd)
                if time.monotonic() > deadline_s:
                    raise ProcessError(
                        f"already running with pid {pid or 'unknown'} ({self.path} is locked); stop it first, "
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


def holder(path: Path) -> int | None:
    """Return the pid of the process that holds a pid file's lock, or None if nobody does."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ProcessError(f"{path}: cannot read it: {error.strerror}") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.pread(fd, 32, 0).strip()
        return int(text) if text.isdigit() else None
    finally:
        os.close(fd)
    return None


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


def detach(run: Callable[[Readiness], int], log_path: Path) -> dict[str, Any]:
    """Run `run` in a process of its own session, and return what it says of its readiness.

    The daemon's descriptors 0 to 2 lead to /dev/null and `log_path`, its working directory is /, its umask 027.
    Raises ProcessError if the log cannot be written, or the daemon ends without a word.
    """
    try:
        log = log_path.open("ab")
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
        existed = path.is_dir()
        path.mkdir(mode=0o750, parents=True, exist_ok=True)
        if user and not existed:
            account = _account(user)
            os.chown(path, account.pw_uid, account.pw_gid)
        with (path / WRITER_LOCK).open("ab"):
            pass
        if user:
            account = _account(user)
            for name in (WRITER_LOCK, LOG_FILE, REJECTED_FILE):
                with contextlib.suppress(FileNotFoundError):
                    # Never what a link leads to: the directory is that user's.
                    os.chown(path / name, account.pw_uid, account.pw_gid, follow_symlinks=False)
    except OSError as error:
        raise ProcessError(
            f"{path}: cannot be used as state directory: {error.strerror}; make it writable, or give another with "
            "--state-dir or server.state_dir"
        ) from error


def drop_privileges(user: str) -> None:
    """Go on as another user for good. Raises ProcessError if there is no such user, or this one may not."""
    account = _account(user)
    if os.geteuid() == account.pw_uid:
        return
    try:
        os.initgroups(user, account.pw_gid)
        os.setgid(account.pw_gid)
        os.setuid(account.pw_uid)
    except PermissionError as error:
        raise ProcessError(f"server.user = {user!r}: only root can become another user; start as root") from error


def _account(user: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(user)
    except KeyError:
        raise ProcessError(f"server.user = {user!r}: there is no such user; create it, or name another") from None


def wait_for_exit(pid: int, timeout_s: float) -> bool:
    """Wait until a process that need not be a child has ended; return whether it has (pidfd_open(2))."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([fd], [], [], timeout_s)[0])
    finally:
        os.close(fd)


def send_signal(pid: int, number: signal.Signals) -> None:
    """Send a signal. Raises ProcessError if this user may not."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
    except PermissionError as error:
        raise ProcessError(f"pid {pid} belongs to another user; use that user's account, or root") from error
