"""Every signal that the collector knows, in one table: number, verb, meaning.

Owns which signals are caught and how they reach an event loop: through a wake-up descriptor (signal.set_wakeup_fd), so
that no Python code of ours runs inside a handler. Knows nothing of what a signal leads to.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from types import FrameType


class SignalUse(NamedTuple):
    """What one signal to the master means."""

    signal: signal.Signals
    verb: str
    """The command that sends it; empty when there is none."""
    meaning: str


TABLE: tuple[SignalUse, ...] = (
    SignalUse(signal.SIGHUP, "reload", "Reopen every output, then apply the new configuration."),
    SignalUse(signal.SIGTERM, "stop", "Graceful stop: read what clients have sent, write it, sync it, end with 0."),
    SignalUse(signal.SIGINT, "", "As SIGTERM."),
    SignalUse(signal.SIGQUIT, "", "Fast stop: write what was read, read no more."),
    SignalUse(signal.SIGUSR1, "", "Reopen every output, nothing else."),
    SignalUse(signal.SIGUSR2, "upgrade", "Run the newly installed code; no connection is closed."),
    SignalUse(signal.SIGTTIN, "", "One worker more for each signal delivered: the others hand it its share."),
    SignalUse(signal.SIGTTOU, "", "One worker fewer for each signal delivered: it hands its share over, and ends."),
    SignalUse(signal.SIGCHLD, "", "A child has ended (sent by the kernel)."),
)

NUMBERS = frozenset(use.signal for use in TABLE)
_IGNORED = frozenset({signal.SIGPIPE, signal.SIGXFSZ})
"""A write then fails with EPIPE or EFBIG, which the code that writes handles."""


def _noticed(_signum: int, _frame: FrameType | None) -> None:
    """Do nothing: that a handler exists makes the interpreter write to the wake-up descriptor."""


class SignalReceiver:
    """Catches the given signals of this process; the loop watches `fd` and asks `take` which have come."""

    def __init__(self, numbers: frozenset[signal.Signals] = NUMBERS) -> None:
        self.fd, self._write_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        # A storm fills the pipe; what does not fit is a signal that is pending anyway.
        signal.set_wakeup_fd(self._write_fd, warn_on_full_buffer=False)
        for number in numbers:
            signal.signal(number, _noticed)
        for number in _IGNORED:
            signal.signal(number, signal.SIG_IGN)

    def take(self) -> Counter[int]:
        """Return the numbers of the signals that have come since the last call, and how often each was delivered.

        A signal that is sent again before it is delivered is delivered once (signal(7)), so the count may be too small.
        """
        seen: Counter[int] = Counter()
        while True:
            try:
                data = os.read(self.fd, 4096)
            except BlockingIOError:
                return seen
            seen.update(data)

    def put_back(self) -> None:
        """Let what has come, and was not taken, come again: with signals blocked, to the program after an exec."""
        for number in self.take():
            os.kill(os.getpid(), number)

    def close(self) -> None:
        """Stop catching; the handlers stay empty."""
        signal.set_wakeup_fd(-1)
        os.close(self.fd)
        os.close(self._write_fd)


def reset() -> None:
    """Undo what a parent set up: a child's first act, so that no signal is taken for one of the parent's."""
    signal.set_wakeup_fd(-1)
    for number in NUMBERS:
        signal.signal(number, signal.SIG_DFL)


def in_child() -> None:
    """Leave every stop to the master: a terminal's Ctrl-C reaches the whole group, and the master drains in order."""
    reset()
    for number in (NUMBERS - {signal.SIGCHLD}) | _IGNORED:
        signal.signal(number, signal.SIG_IGN)
