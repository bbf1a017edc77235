"""One collector a state directory, whatever files dead ones left behind."""

from __future__ import annotations

import fcntl
import os
import threading
from typing import TYPE_CHECKING

import pytest

from prefork_logd import daemon
from prefork_logd.errors import ProcessError

if TYPE_CHECKING:
    from pathlib import Path


def test_a_second_holder_is_refused_with_the_pid_of_the_first(tmp_path: Path) -> None:
    """The lock counts, and its owner is named."""
    path = tmp_path / "pid"
    with daemon.PidLock(path):
        assert daemon.holder(path) == os.getpid()
        with pytest.raises(ProcessError, match=rf"already running with pid {os.getpid()} "), daemon.PidLock(path):
            pass
    assert not path.exists()
    assert daemon.holder(path) is None


@pytest.mark.parametrize("content", ["", "1\n", "99999999\n", "garbage"])
def test_a_file_without_a_lock_is_no_obstacle(tmp_path: Path, content: str) -> None:
    """Not even with the pid of a process that lives."""
    path = tmp_path / "pid"
    path.write_text(content)
    assert daemon.holder(path) is None
    with daemon.PidLock(path) as lock:
        assert lock.was_stale is bool(content)
        assert path.read_text() == f"{os.getpid()}\n"


def test_a_glance_at_the_holder_keeps_nobody_out(tmp_path: Path) -> None:
    """Asking who holds the lock takes it for a moment; whoever starts in that moment waits."""
    path = tmp_path / "pid"
    glance = os.open(path, os.O_RDONLY | os.O_CREAT)
    fcntl.flock(glance, fcntl.LOCK_SH)
    timer = threading.Timer(daemon.GLANCE_S / 4, os.close, (glance,))
    timer.start()
    with daemon.PidLock(path):
        assert daemon.holder(path) == os.getpid()
    timer.join()


def test_a_lock_on_a_removed_file_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A collector that ends removes its file while another waits for the lock: that one locks the path's new file."""
    path = tmp_path / "pid"
    real_flock = fcntl.flock

    def flock_late(fd: int, operation: int) -> None:
        real_flock(fd, operation)
        monkeypatch.setattr(fcntl, "flock", real_flock)
        path.unlink()

    monkeypatch.setattr(fcntl, "flock", flock_late)
    with daemon.PidLock(path):
        assert daemon.holder(path) == os.getpid()


def test_a_child_that_closes_the_lock_does_not_hold_it(tmp_path: Path) -> None:
    """Flock is inherited: an orphan would keep the next collector out."""
    path = tmp_path / "pid"
    lock = daemon.PidLock(path)
    lock.__enter__()
    end_read, end_write = os.pipe()
    closed_read, closed_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(end_write)
        lock.close()
        os.write(closed_write, b"x")
        os.read(end_read, 1)
        os._exit(0)
    assert os.read(closed_read, 1) == b"x"
    lock.close()
    with daemon.PidLock(path):
        pass
    os.close(end_write)
    os.waitpid(pid, 0)
    for fd in (end_read, closed_read, closed_write):
        os.close(fd)


def test_a_state_directory_is_made_with_sane_permissions(tmp_path: Path) -> None:
    """Others may not look into it."""
    daemon.prepare_state_dir(tmp_path / "a" / "b", "")
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o750


def test_a_state_directory_that_cannot_be_is_explained(tmp_path: Path) -> None:
    """The path and the remedy are named."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ProcessError, match="give another with"):
        daemon.prepare_state_dir(tmp_path / "file" / "b", "")


def test_an_unknown_user_is_named() -> None:
    """server.user has to exist."""
    with pytest.raises(ProcessError, match="no such user"):
        daemon.drop_privileges("nobody-of-this-name")


def test_readiness_is_told_once() -> None:
    """The pipe says one thing and closes."""
    read_fd, write_fd = os.pipe()
    ready = daemon.Readiness(write_fd)
    ready.tell(pid=7)
    ready.tell(pid=8)
    assert os.read(read_fd, 100) == b'{"pid": 7}\n'
    assert os.read(read_fd, 100) == b""
    os.close(read_fd)


def test_the_end_of_a_process_that_is_no_child_can_be_waited_for() -> None:
    """A process that is gone already counts as ended."""
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    assert daemon.wait_for_exit(pid, 10)
    os.waitpid(pid, 0)
    assert daemon.wait_for_exit(pid, 0)
    assert not daemon.wait_for_exit(os.getpid(), 0)
