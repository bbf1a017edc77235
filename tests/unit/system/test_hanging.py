"""What a process is doing, as /proc shows it: a copy of it in a directory, and the real one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from prefork_logd.system import hanging


class Proc:
    """A /proc of a test's own."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(
        self, pid: int, state: str, *, name: str = "python", wchan: str = "", title: str = "", children: str = ""
    ) -> None:
        """Add a process."""
        place = self.path / str(pid)
        (place / "task" / str(pid)).mkdir(parents=True)
        (place / "stat").write_text(f"{pid} ({name}) {state} 1 1 1 0")
        (place / "wchan").write_text(wchan)
        (place / "cmdline").write_bytes(title.encode() + b"\0")
        (place / "task" / str(pid) / "children").write_text(children)


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Proc:
    """Return the /proc that is read."""
    monkeypatch.setattr(hanging, "Path", lambda path: tmp_path / path.removeprefix("/proc/"))
    monkeypatch.setattr(hanging, "proc_is_ours", lambda: True)
    return Proc(tmp_path)


@pytest.mark.parametrize(
    ("state", "wchan", "expected"),
    [
        ("T", "", "stopped by a signal; kill -CONT 7 continues it"),
        ("t", "", "stopped by a debugger"),
        ("D", "nfs_wait", "waits for a disk or a network file system"),
        ("R", "0", "busy"),
        ("Z", "", "has ended"),
        ("S", "pipe_write", "waits in pipe_write"),
        ("S", "ep_poll", "waits for events"),
        ("S", "do_epoll_wait", "waits for events"),
        ("S", "0", "waits"),
        ("S", "", "waits"),
        ("I", "worker", "waits in worker"),
    ],
)
def test_a_state_has_words(proc: Proc, state: str, wchan: str, expected: str) -> None:
    """Of proc_pid_stat(5), with the function of the kernel in which it sleeps."""
    proc.add(7, state, wchan=wchan)
    assert hanging.describe(7) == expected


@pytest.mark.parametrize("name", ["a) R (b", "( T )", ")", "a\nb", "", "{pid}"])
def test_a_process_may_have_any_name(proc: Proc, name: str) -> None:
    """The state comes after the last parenthesis."""
    proc.add(7, "Z", name=name)
    assert hanging.describe(7) == "has ended"


def test_a_process_that_is_not_shown_has_no_words(proc: Proc) -> None:
    """Neither one that has gone, nor one whose file is empty."""
    assert hanging.describe(7) == ""
    (proc.path / "8").mkdir()
    (proc.path / "8" / "stat").write_text("")
    assert hanging.describe(8) == ""
    assert hanging.describe(-1) == ""


def test_a_place_that_may_not_be_read_is_left_out(proc: Proc) -> None:
    """Some kernels do not show it to others."""
    proc.add(7, "S")
    (proc.path / "7" / "wchan").unlink()
    assert hanging.describe(7) == "waits"


def test_a_family_is_the_master_and_its_children(proc: Proc) -> None:
    """By the names in their titles; a process that ends meanwhile has ended."""
    proc.add(7, "T", children="8 9 10 11 ")
    proc.add(8, "R", title="prefork-logd: worker 1")
    proc.add(9, "S", title="gzip -c", wchan="pipe_read")
    proc.add(10, "Z")
    assert hanging.describe_family(7) == (
        "master (pid 7): stopped by a signal; kill -CONT 7 continues it; worker 1 (pid 8): busy; "
        "a process (pid 9): waits in pipe_read; a process (pid 10): has ended; a process (pid 11): has ended"
    )
    assert hanging.describe_family(99) == "master (pid 99): has ended"


def test_processes_elsewhere_cannot_be_seen(proc: Proc, monkeypatch: pytest.MonkeyPatch) -> None:
    """A master of another pid namespace, or a /proc that is not of this one."""
    proc.add(7, "R")
    for pid in (0, -1):
        assert hanging.describe_family(pid) == "its processes cannot be seen from here"
    monkeypatch.setattr(hanging, "proc_is_ours", lambda: False)
    assert hanging.describe_family(7) == "its processes cannot be seen from here"


def test_this_process_is_busy() -> None:
    """By the real /proc."""
    assert hanging.describe(os.getpid()) == "busy"
