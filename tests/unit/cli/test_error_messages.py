"""A command that failed says why in a sentence, and calls nothing a bug that the host has refused."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest

from prefork_logd.cli.error_messages import explain
from prefork_logd.cli.standard_streams import OUTPUT_NAME, ReaderGoneError
from prefork_logd.errors import ConfigError, ExitStatus, Problem, ProcessError

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("error", "sentence", "status"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "/x"), "/x: Permission denied; use the account", 1),
        (OSError(errno.ENOSPC, "No space left on device", OUTPUT_NAME), "standard output: No space left on device", 1),
        (OSError(errno.EAGAIN, "Resource temporarily unavailable"), "the operating system refuses: Resource", 1),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", b"/y\xff"), "/y\udcff: No such file", 1),
        (ModuleNotFoundError("No module named 'rich'", name="rich"), "the package 'rich' cannot be imported", 1),
        (UnicodeEncodeError("ascii", "é", 0, 1, "ordinal"), "this locale's encoding (ascii) cannot express '\\xe9'", 1),
        (MemoryError(), "not enough memory", 1),
        (ProcessError("not so", ExitStatus.NOT_RUNNING), "not so", 3),
        (ConfigError([Problem("--bind", "is odd")]), "--bind: is odd", 2),
    ],
)
def test_what_the_host_refuses_is_no_bug(error: BaseException, sentence: str, status: int) -> None:
    """What is wrong, where, and the status."""
    (said,), ended = explain(error)
    assert sentence in said
    assert "bug" not in said
    assert ended == status


@pytest.mark.parametrize(
    "error",
    [
        KeyError("x"),
        OSError(errno.EBADF, "Bad file descriptor"),
        OSError("no number"),
        ModuleNotFoundError("No module named 'prefork_logd.x'", name="prefork_logd.x"),
    ],
)
def test_a_bug_is_called_one(error: BaseException) -> None:
    """Also a package of our own that is missing, and a system call that was made wrongly."""
    (said,), status = explain(error)
    assert "this is a bug, please report it" in said
    assert status == 1


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (click.Abort(), 128 + signal.SIGINT),
        (KeyboardInterrupt(), 128 + signal.SIGINT),
        (ReaderGoneError(), 128 + signal.SIGPIPE),
    ],
)
def test_an_end_from_outside_needs_no_words(error: BaseException, status: int) -> None:
    """The status is what a shell shows for the signal."""
    assert explain(error) == ((), status)


def run(shell: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run a shell command in which $0 is the program."""
    program = f"{sys.executable} -m prefork_logd"
    env = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    command = ["bash", "-c", shell.replace("LOGD", program)]
    return subprocess.run(command, capture_output=True, check=False, timeout=20, env=env)


@pytest.mark.slow
def test_an_answer_that_cannot_be_written(tmp_path: Path) -> None:
    """A full standard output is named, also for the help; where standard error is full too, the status remains."""
    done = run(f"LOGD check --state-dir {tmp_path} >/dev/full")
    assert done.returncode == 1
    assert done.stderr.startswith(b"prefork-logd: standard output: No space left on device; make room (`df` and ")
    assert done.stderr.count(b"\n") == 1
    for unbuffered in ("", "1"):
        assert run("LOGD --help >/dev/full 2>/dev/full", PYTHONUNBUFFERED=unbuffered).returncode == 1


@pytest.mark.slow
def test_a_reader_that_has_gone(tmp_path: Path) -> None:
    """The command ends without a word, as one does that SIGPIPE ends."""
    done = run(f"LOGD check --state-dir {tmp_path} | true; exit ${{PIPESTATUS[0]}}")
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, b"")


@pytest.mark.slow
def test_a_terminal_that_lacks_characters() -> None:
    """They are printed as escapes, and what is read there and is no text is read as such."""
    program = "from prefork_logd.cli import standard_streams; standard_streams.prepare(); print('\\u043a', input())"
    done = run(f'{{ printf "\\377\\n"; }} | {sys.executable} -c "{program}"', PYTHONIOENCODING="ascii")
    assert (done.stdout, done.stderr) == (b"\\u043a \\xff\n", b"")
