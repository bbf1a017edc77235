"""The process of a state directory is proven before anything is done to it; a number in a file is no proof."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from typing import TYPE_CHECKING

import pytest

from prefork_logd.config.paths import CONTROL_SOCKET, PID_FILE
from prefork_logd.errors import ProcessError
from prefork_logd.system import running
from prefork_logd.system.pid_lock import PidLock
from tests.support.accounts import NEEDS_ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@contextlib.contextmanager
def process(act: Callable[[], object] = lambda: None) -> Iterator[int]:
    """Fork a process that has done `act` and then waits; yield its pid."""
    read_fd, write_fd = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            kept = act()
            os.write(write_fd, b"x")
            signal.pause()
            del kept
        finally:
            os._exit(1)
    os.close(write_fd)
    try:
        assert os.read(read_fd, 1) == b"x"
        yield pid
    finally:
        os.close(read_fd)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def hold(state_dir: Path, number: int | None = None) -> PidLock:
    """Hold the lock as a master does; perhaps under another number."""
    lock = PidLock(state_dir / PID_FILE).__enter__()
    if number is not None:
        (state_dir / PID_FILE).write_text(f"{number}\n")
    return lock


def listen(path: Path) -> socket.socket:
    """Listen on a Unix socket."""
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(path))
    sock.listen(1)
    return sock


def lives(pid: int) -> bool:
    """Tell whether a child still lives."""
    return os.waitpid(pid, os.WNOHANG) == (0, 0)


@pytest.mark.slow
def test_the_master_is_known_by_its_socket_and_its_lock(tmp_path: Path) -> None:
    """Whatever number the pid file has; it can be signalled, and waited for."""
    with process(lambda: (hold(tmp_path, 1), listen(tmp_path / CONTROL_SOCKET))) as pid:
        found = running.find(tmp_path)
        assert found is not None
        assert found.pid == pid
        assert not found.wait(0)
        found.send_signal(signal.SIGTERM)
        assert found.wait(10)
        found.close()


@pytest.mark.slow
def test_a_master_without_its_socket_is_known_by_its_lock(tmp_path: Path) -> None:
    """It is just starting, or the socket was removed."""
    with process(lambda: hold(tmp_path)) as pid:
        found = running.find(tmp_path)
        assert found is not None
        assert found.pid == pid
        found.close()


@pytest.mark.slow
@pytest.mark.parametrize("has_socket", [False, True])
def test_a_forged_number_leads_to_nobody(tmp_path: Path, has_socket: bool) -> None:
    """A bystander in the pid file, or one that listens on the socket and does not hold the lock, is left alone."""
    with process() as bystander, process(lambda: hold(tmp_path, bystander)):
        with contextlib.ExitStack() as stack:
            if has_socket:
                stack.enter_context(process(lambda: listen(tmp_path / CONTROL_SOCKET)))
            with pytest.raises(ProcessError, match="a collector runs there in another container or host"):
                running.find(tmp_path)
        assert lives(bystander)


@pytest.mark.slow
def test_a_link_to_another_service_is_not_followed(tmp_path: Path) -> None:
    """Whoever can write into the directory could have any service ended by root otherwise."""
    (tmp_path / CONTROL_SOCKET).symlink_to(tmp_path / "service.sock")
    with process(lambda: listen(tmp_path / "service.sock")), process(lambda: hold(tmp_path, 1)):
        with pytest.raises(ProcessError, match="another container or host"):
            running.find(tmp_path)
        with pytest.raises(OSError, match="not a socket of the collector"):
            running.connect(tmp_path)


@pytest.mark.parametrize("content", ["", "1\n", "99999999\n", "garbage"])
def test_a_file_without_a_lock_means_that_none_runs(tmp_path: Path, content: str) -> None:
    """Not even with the pid of a process that lives."""
    (tmp_path / PID_FILE).write_text(content)
    assert running.find(tmp_path) is None
    assert running.find(tmp_path / "missing") is None


def test_a_process_that_cannot_be_seen_is_not_signalled() -> None:
    """The kernel says 0 for a process of another pid namespace."""
    with pytest.raises(ProcessError, match="another pid namespace"):
        running.Running(0).send_signal(signal.SIGTERM)


@NEEDS_ROOT
def test_a_stranger_may_not_look(tmp_path: Path) -> None:
    """The file is another user's, and the remedy is named."""
    tmp_path.chmod(0o755)
    (tmp_path / PID_FILE).touch(0o600)
    os.seteuid(65_534)
    try:
        with pytest.raises(ProcessError, match=r"Permission denied"):
            running.find(tmp_path)
    finally:
        os.seteuid(0)


def test_a_state_directory_that_is_a_file_has_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ProcessError, match="Not a directory; give a directory with --state-dir"):
        running.find(tmp_path / "file")
