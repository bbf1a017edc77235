"""Children are connected with the writer, without any process."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, cast

import pytest

from prefork_logd.ipc.messages import Attach
from prefork_logd.ipc.scoreboard import SHIPPER_SLOT, WRITER_SLOT
from prefork_logd.processes.master import pipes
from prefork_logd.processes.master.child import Child, Kind
from prefork_logd.processes.master.lifecycle import State
from prefork_logd.processes.master.pipes import CONNECT_AGAIN_S, Pipes
from tests.support.children import FakeLoop, make_child, messages

if TYPE_CHECKING:
    from prefork_logd.processes.master.shippers import Shippers


class Rig:
    """A writer, two workers, and shippers that note which of them were connected."""

    def __init__(self) -> None:
        self.loop = FakeLoop()
        self.writer = make_child(Kind.WRITER, WRITER_SLOT)
        self.workers = [make_child(Kind.WORKER, slot) for slot in (1, 2)]
        self.woken: list[Child | None] = []
        self.pipes = Pipes(self.loop.loop, self.writer, cast("Shippers", self), lambda: self.workers)

    def connect(self, _: object, child: Child | None = None) -> None:
        """Connect a shipper, or all."""
        self.woken.append(child)


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_the_writer_is_connected_with_all(rig: Rig) -> None:
    """Both ends of a pair get the worker's number, and nothing is sent twice."""
    rig.pipes.connect(rig.writer)
    attached = [Attach(worker.spawn_id) for worker in rig.workers]
    assert messages(rig.writer) == attached
    assert [messages(worker) for worker in rig.workers] == [[message] for message in attached]
    assert rig.woken == [None]
    for child in (rig.writer, *rig.workers):
        rig.pipes.connect(child)
        assert not messages(child)


def test_a_worker_is_connected_alone(rig: Rig) -> None:
    """The others keep their pipes, and the shippers theirs."""
    rig.pipes.connect(rig.workers[1])
    assert messages(rig.writer) == messages(rig.workers[1]) == [Attach(rig.workers[1].spawn_id)]
    assert not messages(rig.workers[0])
    assert rig.woken == []


def test_a_shipper_has_no_pipes(rig: Rig) -> None:
    """It is woken by the writer, and reads the journal."""
    shipper = make_child(Kind.SHIPPER, SHIPPER_SLOT)
    rig.pipes.connect(shipper)
    assert rig.woken == [shipper]
    assert not messages(rig.writer)


@pytest.mark.parametrize("state", [state for state in State if state is not State.RUNNING])
def test_a_writer_that_does_not_run_is_connected_with_nothing(rig: Rig, state: State) -> None:
    """It connects all when it is ready."""
    rig.writer.state = state
    rig.pipes.connect(rig.workers[0])
    assert not messages(rig.workers[0])


@pytest.mark.parametrize("state", [State.STARTING, State.WAITING, State.GONE])
def test_a_worker_that_is_not_ready_is_left_out(rig: Rig, state: State) -> None:
    """It is connected when it is ready; one that retires still has lines to write."""
    rig.workers[0].state, rig.workers[1].state = state, State.RETIRING
    rig.pipes.connect(rig.writer)
    assert (messages(rig.workers[0]), messages(rig.workers[1])) == ([], [Attach(rig.workers[1].spawn_id)])


def test_a_worker_without_pipes_is_connected_later(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """No descriptors are left for a moment; the other workers are connected."""
    first, second = rig.workers
    _fail_once(monkeypatch)
    rig.pipes.connect(rig.writer)
    assert (messages(first), messages(second)) == ([], [Attach(second.spawn_id)])
    rig.loop.pass_s(CONNECT_AGAIN_S + 0.01)
    assert messages(first) == [Attach(first.spawn_id)]


def test_another_worker_in_the_slot_is_not_connected_in_its_place(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that failed to be connected has ended, and the next one is connected when it is ready."""
    first = rig.workers[0]
    _fail_once(monkeypatch)
    rig.pipes.connect(first)
    first.spawn_id += 1
    rig.loop.pass_s(CONNECT_AGAIN_S + 0.01)
    assert not messages(first)


def test_the_writer_gets_a_copy_of_the_memory_of_a_worker(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The master keeps its own descriptor, for the next writer."""
    sent: list[int] = []
    monkeypatch.setattr(rig.writer.channel, "send", lambda _, fds: sent.extend(fds))
    rig.workers[0].arena_fd = os.memfd_create("lines")
    rig.pipes.connect(rig.workers[0])
    assert os.path.sameopenfile(sent[-1], rig.workers[0].arena_fd)
    assert sent[-1] != rig.workers[0].arena_fd
    for fd in (*sent, rig.workers[0].arena_fd):
        os.close(fd)


def _fail_once(monkeypatch: pytest.MonkeyPatch) -> None:
    make_pipes, problems = pipes.make_pipes, [OSError(24, "Too many open files")]

    def make() -> Any:
        if problems:
            raise problems.pop()
        return make_pipes()

    monkeypatch.setattr(pipes, "make_pipes", make)
