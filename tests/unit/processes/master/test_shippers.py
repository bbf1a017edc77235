"""Each store has one shipper: forked when the store comes, ended when it goes or is another."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, cast

import pytest

from prefork_logd.ipc.configuration import Configuration
from prefork_logd.ipc.messages import Drain, WakeupFd
from prefork_logd.ipc.scoreboard import SHIPPER_SLOT, Scoreboard, StoreField
from prefork_logd.processes.master import shippers
from prefork_logd.processes.master.child import Child, Kind
from prefork_logd.processes.master.lifecycle import Event, State
from prefork_logd.processes.master.shippers import KILL_AFTER_S, Shippers
from prefork_logd.processes.shipper.shipper import DRAIN_S
from prefork_logd.system.log import LOGGER
from tests.support.children import FakeChannel, FakeLoop, make_child, make_settings, messages

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from prefork_logd.ipc.channel import Channel


class Ships:
    """The shippers of one master."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self.loop = FakeLoop()
        self.board = Scoreboard()
        self.events: list[tuple[str, Event]] = []
        self.shippers = Shippers(self.loop.loop, self.board, self._apply_event)

    def _apply_event(self, child: Child, event: Event) -> None:
        self.events.append((child.name, event))
        child.state = State.STOPPING if event is Event.STOP else State.RUNNING
        if child.channel is None:
            child.channel = cast("Channel", FakeChannel())
            child.pid = 100 + child.slot

    def adjust(self, **slots: int) -> list[tuple[str, Event]]:
        """Configure stores, each with its slot; return what happens."""
        table = '[[store]]\ntype = "parquet"\nname = "{0}"\npath = "{0}"\n'
        settings = make_settings(self._state_dir, "".join(table.format(name) for name in slots) or "store = []\n")
        self.events.clear()
        self.shippers.adjust(Configuration(1, settings, (1,), tuple(slots.values())))
        return list(self.events)

    def close(self) -> None:
        for fd in self.shippers._wakers.values():
            os.close(fd)


@pytest.fixture
def ships(tmp_path: Path) -> Iterator[Ships]:
    """Return no shippers yet."""
    ships = Ships(tmp_path)
    yield ships
    ships.close()
    LOGGER.handlers.clear()


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the pids that are sent SIGKILL."""
    pids: list[int] = []
    monkeypatch.setattr(shippers.os, "kill", lambda pid, number: pids.append(pid) if number == signal.SIGKILL else None)
    return pids


def test_a_store_has_one_shipper_while_it_is_configured(ships: Ships) -> None:
    """It is forked once, in its store's slot."""
    assert ships.adjust(days=0, weeks=1) == [("shipper days", Event.DUE), ("shipper weeks", Event.DUE)]
    assert [child.slot for child in ships.shippers] == [SHIPPER_SLOT, SHIPPER_SLOT + 1]
    assert ships.adjust(days=0, weeks=1) == []
    assert ships.shippers.store_ids() == {0, 1}
    assert ships.adjust(weeks=1) == [("shipper days", Event.STOP)]
    assert ships.adjust(weeks=1) == [], "it is stopped once"
    assert ships.shippers.store_ids() == {0, 1}, "its slot is taken until it has ended"


def test_a_slot_is_free_when_its_shipper_has_ended(ships: Ships) -> None:
    """Nothing that was known of the last store is said of the next."""
    ships.adjust(days=0)
    (child,) = ships.shippers
    ships.adjust()
    counters = ships.board.store(0)
    counters[StoreField.READY] = counters[StoreField.RECORDS] = 1
    ships.shippers.forget(child)
    assert not any(counters)
    assert ships.adjust(years=0) == [("shipper years", Event.DUE)]


def test_another_store_in_a_slot_waits_for_the_end_of_the_last_shipper(ships: Ships) -> None:
    """Two shippers never have one slot."""
    ships.adjust(days=0)
    (child,) = ships.shippers
    assert ships.adjust(years=0) == [("shipper days", Event.STOP)]
    ships.shippers.forget(child)
    assert ships.adjust(years=0) == [("shipper years", Event.DUE)]


def test_the_writer_gets_what_wakes_a_shipper(ships: Ships) -> None:
    """One, or all of them for another writer."""
    ships.adjust(days=0, weeks=1)
    writer = make_child(Kind.WRITER, 0)
    assert writer.channel is not None
    ships.shippers.connect(writer.channel)
    assert messages(writer) == [WakeupFd(0), WakeupFd(1)]
    ships.shippers.connect(writer.channel, list(ships.shippers)[1])
    assert messages(writer) == [WakeupFd(1)]


def test_a_stop_waits_for_every_shipper(ships: Ships, killed: list[int]) -> None:
    """Each may go on for a moment; a fast stop tells them again, and one that hangs is ended by force."""
    ships.adjust(days=0, weeks=1)
    first, second = ships.shippers
    ships.events.clear()
    assert not ships.shippers.stop(fast=False)
    assert ships.events == [("shipper days", Event.STOP), ("shipper weeks", Event.STOP)]
    assert not messages(first)
    assert not ships.shippers.stop(fast=True)
    assert len(ships.events) == 2
    assert messages(first) == messages(second) == [Drain(fast=True)]
    ships.shippers.forget(first)
    first.state = State.GONE
    ships.loop.pass_s(DRAIN_S + KILL_AFTER_S - 0.1)
    assert not killed
    ships.loop.pass_s(0.2)
    assert killed == [second.pid]
    assert second.is_killed
    ships.shippers.forget(second)
    assert ships.shippers.stop(fast=True)
