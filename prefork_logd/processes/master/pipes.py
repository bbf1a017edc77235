"""Connects the other children with the writer: pipes for workers and sources, a way to wake shippers.

Owns which child has pipes to which writer. Does not know how pipes are made (ipc/batch_sender.py), or when a child is
connected (supervisor.py).
"""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING

from prefork_logd.ipc.batch_sender import make_pipes
from prefork_logd.ipc.messages import Attach
from prefork_logd.processes.master.child import Child, Kind
from prefork_logd.processes.master.lifecycle import ALIVE, State
from prefork_logd.system.log import LOGGER

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from prefork_logd.net.loop import Loop
    from prefork_logd.processes.master.shippers import Shippers

CONNECT_AGAIN_S = 0.5


class Pipes:
    """The connections between one writer's slot and the other children."""

    def __init__(self, loop: Loop, writer: Child, shippers: Shippers, workers: Callable[[], Sequence[Child]]) -> None:
        """Connect `writer` with `shippers` and with those that `workers()` returns, inherited ones too."""
        self._loop = loop
        self._writer = writer
        self._shippers = shippers
        self._workers = workers

    def connect(self, child: Child) -> None:
        """Connect a worker with the writer by a pair of pipes; a writer with every worker and shipper."""
        writer = self._writer
        if writer.state is not State.RUNNING or writer.channel is None:
            return
        if child.kind in (Kind.WRITER, Kind.SHIPPER):
            self._shippers.connect(writer.channel, None if child is writer else child)
        has_pipes = child.kind in (Kind.WORKER, Kind.SOURCE)
        workers = self._workers() if child is writer else [child] if has_pipes else []
        for worker in workers:
            try:
                self._attach(worker)
            except OSError as error:
                LOGGER.error("cannot connect %s to the writer: %s; tried again", worker.name, error.strerror)
                self._loop.later(CONNECT_AGAIN_S, functools.partial(self._connect_again, worker, worker.spawn_id))

    def _connect_again(self, worker: Child, spawn_id: int) -> None:
        if worker.spawn_id == spawn_id:
            self.connect(worker)

    def _attach(self, worker: Child) -> None:
        """Send a worker and the writer a pair of pipes, unless they have one. Raises OSError (pipe(2))."""
        writer = self._writer
        if worker.state not in ALIVE or worker.state is State.STARTING or worker.writer == writer.spawn_id:
            return
        if worker.channel is None or writer.channel is None:
            return
        workers_ends, writers_ends = make_pipes()
        worker.writer = writer.spawn_id
        shared = [os.dup(worker.arena_fd)] if worker.arena_fd >= 0 else []
        writer.channel.send(Attach(worker.spawn_id), [*writers_ends, *shared])
        worker.channel.send(Attach(worker.spawn_id), workers_ends)
