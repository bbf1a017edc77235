"""Writes batches to a stream: a FIFO, a terminal, /dev/stdout, /dev/null.

Owns the bytes that a slow reader has not taken yet. Bytes written to a stream cannot be cut off again. So "all or
nothing" means: once the first byte of a batch is written, the rest is kept here and sent before anything else. Does
not know paths.
"""

from __future__ import annotations

import errno
import os
import select
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

STALL_S = 1.0
HASTY_S = 0.1
"""Longest time for a batch whose lines may be skipped: other outputs wait meanwhile."""


class Stream:
    """A non-blocking descriptor, written batch by batch."""

    def __init__(self, fd: int, stall_s: float = STALL_S) -> None:
        self._fd = fd
        self._stall_ms = stall_s * 1000
        self._owed = b""
        self._deadline_s: float | None = None
        """Time at which a hasty write gives up."""
        self._is_slow = False
        """Whether the last write was not done in time: a hasty one then does not wait at all."""

    def write(self, chunks: Sequence[bytes | bytearray | memoryview], *, hasty: bool = False) -> None:
        """Write the whole batch, or raise OSError (BlockingIOError for a stalled reader) and write none of it.

        Waits while the reader makes progress, and at most `stall_s` for its next step; `hasty`: HASTY_S for all of it.
        """
        self._deadline_s = time.monotonic() + (0 if self._is_slow else HASTY_S) if hasty else None
        self._is_slow = True
        self._write(chunks)
        self._is_slow = bool(self._owed)

    def _write(self, chunks: Sequence[bytes | bytearray | memoryview]) -> None:
        if self._owed:
            self._send_owed()
        batch = b"".join(chunks)
        sent = self._send(batch)
        if batch and not sent:
            raise BlockingIOError(errno.EAGAIN, "its reader has stalled")
        self._owed = batch[sent:]

    def _send_owed(self) -> None:
        try:
            self._owed = self._owed[self._send(self._owed) :]
        except BrokenPipeError:
            # The start of this line went to a reader that is gone; the next reader starts with a whole line.
            self._owed = self._owed.partition(b"\n")[2]
            raise
        if self._owed:
            raise BlockingIOError(errno.EAGAIN, "its reader has stalled")

    def _send(self, data: bytes) -> int:
        """Return how many bytes of `data` were written; raise OSError if not even the first one."""
        view = memoryview(data)
        sent = 0
        while sent < len(view):
            try:
                sent += os.write(self._fd, view[sent:])
            except BlockingIOError:
                if not self._wait():
                    break
            except OSError:
                if not sent:
                    raise
                break
        return sent

    def _wait(self) -> bool:
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        if self._deadline_s is None:
            return bool(poll.poll(self._stall_ms))
        left_ms = 1000 * (self._deadline_s - time.monotonic())
        return left_ms > 0 and bool(poll.poll(left_ms))
