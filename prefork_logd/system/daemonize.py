"""Starts a daemon: detaches it, and reports its readiness to the caller.

Owns the fork and the pipe of the report. Does not know the work of the daemon.
"""

from __future__ import annotations

import errno
import json
import os
import resource
from typing import TYPE_CHECKING, Any, NoReturn

from prefork_logd.errors import ExitStatus, ProcessError, describe_refusal
from prefork_logd.system.log import FILE_VARIABLE
from prefork_logd.system.own_files import open_log
from prefork_logd.system.privileges import acting_as

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Readiness:
    """The writing end of a pipe on which a daemon reports once that it is ready, or the error that prevents it."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def tell(self, **facts: Any) -> None:
        """Write the report, and close the pipe."""
        if self.fd < 0:
            return
        try:
            os.write(self.fd, json.dumps(facts).encode() + b"\n")
        except BrokenPipeError:
            # The starting command has ended; the daemon goes on.
            pass
        finally:
            os.close(self.fd)
            self.fd = -1


def detach(run: Callable[[Readiness], int], log_path: Path, user: str = "") -> dict[str, Any]:
    """Run `run` in a process of its own session, and return its report of readiness.

    The daemon's descriptors 0 to 2 lead to /dev/null and `log_path`, its working directory is /, its umask 027. The log
    is opened with the rights of `user` (privileges.py). Raises ProcessError if it cannot be written, or the daemon ends
    without a report.
    """
    try:
        with acting_as(user):
            log = os.fdopen(open_log(log_path), "ab", buffering=0)
    except OSError as error:
        why = describe_refusal(error)
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            why = f"{error.strerror}; make the file and its directory writable, or give another --state-dir"
        raise ProcessError(f"{log_path}: cannot write the collector's own log: {why}") from error
    read_fd, write_fd = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        os.close(read_fd)
        _become_daemon(run, Readiness(write_fd), log.fileno(), log_path)
    os.close(write_fd)
    log.close()
    with os.fdopen(read_fd, "rb") as pipe:
        # Wait for a line, not for the end of the file: children forked meanwhile hold the other end, too.
        line = pipe.readline()
    os.waitpid(pid, 0)
    if not line:
        raise ProcessError(f"the collector ended before it was ready; see {log_path}")
    facts: dict[str, Any] = json.loads(line)
    return facts


def _become_daemon(run: Callable[[Readiness], int], ready: Readiness, log_fd: int, log_path: Path) -> NoReturn:
    from daemon import DaemonContext

    status: int = ExitStatus.FAILURE
    try:
        os.environ[FILE_VARIABLE] = str(log_path)
        # A daemon belongs to nobody: a service in which `start` was called must not get its notifications.
        os.environ.pop("NOTIFY_SOCKET", None)
        # python-daemon closes descriptors up to the limit, one by one: with a limit of a million that is slow.
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
    """Lowers the limit of descriptors inside a `with`."""

    def __enter__(self) -> None:
        self._limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, self._limits[0]), self._limits[1]))

    def __exit__(self, *_: object) -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, self._limits)
