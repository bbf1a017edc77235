"""Ends the children of a dead master, also those that are stopped or hang.

Owns the lifeline and the signals that the kernel sends after the master's death. Does not know how a child drains: it
begins to when it reads end-of-file from its control channel.

That is enough for a child that runs its loop. For two kinds that cannot run Python code the kernel acts alone:

    a stopped child     The lifeline is a pipe whose writing end only the master has. When that closes, the kernel sends
                        SIGCONT to each child (F_SETSIG, fcntl(2)), which then drains like the others.
    a child that hangs  PR_SET_PDEATHSIG (prctl(2)) sends SIGTRAP when the master dies. Its handler is the C library's
                        alarm(): called with the number of the signal, it ends the process after five seconds.

The master's exec in an upgrade does not end it: the process stays, and the lifeline passes to the next program.
"""

from __future__ import annotations

import fcntl
import os
import signal
from typing import Self

from prefork_logd.system import libc

END_SIGNAL = signal.SIGTRAP
"""Its number is the time that a child has, in seconds. The terminal sends the signals 1 to 3, and 4 stands for
a fault that a handler must not swallow."""
END_S = float(END_SIGNAL)


class Lifeline:
    """The master's end of the pipe."""

    def __init__(self, fd: int = -1) -> None:
        """Make a pipe, or use `fd`, its writing end, which this process had before an upgrade."""
        if fd < 0:
            read_fd, fd = os.pipe2(os.O_CLOEXEC)
            os.close(read_fd)
        self.fd = fd

    @classmethod
    def adopt(cls, fd: int) -> Self:
        """Return the lifeline of the last program; a new one if that program had none (-1)."""
        if fd >= 0:
            os.set_inheritable(fd, False)
        return cls(fd)

    def close(self) -> None:
        """Close the pipe, as a master's last act; children that still live get SIGCONT."""
        os.close(self.fd)

    def hold(self) -> None:
        """Tie this process, a child that has just been forked, to the life of its master."""
        # A new open file description: the owner that gets the signal belongs to that, not to the descriptor (fcntl(2)).
        fd = os.open(f"/proc/self/fd/{self.fd}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        os.close(self.fd)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        libc.alarm_on_signal(END_SIGNAL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGALRM, signal.SIGCONT, END_SIGNAL))
        libc.signal_on_parent_death(END_SIGNAL)
        fcntl.fcntl(fd, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGCONT)
        fcntl.fcntl(fd, fcntl.F_SETFL, os.O_NONBLOCK | os.O_ASYNC)
        try:
            os.read(fd, 1)
        except BlockingIOError:
            return
        # End-of-file: the master died before F_SETOWN and F_SETSIG were set, so no signal will come.
        signal.alarm(END_SIGNAL)
