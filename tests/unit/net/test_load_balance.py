"""Connections spread over the workers, and none waits for a worker that does not come."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefork_logd.net.load_balance import (
    PATIENCE_S,
    TOLERANCE,
    AcceptShare,
    Budget,
    Load,
    distribute,
    is_even,
    surpluses,
)


class Board:
    """What the workers show of themselves."""

    def __init__(self, workers: int) -> None:
        self.connections = dict.fromkeys(range(1, workers + 1), 0)
        self.accepted = dict.fromkeys(range(1, workers + 1), 0)

    def loads(self) -> list[Load]:
        return [Load(slot, self.connections[slot], self.accepted[slot]) for slot in self.connections]

    def accept(self, slot: int) -> None:
        self.connections[slot] += 1
        self.accepted[slot] += 1

    def share(self, slot: int) -> AcceptShare:
        return AcceptShare(slot, self.loads, 10_000, 5_000)


@pytest.mark.slow
@given(st.integers(1, 8), st.integers(0, 400), st.integers(0, 2**32))
def test_whoever_asks_first_the_shares_stay_even(workers: int, connections: int, seed: int) -> None:
    """Somebody takes each connection, and nobody ends more than a few above another."""
    board, order = Board(workers), random.Random(seed)
    shares = {slot: board.share(slot) for slot in board.connections}
    for _ in range(connections):
        takers = [slot for slot in shares if shares[slot].is_my_turn(0.0)]
        assert takers
        board.accept(order.choice(takers))
    most, least = max(board.connections.values()), min(board.connections.values())
    assert most - least <= TOLERANCE + 1


def test_a_worker_that_makes_no_progress_is_counted_out_until_it_does() -> None:
    """What waits for a stopped worker is taken by the others, evenly, after a moment of patience."""
    board = Board(3)
    for slot in (2, 3):
        for _ in range(10):
            board.accept(slot)
    share = board.share(2)
    assert not share.is_my_turn(1.0)
    assert not share.is_my_turn(1.0 + PATIENCE_S / 2)
    assert share.is_my_turn(1.0 + PATIENCE_S)
    for _ in range(TOLERANCE + 1):
        assert share.is_my_turn(1.1), "the stopped one stays counted out"
        board.accept(2)
    assert not share.is_my_turn(1.1), "but the living ones still share"
    board.accept(1)
    assert not share.is_my_turn(2.0), "and once it moves again it is the emptiest"


def test_progress_of_the_emptiest_renews_the_patience() -> None:
    """A busy worker that does accept is left its connections."""
    board = Board(2)
    for _ in range(20):
        board.accept(2)
    share = board.share(2)
    for step in range(10):
        assert not share.is_my_turn(step * PATIENCE_S * 0.9)
        board.accept(1)


def test_room_is_bounded_for_one_and_for_all() -> None:
    """No worker holds more than it can, and all together no more than they may."""
    board = Board(2)
    share = AcceptShare(1, board.loads, 5, 3)
    for _ in range(3):
        assert share.has_room()
        board.accept(1)
    assert not share.has_room()
    board.connections[1] = 1
    for _ in range(4):
        board.accept(2)
    assert not share.has_room()
    share.max_connections = 6
    assert share.has_room()


@given(st.integers(0, 500), st.lists(st.integers(0, 100), min_size=1, max_size=8))
def test_what_is_handed_over_fills_the_emptiest_first(count: int, loads: list[int]) -> None:
    """Everything is given out, and nobody gets any while another holds less."""
    given_out = distribute(count, loads)
    assert sum(given_out) == count
    assert min(given_out) >= 0
    after = [load + more for load, more in zip(loads, given_out, strict=True)]
    assert all(total <= min(after) + 1 for total, more in zip(after, given_out, strict=True) if more)


@given(st.lists(st.integers(0, 2000), min_size=1, max_size=8))
def test_levelled_workers_hold_equally_many(loads: list[int]) -> None:
    """Moves by the fuller ones make all even, to within one; loads that are even enough are left alone."""
    more = surpluses(loads, 1_000_000)
    assert all(0 <= count <= load for count, load in zip(more, loads, strict=True))
    kept = [load - count for load, count in zip(loads, more, strict=True)]
    after = [load + count for load, count in zip(kept, distribute(sum(more), kept), strict=True)]
    assert sum(after) == sum(loads)
    assert max(after) - min(after) <= 1
    assert is_even(after)


def test_levelling_begins_where_accepting_would_not_have_ended() -> None:
    """Loads that accepts leave are even, at any size; from a tenth of the average on they are not."""
    assert is_even([])
    assert is_even([TOLERANCE + 1, 0, 0, 0])
    assert not is_even([TOLERANCE + 2, 0, 0, 0])
    assert is_even([105, 95, 100, 100])
    assert not is_even([400, 0, 0, 0])
    assert not is_even([106, 94, 100, 100])


def test_one_move_is_bounded() -> None:
    """Where more would have to move than may, each gives its part of it."""
    assert surpluses([400, 200, 0, 0], 1000) == [250, 50, 0, 0]
    assert surpluses([400, 200, 0, 0], 150) == [125, 25, 0, 0]
    assert sum(surpluses([40_000, 0, 0, 0], 10_000)) == 10_000
    assert surpluses([40, 0], 0) == [0, 0]


def test_a_budget_fills_up_again() -> None:
    """A spent budget fills up with time, and never above the stock."""
    budget = Budget(100, 10)
    assert budget.left(5.0) == 100
    budget.spend(90)
    assert budget.left(5.0) == 10
    assert budget.left(6.0) == 20
    assert budget.left(1000.0) == 100
