"""A child: its name and index, its deaths in a row, and the sentence about a crash loop."""

from __future__ import annotations

import os

import pytest

from prefork_logd.ipc.scoreboard import MAX_WORKERS, PAGE_SLOT, SHIPPER_SLOT, WRITER_SLOT
from prefork_logd.processes.master.child import Child, Kind
from prefork_logd.processes.master.lifecycle import FIRST_BACK_OFF_S, HEALTHY_AFTER_S, LONGEST_BACK_OFF_S, State
from prefork_logd.system import backoff


@pytest.mark.parametrize(
    ("kind", "slot", "name", "index"),
    [
        (Kind.WRITER, WRITER_SLOT, "writer", WRITER_SLOT),
        (Kind.WORKER, 3, "worker 3", 3),
        (Kind.SOURCE, MAX_WORKERS, "source 1", 1),
        (Kind.SOURCE, MAX_WORKERS - 1, "source 2", 2),
        (Kind.SHIPPER, SHIPPER_SLOT + 1, "shipper 2", 1),
        (Kind.WEB, PAGE_SLOT, "page", 0),
    ],
)
def test_a_child_is_named_after_its_slot(kind: Kind, slot: int, name: str, index: int) -> None:
    """Sources are counted from the end of the workers' slots; an inherited shipper's store is not known."""
    child = Child(kind, slot)
    assert (child.name, child.index) == (name, index)


def test_the_back_off_doubles_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first restart is quick, and a crash loop never spins."""
    monkeypatch.setattr(backoff.random, "uniform", lambda *_: 1.0)
    child = Child(Kind.WORKER, 1)
    waits = [child.record_death(0.0) for _ in range(99)]
    assert waits[:4] == [FIRST_BACK_OFF_S, 0.2, 0.4, 0.8]
    assert waits == sorted(waits)
    assert waits[-1] == LONGEST_BACK_OFF_S


def test_children_that_died_together_are_not_forked_together() -> None:
    """Each delay is a little longer or shorter than the doubled one."""
    delays = {Child(Kind.WORKER, 1).record_death(0.0) for _ in range(50)}
    assert len(delays) > 1
    assert all(0.9 * FIRST_BACK_OFF_S <= delay <= 1.1 * FIRST_BACK_OFF_S for delay in delays)


def test_a_child_that_lived_for_a_while_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its death is the first in a row."""
    monkeypatch.setattr(backoff.random, "uniform", lambda *_: 1.0)
    child = Child(Kind.WORKER, 1, started_s=100.0)
    assert [child.record_death(100.5), child.record_death(101.0)] == [FIRST_BACK_OFF_S, 2 * FIRST_BACK_OFF_S]
    assert child.record_death(100.0 + HEALTHY_AFTER_S) == FIRST_BACK_OFF_S
    assert child.backoff.failures == 1


def test_a_crash_loop_is_told_while_the_child_is_young() -> None:
    """Between two processes, and in the first moments of the next one; the first death alone is none."""
    child = Child(Kind.WORKER, 1, State.RUNNING, last_exit="ended with status 70")
    child.record_death(0.0)
    assert child.crash_loop(0.1) == ""
    child.record_death(0.0)
    assert child.crash_loop(0.1) == "worker 1 ended with status 70, 2 times in a row; it has just been started again"
    assert child.crash_loop(HEALTHY_AFTER_S) == ""
    child.state, child.due_s = State.WAITING, 6.0
    assert child.crash_loop(4.5) == "worker 1 ended with status 70; it starts again in 1.5 s"
    child.last_exit = ""
    assert child.crash_loop(4.5) == ""


def test_the_memory_of_a_worker_is_closed_once() -> None:
    """The second call closes nothing, for another file may have the number by then."""
    fd = os.memfd_create("lines")
    child = Child(Kind.WORKER, 1, arena_fd=fd)
    child.close_arena()
    assert child.arena_fd == -1
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
    child.close_arena()
