"""A stop ends the workers first, then the children of an earlier program, the writer, and the shippers."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any, cast

import pytest

from prefork_logd.errors import ExitStatus
from prefork_logd.ipc.messages import Drain, Retire
from prefork_logd.ipc.scoreboard import ALERTS_SLOT, MAX_WORKERS, PAGE_SLOT, SHIPPER_SLOT, WRITER_SLOT, Scoreboard
from prefork_logd.processes.master import shutdown
from prefork_logd.processes.master.child import Child, Kind
from prefork_logd.processes.master.configurations import Configurations
from prefork_logd.processes.master.lifecycle import Event, State
from prefork_logd.processes.master.shutdown import KILL_AFTER_S, UPGRADE_S, Shutdown
from prefork_logd.processes.worker.drain import FAST_WRITES_S, LAST_WRITES_S
from prefork_logd.system.log import LOGGER
from tests.support.children import FakeLoop, make_child, make_settings, messages, no_service_manager

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from prefork_logd.processes.master.supervisor import Supervisor
    from prefork_logd.processes.master.upgrade.upgrader import Upgrader

BOARD = Scoreboard()
DRAIN_TIMEOUT_S = 7


class _Stoppable:
    """Shippers, the page or alerts: `left` of its processes have not ended."""

    def __init__(self) -> None:
        self.left = 1
        self.stops: list[bool] = []

    def stop(self, *, fast: bool) -> bool:
        self.stops.append(fast)
        return not self.left


class Collector:
    """A collector's children, and the stop of it."""

    def __init__(self, state_dir: Path) -> None:
        self.loop = FakeLoop()
        self.writer = make_child(Kind.WRITER, WRITER_SLOT)
        self.workers = [make_child(Kind.WORKER, 1), make_child(Kind.SOURCE, MAX_WORKERS)]
        self.shippers = _Stoppable()
        self.page = _Stoppable()
        self.page.left = 0
        self.alerts = _Stoppable()
        self.alerts.left = 0
        self.is_stopping = False
        self.old: list[Child] = []
        self.replacement: Any = None
        self.events: list[tuple[str, Event]] = []
        self.upgrade_steps = 0
        configurations = Configurations(BOARD)
        configurations.add(make_settings(state_dir, f"[limits]\ndrain_timeout = '{DRAIN_TIMEOUT_S}s'\n"), ())
        self.shutdown = Shutdown(
            self.loop.loop, cast("Supervisor", self), configurations, cast("Upgrader", self), no_service_manager()
        )

    def children(self) -> list[Child]:
        return [self.writer, *self.workers, *self.old]

    def all_workers(self) -> list[Child]:
        return self.workers

    def advance_upgrade(self) -> None:
        self.upgrade_steps += 1

    def apply_event(self, child: Child, event: Event) -> None:
        self.events.append((child.name, event))
        child.state = State.STOPPING

    def end(self, child: Child) -> None:
        """Let a child end, as the supervisor reports it."""
        if child in self.workers:
            self.workers.remove(child)
        elif child in self.old:
            self.old.remove(child)
        else:
            child.state = State.GONE
        self.shutdown.advance()


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[Collector]:
    """Return a collector that runs."""
    yield Collector(tmp_path)
    LOGGER.handlers.clear()


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the pids that are sent SIGKILL."""
    pids: list[int] = []
    monkeypatch.setattr(shutdown.os, "kill", lambda pid, number: pids.append(pid) if number == signal.SIGKILL else None)
    return pids


def test_workers_end_before_the_writer_and_the_writer_before_shippers(collector: Collector) -> None:
    """Each has what it needs to the end: a worker its writer, a shipper the last commit."""
    collector.shutdown.request()
    assert collector.is_stopping
    assert collector.events == [("worker 1", Event.STOP), ("source 1", Event.STOP)]
    assert collector.upgrade_steps == 1
    for worker in list(collector.workers):
        assert ("writer", Event.STOP) not in collector.events
        collector.end(worker)
    assert collector.events[2:] == [("writer", Event.STOP)]
    collector.shutdown.advance()
    assert collector.events[3:] == [], "the writer is stopped once"
    assert not collector.shippers.stops
    collector.end(collector.writer)
    assert collector.shippers.stops == [False]
    assert not collector.shutdown.is_done
    assert not collector.loop.is_stopped
    collector.shippers.left = 0
    collector.shutdown.advance()
    assert collector.shutdown.is_done
    assert collector.loop.is_stopped
    assert collector.shutdown.exit_status is ExitStatus.OK


def test_the_second_request_makes_it_fast(collector: Collector) -> None:
    """Workers are told so, and shippers, too."""
    collector.shutdown.request()
    assert not messages(collector.workers[0])
    collector.shutdown.request()
    assert [messages(worker) for worker in collector.workers] == [[Drain(fast=True)]] * 2
    assert len(collector.events) == 2, "no child is stopped twice"
    for child in [*collector.workers, collector.writer]:
        collector.end(child)
    assert collector.shippers.stops == [True]


def test_a_fast_stop_is_fast_at_once(collector: Collector) -> None:
    """Without a graceful one before it."""
    collector.shutdown.begin(fast=True)
    assert collector.events == [("worker 1", Event.STOP), ("source 1", Event.STOP)]
    assert [messages(worker) for worker in collector.workers] == [[Drain(fast=True)]] * 2


@pytest.mark.parametrize(
    ("fast", "limit_s"),
    [(False, DRAIN_TIMEOUT_S + LAST_WRITES_S + KILL_AFTER_S), (True, FAST_WRITES_S + KILL_AFTER_S)],
)
def test_what_does_not_end_in_time_is_killed(
    collector: Collector, killed: list[int], fast: bool, limit_s: float
) -> None:
    """Again and again, and the exit status tells."""
    collector.shutdown.begin(fast=fast)
    collector.loop.pass_s(limit_s - 0.1)
    assert not killed
    assert collector.shutdown.exit_status is ExitStatus.OK
    collector.workers[1].state = State.WAITING
    collector.loop.pass_s(0.2)
    assert killed == [collector.writer.pid, collector.workers[0].pid]
    assert collector.shutdown.exit_status is ExitStatus.FAILURE
    collector.loop.pass_s(KILL_AFTER_S)
    assert len(killed) == 4


def test_no_shipper_is_killed_by_the_stop(collector: Collector, killed: list[int]) -> None:
    """Each has a time limit of its own (shippers.py)."""
    collector.shutdown.begin(fast=False)
    for child in [*collector.workers, collector.writer]:
        collector.end(child)
    collector.loop.pass_s(3600)
    assert not killed


def test_a_child_whose_back_off_has_not_passed_is_not_forked(collector: Collector) -> None:
    """Nothing is started during a stop."""
    forked: list[str] = []
    for child in collector.children():
        child.timer = cast("Any", collector.loop.later(1.0, lambda: forked.append("")))
    collector.shutdown.request()
    for worker in list(collector.workers):
        collector.end(worker)
    collector.loop.pass_s(2)
    assert not forked


def test_a_stop_waits_for_an_upgrade(collector: Collector) -> None:
    """For its end, or for a while."""
    collector.replacement = object()
    collector.shutdown.request()
    assert not collector.is_stopping
    collector.loop.pass_s(UPGRADE_S - 0.1)
    assert not collector.is_stopping
    collector.loop.pass_s(0.2)
    assert collector.is_stopping
    assert not any(messages(worker) for worker in collector.workers), "it is not fast"


def test_a_stop_begins_when_the_upgrade_ends(collector: Collector) -> None:
    """And not when no stop was asked for."""
    collector.shutdown.end_upgrade()
    assert not collector.is_stopping
    collector.replacement = object()
    collector.shutdown.request()
    collector.replacement = None
    collector.shutdown.end_upgrade()
    assert collector.is_stopping


def test_a_second_request_does_not_wait_for_the_upgrade(collector: Collector) -> None:
    """It begins the stop; the third makes it fast."""
    collector.replacement = object()
    collector.shutdown.request()
    collector.shutdown.request()
    assert collector.is_stopping
    assert not messages(collector.workers[0])
    collector.shutdown.request()
    assert messages(collector.workers[0]) == [Drain(fast=True)]


def test_children_of_an_earlier_program_end_between_workers_and_writer(collector: Collector) -> None:
    """The old writer like one that another takes the place of; old shippers have nothing to wait for."""
    old = [
        make_child(Kind.WRITER, WRITER_SLOT, spawn_id=7, is_inherited=True),
        make_child(Kind.SHIPPER, SHIPPER_SLOT, spawn_id=8, is_inherited=True),
    ]
    collector.old = list(old)
    collector.shutdown.request()
    assert not any(messages(child) for child in old)
    for worker in list(collector.workers):
        collector.end(worker)
    assert [messages(child) for child in old] == [[Retire()], [Drain(fast=True)]]
    assert ("writer", Event.STOP) not in collector.events
    for child in old:
        collector.end(child)
    assert ("writer", Event.STOP) in collector.events


@pytest.mark.parametrize("name", ["page", "alerts"])
def test_page_and_alerts_end_beside_the_workers_and_are_waited_for(collector: Collector, name: str) -> None:
    """Each is told at once, and has gone before the master."""
    child: _Stoppable = getattr(collector, name)
    child.left = 1
    collector.shutdown.request()
    assert child.stops == [False]
    for worker in list(collector.workers):
        collector.end(worker)
    collector.shippers.left = 0
    collector.end(collector.writer)
    assert not collector.shutdown.is_done
    child.left = 0
    collector.shutdown.advance()
    assert collector.shutdown.is_done


def test_a_failure_counts_only_during_a_stop_and_not_for_shippers(collector: Collector) -> None:
    """Before it, another child takes the place; a shipper's records wait in the journal."""
    failing = make_child(Kind.WORKER, 1)
    collector.shutdown.record_failure(failing)
    assert collector.shutdown.exit_status is ExitStatus.OK
    collector.shutdown.request()
    collector.shutdown.record_failure(make_child(Kind.SHIPPER, SHIPPER_SLOT))
    collector.shutdown.record_failure(make_child(Kind.WEB, PAGE_SLOT))
    collector.shutdown.record_failure(make_child(Kind.ALERTS, ALERTS_SLOT))
    assert collector.shutdown.exit_status is ExitStatus.OK
    collector.shutdown.record_failure(failing)
    assert collector.shutdown.exit_status is ExitStatus.FAILURE
