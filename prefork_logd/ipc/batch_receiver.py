"""Receives the batches of one worker and answers it: the writer's end of the pipes.

Owns the reading of batches and the telling of commits. What is done with a batch is the writer's business.
"""

from __future__ import annotations

import os
from typing import Protocol

from prefork_logd.errors import LocalProtocolError
from prefork_logd.ipc.batch import Batch
from prefork_logd.ipc.batch import committed as committed_answer
from prefork_logd.ipc.batch_reader import BatchReader, Shared
from prefork_logd.net.loop import EDGE, READ, WRITE, Loop
from prefork_logd.system.log import LOGGER

TURN_BYTES = 1 << 20
"""What one worker may have read before the others get their turn."""


class BatchSink(Protocol):
    """Who takes the batches: the writer."""

    loop: Loop

    @property
    def full(self) -> bool:
        """Whether no more is to be read before the next append."""

    def add_batch(self, source: BatchReceiver, batch: Batch) -> None:
        """Gather the lines of a batch."""

    def postpone(self, source: BatchReceiver) -> None:
        """Read this source again after this turn, or when there is room."""


class BatchReceiver:
    """The pipes of one worker, for one of its lives."""

    def __init__(
        self, taker: BatchSink, worker: int, pipes: tuple[int, int], committed: int, shared: Shared | None = None
    ) -> None:
        """Read from the first of `pipes`, tell commits through the second, beginning with the number `committed`.

        `shared` is the memory that the worker may leave lines in.
        """
        self.worker = worker
        self.taken = committed
        """Number of the last batch taken."""
        self.committed = committed
        """Number of the last batch that the worker was told is committed."""
        self.ended = False
        self.queued = False
        self._taker = taker
        self._reader = BatchReader(shared)
        self._batches_fd = pipes[0]
        self._answers = _Answers(taker.loop, pipes[1])
        self.commit()
        taker.loop.add(self._batches_fd, self, READ | EDGE)

    def ready(self, events: int) -> None:  # noqa: ARG002 - the read tells more than the flags do
        """Read batches until the pipe is empty, or it is another's turn."""
        self.queued = False
        taken_bytes = 0
        while not self.ended:
            if taken_bytes >= TURN_BYTES or self._taker.full:
                self._taker.postpone(self)
                return
            try:
                nbytes = os.readv(self._batches_fd, [self._reader.want()])
            except BlockingIOError:
                return
            # What a worker that died left half-written never was a batch; its whole ones have all been read.
            self.ended = not nbytes
            try:
                batch = self._reader.filled(nbytes) if nbytes else None
            except LocalProtocolError as error:
                LOGGER.error("%s; it is closed, and what is in it is lost", error)
                self.ended = True
                return
            # A worker that was not sure of a batch sends it again.
            if batch is not None and batch.number > self.taken:
                self.taken = batch.number
                taken_bytes += batch.nbytes
                self._taker.add_batch(self, batch)

    def commit(self) -> None:
        """Tell the worker that all its batches taken until now are committed."""
        self.committed = self.taken
        self._reader.done_with()
        self.answer(committed_answer(self.taken))

    def answer(self, data: bytes) -> None:
        """Say something to the worker, in its order; what the pipe does not take now goes on when it does."""
        self._answers.say(data)

    def close(self) -> None:
        """Close both pipes."""
        self._taker.loop.remove(self._batches_fd)
        os.close(self._batches_fd)
        self._answers.close()


class _Answers:
    """The pipe that tells a worker what became of its batches.

    What waits is bounded by what the worker has asked: a commit for each turn, and an answer for each connection.
    """

    def __init__(self, loop: Loop, fd: int) -> None:
        self._loop = loop
        self._fd = fd
        self._waiting = b""
        loop.add(fd, self, WRITE | EDGE)

    def ready(self, events: int) -> None:  # noqa: ARG002 - the write tells more than the flags do
        """Go on with what waits."""
        if self._waiting:
            self.say(b"")

    def say(self, data: bytes) -> None:
        """Write as much as the pipe takes."""
        data = self._waiting + data if self._waiting else data
        try:
            while data:
                data = data[os.write(self._fd, data) :]
        except BlockingIOError:
            pass
        except BrokenPipeError:
            # The worker is dead, which its other pipe tells.
            data = b""
        self._waiting = data

    def close(self) -> None:
        """Close the pipe."""
        self._loop.remove(self._fd)
        os.close(self._fd)
