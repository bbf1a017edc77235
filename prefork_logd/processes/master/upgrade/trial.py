"""Tries the newly installed program in a process of its own, then replaces this program by it.

Owns the trial and the exec, on the side of the running program. Does not know the collector's work.

The process stays, and its program is replaced (execve(2)): pid, children and descriptors are the same, so neither a
supervisor nor the pid file notices. An exec cannot be undone, so the new program is tried first: it reads the
configuration and the state that it would inherit, imports everything, and decodes and renders some records. The exec
follows only if the trial succeeds.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import prefork_logd
from prefork_logd.net.loop import READ, Loop, Timer

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefork_logd.processes.master.upgrade.state import UpgradeState

TRIAL_S = 20.0
_STATE_FD = 3
_MOST_OUTPUT = 65_536
_ALONE = ("-m", "-c")
_WITH_VALUE = ("-X", "-W")


def command(state_fd: int) -> list[str]:
    """Return the command that runs the newly installed program on a state, with this interpreter's own flags."""
    flags: list[str] = []
    words = iter(sys.orig_argv[1:])
    for word in words:
        if word in _ALONE or not word.startswith("-") or word == "-":
            break
        flags.append(word)
        if word in _WITH_VALUE:
            flags.append(next(words, ""))
    return [sys.executable, *flags, "-m", "prefork_logd", "take-over", "--state", str(state_fd)]


def environment() -> dict[str, str]:
    """Return the environment for `command`; a collector that runs from a checkout finds the checked-out code."""
    root = Path(prefork_logd.__file__).resolve().parents[1]
    script = Path(sys.argv[0]).resolve()
    found = os.environ.copy()
    if script.parent == root / "bin":
        paths = [path for path in found.get("PYTHONPATH", "").split(os.pathsep) if path]
        found["PYTHONPATH"] = os.pathsep.join(dict.fromkeys([*paths, str(root)]))
    return found


class Trial:
    """A trial run of the new program."""

    def __init__(self, loop: Loop, state: UpgradeState, done: Callable[[str, str], None]) -> None:
        """Call `done` once, with the problem (empty for none) and the new version. Raises OSError."""
        self._loop = loop
        self._done: Callable[[str, str], None] | None = done
        self._said = b""
        self._status: int | None = None
        self._ended = False
        state_fd = state.to_file()
        self._read_fd, write_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        os.set_blocking(write_fd, True)
        here = os.open(".", os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _go_to(state.directory)
            words = [*command(_STATE_FD), "--trial"]
            self.pid = os.posix_spawn(
                words[0],
                words,
                environment(),
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, write_fd, 1),
                    (os.POSIX_SPAWN_DUP2, write_fd, 2),
                    (os.POSIX_SPAWN_DUP2, state_fd, _STATE_FD),
                ],
                setsigmask=[],
                setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],
            )
        except OSError:
            os.close(self._read_fd)
            raise
        finally:
            os.fchdir(here)
            for fd in (here, write_fd, state_fd):
                os.close(fd)
        self._timer: Timer = loop.later(TRIAL_S, self._too_long)
        loop.add(self._read_fd, self, READ)

    def ready(self, _events: int, /) -> None:
        """Read the trial's output."""
        try:
            data = os.read(self._read_fd, _MOST_OUTPUT)
        except BlockingIOError:
            return
        self._said = (self._said + data)[-_MOST_OUTPUT:]
        if not data:
            self._close_pipe()
            self._check_outcome()

    def record_exit(self, status: int) -> None:
        """Record the trial's exit status."""
        self._status = status
        self._check_outcome()

    def _too_long(self) -> None:
        self._finish(f"it was not ready after {TRIAL_S:g} s")

    def _check_outcome(self) -> None:
        if self._status is None or self._read_fd >= 0:
            return
        lines = [line.strip() for line in self._said.decode(errors="replace").splitlines() if line.strip()]
        last = lines[-1] if lines else ""
        if self._status:
            self._finish(last.removeprefix("prefork-logd: ") or f"it ended with status {self._status}")
            return
        try:
            self._finish("", str(json.loads(last)["version"]))
        except (ValueError, KeyError, TypeError):
            self._finish(f"unexpected output {last!r}")

    def _finish(self, problem: str, version: str = "") -> None:
        done, self._done = self._done, None
        if done is not None:
            self.close()
            done(problem, version)

    def close(self) -> None:
        """Kill the trial if it has not ended."""
        self._done = None
        self._timer.cancel()
        self._close_pipe()
        if self._status is None:
            os.kill(self.pid, signal.SIGKILL)

    def _close_pipe(self) -> None:
        if self._read_fd >= 0:
            self._loop.remove(self._read_fd)
            os.close(self._read_fd)
            self._read_fd = -1

    def close_in_child(self) -> None:
        """Close the descriptor that a fork copied."""
        if self._read_fd >= 0:
            os.close(self._read_fd)


def replace(state: UpgradeState, put_back: Callable[[], None]) -> str:
    """Become the new program; if that fails, return the reason.

    Signals are blocked meanwhile and reach the new program. `put_back` sends those again that were received and not yet
    handled.
    """
    state_fd = state.to_file()
    inherited = [*state.descriptors(), state_fd]
    here = os.open(".", os.O_DIRECTORY | os.O_CLOEXEC)
    mask = signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
    put_back()
    try:
        for fd in inherited:
            os.set_inheritable(fd, True)
        _go_to(state.directory)
        words = command(state_fd)
        os.execve(words[0], words, environment())  # noqa: S606 - no shell is wanted
    except OSError as error:
        problem = f"{sys.executable}: {error.strerror}"
    for fd in inherited:
        os.set_inheritable(fd, False)
    os.fchdir(here)
    os.close(here)
    os.close(state_fd)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return problem


def _go_to(directory: str) -> None:
    """Change to the base of relative paths; to / if it no longer exists."""
    try:
        os.chdir(directory)
    except OSError:
        os.chdir("/")
