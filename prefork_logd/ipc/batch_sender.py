"""Sends a worker's batches to the writer, and keeps them until they are committed.

Owns the pipes, and the batches that are not committed yet. Does not know the content of a batch.

The lines of a batch in the shared memory are overwritten only after its commit. When the writer is replaced, the new
one first sends the number of the last committed batch, and later batches are sent again. A worker therefore survives
its writer, and a batch is written once.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from prefork_logd.ipc.batch import COMMITTED, OPENED, Answer, read_answers
from prefork_logd.net.loop import EDGE, READ, WRITE, Loop
from prefork_logd.system.libc import IOV_MAX

if TYPE_CHECKING:
    from prefork_logd.ipc.batch_builder import Outgoing

PIPE_BYTES = 1 << 20
"""The default of fs.pipe-max-size, the most that an unprivileged process may set (pipe(7))."""
BATCH_COST_BYTES = 2048
"""The approximate memory of a batch besides its lines."""
_ANSWERS_READ = 65_536


def make_pipes() -> tuple[tuple[int, int], tuple[int, int]]:
    """Return non-blocking descriptors of new pipes: the worker's (batches, answers), and the writer's."""
    batches_read, batches_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        commits_read, commits_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        os.close(batches_read)
        os.close(batches_write)
        raise
    # If the system allows less, a smaller pipe works as well.
    with contextlib.suppress(OSError):
        fcntl.fcntl(batches_write, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    return (batches_write, commits_read), (batches_read, commits_write)


class Receipt(NamedTuple):
    """The acknowledgement to send once a batch is committed: its receiver, and the last record number."""

    connection: Any
    """The owner of the records; used by the caller only."""
    number: int


class SenderEvents(Protocol):
    """The worker, which gets the writer's answers."""

    def batches_committed(self, receipts: list[Receipt]) -> None:
        """Act on the receipts of committed batches, in order."""

    def session_opened(self, token: int, epoch: int, committed: int) -> None:
        """Act on the new epoch of a session."""

    def range_refused(self, session: bytes, epoch: int) -> None:
        """Act on a refused range of a session: its client has another connection, or its numbers do not follow."""

    def writer_resumed(self) -> None:
        """Repeat the requests that the last writer did not answer; a new one has begun."""


class _Held(NamedTuple):
    """A batch that is not committed."""

    number: int
    batch: Outgoing
    pipe_bytes: int
    receipts: list[Receipt]

    def rest(self, offset: int) -> list[bytes | memoryview]:
        """Return the bytes after `offset`, in at most as many pieces as one system call accepts."""
        first, pieces = 0, self.batch.pieces
        while offset and offset >= len(pieces[first]):
            offset -= len(pieces[first])
            first += 1
        pieces = pieces[first : first + IOV_MAX]
        if offset:
            pieces[0] = memoryview(pieces[0])[offset:]
        return pieces


class BatchSender:
    """The worker's end of the pipes to the present writer."""

    def __init__(self, loop: Loop, events: SenderEvents) -> None:
        self._loop = loop
        self._events = events
        self._pipes: _Pipes | None = None
        self._batches: deque[_Held] = deque()
        self._next_number = 1
        self._unsent = 0
        """Index in `_batches` of the first batch that is not wholly in the pipe."""
        self._offset = 0
        """Bytes of that batch that are in the pipe."""
        self.held_bytes = 0
        """Size of all batches that are not committed."""

    @property
    def cost_bytes(self) -> int:
        """Approximate memory of the uncommitted batches; one without lines needs some, too."""
        return self.held_bytes + BATCH_COST_BYTES * len(self._batches)

    @property
    def empty(self) -> bool:
        """Whether every batch is committed."""
        return not self._batches

    @property
    def first_held(self) -> int:
        """The number of the first batch that is not committed."""
        return self._batches[0].number if self._batches else self._next_number

    @property
    def next_number(self) -> int:
        """The number of the next batch."""
        return self._next_number

    def attach(self, batches_fd: int, commits_fd: int) -> None:
        """Send to a new writer from now on, after its first commit."""
        self.detach()
        self._pipes = _Pipes(self, self._loop, batches_fd, commits_fd)

    def detach(self) -> None:
        """Close the pipes to the writer; batches are kept for the next one."""
        if self._pipes is not None:
            self._pipes.close()
            self._pipes = None

    def send(self, batch: Outgoing, receipts: list[Receipt]) -> None:
        """Send a batch that was built with `next_number`, as soon as the pipe accepts it."""
        self._batches.append(_Held(self._next_number, batch, sum(map(len, batch.pieces)), receipts))
        self._next_number += 1
        self.held_bytes += batch.nbytes
        self.flush()

    def flush(self) -> None:
        """Write as much as the pipe accepts."""
        if self._pipes is None or not self._pipes.resumed:
            return
        while self._unsent < len(self._batches):
            batch = self._batches[self._unsent]
            try:
                self._offset += os.writev(self._pipes.batches_fd, batch.rest(self._offset))
            except BlockingIOError:
                return
            except OSError:
                # The writer has gone; the master connects the next one.
                self.detach()
                return
            if self._offset == batch.pipe_bytes:
                self._unsent += 1
                self._offset = 0

    def handle_answers(self, answers: list[Answer]) -> None:
        """Act on answers of the writer."""
        for answer in answers:
            if answer.kind == COMMITTED:
                self._commits(answer.a)
            elif answer.kind == OPENED:
                self._events.session_opened(answer.a, answer.b, answer.c)
            else:
                self._events.range_refused(answer.session, answer.a)

    def _commits(self, number: int) -> None:
        """Forget the batches up to `number`; on a new pipe, start to send those after it."""
        receipts: list[Receipt] = []
        while self._batches and self._batches[0].number <= number:
            held = self._batches.popleft()
            self.held_bytes -= held.batch.nbytes
            self._unsent -= 1
            receipts += held.receipts
        if self._pipes is not None and not self._pipes.resumed:
            self._pipes.resumed = True
            self._unsent = 0
            self._offset = 0
            self._events.writer_resumed()
            self.flush()
        self._events.batches_committed(receipts)


class _Pipes:
    """The two pipes to one writer."""

    def __init__(self, link: BatchSender, loop: Loop, batches_fd: int, commits_fd: int) -> None:
        self._link = link
        self._loop = loop
        self.batches_fd = batches_fd
        self._commits_fd = commits_fd
        self._rest = b""
        self.resumed = False
        loop.add(batches_fd, self, WRITE | EDGE)
        loop.add(commits_fd, self, READ | EDGE)

    def ready(self, events: int) -> None:
        """Read answers, and write waiting batches."""
        while self.batches_fd >= 0:
            try:
                data = os.read(self._commits_fd, _ANSWERS_READ)
            except BlockingIOError:
                break
            if not data:
                self._link.detach()
                return
            answers, self._rest = read_answers(self._rest + data)
            self._link.handle_answers(answers)
        if events & WRITE:
            self._link.flush()

    def close(self) -> None:
        """Close both pipes."""
        for fd in (self.batches_fd, self._commits_fd):
            self._loop.remove(fd)
            os.close(fd)
        self.batches_fd = -1
