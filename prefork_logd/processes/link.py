"""A worker's batches on their way to the writer.

Owns the pipes, the batches that are not committed yet, and the high-water mark. Knows nothing of what is in a batch.

A batch is kept until the writer has committed it. When the writer is replaced, the new one first says which batch it
has last; what came later is sent again. So a worker survives its writer, and a batch is written once.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections import deque
from typing import TYPE_CHECKING

from prefork_logd.net.loop import EDGE, READ, WRITE, Loop
from prefork_logd.protocol.batch import last_commit

if TYPE_CHECKING:
    from collections.abc import Callable

PIPE_BYTES = 1 << 20
"""fs.pipe-max-size, which an unprivileged process may ask for (pipe(7))."""
_COMMITS_READ = 4096


def make_pipes() -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the descriptors of a new connection, non-blocking: the worker's (batches, commits) and the writer's."""
    batches_read, batches_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    commits_read, commits_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    # Where the system allows less, a smaller pipe does as well.
    with contextlib.suppress(OSError):
        fcntl.fcntl(batches_write, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    return (batches_write, commits_read), (batches_read, commits_write)


class WriterLink:
    """The worker's end of its connection to whoever is the writer now."""

    def __init__(self, loop: Loop, committed: Callable[[], None]) -> None:
        """Tell `committed` whenever batches were committed."""
        self._loop = loop
        self._committed = committed
        self._pipes: _Pipes | None = None
        self._batches: deque[tuple[int, bytes]] = deque()
        self._next_number = 1
        self._unsent = 0
        """Index in `_batches` of the first that is not wholly in the pipe."""
        self._offset = 0
        """Bytes of that one which are."""
        self.held_bytes = 0
        """Bytes of all batches that are not committed."""

    @property
    def empty(self) -> bool:
        """Whether everything is committed."""
        return not self._batches

    @property
    def first_held(self) -> int:
        """The number of the first batch that is not committed."""
        return self._batches[0][0] if self._batches else self._next_number

    @property
    def next_number(self) -> int:
        """The number of the next batch."""
        return self._next_number

    def attach(self, batches_fd: int, commits_fd: int) -> None:
        """Send to a new writer from now on, once it has said where to resume."""
        self.detach()
        self._pipes = _Pipes(self, self._loop, batches_fd, commits_fd)

    def detach(self) -> None:
        """Let go of the writer; batches are kept for the next one."""
        if self._pipes is not None:
            self._pipes.close()
            self._pipes = None

    def send(self, batch: bytes) -> None:
        """Send a batch that was built with `next_number`, as soon as the pipe takes it."""
        self._batches.append((self._next_number, batch))
        self._next_number += 1
        self.held_bytes += len(batch)
        self.flush()

    def flush(self) -> None:
        """Write as much as the pipe takes."""
        if self._pipes is None or not self._pipes.resumed:
            return
        while self._unsent < len(self._batches):
            data = self._batches[self._unsent][1]
            rest = memoryview(data)[self._offset :] if self._offset else data
            try:
                self._offset += os.write(self._pipes.batches_fd, rest)
            except BlockingIOError:
                return
            except OSError:
                # The writer is gone; the master connects the next one.
                self.detach()
                return
            if self._offset == len(data):
                self._unsent += 1
                self._offset = 0

    def commits(self, number: int) -> None:
        """Forget the batches up to `number`; on a new pipe, begin to send those after it."""
        while self._batches and self._batches[0][0] <= number:
            self.held_bytes -= len(self._batches.popleft()[1])
            self._unsent -= 1
        if self._pipes is not None and not self._pipes.resumed:
            self._pipes.resumed = True
            self._unsent = 0
            self._offset = 0
            self.flush()
        self._committed()


class _Pipes:
    """The two pipes to one writer."""

    def __init__(self, link: WriterLink, loop: Loop, batches_fd: int, commits_fd: int) -> None:
        self._link = link
        self._loop = loop
        self.batches_fd = batches_fd
        self._commits_fd = commits_fd
        self._rest = b""
        self.resumed = False
        loop.add(batches_fd, self, WRITE | EDGE)
        loop.add(commits_fd, self, READ | EDGE)

    def ready(self, events: int) -> None:
        """Read commits, and write what waits."""
        number = None
        while self.batches_fd >= 0:
            try:
                data = os.read(self._commits_fd, _COMMITS_READ)
            except BlockingIOError:
                break
            if not data:
                self._link.detach()
                break
            latest, self._rest = last_commit(self._rest + data)
            number = latest if latest is not None else number
        if number is not None:
            self._link.commits(number)
        if events & WRITE:
            self._link.flush()

    def close(self) -> None:
        """Close both pipes."""
        for fd in (self.batches_fd, self._commits_fd):
            self._loop.remove(fd)
            os.close(fd)
        self.batches_fd = -1
