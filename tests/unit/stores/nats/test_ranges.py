"""Cutting a journal into ranges: dense, bounded, and the same again after a restart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefork_logd.stores.base import Block, Run
from prefork_logd.stores.nats.publish_log import PublishLog
from prefork_logd.stores.nats.ranges import RANGE_RECORDS, Cutter

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

JOURNAL = "ab" * 16


def _block(first: int, count: int, padding: int = 0) -> Block:
    lines = b"".join(b"%d%s\n" % (number, b"x" * padding) for number in range(first, first + count))
    return Block(first, count, b"s" * 16, (Run(first + 1, count),), lines)


def _blocks(sizes: list[int], first: int = 0, padding: int = 0) -> list[Block]:
    blocks = []
    for size in sizes:
        blocks.append(_block(first, size, padding))
        first += size
    return blocks


@pytest.mark.slow
@given(
    st.lists(st.lists(st.integers(1, 5000), min_size=1, max_size=4), min_size=1, max_size=4),
    st.lists(st.integers(1, 3000), min_size=1, max_size=8),
    st.integers(0, 5),
    st.sampled_from([0, 0, 400]),
)
def test_ranges_are_dense_and_come_again(
    tmp_path_factory: pytest.TempPathFactory, writes: list[list[int]], again: list[int], settled: int, padding: int
) -> None:
    """Every record is in one range, with its number; after a restart, other blocks give the same ranges."""
    path = tmp_path_factory.mktemp("w") / "w"
    window = PublishLog(path, JOURNAL, 0)
    window.begin(0)
    cutter = Cutter(window)
    at, cuts = 0, []
    for sizes in writes:
        blocks = _blocks(sizes, at, padding)
        cuts += cutter.feed(blocks)
        at += sum(sizes)
    assert [cut.published.first for cut in cuts] == [0, *(cut.published.end for cut in cuts[:-1])]
    assert cuts[-1].published.end == at
    for published, blocks in cuts:
        numbers = [int(line.rstrip(b"x")) for block in blocks for line in block.lines.splitlines()]
        assert numbers == list(range(published.first, published.end))
        assert len(numbers) <= RANGE_RECORDS
        sessions = [n for block in blocks for run in block.runs for n in range(run.first, run.first + run.count)]
        assert sessions == [number + 1 for number in numbers]
    for cut in cuts[:settled]:
        cut.published.low = cut.published.high = 1
    window.acked([cut.published for cut in cuts[:settled]])
    window.close()
    # A restart: what is acknowledged is passed over, the rest comes in other blocks.
    window = PublishLog(path, JOURNAL, 0)
    cutter = Cutter(window)
    start = window.wanted
    assert start == (cuts[min(settled, len(cuts)) - 1].published.end if settled else 0)
    recut, first = [], start
    for size in (*again, at + 1):
        size = min(size, at - first)  # noqa: PLW2901
        if size:
            recut += cutter.feed([_block(first, size, padding)])
            first += size
    assert [(cut.published.first, cut.published.end) for cut in recut] == [
        (cut.published.first, cut.published.end) for cut in cuts[settled:]
    ]
    window.close()


def test_numbers_without_lines_are_in_the_range_before_their_successor(tmp_path: Path) -> None:
    """Filtered records have no lines; no number is left out all the same."""
    window = PublishLog(tmp_path / "w", JOURNAL, 0)
    window.begin(0)
    cuts = Cutter(window).feed([_block(5, 2), _block(10, 1)])
    assert [(cut.published.first, cut.published.end) for cut in cuts] == [(0, 11)]
    window.close()


def test_a_file_that_is_torn_counts_as_far_as_it_is_whole(tmp_path: Path) -> None:
    """At every length of the file, what is read is a beginning of what was written."""
    path = tmp_path / "w"
    window = PublishLog(path, JOURNAL, 0)
    window.begin(7)
    cuts = Cutter(window).feed(_blocks([100, 3000], 7))
    for cut in cuts:
        cut.published.low = cut.published.high = cut.published.end
    window.acked([cut.published for cut in cuts])
    window.close()
    data = path.read_bytes()
    ends = [cut.published.end for cut in cuts]
    for length in range(len(data)):
        path.write_bytes(data[:length])
        found = PublishLog(path, JOURNAL, 0)
        assert found.end in (0, 7, *ends)
        found.close()
    path.write_bytes(data)
    assert PublishLog(path, "cd" * 16, 0).is_new, "another journal's file is none"
