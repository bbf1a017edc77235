"""Connections are levelled when they are uneven, between workers that answer, and within bounds."""

from __future__ import annotations

import os
from collections import deque
from typing import TYPE_CHECKING, cast

import pytest

from prefork_logd.ipc.channel import Channel
from prefork_logd.ipc.messages import AnyMessage, HandedOver, HandOver, Ping, TakeOver
from prefork_logd.ipc.scoreboard import WRITER_SLOT, Field, Scoreboard
from prefork_logd.net.load_balance import distribute, is_even
from prefork_logd.processes.master import rebalance
from prefork_logd.processes.master.child import Child, Kind
from prefork_logd.processes.master.lifecycle import State
from prefork_logd.processes.master.rebalance import COMPARE_S, LONGEST_PAUSE_S, MOST_MOVED, PING_S, Rebalancer
from prefork_logd.system.log import LOGGER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from prefork_logd.net.loop import Loop


class _Timer:
    def __init__(self, when_s: float, call: Callable[[], None]) -> None:
        self.when_s = when_s
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        self.call = None


class _Worker:
    """A worker that answers when it is let, and moves what it is told to."""

    def __init__(self, collector: _Collector, slot: int, connections: int) -> None:
        self._collector = collector
        self.stopped = self.stops_after_ping = False
        self.pings = 0
        self.moved: list[int] = []
        self._waiting: deque[tuple[AnyMessage, list[_Worker]]] = deque()
        self.child = Child(Kind.WORKER, slot, State.RUNNING, spawn_id=100 + slot)
        self.child.channel = cast("Channel", self)
        self.counters = collector.board.slot(slot)
        self.counters[Field.CONNECTIONS] = connections

    def send(self, message: AnyMessage, fds: Sequence[int] = ()) -> None:
        for fd in fds:
            os.close(fd)
        if isinstance(message, TakeOver):
            self._collector.takers.append(self)
        takers: list[_Worker] = []
        if isinstance(message, HandOver):
            takers, self._collector.takers = self._collector.takers, []
        self._waiting.append((message, takers))

    @property
    def waiting(self) -> int:
        """How many messages it has not taken."""
        return len(self._waiting)

    def work(self) -> bool:
        """Take one message; tell whether there was one to take."""
        if self._waiting and not self.stopped:
            message, takers = self._waiting.popleft()
            if isinstance(message, Ping):
                self.pings += 1
                self.stopped = self.stops_after_ping
                self._collector.moves.record_pong(self.child)
            elif isinstance(message, HandOver):
                self._give(message, takers)
            return True
        return False

    def _give(self, message: HandOver, takers: list[_Worker]) -> None:
        count = self.counters[Field.CONNECTIONS] if message.count < 0 else message.count
        for taker, share in zip(takers, distribute(count, list(message.loads)), strict=True):
            taker.counters[Field.CONNECTIONS] += share
        self.counters[Field.CONNECTIONS] -= count
        self.moved.append(count)
        left = self.counters[Field.CONNECTIONS]
        self._collector.moves.record_handover(self.child, HandedOver(left))


class _Collector:
    """The master's moves among workers of a test, in a time of its own."""

    def __init__(self, *loads: int) -> None:
        self.now_s = 1000.0
        self.board = Scoreboard()
        self.board.slot(WRITER_SLOT)[Field.PID] = 1
        self.takers: list[_Worker] = []
        """Those that were sent TakeOver, until the HandOver that belongs to it is sent."""
        self._timers: list[_Timer] = []
        self.moves: Rebalancer = Rebalancer(
            cast("Loop", self), self.board, lambda: [worker.child for worker in self.workers]
        )
        self.workers = [_Worker(self, slot, load) for slot, load in enumerate(loads, 1)]

    def later(self, delay_s: float, call: Callable[[], None]) -> _Timer:
        timer = _Timer(self.now_s + delay_s, call)
        self._timers.append(timer)
        return timer

    @property
    def loads(self) -> list[int]:
        return [worker.counters[Field.CONNECTIONS] for worker in self.workers]

    def go_on(self, duration_s: float) -> None:
        end_s = self.now_s + duration_s
        while True:
            while any(worker.work() for worker in self.workers):
                pass
            due = min((timer for timer in self._timers if timer.call), key=lambda timer: timer.when_s)
            if due.when_s > end_s:
                self.now_s = end_s
                return
            self.now_s = max(self.now_s, due.when_s)
            self._timers.remove(due)
            if due.call is not None:
                due.call()


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., _Collector]]:
    """Return what makes collectors whose time is the test's."""

    def made(*loads: int) -> _Collector:
        collector = _Collector(*loads)
        monkeypatch.setattr(rebalance.time, "monotonic", lambda: collector.now_s)
        return collector

    yield made
    LOGGER.handlers.clear()


def test_uneven_connections_are_level_within_a_second(make: Callable[..., _Collector]) -> None:
    """However they became so: nothing else has to happen."""
    collector = make(400, 0, 0, 0)
    collector.go_on(2 * COMPARE_S)
    assert collector.loads == [100, 100, 100, 100]
    collector.workers[2].counters[Field.CONNECTIONS] = 10
    collector.go_on(2 * COMPARE_S)
    assert max(collector.loads) - min(collector.loads) <= 1


def test_even_connections_cost_no_message(make: Callable[..., _Collector]) -> None:
    """What accepting leaves is left as it is."""
    collector = make(100, 103, 98, 101)
    collector.go_on(60)
    assert [worker.pings for worker in collector.workers] == [0, 0, 0, 0]
    assert collector.loads == [100, 103, 98, 101]


def test_a_stopped_worker_keeps_nobody_from_being_level(make: Callable[..., _Collector]) -> None:
    """The others level among themselves; it is pinged once, and gets its share as soon as it answers."""
    collector = make(0, 300, 0, 0)
    collector.workers[0].stopped = True
    collector.go_on(COMPARE_S + PING_S + 0.1)
    assert collector.loads == [0, 100, 100, 100]
    collector.go_on(60)
    assert collector.workers[0].waiting == 1
    collector.workers[0].stopped = False
    collector.go_on(2 * PING_S)
    assert collector.loads == [75, 75, 75, 75]


def test_a_worker_that_stops_as_it_gives_keeps_nobody_from_being_level(make: Callable[..., _Collector]) -> None:
    """Those that were to take from it are levelled with the others after a while."""
    collector = make(400, 0, 0, 0)
    collector.workers[0].stops_after_ping = True
    collector.go_on(COMPARE_S)
    collector.workers[1].counters[Field.CONNECTIONS] = 90
    collector.go_on(10)
    assert collector.loads == [400, 30, 30, 30]


def test_moves_that_change_nothing_become_rare(
    make: Callable[..., _Collector], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where connections do not stay level, each move comes later than the one before."""
    collector = make(400, 0, 0, 0)
    giver = collector.workers[0]
    monkeypatch.setattr(
        giver,
        "_give",
        lambda *_: collector.moves.record_handover(giver.child, HandedOver(400, "no descriptors")),
    )
    collector.go_on(60)
    assert giver.pings <= 6 + 60 / LONGEST_PAUSE_S


def test_an_answer_that_was_not_asked_for_changes_nothing(make: Callable[..., _Collector]) -> None:
    """However many a worker sends, no worker is pinged for them."""
    collector = make(400, 0)
    collector.go_on(COMPARE_S)
    pings = [worker.pings for worker in collector.workers]
    collector.workers[0].counters[Field.CONNECTIONS] = 400
    for _ in range(100):
        collector.moves.record_pong(collector.workers[0].child)
    collector.go_on(0)
    assert [worker.pings for worker in collector.workers] == pings


def test_moves_are_bounded(make: Callable[..., _Collector]) -> None:
    """Of very many connections a part is moved at once, and the rest as time passes."""
    collector = make(40_000, 0, 0, 0)
    collector.go_on(COMPARE_S)
    assert sum(collector.loads[1:]) == MOST_MOVED
    collector.go_on(60)
    assert is_even(collector.loads)


def test_nothing_is_moved_while_the_writer_cannot_commit(make: Callable[..., _Collector]) -> None:
    """A connection is held until its last lines are committed; with a full disk that would be in vain."""
    collector = make(400, 0)
    collector.board.slot(WRITER_SLOT)[Field.PAUSED] = 1
    collector.go_on(10)
    assert collector.loads == [400, 0]
    collector.board.slot(WRITER_SLOT)[Field.PAUSED] = 0
    collector.go_on(2 * COMPARE_S)
    assert collector.loads == [200, 200]


def test_a_worker_that_ends_gives_everything_to_those_that_answer(make: Callable[..., _Collector]) -> None:
    """A stopped worker is offered nothing, so that no connection waits for it."""
    collector = make(90, 50, 50, 50)
    collector.workers[1].stopped = True
    collector.workers[0].child.state = State.RETIRING
    collector.moves.hand_over_all(collector.workers[0].child)
    collector.go_on(2 * PING_S)
    assert collector.loads == [0, 50, 95, 95]
