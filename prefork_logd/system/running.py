"""Finds the collector that runs in a state directory, and proves its identity before it is signalled.

Owns that proof, and ending the process. Does not know verbs. Prints nothing.

The number in a pid file proves nothing: it may be left from a dead collector, forged by the directory's owner, or from
another pid namespace (a container), and mean another process here. The kernel reports which process listens on the
control socket (SO_PEERCRED, unix(7)), by its pid in this namespace; that process must hold the pid file open.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import signal
import socket
import stat
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from prefork_logd.config.paths import CONTROL_SOCKET, PID_FILE
from prefork_logd.errors import ProcessError, remedy_for
from prefork_logd.system.own_files import open_to_read

if TYPE_CHECKING:
    from collections.abc import Iterator

CONNECT_S = 0.5
_SO_PEERPIDFD = 77
"""Socket option of Linux 6.5 and newer (socket(7))."""
_CREDENTIALS = struct.Struct("3i")


@dataclass
class Running:
    """The master of a running collector, with a pidfd, so that a reused pid is not mistaken for it."""

    pid: int
    """Its pid in this namespace; 0 if it is in another pid namespace that is not visible here."""
    pidfd: int = -1

    def close(self) -> None:
        """Close the pidfd."""
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal. Raises ProcessError if this user may not, or the process is in another pid namespace."""
        if self.pidfd < 0:
            raise ProcessError(
                "the collector runs in another pid namespace (a container, or outside this one); run the command there"
            )
        try:
            signal.pidfd_send_signal(self.pidfd, number)
        except ProcessLookupError:
            return
        except PermissionError as error:
            what = f"pid {self.pid} belongs to another user; use that user's account, or root"
            raise ProcessError(what) from error

    def wait(self, timeout_s: float) -> bool:
        """Wait for its end; return whether it has ended (pidfd_open(2))."""
        return bool(select.select([self.pidfd], [], [], timeout_s)[0])


def find(state_dir: Path) -> Running | None:
    """Return the master of the collector in a state directory; None if none runs there.

    Raises ProcessError if one runs and cannot be identified, or this user may not read its files.
    """
    path = state_dir / PID_FILE
    try:
        fd = open_to_read(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ProcessError(f"{path}: cannot read it: {error.strerror}{_remedy(error)}") from error
    try:
        return _identify(state_dir, fd) if is_locked(fd) else None
    finally:
        os.close(fd)


def is_locked(fd: int) -> bool:
    """Tell whether a process holds the lock of an open pid file. Takes it for a moment (pid_lock.GLANCE_S)."""
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(fd, fcntl.LOCK_UN)
    return False


def describe_holder(fd: int) -> str:
    """Return the name of the process that holds the lock of a pid file, for errors."""
    pid, file = pid_in(fd), os.fstat(fd)
    held = holds(pid, file) if pid else False
    if held or (held is None and _uid_of(pid) == file.st_uid):
        return f"pid {pid}"
    return f"pid {pid or 'unknown'} of another pid namespace or host"


def pid_in(fd: int) -> int:
    """Return the number in an open pid file; 0 for none."""
    text = os.pread(fd, 32, 0).strip()
    return int(text) if text.isdigit() else 0


def holds(pid: int, file: os.stat_result) -> bool | None:
    """Tell whether a process has a file open; None if this user may not know (proc_pid_fd(5))."""
    if not proc_is_ours():
        return None
    try:
        entries = list(Path(f"/proc/{pid}/fd").iterdir())
    except PermissionError:
        return None
    except OSError:
        return False
    for entry in entries:
        with contextlib.suppress(OSError):
            if os.path.samestat(entry.stat(), file):
                return True
    return False


def proc_is_ours() -> bool:
    """Tell whether /proc is of this pid namespace; after unshare(1) without --mount-proc it is not."""
    try:
        return Path("/proc/self").readlink() == Path(str(os.getpid()))
    except OSError:
        return False


def _uid_of(pid: int) -> int:
    """Return the effective user of a process; -1 if it is not visible."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return -1
    line = next(line for line in status.splitlines() if line.startswith("Uid:"))
    return int(line.split()[2])


def _identify(state_dir: Path, fd: int) -> Running:
    """Return the process that holds the pid file open in `fd`."""
    file = os.fstat(fd)
    for pid, pidfd in _candidates(state_dir, fd, file):
        if pid == 0:
            return Running(0)
        running = Running(pid, pidfd)
        held = holds(pid, file)
        # A user who may not read a process may not signal it either, unless the user is root.
        if held or (held is None and not running.wait(0)):
            return running
        running.close()
    raise ProcessError(
        f"{state_dir}: a collector runs there in another container or host (pid {pid_in(fd) or 'unknown'} in its pid "
        f"file, not confirmed by {CONTROL_SOCKET}); run the command there"
    )


def _candidates(state_dir: Path, fd: int, file: os.stat_result) -> Iterator[tuple[int, int]]:
    """Yield (pid, pidfd) of processes that may be the master, the most likely first."""
    with contextlib.suppress(OSError), connect(state_dir, file.st_uid) as sock:
        yield _peer(sock, file.st_uid)
    # It is just starting, or its socket was removed: then the pid in the file is a candidate.
    if pid := pid_in(fd):
        with contextlib.suppress(OSError):
            pidfd = os.pidfd_open(pid)
            if holds(pid, file):
                yield pid, pidfd
            else:
                os.close(pidfd)


def connect(state_dir: Path, owner: int | None = None) -> socket.socket:
    """Return a connection to the control socket of a state directory. Raises OSError.

    Also raises it for a link, which could lead to another service, and for a socket of another user than `owner`.
    """
    # Its path may be longer than the 107 bytes that sun_path holds (unix(7)).
    directory_fd = os.open(state_dir, os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        status = os.stat(CONTROL_SOCKET, dir_fd=directory_fd, follow_symlinks=False)
        if not stat.S_ISSOCK(status.st_mode) or owner not in (None, status.st_uid):
            raise FileNotFoundError(errno.ENOENT, "it is not a socket of the collector")
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.settimeout(CONNECT_S)
            sock.connect(f"/proc/self/fd/{directory_fd}/{CONTROL_SOCKET}")
        except OSError:
            sock.close()
            raise
    finally:
        os.close(directory_fd)
    return sock


def _peer(sock: socket.socket, owner: int) -> tuple[int, int]:
    """Return (pid, pidfd) of the process that listens on the other side. Raises OSError if `owner` is another user."""
    data = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, _ = _CREDENTIALS.unpack(data)
    if uid != owner:
        raise PermissionError
    if pid == 0:
        return 0, -1
    try:
        return pid, sock.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD)
    except OSError:
        return pid, os.pidfd_open(pid)


def _remedy(error: OSError) -> str:
    if isinstance(error, PermissionError):
        return "; the state directory belongs to another user; use that account or root, or give another --state-dir"
    if isinstance(error, NotADirectoryError):
        return "; give a directory with --state-dir"
    return remedy_for(error.errno)
