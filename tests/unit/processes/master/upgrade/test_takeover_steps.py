"""The order in which the children of an earlier program give way."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, cast

import pytest

from prefork_logd.ipc.channel import Channel
from prefork_logd.ipc.messages import Retire
from prefork_logd.net.loop import Loop
from prefork_logd.processes.master.child import Child, Kind
from prefork_logd.processes.master.lifecycle import Event, State
from prefork_logd.processes.master.upgrade.replacement import Replacement

if TYPE_CHECKING:
    from collections.abc import Iterator


class Told:
    """A control channel that keeps what is sent."""

    def __init__(self) -> None:
        self.messages: list[Any] = []

    def send(self, message: object) -> None:
        self.messages.append(message)


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


@pytest.mark.parametrize(
    ("states", "leaves"),
    [
        ((State.RUNNING, State.RUNNING), True),
        ((State.RUNNING, State.STARTING), False),
        ((State.WAITING, State.RUNNING), False),
        ((State.RUNNING, State.RETIRING), True),
        ((State.RETIRING, State.STARTING), False),
        ((State.STOPPING, State.STOPPING), True),
        ((State.RUNNING,), True),
    ],
)
def test_the_old_writer_leaves_when_no_new_worker_is_awaited(
    loop: Loop, states: tuple[State, ...], leaves: bool
) -> None:
    """A new worker that is to end is not waited for: it waits for a new writer, which takes its lines."""
    happened: list[tuple[Child, Event]] = []
    old_writer = Child(Kind.WRITER, 0, State.RUNNING, pid=os.getpid(), spawn_id=1)
    channel = old_writer.channel = cast("Channel", Told())
    takeover = Replacement(loop, "0.0", [old_writer], lambda *what: happened.append(what), lambda _: None, lambda: None)
    new_writer = Child(Kind.WRITER, 0)
    workers = [Child(Kind.WORKER, slot, state) for slot, state in enumerate(states, 1)]
    takeover.advance(new_writer, workers)
    assert channel.messages == [Retire()] * leaves  # type: ignore[attr-defined]
    assert not happened
    takeover.old.pop(old_writer.spawn_id)
    old_worker = Child(Kind.WORKER, 1, State.RUNNING, pid=os.getpid(), spawn_id=2)
    takeover.old[2] = old_worker
    takeover.advance(new_writer, workers)
    assert happened == [(new_writer, Event.DUE)]
