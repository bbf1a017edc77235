"""Notices to a command: without a shell, with a time limit, and with nothing left of it."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from prefork_logd.alerts import notices
from prefork_logd.alerts.receivers import command
from prefork_logd.alerts.receivers.failures import SendError
from prefork_logd.config.alerts import AlertSettings
from prefork_logd.config.receivers import CommandSettings

pytestmark = pytest.mark.slow


def send(*words: str, timeout: str = "5s", title: str = "it failed") -> str:
    rule = AlertSettings(name="shop errors")
    notice = notices.make(rule, "0" * 16, "firing", title=title, value=3, query="", started=1e9)
    return command.send(CommandSettings(name="c", command=words, timeout=timeout), notice)


def test_the_notice_is_on_stdin_and_in_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No shell reads it, and no secret of the collector is passed on."""
    monkeypatch.setenv("SECRET", "x")
    out = tmp_path / "out"
    hostile = "$(touch /tmp/x); `id`\0 \n'\""
    assert send("/bin/sh", "-c", f'cat > "{out}"', title=hostile) == "done"
    assert json.loads(out.read_text())["title"] == hostile
    shown = send("/bin/sh", "-c", "env | grep PREFORK_LOGD")
    for expected in ("PREFORK_LOGD_ALERT=shop errors", "PREFORK_LOGD_KIND=firing", "PREFORK_LOGD_STATE=firing"):
        assert expected in shown
    assert "SECRET" not in send("/bin/sh", "-c", "env | grep SECRET; true")
    assert send("/bin/true") == "done"
    assert send("/bin/echo", "$HOME") == "$HOME"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("/bin/sh", "-c", "echo no such team; exit 3"), "/bin/sh: ended with status 3: no such team"),
        (("/bin/sh", "-c", "kill -9 $$"), "/bin/sh: was ended by signal 9"),
        (("/no/such/program",), "/no/such/program: cannot be run: No such file or directory"),
        (("/etc/passwd",), "/etc/passwd: cannot be run: Permission denied"),
    ],
)
def test_failures(words: tuple[str, ...], said: str) -> None:
    """With the beginning of what the command says."""
    with pytest.raises(SendError) as caught:
        send(*words)
    assert str(caught.value) == said


def test_a_command_that_hangs_ends_with_its_children(tmp_path: Path) -> None:
    """After its time, the whole process group."""
    pid = tmp_path / "pid"
    began = time.monotonic()
    with pytest.raises(SendError, match="did not end within 1s"):
        send("/bin/sh", "-c", f'sleep 100 & echo $! > "{pid}"; wait', timeout="1s")
    assert time.monotonic() - began < 3
    assert _has_ended(int(pid.read_text()))


def test_a_child_that_a_command_leaves_is_ended(tmp_path: Path) -> None:
    """It holds the pipe, and is not waited for."""
    pid = tmp_path / "pid"
    began = time.monotonic()
    assert send("/bin/sh", "-c", f'sleep 100 & echo $! > "{pid}"; echo fine', timeout="20s") == "fine"
    assert time.monotonic() - began < 5
    assert _has_ended(int(pid.read_text()))


def test_a_child_that_writes_for_ever_does_not_hide_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command has ended with success, also if the pipe is never empty."""
    monkeypatch.setattr(command, "_PIECE_BYTES", 1)
    assert send("/bin/sh", "-c", "echo y; yes & exit 0", timeout="1s").startswith("y")


def test_much_output_costs_nothing() -> None:
    """It is read and thrown away; a command that fills the pipe does not hang."""
    assert len(send("/bin/sh", "-c", "head -c 10000000 /dev/zero | tr '\\0' x")) == 200


def _has_ended(pid: int) -> bool:
    """Tell whether a process has ended, or is a zombie that its new parent has not waited for."""
    end = time.monotonic() + 5
    while time.monotonic() < end:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        os.sched_yield()
    return False
