"""A child of which there is at most one is ended once, waited for, and killed if it hangs."""

from __future__ import annotations

import os
import signal

import pytest

from prefork_logd.ipc.messages import Drain
from prefork_logd.ipc.scoreboard import PAGE_SLOT
from prefork_logd.processes.master.child import Child, Kind
from prefork_logd.processes.master.lifecycle import State
from prefork_logd.processes.master.single_child import SingleChild
from tests.support.children import ChildEvents, FakeLoop, messages

LONGEST_END_S = 5.0


class Page(SingleChild):
    """A child that is always wanted, and never forked."""

    def __init__(self, loop: FakeLoop) -> None:
        super().__init__(Kind.WEB, PAGE_SLOT, loop.loop, ChildEvents().apply, LONGEST_END_S)

    def start(self) -> Child:
        """Return the child after its start."""
        self._fork()
        (child,) = self
        return child


@pytest.fixture
def loop() -> FakeLoop:
    return FakeLoop()


@pytest.fixture
def page(loop: FakeLoop) -> Page:
    return Page(loop)


def test_a_stop_waits_for_the_process(page: Page) -> None:
    """A fast one says so."""
    assert page.stop(fast=False)
    child = page.start()
    assert not page.stop(fast=False)
    assert not page.stop(fast=True)
    assert messages(child) == [Drain(fast=False), Drain(fast=True)]
    page.forget()
    assert page.stop(fast=False)


def test_a_process_that_hangs_is_killed(page: Page, loop: FakeLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not before its time, and not another process that has its number."""
    killed: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda *call: killed.append(call))
    child = page.start()
    child.state = State.RUNNING
    page.stop(fast=False)
    loop.pass_s(LONGEST_END_S - 0.1)
    assert killed == []
    loop.pass_s(0.2)
    assert killed == [(child.pid, signal.SIGKILL)]
    assert child.is_killed


def test_restarts_of_an_earlier_program_count(page: Page) -> None:
    """Once: for the first process of this one."""
    page.restarts = {"page": 3}
    assert page.start().restarts == 3
    page.forget()
    assert page.start().restarts == 0
