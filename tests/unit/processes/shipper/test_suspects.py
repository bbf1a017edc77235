"""Records that a store's own code fails at are found by writing fewer at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from prefork_logd.processes.shipper import suspects
from prefork_logd.processes.shipper.suspects import FIRST_PATIENCE, MOST_UNPROVEN, Suspects
from prefork_logd.stores.base import Block

if TYPE_CHECKING:
    from collections.abc import Sequence

FULL = 500
"""Records of a whole batch."""


def _block(first: int, count: int) -> Block:
    return Block(first, count, bytes(16), (), b"".join(b"line %d\n" % number for number in range(first, first + count)))


def _numbers(blocks: Sequence[Block]) -> list[int]:
    return [number for block in blocks for number in range(block.first, block.first + block.count)]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the monotonic time, which passes when a test says so."""
    now_s = [1000.0]
    monkeypatch.setattr(suspects.time, "monotonic", lambda: now_s[0])
    return now_s


def test_a_whole_batch_is_handed_over_at_first() -> None:
    """Nothing is suspected."""
    found = Suspects()
    batch = [_block(0, 3), _block(3, 2)]
    assert found.next_blocks(batch) == (batch, [])
    assert not found.is_stuck


def test_a_batch_that_fails_is_halved_down_to_one_record() -> None:
    """Only then a record is suspected."""
    found = Suspects()
    tried = []
    left: Sequence[Block] = [_block(0, 3), _block(3, 5)]
    while not found.waiting:
        now, _ = found.next_blocks(left)
        tried.append(_numbers(now))
        assert not found.failed(now, ValueError("no"), "no")
    assert tried == [list(range(8)), [0, 1, 2, 3], [0, 1], [0]]
    assert found.waiting == {0: (b"line 0", "no")}


def test_the_rest_of_a_batch_is_left_for_later() -> None:
    """In order, with the block that was cut in two."""
    found = Suspects()
    found.most = 4
    now, later = found.next_blocks([_block(0, 3), _block(3, 5), _block(8, 2)])
    assert (_numbers(now), _numbers(later)) == ([0, 1, 2, 3], [4, 5, 6, 7, 8, 9])
    found.most = 3
    now, later = found.next_blocks([_block(0, 3), _block(3, 5)])
    assert (_numbers(now), _numbers(later)) == ([0, 1, 2], [3, 4, 5, 6, 7])


def test_suspects_are_left_out() -> None:
    """At the ends of a block and within; a block of nothing else leaves nothing."""
    found = Suspects()
    for number in (2, 5, 9):
        found.failed([_block(number, 1)], ValueError("no"), "no")
    assert _numbers(found.without(_block(0, 10))) == [0, 1, 3, 4, 6, 7, 8]
    assert found.without(_block(5, 1)) == []
    assert found.without(_block(20, 2)) == [_block(20, 2)]


def test_a_neighbour_that_is_written_is_the_proof() -> None:
    """The next one that fails is guilty at once, and the one after it has no written neighbour again."""
    found = Suspects()
    found.most = 1
    found.written(1, FULL)
    assert found.failed([_block(7, 1)], RuntimeError("boom"), "boom")
    assert not found.failed([_block(8, 1)], RuntimeError("boom"), "boom")


def test_the_guilty_are_left_out_until_more_is_written() -> None:
    """They are dead letters then, and the journal does not bring them again."""
    found = Suspects()
    found.failed([_block(4, 1)], ValueError("no"), "no")
    found.convict()
    assert found.waiting == {}
    assert _numbers(found.without(_block(3, 3))) == [3, 5]
    found.written(2, FULL)
    assert _numbers(found.without(_block(3, 3))) == [3, 4, 5]


def test_batches_grow_again() -> None:
    """Twice as many records each time, until they are whole."""
    found = Suspects()
    found.most = 1
    seen = []
    while found.most is not None:
        seen.append(found.most)
        found.written(found.most, FULL)
    assert seen == [1, 2, 4, 8, 16, 32, 64, 128, 256]


def test_a_store_that_fails_at_everything_is_the_cause() -> None:
    """So many suspects in a row are none."""
    found = Suspects()
    for number in range(FIRST_PATIENCE):
        assert not found.is_stuck
        found.failed([_block(number, 1)], RuntimeError("boom"), "boom")
    assert found.is_stuck


def test_the_patience_doubles_with_each_search_in_vain(clock: list[float]) -> None:
    """So any number of bad records in a row is passed in the end."""
    found = Suspects()
    for patience in (FIRST_PATIENCE, 2 * FIRST_PATIENCE, 4 * FIRST_PATIENCE):
        clock[0] += 1000
        for number in range(patience):
            assert not found.is_stuck
            found.failed([_block(number, 1)], RuntimeError("boom"), "boom")
        assert found.is_stuck
        found.acquit(in_vain=True)
        assert found.waiting == {}


def test_nothing_is_suspected_for_a_while_after_a_search_in_vain(clock: list[float]) -> None:
    """The pause doubles up to its bound; anything that is written ends it."""
    found = Suspects()
    for pause_s in (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0):
        found.failed([_block(0, 1)], RuntimeError("boom"), "boom")
        assert not found.is_stuck
        found.acquit(in_vain=True)
        found.failed([_block(0, 1)], RuntimeError("boom"), "boom")
        clock[0] += pause_s - 0.1
        assert found.is_stuck
        found.acquit(in_vain=True)
        clock[0] += 0.2
    found.acquit(in_vain=True)
    found.written(1, FULL)
    found.failed([_block(0, 1)], RuntimeError("boom"), "boom")
    assert not found.is_stuck


def test_errors_that_records_cause_need_no_neighbour() -> None:
    """For a few records; then there is too much of it."""
    found = Suspects()
    for number in range(MOST_UNPROVEN):
        found.failed([_block(number, 1)], ValueError("no"), "no")
        assert found.judge_alone()
        found.convict()
    found.failed([_block(99, 1)], ValueError("no"), "no")
    assert not found.judge_alone()
    found.written(1, FULL)
    assert found.judge_alone()


def test_other_errors_are_judged_by_neighbours_alone() -> None:
    """A bug of the store, or a connection that is gone, is not the record's fault."""
    found = Suspects()
    found.failed([_block(0, 1)], RuntimeError("boom"), "boom")
    assert not found.judge_alone()
