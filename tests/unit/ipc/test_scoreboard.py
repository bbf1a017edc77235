"""Counters are seen by all processes, each in its own place."""

from __future__ import annotations

import os

import pytest

from prefork_logd.config.values import MAX_OUTPUTS
from prefork_logd.ipc.scoreboard import (
    LIMIT_PLACES,
    MAX_LISTENERS,
    MAX_WORKERS,
    Field,
    LimitField,
    ListenerField,
    OutputField,
    Scoreboard,
)


@pytest.mark.slow
def test_what_a_child_counts_its_parent_sees() -> None:
    """The memory is shared, and survives the child."""
    board = Scoreboard()
    pid = os.fork()
    if pid == 0:
        board.slot(3)[Field.RECORDS] = 2**40
        os._exit(0)
    os.waitpid(pid, 0)
    assert board.slot(3)[Field.RECORDS] == 2**40
    assert board.total(Field.RECORDS) == 2**40


def test_no_two_places_overlap() -> None:
    """Each slot and each output has memory of its own, up to the last."""
    board = Scoreboard()
    cells = [(board.slot(slot), field) for slot in range(MAX_WORKERS + 1) for field in Field]
    cells += [
        (board.limit(slot, limit), field)
        for limit in (0, 1, LIMIT_PLACES - 1)
        for slot in (0, 1, MAX_WORKERS)
        for field in LimitField
    ]
    cells += [(board.output(place), field) for place in range(MAX_OUTPUTS + 1) for field in OutputField]
    for value, (view, field) in enumerate(cells, 1):
        view[field] = value
    assert [view[field] for view, field in cells] == list(range(1, len(cells) + 1))


def test_loads_are_those_of_workers_that_accept() -> None:
    """A worker that retires takes no part in sharing."""
    board = Scoreboard()
    board.use_slots(3)
    for slot in (1, 2, 3):
        board.slot(slot)[Field.CONNECTIONS] = slot * 10
        board.slot(slot)[Field.ACCEPTED] = slot * 100
    for slot in (1, 3):
        board.slot(slot)[Field.ACCEPTING] = 1
    assert board.loads() == [(1, 10, 100), (3, 30, 300)]


def test_listeners_beyond_the_last_place_share_it() -> None:
    """And leave the next worker's alone."""
    board = Scoreboard()
    for index in (MAX_LISTENERS - 1, MAX_LISTENERS, MAX_LISTENERS + 7):
        board.listener(1, index)[ListenerField.RECORDS] += 1
    assert board.listener(1, MAX_LISTENERS - 1)[ListenerField.RECORDS] == 3
    assert board.listener(2, 0)[ListenerField.RECORDS] == 0
