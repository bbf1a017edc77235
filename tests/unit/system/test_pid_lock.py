"""One collector a state directory, whatever files dead ones left behind."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from typing import TYPE_CHECKING

import pytest

from prefork_logd.errors import ProcessError
from prefork_logd.system import pid_lock
from prefork_logd.system.running import is_locked

if TYPE_CHECKING:
    from pathlib import Path


def is_held(path: Path) -> bool:
    """Tell whether a pid file is there and its lock is held."""
    if not path.exists():
        return False
    fd = os.open(path, os.O_RDONLY)
    try:
        return is_locked(fd)
    finally:
        os.close(fd)


def test_a_second_holder_is_refused_with_the_pid_of_the_first(tmp_path: Path) -> None:
    """The lock counts, and its owner is named."""
    path = tmp_path / "pid"
    with pid_lock.PidLock(path):
        assert is_held(path)
        with pytest.raises(ProcessError, match=rf"already running with pid {os.getpid()} "), pid_lock.PidLock(path):
            pass
    assert not path.exists()


@pytest.mark.parametrize("content", ["", "1\n", "99999999\n", "garbage"])
def test_a_file_without_a_lock_is_no_obstacle(tmp_path: Path, content: str) -> None:
    """Not even with the pid of a process that lives."""
    path = tmp_path / "pid"
    path.write_text(content)
    assert not is_held(path)
    with pid_lock.PidLock(path) as lock:
        assert lock.was_stale
        assert path.read_text() == f"{os.getpid()}\n"


def test_a_full_disk_does_not_prevent_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pid is written when there is room; without it, too, the next holder knows that this one died."""
    path = tmp_path / "pid"

    def fail(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    lock = pid_lock.PidLock(path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", fail)
        lock.__enter__()
        lock.complete()
    assert is_held(path)
    assert not lock.was_stale
    assert path.read_text() == ""
    lock.complete()
    assert path.read_text() == f"{os.getpid()}\n"
    os.truncate(path, 0)
    pid_lock.PidLock.adopt(path, lock.fd).complete()
    assert path.read_text() == f"{os.getpid()}\n", "not written after an upgrade"
    os.truncate(path, 0)
    lock.close()
    with pid_lock.PidLock(path) as other:
        assert other.was_stale


def test_a_glance_at_the_holder_keeps_nobody_out(tmp_path: Path) -> None:
    """Asking who holds the lock takes it for a moment; whoever starts in that moment waits."""
    path = tmp_path / "pid"
    glance = os.open(path, os.O_RDONLY | os.O_CREAT)
    fcntl.flock(glance, fcntl.LOCK_SH)
    timer = threading.Timer(pid_lock.GLANCE_S / 4, os.close, (glance,))
    timer.start()
    with pid_lock.PidLock(path):
        assert is_held(path)
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
    with pid_lock.PidLock(path):
        assert is_held(path)


@pytest.mark.slow
def test_a_child_that_closes_the_lock_does_not_hold_it(tmp_path: Path) -> None:
    """Flock is inherited: an orphan would keep the next collector out."""
    path = tmp_path / "pid"
    lock = pid_lock.PidLock(path)
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
    with pid_lock.PidLock(path):
        pass
    os.close(end_write)
    os.waitpid(pid, 0)
    for fd in (end_read, closed_read, closed_write):
        os.close(fd)


def test_nobody_else_can_hold_the_lock(tmp_path: Path) -> None:
    """The file is for its owner alone under every umask, also one that was left with another mode."""
    path = tmp_path / "pid"
    for mask in (0, 0o022, 0o077):
        before = os.umask(mask)
        try:
            with pid_lock.PidLock(path):
                assert path.stat().st_mode & 0o777 == 0o600
        finally:
            os.umask(before)
    path.write_text("")
    path.chmod(0o666)
    with pid_lock.PidLock(path):
        assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("kind", ["link", "fifo", "directory"])
def test_what_is_no_file_of_ours_is_refused_as_a_lock(tmp_path: Path, kind: str) -> None:
    """No link is followed, and a FIFO without a reader holds nobody up."""
    path, target = tmp_path / "pid", tmp_path / "target"
    target.write_text("precious")
    {"link": lambda: path.symlink_to(target), "fifo": lambda: os.mkfifo(path), "directory": path.mkdir}[kind]()
    with pytest.raises(ProcessError, match=r"pid: cannot be written"), pid_lock.PidLock(path):
        pass
    assert target.read_text() == "precious"


def test_a_holder_that_is_not_here_is_said_to_be_elsewhere(tmp_path: Path) -> None:
    """The number counts in the pid namespace of the holder; another process may have it here."""
    path = tmp_path / "pid"
    with pid_lock.PidLock(path):
        path.write_text("1\n")
        with pytest.raises(ProcessError, match="pid 1 of another pid namespace or host"), pid_lock.PidLock(path):
            pass


def test_the_file_of_another_collector_is_not_removed(tmp_path: Path) -> None:
    """It has begun in a directory that has taken the place of the first one's."""
    state = tmp_path / "state"
    state.mkdir()
    with pid_lock.PidLock(state / "pid") as first:
        state.rename(tmp_path / "moved")
        assert not first.is_in_place()
        state.mkdir()
        with pid_lock.PidLock(state / "pid"):
            first.__exit__(None, None, None)
            assert is_held(state / "pid")


def test_a_file_that_cannot_be_removed_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of a collector does not fail because of it: the lock counts."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with monkeypatch.context() as patch, pid_lock.PidLock(tmp_path / "pid"):
        patch.setattr(type(tmp_path), "unlink", refuse)
    assert (tmp_path / "pid").exists()
    assert not is_held(tmp_path / "pid")
