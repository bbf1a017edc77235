"""The master leads signals, questions and messages to its parts; a start succeeds or fails as a whole."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any, cast
from unittest.mock import Mock

import pytest

from prefork_logd.config.values import MOST_WORKERS
from prefork_logd.errors import ExitStatus
from prefork_logd.ipc.channel import Channel
from prefork_logd.ipc.command_socket import Request
from prefork_logd.ipc.messages import Configured, Drain, Ready, Retire, Settled, StatusReport, Stopping
from prefork_logd.ipc.scoreboard import WRITER_SLOT, Field
from prefork_logd.processes.master import master, supervisor
from prefork_logd.processes.master.child import Child, Kind
from prefork_logd.processes.master.lifecycle import Event, State
from prefork_logd.processes.master.master import Master
from prefork_logd.processes.master.page_sockets import PageSockets
from prefork_logd.system.log import LOGGER
from tests.support.children import FakeChannel, make_child, make_settings, messages

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from prefork_logd.config.load import ConfigSource
    from prefork_logd.system.pid_lock import PidLock


class Run:
    """A master that forks no process."""

    def __init__(self, state_dir: Path) -> None:
        self.forks: list[str] = []
        self.addresses: list[list[str]] = []
        self.failures: list[str] = []
        self.obstacles: list[str] = []
        self.answers: list[dict[str, Any]] = []
        settings = make_settings(state_dir)
        source = cast("ConfigSource", Mock(return_value=settings))
        lock = cast("PidLock", Mock(path=state_dir / "pid"))
        self.master = Master(settings, source, [], PageSockets(), lock, self.note_start, self.failures.append)
        self.supervisor = self.master._supervisor

    def note_start(self, bind: list[str], obstacle: str) -> None:
        self.addresses.append(bind)
        self.obstacles.append(obstacle)

    def fork(self, name: str, *_: object) -> int:
        self.forks.append(name)
        return 10_000 + len(self.forks)

    def make_ready(self, child: Child, problem: str = "", *, lacks_room: bool = False) -> None:
        """Let a child say that it is ready, or is not."""
        assert child.channel is not None
        child.channel.close()
        child.channel = cast("Channel", FakeChannel())
        self.master.handle_message(child, Ready(problem, lacks_room), [])

    def start(self) -> None:
        """Start everything."""
        self.master.apply_event(self.supervisor.writer, Event.DUE)
        self.make_ready(self.supervisor.writer)
        for worker in self.supervisor.real_workers():
            self.make_ready(worker)

    def ask(self, verb: str, count: int = 0) -> Any:
        """Return the answer to a question."""
        self.answers.clear()
        self.master._handle_request(Request(verb, count), self.answers.append)
        return self.answers.pop() if self.answers else None

    def close(self) -> None:
        """Close what the master has open."""
        for child in self.supervisor.children():
            if child.channel is not None:
                child.channel.close()
            child.close_arena()
        self.master._command_server.close()
        self.master._signals.close()
        self.master._lifeline.close()
        self.master.loop.close()


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Return a master that has not begun; this process's signal handlers stay as they are."""
    before = {number: signal.getsignal(number) for number in signal.valid_signals()}
    wakeup_fd = signal.set_wakeup_fd(-1)
    run = Run(tmp_path)
    monkeypatch.setattr(supervisor, "fork", run.fork)
    monkeypatch.setattr(supervisor.os, "kill", lambda *_: None)
    yield run
    run.close()
    signal.set_wakeup_fd(wakeup_fd)
    for number, handler in before.items():
        if signal.getsignal(number) is not handler and number not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(number, handler)
    LOGGER.handlers.clear()


def test_a_start_is_the_writer_then_the_workers_then_the_addresses(run: Run) -> None:
    """Nobody hears of a collector that is only half at work."""
    run.master.apply_event(run.supervisor.writer, Event.DUE)
    assert run.forks == ["writer"]
    run.make_ready(run.supervisor.writer)
    assert run.forks == ["writer", "shipper parquet", "worker 1", "worker 2"]
    first, second = run.supervisor.real_workers()
    run.make_ready(first)
    assert not run.addresses
    run.make_ready(second)
    assert run.addresses == [[]]
    assert not run.failures


def test_a_child_that_cannot_work_fails_a_start(run: Run) -> None:
    """The reason is passed on, and the collector stops."""
    run.master.apply_event(run.supervisor.writer, Event.DUE)
    run.make_ready(run.supervisor.writer, "the output belongs to root")
    assert run.failures == ["the output belongs to root"]
    assert run.supervisor.is_stopping
    assert run.master._shutdown.exit_status is ExitStatus.FAILURE


def test_a_full_disk_does_not_fail_a_start(run: Run) -> None:
    """The collector serves, and says why clients wait."""
    run.master.apply_event(run.supervisor.writer, Event.DUE)
    run.make_ready(run.supervisor.writer, "the disk is full", lacks_room=True)
    for worker in run.supervisor.real_workers():
        run.make_ready(worker)
    assert (run.addresses, run.failures) == ([[]], [])
    assert run.obstacles == ["the disk is full; clients wait until it works again"]
    assert not run.supervisor.is_stopping


def test_a_child_that_cannot_work_later_does_not_stop_the_collector(run: Run) -> None:
    """Clients wait until it can."""
    run.start()
    worker = run.supervisor.real_workers()[0]
    worker.state = State.STARTING
    run.master.handle_message(worker, Ready("the disk is full"), [])
    assert worker.state is State.RUNNING
    assert not run.failures
    assert not run.supervisor.is_stopping


@pytest.mark.parametrize("late", [False, True])
def test_a_child_that_dies_fails_a_start_and_nothing_else(
    run: Run, monkeypatch: pytest.MonkeyPatch, late: bool
) -> None:
    """Later another one is forked."""
    run.start()
    if not late:
        run.master._ready = run.note_start
    worker = run.supervisor.real_workers()[0]
    ends = [(worker.pid, signal.SIGKILL), (0, 0)]
    monkeypatch.setattr(supervisor.os, "waitpid", lambda *_: ends.pop(0))
    run.supervisor.reap()
    assert run.failures == ([] if late else ["worker 1 was ended by SIGKILL before it was ready"])
    assert run.supervisor.is_stopping != late
    assert (run.master._shutdown.exit_status is ExitStatus.FAILURE) != late


def test_a_writer_that_begins_during_a_stop_may_use_the_last_space(run: Run) -> None:
    """The last one has died, or an upgrade has replaced it: the lines that were read would be lost on a full disk."""
    run.start()
    run.master.apply_event(run.supervisor.writer, Event.EXITED)
    run.master.apply_event(run.supervisor.writer, Event.DUE)
    run.make_ready(run.supervisor.writer)
    assert Stopping() not in messages(run.supervisor.writer)
    run.master._shutdown.begin(fast=False)
    assert messages(run.supervisor.writer).count(Stopping()) == 1
    run.master.apply_event(run.supervisor.writer, Event.EXITED)
    run.master.apply_event(run.supervisor.writer, Event.DUE)
    run.make_ready(run.supervisor.writer)
    assert messages(run.supervisor.writer).count(Stopping()) == 1


def test_messages_reach_their_parts_and_descriptors_are_closed(run: Run) -> None:
    """No message to the master has any; one that is for a child is logged."""
    run.start()
    worker = run.supervisor.real_workers()[0]
    read_fd, write_fd = os.pipe()
    run.master.handle_message(worker, Settled(1), [read_fd, write_fd])
    for fd in (read_fd, write_fd):
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)
    report = StatusReport("the disk is full")
    run.master.handle_message(worker, report, [])
    assert worker.report is report
    run.master.handle_message(worker, Configured(7), [])
    assert worker.generation == 7


def test_a_message_that_is_for_a_child_is_logged(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its name and its sender's."""
    said: list[str] = []
    monkeypatch.setattr(master.LOGGER, "error", lambda text, *values: said.append(text % values))
    run.master.handle_message(make_child(Kind.WORKER, 1), Retire(), [])
    assert said == ["a message of worker 1 cannot be used and is ignored (Retire); this is a bug, please report it"]


def test_the_number_of_workers_is_changed_within_bounds(run: Run) -> None:
    """Not while the collector starts or stops."""
    busy = {"error": "the collector is just starting or stopping; ask again later"}
    assert run.ask("workers", 3) == busy
    run.start()
    assert run.ask("workers", 3) == {"workers": 3, "before": 2}
    assert run.forks[-1] == "worker 3"
    for count in (0, MOST_WORKERS + 1):
        assert run.ask("workers", count) == {
            "error": f"the number of workers is {count:,}; write one from 1 to {MOST_WORKERS}"
        }
    run.master._shutdown.begin(fast=False)
    assert run.ask("workers", 4) == busy
    assert run.ask("reload") == busy
    assert run.ask("dance") == {"error": "'dance' is not known to this collector"}


@pytest.mark.parametrize(
    ("numbers", "workers"),
    [
        ({signal.SIGTTIN: 2}, 4),
        ({signal.SIGTTOU: 9}, 1),
        ({signal.SIGTTIN: 3, signal.SIGTTOU: 1}, 4),
    ],
)
def test_each_signal_counts(run: Run, monkeypatch: pytest.MonkeyPatch, numbers: dict[int, int], workers: int) -> None:
    """Also those that have come together; there is always a worker."""
    run.start()
    monkeypatch.setattr(run.master._signals, "take", lambda: numbers)
    run.master.ready(0)
    assert run.supervisor.worker_target == workers


def test_a_signal_that_fails_does_not_keep_others_away(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unexpected error ends what belongs to one signal."""
    run.start()
    monkeypatch.setattr(run.master._signals, "take", lambda: {signal.SIGCHLD: 1, signal.SIGQUIT: 1})
    monkeypatch.setattr(supervisor.os, "waitpid", Mock(side_effect=LookupError("a bug")))
    run.master.ready(0)
    assert run.supervisor.is_stopping
    assert Drain(fast=True) in messages(run.supervisor.real_workers()[0])


def test_an_upgrade_waits_for_what_is_half_done(run: Run) -> None:
    """The next program would not know of it; and it begins only when everything works."""
    assert run.master.may_upgrade() == "the collector is just starting or stopping"
    run.start()
    assert run.master.may_upgrade() == ""
    assert run.master.is_quiet()
    run.supervisor.real_workers()[0].state = State.STARTING
    assert not run.master.is_quiet()
    run.supervisor.real_workers()[0].state = State.RUNNING
    run.master._reloader.request(run.answers.append, wait=False)
    assert not run.master.is_quiet()
    run.master._board.slot(WRITER_SLOT)[Field.PAUSED] = 1
    assert "an output cannot be written" in run.master.may_upgrade()
    run.supervisor.writer.state = State.STARTING
    assert run.master.may_upgrade() == "the writer is just starting"
