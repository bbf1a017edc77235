"""The alerts have a process while there may be rules; a change of the settings replaces it."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from prefork_logd.ipc.messages import Drain
from prefork_logd.ipc.scoreboard import ALERTS_SLOT
from prefork_logd.processes.alerts.alerts import DRAIN_S
from prefork_logd.processes.master.alerts import KILL_AFTER_S, Alerts
from prefork_logd.processes.master.child import Child, Kind
from prefork_logd.processes.master.lifecycle import Event, State, after
from tests.support.children import FakeLoop, make_child, make_settings, messages

if TYPE_CHECKING:
    from pathlib import Path

PAGE = '[web]\nbind = ["127.0.0.1:0"]\n'
RULE = (
    '[[alert]]\nname = "r"\nsend = ["c"]\n[[receiver]]\nname = "c"\ntype = "command"\ncommand = ["/bin/true"]\n'
    '[[store]]\ntype = "parquet"\n'
)


class Collector:
    """Alerts whose process is never forked."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self.loop = FakeLoop()
        self.alerts = Alerts(self.loop.loop, self._apply_event)
        self.events: list[Event] = []

    def _apply_event(self, child: Child, event: Event) -> None:
        self.events.append(event)
        child.state = after(child.state, event).state
        if event is Event.DUE:
            made = make_child(Kind.ALERTS, ALERTS_SLOT)
            child.pid, child.channel = made.pid, made.channel
        elif child.channel is not None:
            child.channel.send(Drain(fast=False))

    def adjust(self, toml: str) -> None:
        self.alerts.adjust(make_settings(self._state_dir, toml))

    @property
    def child(self) -> Child:
        (child,) = self.alerts
        return child


@pytest.fixture
def collector(tmp_path: Path) -> Collector:
    """Return a collector without rules."""
    return Collector(tmp_path)


@pytest.mark.parametrize("toml", [PAGE, RULE])
def test_with_a_page_or_a_rule_there_is_a_process(collector: Collector, toml: str) -> None:
    """One, in its own slot; nothing happens while the settings stay."""
    for _ in range(3):
        collector.adjust(toml)
    assert (collector.child.kind, collector.child.slot, collector.child.name) == (Kind.ALERTS, ALERTS_SLOT, "alerts")
    assert collector.child.index == 0
    assert collector.events == [Event.DUE]


def test_without_both_there_is_none(collector: Collector, tmp_path: Path) -> None:
    """Unless rules that were made on a page are left."""
    collector.adjust("")
    assert list(collector.alerts) == []
    (tmp_path / "alerts.db").touch()
    collector.adjust("[alerts]\nenabled = false")
    assert list(collector.alerts) == []
    collector.adjust("")
    assert collector.events == [Event.DUE]


@pytest.mark.parametrize(
    ("toml", "stays"), [("", False), (PAGE + RULE, True), (PAGE + "[alerts]\nenabled = false", False)]
)
def test_changed_settings_end_the_process(collector: Collector, toml: str, stays: bool) -> None:
    """Once; the next one is forked when it has gone, if there still may be rules."""
    collector.adjust(PAGE)
    old = collector.child
    for _ in range(2):
        collector.adjust(toml)
    assert collector.events == [Event.DUE, Event.STOP]
    assert messages(old) == [Drain(fast=False)]
    collector.alerts.forget()
    collector.adjust(toml)
    assert [child is not old for child in collector.alerts] == [True] * stays


def test_a_stop_waits_for_the_process(collector: Collector) -> None:
    """A fast one says so."""
    assert collector.alerts.stop(fast=False)
    collector.adjust(PAGE)
    child = collector.child
    assert not collector.alerts.stop(fast=False)
    assert not collector.alerts.stop(fast=True)
    assert messages(child) == [Drain(fast=False), Drain(fast=True)]
    collector.alerts.forget()
    assert collector.alerts.stop(fast=False)


def test_a_process_that_hangs_is_killed(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not before its time."""
    killed: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda *call: killed.append(call))
    collector.adjust(PAGE)
    child = collector.child
    child.state = State.RUNNING
    collector.alerts.stop(fast=False)
    collector.loop.pass_s(DRAIN_S + KILL_AFTER_S - 0.1)
    assert killed == []
    collector.loop.pass_s(0.2)
    assert killed == [(child.pid, signal.SIGKILL)]
