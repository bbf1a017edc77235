"""Writes whole lines to descriptor 2 without waiting for its reader.

Owns the ways to do so for each kind of file, and counts the lines that could not be written. Does not know log records.

Descriptor 2 may be a pipe, a socket or a terminal whose reader has stopped, and a process that waits for it collects
nothing. O_NONBLOCK belongs to the open file description (fcntl(2)), which other processes may share, such as the shell
that started us; so it is set only on a description of our own. Without one, splice(2) and send(2) have a flag for it.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import stat

STDERR = 2
MOST_BYTES = select.PIPE_BUF
"""Longest line for anything but a regular file: a pipe takes it as a whole or not at all (pipe(7))."""
_CUT = b" [cut]\n"


def open_unshared() -> None:
    """Give descriptor 2 a non-blocking file description of this process and its children, if it is a pipe or a device.

    Then nothing that writes there can block, whichever library it is. Call it before privileges are dropped: the pipe
    may belong to the user that started the program. A socket cannot be opened again (open(2): ENXIO).
    """
    try:
        mode = os.fstat(STDERR).st_mode
        if not (stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)) or not os.get_blocking(STDERR):
            return
        fd = os.open(f"/proc/self/fd/{STDERR}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        # Closed, without /proc, or a pipe of another user: `LineWriter` does without.
        return
    os.dup2(fd, STDERR)
    os.close(fd)


class LineWriter:
    """Writes lines to descriptor 2, and counts those that it has to leave out."""

    def __init__(self) -> None:
        self.left_out = 0
        """Lines that were not written since one was."""
        self._is_torn = False

    def write(self, line: bytes) -> bool:
        """Write a line that ends with a newline; return whether it was written. Never waits and never raises.

        The exception is a regular file, whose file system may hang.
        """
        if self._is_torn:
            # A terminal or a full disk took only the beginning of a line.
            line = b"\n" + line
        written = 0
        with contextlib.suppress(OSError):
            # Its reader has stopped or gone, or the disk is full.
            mode = os.fstat(STDERR).st_mode
            if len(line) > MOST_BYTES and not stat.S_ISREG(mode):
                line = line[: MOST_BYTES - len(_CUT)] + _CUT
            written = _write(line, mode)
        if written:
            self._is_torn = line[written - 1 : written] != b"\n"
        self.left_out = 0 if written == len(line) else self.left_out + 1
        return written == len(line)


def _write(line: bytes, mode: int) -> int:
    """Write to a file of this mode; return the number of bytes written. Raises OSError."""
    if stat.S_ISSOCK(mode):
        with socket.socket(fileno=os.dup(STDERR)) as sock:
            return sock.send(line, socket.MSG_DONTWAIT)
    if stat.S_ISREG(mode) or not os.get_blocking(STDERR):
        return os.write(STDERR, line)
    return _splice(line) if stat.S_ISFIFO(mode) else _write_if_writable(line)


def _splice(line: bytes) -> int:
    """Move a line into the pipe from one of our own. The pipe then holds some 16 lines, instead of 64 KiB of them."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    try:
        os.write(writing, line)
        return os.splice(reading, STDERR, len(line), flags=os.SPLICE_F_NONBLOCK)
    finally:
        os.close(reading)
        os.close(writing)


def _write_if_writable(line: bytes) -> int:
    poll = select.poll()
    poll.register(STDERR, select.POLLOUT)
    return os.write(STDERR, line) if poll.poll(0) else 0
