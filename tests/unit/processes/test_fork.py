"""A forked child ends with a status, whatever its code does, and its parent goes on as before."""

from __future__ import annotations

import errno
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, cast

import pytest

from prefork_logd.processes import fork as module
from prefork_logd.processes.fork import BUG_STATUS, LOST_STATUS, describe_end, fork

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefork_logd.processes.orphans import Lifeline


class FakeLifeline:
    """Ties the child to nothing."""

    lifeline = property(lambda self: cast("Lifeline", self))

    def hold(self) -> None:
        """Hold nothing."""


def test_every_end_of_a_child_has_words() -> None:
    """Also the signals that have no name."""
    assert describe_end(9) == "was ended by SIGKILL"
    assert describe_end(40) == "was ended by signal 40"
    assert describe_end(3 << 8) == "ended with status 3"
    assert os.waitstatus_to_exitcode(40) == -40


@pytest.mark.parametrize("status", [0, 1, 70, 255])
def test_an_end_by_itself_has_its_status(status: int) -> None:
    """Whatever it is."""
    assert describe_end(status << 8) == f"ended with status {status}"


@pytest.mark.parametrize("number", [signal.SIGRTMIN, signal.SIGRTMAX, 35, 63])
def test_a_real_time_signal_has_a_name_or_a_number(number: int) -> None:
    """Only the first and the last have names."""
    names = {int(signal.SIGRTMIN): "SIGRTMIN", int(signal.SIGRTMAX): "SIGRTMAX"}
    assert describe_end(number) == f"was ended by {names.get(number, f'signal {number}')}"


def test_a_core_file_changes_no_words() -> None:
    """Its bit is no part of the signal."""
    assert describe_end(signal.SIGSEGV | 0x80) == "was ended by SIGSEGV"


def test_a_fork_that_fails_leaves_signals_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are blocked while it is tried; the caller gets the error."""
    masks: list[set[int]] = []

    def fail() -> NoReturn:
        masks.append(set(signal.pthread_sigmask(signal.SIG_BLOCK, ())))
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(os, "fork", fail)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with pytest.raises(BlockingIOError):
        fork("worker 1", FakeLifeline().lifeline, lambda: None, lambda: 0)
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before
    assert {signal.SIGTERM, signal.SIGCHLD, signal.SIGHUP} <= masks[0]


def end_with(status: int) -> Callable[[], int]:
    return lambda: status


def fail_with(error: BaseException) -> Callable[[], int]:
    def run() -> NoReturn:
        raise error

    return run


def exit_early() -> NoReturn:
    sys.exit(3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("run", "status"),
    [
        (end_with(0), 0),
        (end_with(LOST_STATUS), LOST_STATUS),
        (fail_with(ValueError("x")), BUG_STATUS),
        (fail_with(MemoryError()), BUG_STATUS),
        (fail_with(KeyboardInterrupt()), BUG_STATUS),
        (exit_early, BUG_STATUS),
    ],
)
def test_a_child_ends_with_the_status_of_its_code(run: Callable[[], int], status: int) -> None:
    """Or with one for a fault in it: nothing is raised in the frames that it shares with its parent."""
    pid = fork("test", FakeLifeline().lifeline, lambda: None, run)
    _, wait_status = os.waitpid(pid, 0)
    assert describe_end(wait_status) == f"ended with status {status}"


@pytest.mark.slow
def test_a_child_closes_before_it_works_and_can_be_signalled(tmp_path: Path) -> None:
    """It has a name, and the signals that its parent had blocked for the fork."""
    steps = tmp_path / "steps"

    def note(word: str) -> None:
        with steps.open("a") as file:
            file.write(word + "\n")

    def run() -> int:
        note(Path("/proc/self/cmdline").read_bytes().strip(b"\0 ").decode())
        note(str(signal.SIGTERM in signal.pthread_sigmask(signal.SIG_BLOCK, ())))
        return 0

    os.waitpid(fork("worker 7", FakeLifeline().lifeline, lambda: note("close"), run), 0)
    assert steps.read_text().splitlines() == ["close", "prefork-logd: worker 7", "False"]
    assert module.LOST_STATUS != module.BUG_STATUS
