"""Calls of the C library."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from prefork_logd.system import libc


def test_a_new_file_was_just_created(tmp_path: Path) -> None:
    """Where the file system records it; writing later changes nothing."""
    path = tmp_path / "file"
    before_s = time.time() - 1
    path.write_bytes(b"x")
    os.utime(path, (0, 0))
    found = libc.birth_s(str(path))
    assert found is None or before_s < found < time.time() + 1


def test_the_birth_of_a_file_that_does_not_exist(tmp_path: Path) -> None:
    """It is an OSError with the file's name."""
    with pytest.raises(FileNotFoundError):
        libc.birth_s(str(tmp_path / "none"))


def test_without_statx_nothing_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An old C library has no such call."""
    monkeypatch.setattr(libc, "_libc", object())
    assert libc.birth_s(str(tmp_path)) is None


def test_one_system_call_takes_so_many_buffers(tmp_path: Path) -> None:
    """The constant is the system's own, and one more is refused."""
    assert os.sysconf("SC_IOV_MAX") == libc.IOV_MAX
    with (tmp_path / "file").open("wb") as file:
        assert os.writev(file.fileno(), [b"x"] * libc.IOV_MAX) == libc.IOV_MAX
        with pytest.raises(OSError, match="Invalid argument"):
            os.writev(file.fileno(), [b"x"] * (libc.IOV_MAX + 1))


def test_a_change_in_a_directory_can_be_waited_for(tmp_path: Path) -> None:
    """A watch reports a new file, and a path that does not exist is not watched."""
    fd = libc.inotify_init()
    assert fd >= 0
    try:
        assert not libc.inotify_add_watch(fd, os.fsencode(tmp_path / "none"), libc.IN_CREATE)
        assert libc.inotify_add_watch(fd, os.fsencode(tmp_path), libc.IN_CREATE)
        with pytest.raises(BlockingIOError):
            os.read(fd, 4096)
        (tmp_path / "new").touch()
        assert b"new\0" in os.read(fd, 4096)
    finally:
        os.close(fd)


@pytest.mark.slow
def test_a_process_gets_a_signal_when_its_parent_dies() -> None:
    """The grandchild of a child that ends at once."""
    held_fd, end_fd = os.pipe()
    child = os.fork()
    if not child:
        ready_fd, tell_fd = os.pipe()
        if not os.fork():
            os.close(held_fd)
            libc.signal_on_parent_death(signal.SIGKILL)
            os.write(tell_fd, b"x")
            while True:
                signal.pause()
        os.read(ready_fd, 1)
        os._exit(0)
    os.close(end_fd)
    os.waitpid(child, 0)
    # The last writing end closes with the grandchild; the test's own time limit ends a wait for ever.
    assert os.read(held_fd, 1) == b""
    os.close(held_fd)


@pytest.mark.slow
def test_alarm_as_a_handler_of_a_signal() -> None:
    """SIGHUP has the number 1, so SIGALRM ends the process a second later, whatever Python does."""
    child = os.fork()
    if not child:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        libc.alarm_on_signal(signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGHUP)
        while True:
            signal.pause()
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGALRM


def test_memory_is_given_back() -> None:
    """Both calls work where the C library has them, and do nothing elsewhere."""
    libc.limit_arenas(2)
    libc.trim_memory()
    assert len(bytearray(1 << 20)) == 1 << 20
