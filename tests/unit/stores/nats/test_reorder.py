"""The records of a journal are put in order again, each number once."""

from __future__ import annotations

import itertools
import random

import pytest

from prefork_logd.stores.nats.reorder import JournalOrder, Next
from prefork_logd.stores.nats.wire import Range


def _range(first: int, end: int, floor: int = 0) -> Range:
    return Range("0" * 32, first, end, floor, "none")


def test_messages_in_order_go_through() -> None:
    """None is held."""
    order: JournalOrder[str] = JournalOrder(5)
    assert order.offer(_range(5, 8), "a", 100) == ([Next(5, 8, "a")], [])
    assert order.offer(_range(8, 9), "b", 100) == ([Next(8, 9, "b")], [])
    assert (order.expected, order.held, order.held_bytes) == (9, 0, 0)


def test_one_that_is_early_is_held() -> None:
    """Until those before it have come."""
    order: JournalOrder[str] = JournalOrder(0)
    assert order.offer(_range(4, 6), "c", 30) == ([], [])
    assert order.offer(_range(2, 4), "b", 20) == ([], [])
    assert (order.held, order.held_bytes) == (2, 50)
    assert order.offer(_range(0, 2), "a", 10) == ([Next(0, 2, "a"), Next(2, 4, "b"), Next(4, 6, "c")], [])
    assert (order.held, order.held_bytes) == (0, 0)


def test_a_repetition_is_of_no_use() -> None:
    """Neither after its turn nor while it is held; of two with the same beginning the longer one is kept."""
    order: JournalOrder[str] = JournalOrder(0)
    order.offer(_range(0, 2), "a")
    assert order.offer(_range(0, 2), "again") == ([], ["again"])
    assert order.offer(_range(4, 6), "short", 10) == ([], [])
    assert order.offer(_range(4, 6), "same", 10) == ([], ["same"])
    assert order.offer(_range(4, 8), "long", 20) == ([], ["short"])
    assert order.held_bytes == 20
    assert order.offer(_range(2, 4), "b") == ([Next(2, 4, "b"), Next(4, 8, "long")], [])


def test_ranges_may_overlap() -> None:
    """Numbers that have had their turn are left out of the next item; one with nothing new is of no use."""
    order: JournalOrder[str] = JournalOrder(0)
    order.offer(_range(2, 3), "within")
    assert order.offer(_range(0, 5), "a") == ([Next(0, 5, "a")], ["within"])
    assert order.offer(_range(3, 8), "b") == ([Next(5, 8, "b")], [])


def test_numbers_below_the_floor_will_never_come() -> None:
    """They are passed over, up to what is held."""
    order: JournalOrder[str] = JournalOrder(0)
    assert order.offer(_range(6, 8), "a") == ([], [])
    assert order.offer(_range(20, 22, floor=10), "b") == ([Next(0, 6, None), Next(6, 8, "a"), Next(8, 10, None)], [])
    assert order.expected == 10
    assert order.held == 1


def test_the_last_one_is_given_up_first() -> None:
    """When too much is held: it is read again later."""
    order: JournalOrder[str] = JournalOrder(0)
    assert order.give_up_last() is None
    order.offer(_range(4, 6), "b", 1)
    order.offer(_range(8, 9), "c", 2)
    assert order.give_up_last() == "c"
    assert (order.held, order.held_bytes) == (1, 1)


@pytest.mark.parametrize("seed", range(20))
def test_any_order_with_repetitions_gives_each_number_once(seed: int) -> None:
    """In order, and with the item that holds it."""
    chance = random.Random(seed)
    bounds = sorted({0, 100, *chance.sample(range(1, 100), 15)})
    ranges = [_range(first, end) for first, end in itertools.pairwise(bounds)]
    ranges += chance.sample(ranges, 5)
    chance.shuffle(ranges)
    order: JournalOrder[Range] = JournalOrder(0)
    numbers, useless = [], []
    for one in ranges:
        steps, unused = order.offer(one, one)
        useless += unused
        for step in steps:
            assert step.item is not None
            assert step.item.first <= step.first < step.end <= step.item.end
            numbers += range(step.first, step.end)
    assert numbers == list(range(100))
    assert len(useless) == 5
    assert order.held == 0
