"""Watching a file grow: when each record became readable, at the cost of one wake-up per write.

Owns inotify and the reading of what is new. Knows no server and no client.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import select
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SENT = re.compile(rb"`(\d{9}) sent=(\d+);")
"""A record's number, and the monotonic nanoseconds at which its service began to log it."""

_IN_MODIFY = 0x2
_IN_CLOEXEC_NONBLOCK = os.O_CLOEXEC | os.O_NONBLOCK
_READ_BYTES = 1 << 20


class Follower:
    """Reads what is appended to one file; `seen` holds (number, nanoseconds from sent to readable)."""

    def __init__(self, file: int, notices: int) -> None:
        self.seen: list[tuple[int, int]] = []
        self._file = file
        self._notices = notices
        self._tail = b""

    def follow(self, until: Callable[[], bool], timeout_s: float) -> None:
        """Follow until the condition holds, which is asked after each wake-up and ten times a second, or time is up."""
        deadline = time.monotonic() + timeout_s
        poll = select.poll()
        poll.register(self._notices, select.POLLIN)
        while not until() and time.monotonic() < deadline:
            if poll.poll(100):
                with contextlib.suppress(BlockingIOError):
                    os.read(self._notices, 4096)
            self._read()

    def _read(self) -> None:
        while data := os.read(self._file, _READ_BYTES):
            now_ns = time.monotonic_ns()
            # A mark that is cut by the end of this read is found whole with the next; one found is not found twice.
            text, after = self._tail + data, 0
            for match in SENT.finditer(text):
                self.seen.append((int(match[1]), now_ns - int(match[2])))
                after = match.end()
            self._tail = text[max(after, len(text) - 64) :]


@contextlib.contextmanager
def following(path: Path) -> Iterator[Follower]:
    """Follow a file from its end as it is now; it is created if it is not there.

    Raises OSError where the system has no inotify.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    file = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    notices = -1
    try:
        os.lseek(file, 0, os.SEEK_END)
        notices = libc.inotify_init1(_IN_CLOEXEC_NONBLOCK)
        if notices < 0 or libc.inotify_add_watch(notices, os.fsencode(path), _IN_MODIFY) < 0:
            raise OSError(ctypes.get_errno(), "inotify does not work here")
        yield Follower(file, notices)
    finally:
        os.close(file)
        if notices >= 0:
            os.close(notices)
