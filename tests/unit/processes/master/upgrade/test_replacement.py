"""Children of the last program give way: who is ended by force, after how long, and under what name."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, cast

import pytest

from prefork_logd.ipc.messages import Drain
from prefork_logd.ipc.scoreboard import PAGE_SLOT, SHIPPER_SLOT, WRITER_SLOT
from prefork_logd.processes.master.child import Child, Kind
from prefork_logd.processes.master.lifecycle import State
from prefork_logd.processes.master.upgrade import replacement
from prefork_logd.processes.master.upgrade.replacement import Replacement
from prefork_logd.system.log import LOGGER
from tests.support.children import make_child, messages

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefork_logd.net.loop import Loop

SLOW_BATCH_S = 2.0
"""What a shipper on a busy machine takes for the batch that it is at."""


class _Loop:
    def __init__(self) -> None:
        self.timers: list[tuple[float, Callable[[], None]]] = []

    def later(self, delay_s: float, call: Callable[[], None]) -> object:
        self.timers.append((delay_s, call))
        return self

    def pass_s(self, duration_s: float) -> None:
        due = [timer for timer in self.timers if timer[0] <= duration_s]
        self.timers = [timer for timer in self.timers if timer not in due]
        for _, call in due:
            call()


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the pids that are sent SIGKILL."""
    pids: list[int] = []
    monkeypatch.setattr(
        replacement.os, "kill", lambda pid, number: pids.append(pid) if number == signal.SIGKILL else None
    )
    return pids


def test_an_old_shipper_has_time_for_its_batch_and_goes_by_its_own_name(
    killed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow one is left alone, a hung one is ended, and the log does not take it for the writer."""
    said: list[str] = []
    monkeypatch.setattr(LOGGER, "warning", lambda text, *values: said.append(text % values))
    loop = _Loop()
    shipper = Child(Kind.SHIPPER, SHIPPER_SLOT + 1, State.RUNNING, pid=os.getpid(), spawn_id=7, is_inherited=True)
    ignored: Callable[..., None] = lambda *_: None  # noqa: E731
    upgrade = Replacement(cast("Loop", loop), "0.0", [shipper], ignored, ignored, ignored)
    upgrade.advance(Child(Kind.WRITER, WRITER_SLOT), [])
    assert shipper.state is State.STOPPING
    loop.pass_s(SLOW_BATCH_S)
    assert not killed
    loop.pass_s(replacement.ANSWER_S - 1)
    assert killed == [shipper.pid]
    assert said == [f"the old shipper 2 (pid {shipper.pid}) did not end in time and was killed; no records are lost"]
    assert shipper.is_killed, "its end is no error"


def test_the_old_page_ends_with_the_shippers() -> None:
    """The next one serves on the same sockets."""
    page = make_child(Kind.WEB, PAGE_SLOT, is_inherited=True)
    ignored: Callable[..., None] = lambda *_: None  # noqa: E731
    upgrade = Replacement(cast("Loop", _Loop()), "0.0", [page], ignored, ignored, ignored)
    upgrade.advance(Child(Kind.WRITER, WRITER_SLOT), [])
    assert page.state is State.STOPPING
    assert messages(page) == [Drain(fast=True)]
