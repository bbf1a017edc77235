"""Receives the batches of one worker and answers it: the writer's end of the pipes.

Owns both pipes. Does not know what is done with a batch.
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
"""Bytes that are read from one worker before the others get their turn."""


class BatchSink(Protocol):
    """The writer, which gets the batches."""

    loop: Loop

    @property
    def full(self) -> bool:
        """Whether no more may be read before the next append."""

    def add_batch(self, source: BatchReceiver, batch: Batch) -> None:
        """Gather the lines of a batch."""

    def postpone(self, source: BatchReceiver) -> None:
        """Read this worker again after this turn, or when there is room."""


class BatchReceiver:
    """The pipes of one worker process."""

    def __init__(
        self, taker: BatchSink, worker: int, pipes: tuple[int, int], committed: int, shared: Shared | None = None
    ) -> None:
        """Read from the first of `pipes`; send answers through the second, at first the commit of batch `committed`.

        `shared` is the memory in which the worker may leave lines.
        """
        self.worker = worker
        self.taken = committed
        """Number of the last batch passed on."""
        self.committed = committed
        """Number of the last batch whose commit was sent to the worker."""
        self.ended = False
        self.queued = False
        self._taker = taker
        self._reader = BatchReader(shared)
        self._batches_fd = pipes[0]
        self._answers = _Answers(taker.loop, pipes[1])
        self.commit()
        taker.loop.add(self._batches_fd, self, READ | EDGE)

    def ready(self, _events: int, /) -> None:
        """Read batches until the pipe is empty, or this worker's turn is over."""
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
            # End-of-file: all whole batches have been read. Ignore a partial batch from a dead worker.
            self.ended = not nbytes
            try:
                batch = self._reader.filled(nbytes) if nbytes else None
            except LocalProtocolError as error:
                LOGGER.error("%s; the pipe is closed, and the lines in it are lost", error)
                self.ended = True
                return
            # A worker sends batches without a known commit again: skip those that are here already.
            if batch is not None and batch.number > self.taken:
                self.taken = batch.number
                taken_bytes += batch.nbytes
                self._taker.add_batch(self, batch)

    def commit(self) -> None:
        """Answer that all batches passed on until now are committed."""
        self.committed = self.taken
        self._reader.done_with()
        self.answer(committed_answer(self.taken))

    def answer(self, data: bytes) -> None:
        """Send an answer to the worker, after earlier ones; bytes that the pipe does not accept are sent later."""
        self._answers.send(data)

    def close(self) -> None:
        """Close both pipes."""
        self._taker.loop.remove(self._batches_fd)
        os.close(self._batches_fd)
        self._answers.close()


class _Answers:
    """The pipe for answers to a worker.

    The waiting bytes are bounded by the worker's requests: a commit per turn, and an answer per connection.
    """

    def __init__(self, loop: Loop, fd: int) -> None:
        self._loop = loop
        self._fd = fd
        self._waiting = b""
        loop.add(fd, self, WRITE | EDGE)

    def ready(self, _events: int, /) -> None:
        """Send the bytes that wait."""
        if self._waiting:
            self.send(b"")

    def send(self, data: bytes) -> None:
        """Write as much as the pipe accepts; keep the rest."""
        data = self._waiting + data if self._waiting else data
        try:
            while data:
                data = data[os.write(self._fd, data) :]
        except BlockingIOError:
            pass
        except BrokenPipeError:
            # The worker is dead; its other pipe reads end-of-file.
            data = b""
        self._waiting = data

    def close(self) -> None:
        """Close the pipe."""
        self._loop.remove(self._fd)
        os.close(self._fd)
