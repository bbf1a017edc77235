"""Waits for changes in a directory by inotify(7), or checks a few times a second if that is not possible.

Does not know the content of the directory.
"""

from __future__ import annotations

import contextlib
import os
import select
from typing import TYPE_CHECKING, Self

from prefork_logd.system import libc

if TYPE_CHECKING:
    from pathlib import Path

LOOK_ANYWAY_S = 1.0
"""Longest wait with a watch: it does not report that the directory itself was replaced."""
POLL_S = 0.2
"""Longest wait without a watch."""


class DirectoryWatch:
    """Watches one directory, and the reader of the output."""

    def __init__(self, directory: Path, reader_fd: int) -> None:
        """Watch `directory`, and the other end of the pipe or terminal in `reader_fd`."""
        self._directory = directory
        self._reader_fd = reader_fd
        self._fd = -1
        self._poll = select.poll()
        # No events are requested: poll(2) always reports errors and hang-ups.
        self._poll.register(reader_fd, 0)

    def __enter__(self) -> Self:
        # The number of instances is limited (fs.inotify.max_user_instances).
        self._fd = libc.inotify_init()
        if self._fd >= 0:
            self._poll.register(self._fd, select.POLLIN)
        self._add_watch()
        return self

    def _add_watch(self) -> bool:
        """Watch the directory that is there now; return False if that fails, as at fs.inotify.max_user_watches."""
        changes = libc.IN_MODIFY | libc.IN_MOVED_TO | libc.IN_CREATE
        return self._fd >= 0 and libc.inotify_add_watch(self._fd, os.fsencode(self._directory), changes)

    def wait(self) -> None:
        """Wait for a change, at most LOOK_ANYWAY_S. Raises BrokenPipeError if the reader has gone."""
        # Added again each time, as the directory may have been replaced; for the same one this changes nothing.
        longest_s = LOOK_ANYWAY_S if self._add_watch() else POLL_S
        ready = dict(self._poll.poll(1000 * longest_s))
        if ready.pop(self._reader_fd, 0):
            raise BrokenPipeError
        if ready:
            with contextlib.suppress(BlockingIOError):
                while os.read(self._fd, 65_536):
                    pass

    def __exit__(self, *error: object) -> None:
        if self._fd >= 0:
            os.close(self._fd)
