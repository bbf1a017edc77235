"""Injects faults at the N-th system call of a process, by strace."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.harness import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed: nothing is tried")


class Tracer:
    """strace on one process."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process = process
        self._log = log

    @property
    def has_ended(self) -> bool:
        """Whether the traced process has ended."""
        return self._process.poll() is not None

    def lines(self) -> list[str]:
        """Return the trace."""
        return self._log.read_text(errors="replace").splitlines()

    def stop(self, pid: int) -> None:
        """Stop a process between two calls, so that the result of each one is known; trace SIGSTOP for this.

        A call that SIGKILL interrupts may be done or not, and strace writes "= ?" for both. SIGSTOP takes effect at the
        end of a call (signal(7)).
        """
        os.kill(pid, signal.SIGSTOP)
        wait_for(lambda: any(self._is_stopped(line, pid) for line in self.lines()), f"process {pid} stopped")

    @staticmethod
    def _is_stopped(line: str, pid: int) -> bool:
        return line.split(maxsplit=1) == [str(pid), "--- stopped by SIGSTOP ---"]


@contextlib.contextmanager
def traced(pid: int, log: Path, *options: str) -> Iterator[Tracer]:
    """Trace a process, and those of each `-p`, inside a `with`; afterwards they continue untraced."""
    complaints = log.with_suffix(".complaints")
    with complaints.open("wb") as stderr:
        process = subprocess.Popen(["strace", "-f", "-o", str(log), *options, "-p", str(pid)], stderr=stderr)
    tracer = Tracer(process, log)
    try:
        wanted = 1 + options.count("-p")
        wait_for(lambda: complaints.read_bytes().count(b" attached") >= wanted or tracer.has_ended, "strace to attach")
        if b" attached" not in complaints.read_bytes():
            pytest.skip(f"strace may not trace here: {complaints.read_text()}")
        yield tracer
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.wait(20)


def kill_at(syscall: str, when: int) -> tuple[str, ...]:
    """Return options that kill a process with SIGKILL when it begins its N-th such call."""
    return ("-e", f"trace={syscall}", "-e", f"inject={syscall}:signal=SIGKILL:when={when}")


def fail_at(syscall: str, when: int, error: str) -> tuple[str, ...]:
    """Return options that let a process's N-th such call fail."""
    return ("-e", f"trace={syscall}", "-e", f"inject={syscall}:error={error}:when={when}")
