"""Lists every signal of the collector, and passes caught signals to an event loop.

Owns the table (number, verb, meaning) and the wake-up descriptor (signal.set_wakeup_fd): no Python code of ours runs
inside a handler. Does not know the reaction to a signal.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from types import FrameType


class SignalUse(NamedTuple):
    """The meaning of one signal to the master."""

    signal: signal.Signals
    verb: str
    """The command that sends it; empty for none."""
    meaning: str


TABLE: tuple[SignalUse, ...] = (
    SignalUse(signal.SIGHUP, "reload", "Reopen every output, then apply the new configuration."),
    SignalUse(signal.SIGTERM, "stop", "Graceful stop: read what clients have sent, write it, sync it, end with 0."),
    SignalUse(signal.SIGINT, "", "As SIGTERM."),
    SignalUse(signal.SIGQUIT, "", "Fast stop: write what was read, read no more."),
    SignalUse(signal.SIGUSR1, "", "Reopen every output, nothing else."),
    SignalUse(signal.SIGUSR2, "upgrade", "Run the newly installed code; no connection is closed, except over TLS."),
    SignalUse(signal.SIGTTIN, "", "One worker more for each signal delivered: the others hand it its share."),
    SignalUse(signal.SIGTTOU, "", "One worker fewer for each signal delivered: it hands its share over, and ends."),
    SignalUse(signal.SIGCHLD, "", "A child has ended (sent by the kernel)."),
)

NUMBERS = frozenset(use.signal for use in TABLE)
_IGNORED = frozenset({signal.SIGPIPE, signal.SIGXFSZ})
"""Ignored: the write then fails with EPIPE or EFBIG, which its caller handles."""


def _noticed(_signum: int, _frame: FrameType | None) -> None:
    """Do nothing: the interpreter writes to the wake-up descriptor if a handler exists."""


class SignalReceiver:
    """Catches the given signals of this process; the loop watches `fd` and then calls `take`."""

    def __init__(self, numbers: frozenset[signal.Signals] = NUMBERS) -> None:
        self.fd, self._write_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        # Many signals may fill the pipe; one that does not fit is in it already.
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
        """Send the untaken signals again; blocked, they reach the program after an exec."""
        for number in self.take():
            os.kill(os.getpid(), number)

    def close(self) -> None:
        """Stop catching; the handlers stay empty."""
        signal.set_wakeup_fd(-1)
        os.close(self.fd)
        os.close(self._write_fd)


def reset() -> None:
    """Reset the handlers that a parent set up: a child's first step, so that no signal is handled as the parent's."""
    signal.set_wakeup_fd(-1)
    for number in NUMBERS:
        signal.signal(number, signal.SIG_DFL)


def in_child() -> None:
    """Ignore stop signals in a child: Ctrl-C reaches the whole group, and the master stops its children in order."""
    reset()
    for number in (NUMBERS - {signal.SIGCHLD}) | _IGNORED:
        signal.signal(number, signal.SIG_IGN)
