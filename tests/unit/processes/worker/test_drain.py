"""A worker that ends reads what was sent, closes its connections, and waits for its last lines, but not for ever."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from prefork_logd.processes.fork import LOST_STATUS
from prefork_logd.processes.worker.drain import (
    FAST_WRITES_S,
    LAST_WRITES_S,
    ORPHAN_S,
    PASSES,
    QUIET_S,
    WorkerDrain,
)
from prefork_logd.processes.worker.guard import Guard
from tests.support.inprocess import NoLimits

TIMEOUT_S = 10.0


class Timer:
    """A timer that the test lets pass."""

    def __init__(self, delay_s: float, call: Any) -> None:
        self.delay_s, self._call, self.pending = delay_s, call, True

    def fire(self) -> None:
        self.pending = False
        self._call()


class Worker:
    """What a worker is to its end."""

    def __init__(self, count: int = 2) -> None:
        self.timers: list[Timer] = []
        self.again: list[Any] = []
        self.stopped = False
        self.accepting: list[bool] = []
        self.ends: list[int] = []
        self.loop = SimpleNamespace(later=self._later, again=self.again.append, stop=self._stop)
        self.link = SimpleNamespace(empty=True, held_bytes=0, first_held=0)
        self.guard = Guard(self._close)
        self.limits = NoLimits()
        self.migration = SimpleNamespace(busy=False, cancel=lambda: None)
        self.asked_s: list[float] = []
        self.reconnection = SimpleNamespace(begin=self.asked_s.append)
        self.connections = {fd: SimpleNamespace(fd=fd, queued=False, peer="peer") for fd in range(count)}
        self.postponed: dict[int, Any] = {}

    def _later(self, delay_s: float, call: Any) -> Timer:
        self.timers.append(Timer(delay_s, call))
        return self.timers[-1]

    def _stop(self) -> None:
        self.stopped = True

    def stop_accepting(self, *, takes_queue: bool) -> None:
        self.accepting.append(takes_queue)

    def close_ended(self, connection: Any, error: OSError | None) -> None:
        self._close(connection)

    def _close(self, connection: Any) -> None:
        self.ends.append(connection.fd)
        del self.connections[connection.fd]

    def read(self) -> None:
        """Let every connection that asked for it be read."""
        for connection in self.again:
            connection.queued = False
        self.again.clear()


@pytest.fixture
def worker() -> Worker:
    return Worker()


@pytest.fixture
def drain(worker: Worker) -> WorkerDrain:
    drain = WorkerDrain(worker)  # type: ignore[arg-type] # as much of one as is needed
    drain.timeout_s = TIMEOUT_S
    return drain


def test_each_connection_is_read_twice_and_then_closed(worker: Worker, drain: WorkerDrain) -> None:
    """The second time after a pause: bytes may still have been on their way."""
    drain.begin(fast=False)
    assert worker.accepting == [True]
    for passes in range(1, PASSES + 1):
        assert len(worker.again) == 2
        drain.end_turn()
        assert worker.ends == []
        worker.read()
        drain.end_turn()
        if passes < PASSES:
            quiet = worker.timers[-1]
            assert quiet.delay_s == QUIET_S
            drain.end_turn()
            assert worker.timers[-1] is quiet
            quiet.fire()
    assert worker.ends == [0, 1]
    assert worker.stopped
    assert drain.exit_status == 0


def test_connections_that_are_not_read_for_want_of_room_are_waited_for(worker: Worker, drain: WorkerDrain) -> None:
    """They are read when reading goes on."""
    worker.postponed[0] = worker.connections[0]
    drain.begin(fast=False)
    assert [connection.fd for connection in worker.again] == [1]
    worker.read()
    drain.end_turn()
    assert len(worker.timers) == 2
    assert not worker.ends


def test_lines_that_are_not_committed_are_waited_for(worker: Worker, drain: WorkerDrain) -> None:
    """Until the time is over: then they are lost, which the status says."""
    worker.link.empty, worker.link.held_bytes = False, 99
    drain.begin(fast=False)
    close, give_up = worker.timers
    assert (close.delay_s, give_up.delay_s) == (TIMEOUT_S, TIMEOUT_S + LAST_WRITES_S)
    close.fire()
    assert worker.ends == [0, 1]
    drain.end_turn()
    assert not worker.stopped
    give_up.fire()
    assert worker.stopped
    assert drain.exit_status == LOST_STATUS


def test_a_fast_end_reads_nothing_more(worker: Worker, drain: WorkerDrain) -> None:
    """Also where a slow one has begun."""
    drain.begin(fast=False)
    drain.begin(fast=True)
    assert worker.ends == [0, 1]
    assert worker.accepting == [True]
    assert worker.timers[-1].delay_s == FAST_WRITES_S


def test_an_orphan_ends_soon(worker: Worker, drain: WorkerDrain) -> None:
    """Another collector may be waiting for the port and the files."""
    drain.begin(fast=False, is_orphan=True)
    assert [timer.delay_s for timer in worker.timers] == [ORPHAN_S, 2 * ORPHAN_S]


def test_who_retires_ends_with_the_last_connection(worker: Worker, drain: WorkerDrain) -> None:
    """And not while connections are on their way."""
    drain.retire()
    assert worker.accepting == [False]
    assert worker.asked_s == [drain.timeout_s], "TLS clients are asked to connect again"
    drain.end_turn()
    assert not drain.is_draining
    worker.connections.clear()
    worker.migration.busy = True
    drain.end_turn()
    assert not drain.is_draining
    worker.migration.busy = False
    drain.end_turn()
    assert drain.is_draining
    assert worker.stopped


def test_tls_connections_keep_a_retiring_worker_for_a_bounded_time(worker: Worker, drain: WorkerDrain) -> None:
    """They cannot be handed over; plain ones can, and are waited for."""
    drain.timeout_s = 7.0
    drain.retire()
    (deadline,) = worker.timers
    assert deadline.delay_s == 7.0
    for connection, tls in zip(worker.connections.values(), (object(), None), strict=True):
        connection.tls = tls
    deadline.fire()
    assert not drain.is_draining
    worker.link.empty = False
    plain = next(fd for fd, connection in worker.connections.items() if connection.tls is None)
    del worker.connections[plain]
    for first_held, is_over in ((0, False), (0, False), (1, True)):
        worker.link.first_held = first_held
        worker.timers[-1].fire()
        assert drain.is_draining is is_over, "nothing is given up while the writer waits for a disk"
    assert worker.accepting[-1], "what waits in the queue is taken, as at the end of any worker"


def test_an_unexpected_error_costs_one_connection(worker: Worker, drain: WorkerDrain) -> None:
    """The others are closed all the same."""

    def wrong(connection: Any, error: OSError | None) -> None:
        if connection.fd == 0:
            raise RuntimeError
        worker._close(connection)

    worker.close_ended = wrong  # type: ignore[method-assign]
    drain.begin(fast=True)
    assert worker.ends == [0, 1]
