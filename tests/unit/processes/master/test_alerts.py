"""The alerts have a process while there may be rules; a change of the settings replaces it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from prefork_logd.ipc.messages import Drain
from prefork_logd.ipc.scoreboard import ALERTS_SLOT
from prefork_logd.processes.master.alerts import Alerts
from prefork_logd.processes.master.child import Child, Kind
from prefork_logd.processes.master.lifecycle import Event
from tests.support.children import ChildEvents, FakeLoop, make_settings, messages

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
        self._events = ChildEvents()
        self.alerts = Alerts(self.loop.loop, self._events.apply)
        self.events = self._events.seen

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
