"""Children are forked, connected, taken note of when they end, and forked again, without any process."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, cast

import pytest

from prefork_logd.config.values import MAX_SOURCES, MOST_WORKERS
from prefork_logd.ipc.channel import Channel
from prefork_logd.ipc.messages import Attach, Drain, Forget, Retire
from prefork_logd.ipc.scoreboard import MAX_WORKERS, PAGE_SLOT, SHIPPER_SLOT, WRITER_SLOT, Field, Scoreboard
from prefork_logd.processes.master import supervisor
from prefork_logd.processes.master.certificate_files import CertificateFiles
from prefork_logd.processes.master.child import Child, Kind
from prefork_logd.processes.master.configurations import Configurations
from prefork_logd.processes.master.lifecycle import FIRST_BACK_OFF_S, HEALTHY_AFTER_S, Event, State
from prefork_logd.processes.master.page_sockets import PageSockets
from prefork_logd.processes.master.roles import RUN
from prefork_logd.processes.master.supervisor import Supervisor
from prefork_logd.processes.master.upgrade.state import InheritedCounters
from prefork_logd.system import backoff
from prefork_logd.system.log import LOGGER
from tests.support.children import FakeChannel, FakeLoop, make_child, make_settings, messages

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from prefork_logd.processes.master.upgrade.upgrader import Upgrader
    from prefork_logd.processes.orphans import Lifeline

STORE = '[[store]]\ntype = "parquet"\nname = "mine"\n'


class Host:
    """The master of a supervisor, and an upgrade that may be under way."""

    def __init__(self, state_dir: Path, toml: str = "") -> None:
        self.loop = FakeLoop()
        self.board = Scoreboard()
        self.log: list[str] = []
        self.problem: Exception | None = None
        self.old: list[Child] = []
        self.carried = InheritedCounters()
        self.exits: list[tuple[int, int]] = []
        """What waitpid(2) returns next."""
        self.pids = iter(range(5000, 9000))
        configurations = self.configurations = Configurations(self.board)
        self.supervisor = Supervisor(
            self,
            self.loop.loop,
            self.board,
            configurations,
            cast("Upgrader", self),
            cast("Lifeline", None),
            [],
            PageSockets(),
            CertificateFiles(self.loop.loop, make_settings(state_dir, toml), lambda: None),
        )
        configurations.add(make_settings(state_dir, toml), ())
        self.supervisor.worker_target = 2

    # The upgrade

    @property
    def old_workers(self) -> list[Child]:
        return [child for child in self.old if child.kind in (Kind.WORKER, Kind.SOURCE)]

    @property
    def ships(self) -> bool:
        return any(child.kind is Kind.SHIPPER for child in self.old)

    def advance(self, writer: Child, workers: object) -> None:
        self.log.append("advance upgrade")

    def record_exit(self, pid: int, status: int) -> None:
        self.log.append("exit")

    def forget_child(self, child: Child) -> None:
        self.old.remove(child)

    # The master

    def handle_message(self, child: Child, message: object, fds: object) -> None:
        pytest.fail(f"{child.name} sent {message} {fds}")

    def handle_end(self, child: Child, how: str, *, has_failed: bool) -> None:
        self.log.append(f"{child.name} {how}{' and failed' if has_failed else ''}")
        if self.problem is not None:
            raise self.problem

    def handle_gone(self, child: Child) -> None:
        self.log.append(f"{child.name} gone")

    def advance_stop(self) -> None:
        self.log.append("advance stop")

    def close_in_child(self) -> None:
        pytest.fail("this is no child")

    # The test

    def waitpid(self, pid: int, flags: int) -> tuple[int, int]:
        assert (pid, flags) == (-1, os.WNOHANG)
        return self.exits.pop(0) if self.exits else (0, 0)

    def fork(self, name: str, *_: object) -> int:
        self.log.append(f"fork {name}")
        if self.problem is not None:
            raise self.problem
        return next(self.pids)

    def start(self, child: Child) -> Child:
        """Let a child be forked and ready, with a channel that keeps messages."""
        if child.state is State.WAITING:
            self.supervisor.apply_event(child, Event.DUE)
        keep_messages(child)
        self.supervisor.apply_event(child, Event.READY)
        return child

    def start_all(self) -> list[Child]:
        """Start the writer and the workers; return the workers."""
        self.start(self.supervisor.writer)
        self.supervisor.adjust_workers()
        workers = [self.start(worker) for worker in self.supervisor.real_workers()]
        for child in self.supervisor.children():
            messages(child)
        self.log.clear()
        return workers

    def end(self, child: Child, wait_status: int = 0) -> None:
        """Let a child's process end."""
        self.exits.append((child.pid, wait_status))
        self.supervisor.reap()


def keep_messages(child: Child) -> None:
    """Give a child a channel that keeps messages."""
    assert child.channel is not None
    child.channel.close()
    child.channel = cast("Channel", FakeChannel())


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    """Return a supervisor's host; no process is forked, waited for or killed, and time is the loop's."""
    host = Host(tmp_path, STORE)
    monkeypatch.setattr(supervisor, "fork", host.fork)
    monkeypatch.setattr(supervisor.os, "waitpid", host.waitpid)
    monkeypatch.setattr(supervisor.time, "monotonic", lambda: host.loop.now_s)
    monkeypatch.setattr(backoff.random, "uniform", lambda *_: 1.0)
    yield host
    for child in host.supervisor.children():
        if child.channel is not None:
            child.channel.close()
        child.close_arena()
    LOGGER.handlers.clear()


def test_every_kind_of_child_has_code() -> None:
    """A new kind is one row."""
    assert set(RUN) == set(Kind)


def test_each_forked_process_has_a_spawn_id_of_its_own(host: Host) -> None:
    """In the order of the forks; it begins with the current configuration."""
    first = host.supervisor.next_spawn_id
    host.start_all()
    writer, *workers = (child for child in host.supervisor.children() if child.kind is not Kind.SHIPPER)
    assert [child.spawn_id for child in (writer, *workers)] == [first, first + 1, first + 2]
    assert {child.generation for child in workers} == {1}
    assert host.board.slot(WRITER_SLOT)[Field.STARTS] == 1
    host.end(workers[0], signal.SIGKILL)
    host.loop.pass_s(1)
    assert workers[0].spawn_id == first + 3
    assert workers[0].restarts == 1


def test_a_child_that_cannot_be_forked_is_tried_again(host: Host) -> None:
    """No processes are left: as if it had died at once."""
    worker = host.supervisor.workers[1] = Child(Kind.WORKER, 1)
    host.problem = OSError(11, "Resource temporarily unavailable")
    host.supervisor.apply_event(worker, Event.DUE)
    assert (worker.state, worker.channel, worker.pid, worker.arena_fd) == (State.WAITING, None, 0, -1)
    assert worker.last_exit == "cannot be forked: Resource temporarily unavailable"
    assert not host.board.slot(1)[Field.ACCEPTING]
    host.problem = None
    host.loop.pass_s(FIRST_BACK_OFF_S + 0.01)
    assert (worker.state, worker.pid, worker.restarts) == (State.STARTING, 5000, 1)


def test_a_child_without_a_channel_is_tried_again(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """No descriptors are left."""

    def fail() -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(Channel, "pair", staticmethod(fail))
    host.supervisor.apply_event(host.supervisor.writer, Event.DUE)
    assert host.supervisor.writer.state is State.WAITING
    assert host.log == []


def test_the_back_off_doubles_while_a_child_dies_young(host: Host) -> None:
    """One that has lived for a while comes back after the shortest time."""
    worker = host.start_all()[0]
    delays: list[float] = []
    for lived_s in (0.0, 0.0, 0.0, HEALTHY_AFTER_S, 0.0):
        host.loop.pass_s(lived_s)
        host.end(worker, signal.SIGSEGV)
        assert worker.last_exit == "was ended by SIGSEGV"
        delays.append(worker.due_s - host.loop.now_s)
        host.loop.pass_s(worker.due_s - host.loop.now_s)
        host.start(worker)
    assert delays == pytest.approx([0.1, 0.2, 0.4, 0.1, 0.2])


def test_workers_are_forked_and_retired_until_their_number_is_right(host: Host) -> None:
    """The highest slots go, and free slots are used from below; sources are not counted."""
    host.start_all()
    host.supervisor.workers[MAX_WORKERS] = make_child(Kind.SOURCE, MAX_WORKERS)
    host.supervisor.worker_target = 4
    host.supervisor.adjust_workers()
    assert host.log == ["fork worker 3", "fork worker 4"]
    host.supervisor.worker_target = 1
    for worker in host.supervisor.real_workers():
        keep_messages(worker)
    host.supervisor.adjust_workers()
    assert [worker.state for worker in host.supervisor.real_workers()] == [State.RUNNING, *[State.RETIRING] * 3]
    assert [Retire() in messages(worker) for worker in host.supervisor.real_workers()] == [False, True, True, True]
    assert host.supervisor.workers[MAX_WORKERS].state is State.RUNNING
    host.end(host.supervisor.workers[3])
    assert sorted(host.supervisor.workers) == [1, 2, 4, MAX_WORKERS]
    host.supervisor.worker_target = 3
    host.supervisor.adjust_workers()
    assert host.log[-2:] == ["fork worker 3", "fork worker 5"], "retiring workers are not counted"


def test_no_more_workers_than_slots(host: Host) -> None:
    """The slots above belong to sources; the configuration takes no higher number."""
    assert MOST_WORKERS == MAX_WORKERS - MAX_SOURCES
    host.supervisor.worker_target = MAX_WORKERS + 1
    for slot in range(1, MOST_WORKERS):
        host.supervisor.workers[slot] = make_child(Kind.WORKER, slot)
    host.supervisor.adjust_workers()
    assert host.log == [f"fork worker {MOST_WORKERS}"]


def test_workers_that_are_to_come_are_counted_before_the_first_fork(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that is ready early leaves them their share of connections."""
    seen: list[int] = []

    def count(*_: object) -> int:
        seen.append(len(host.board.loads()))
        return next(host.pids)

    monkeypatch.setattr(supervisor, "fork", count)
    host.supervisor.adjust_workers()
    assert seen == [2, 2]


def test_a_worker_is_connected_once_with_each_writer(host: Host) -> None:
    """Both get the same number, and again when there is another writer."""
    writer, workers = host.supervisor.writer, host.start_all()
    for child in (writer, *workers):
        host.supervisor._pipes.connect(child)
        assert not messages(child)
    before = writer.spawn_id
    host.end(writer, signal.SIGKILL)
    host.loop.pass_s(1)
    assert not any(messages(worker) for worker in workers)
    host.start(writer)
    assert writer.spawn_id != before
    attached = [Attach(worker.spawn_id) for worker in workers]
    assert [message for message in messages(writer) if isinstance(message, Attach)] == attached
    assert [messages(worker) for worker in workers] == [[message] for message in attached]


def test_an_end_is_taken_note_of_in_order(host: Host) -> None:
    """The host hears of it before another is forked, and again when all is done; the counters are those of none."""
    worker = host.start_all()[0]
    for field in (Field.CONNECTIONS, Field.PID, Field.PAUSED, Field.RECORDS):
        host.board.slot(1)[field] = 7
    host.end(worker, signal.SIGKILL)
    assert host.log == ["exit", "worker 1 was ended by SIGKILL", "advance upgrade", "worker 1 gone"]
    assert (worker.state, worker.pid, worker.channel, worker.arena_fd) == (State.WAITING, 0, None, -1)
    assert [host.board.slot(1)[field] for field in (Field.CONNECTIONS, Field.PID, Field.PAUSED)] == [0, 0, 0]
    assert host.board.slot(1)[Field.RECORDS] == 7


@pytest.mark.parametrize(
    ("event", "wait_status", "is_killed", "has_failed"),
    [
        (Event.STOP, 1 << 8, False, True),
        (Event.RETIRE, 1 << 8, False, True),
        (Event.STOP, 0, False, False),
        (Event.STOP, 9, True, False),
        (None, 1 << 8, False, False),
    ],
)
def test_only_a_child_that_was_to_end_and_could_not_has_failed(
    host: Host, event: Event | None, wait_status: int, is_killed: bool, has_failed: bool
) -> None:
    """One that is ended by force where that loses nothing has not."""
    worker = host.start_all()[0]
    if event is not None:
        host.supervisor.apply_event(worker, event)
    worker.is_killed = is_killed
    host.end(worker, wait_status)
    assert host.log[1].endswith("and failed") == has_failed
    assert bool(worker.last_exit) == (event is None)


def test_after_an_error_another_child_takes_the_place(host: Host) -> None:
    """Whatever fails when an end is taken note of."""
    worker = host.start_all()[0]
    host.problem = LookupError("a bug")
    host.end(worker, signal.SIGKILL)
    assert (worker.state, worker.channel) == (State.WAITING, None)
    host.problem = None
    host.loop.pass_s(1)
    assert worker.state is State.STARTING


def test_a_child_that_sends_nonsense_is_killed(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless its process has ended already."""
    worker = host.start_all()[0]
    killed: list[tuple[int, int]] = []
    monkeypatch.setattr(supervisor.os, "kill", lambda *signal: killed.append(signal))
    host.supervisor.handle_failure(worker, ValueError("no message"))
    assert killed == [(worker.pid, signal.SIGKILL)]
    host.end(worker, signal.SIGKILL)
    host.supervisor.handle_failure(worker, ValueError("no message"))
    assert len(killed) == 1


def test_during_a_stop_nothing_is_forked(host: Host) -> None:
    """A child that ends is told to the stop instead."""
    first, second = host.start_all()
    host.supervisor.is_stopping = True
    host.supervisor.worker_target = 4
    host.supervisor.adjust_workers()
    host.supervisor.adjust_shippers()
    assert host.log == []
    host.supervisor.apply_event(first, Event.STOP)
    assert messages(first) == [Drain(fast=False)]
    host.end(first)
    assert host.log[-3:] == ["advance stop", "advance upgrade", "worker 1 gone"]
    host.end(second, signal.SIGKILL)
    host.supervisor.apply_event(second, Event.STOP)
    assert host.log[-1] == "advance stop"
    host.loop.pass_s(60)
    assert not host.supervisor.workers
    assert not any(entry.startswith("fork") for entry in host.log)


def test_the_writer_forgets_a_configuration_when_the_last_worker_has(host: Host, tmp_path: Path) -> None:
    """Also when that worker has died."""
    first, second = host.start_all()
    host.configurations.add(make_settings(tmp_path), ())
    first.settled = 2
    host.supervisor.forget_configurations()
    assert messages(host.supervisor.writer) == []
    host.end(second, signal.SIGKILL)
    assert messages(host.supervisor.writer) == [Forget(2)]


def test_shippers_wait_for_those_of_an_earlier_program(host: Host) -> None:
    """A store never has two."""
    host.start_all()
    old = make_child(Kind.SHIPPER, SHIPPER_SLOT, is_inherited=True)
    host.old = [old]
    host.supervisor.adjust_shippers()
    assert host.log == []
    host.end(old)
    assert "fork shipper mine" in host.log


def test_a_page_is_forked_again_after_its_death_and_its_end(host: Host, tmp_path: Path) -> None:
    """With its own slot and a back-off when it has died; at once when other settings ended it."""
    host.configurations.add(make_settings(tmp_path, '[web]\nbind = ["127.0.0.1:0"]\n'), ())
    host.start_all()
    assert host.supervisor.adjust_page() == []
    (page,) = host.supervisor.page
    host.start(page)
    assert host.board.slot(PAGE_SLOT)[Field.STARTS] == 1
    host.end(page, signal.SIGKILL)
    assert page.state is State.WAITING
    host.loop.pass_s(1)
    host.start(page)
    assert page.restarts == 1
    host.configurations.add(make_settings(tmp_path, '[web]\nbind = ["127.0.0.1:0"]\nsearches = 9\n'), ())
    host.supervisor.adjust_page()
    assert messages(page) == [Drain(fast=False)]
    host.log.clear()
    host.end(page)
    (after,) = host.supervisor.page
    assert after is not page
    assert "fork page" in host.log
    host.supervisor.is_stopping = True
    assert host.supervisor.adjust_page() == []
    host.supervisor.page.sockets.close()


def test_alerts_are_forked_again_after_their_death_and_their_end(host: Host, tmp_path: Path) -> None:
    """As the page is."""
    page = '[web]\nbind = ["127.0.0.1:0"]\n'
    host.configurations.add(make_settings(tmp_path, page), ())
    host.start_all()
    host.supervisor.adjust_alerts()
    (alerts,) = host.supervisor.alerts
    host.start(alerts)
    assert alerts in list(host.supervisor.children())
    host.end(alerts, signal.SIGKILL)
    assert alerts.state is State.WAITING
    host.loop.pass_s(1)
    host.start(alerts)
    host.configurations.add(make_settings(tmp_path, f"{page}searches = 9\n"), ())
    host.supervisor.adjust_alerts()
    host.log.clear()
    host.end(alerts)
    (after,) = host.supervisor.alerts
    assert after is not alerts
    assert "fork alerts" in host.log
    host.supervisor.is_stopping = True
    host.supervisor.adjust_alerts()


def test_an_inherited_child_is_not_forked_again(host: Host) -> None:
    """Its end is the upgrade's business, or the stop's."""
    host.start_all()
    first, second = host.old = [make_child(Kind.WORKER, slot, State.RETIRING, is_inherited=True) for slot in (1, 2)]
    host.end(first)
    assert host.log == ["exit", "worker 1 ended with status 0", "advance upgrade", "worker 1 gone"]
    assert first.state is State.RETIRING
    host.supervisor.is_stopping = True
    host.end(second)
    assert host.log[-2:] == ["advance stop", "worker 2 gone"]
    assert not host.old


def test_each_source_has_a_slot_of_the_last_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that workers keep the first."""
    source = '[[source]]\ntype = "nats"\nservers = ["nats://127.0.0.1"]\nstream = "logs{}"\ngroup = "g"\n'
    host = Host(tmp_path, source.format(1) + source.format(2))
    monkeypatch.setattr(supervisor, "fork", host.fork)
    host.supervisor.start_sources()
    assert host.log == ["fork source 1", "fork source 2"]
    assert list(host.supervisor.workers) == [MAX_WORKERS, MAX_WORKERS - 1]
    assert host.supervisor.real_workers() == []
    for child in host.supervisor.workers.values():
        assert child.channel is not None
        child.channel.close()
