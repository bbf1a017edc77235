"""A filtered store gets what it lets through, under the right numbers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from prefork_logd.config.stores.custom import CustomStoreSettings
from prefork_logd.journal.record_block import Entry
from prefork_logd.stores.record_filter import RecordFilter


@given(st.lists(st.tuples(st.sampled_from([20, 40]), st.booleans()), min_size=1, max_size=30), st.integers(0, 9))
def test_a_picked_record_keeps_its_numbers(wanted: list[tuple[int, bool]], first: int) -> None:
    """The journal's, and its session's, which may have holes."""
    lines, runs, session_number, expected = [], [], 100, []
    for index, (level, hole) in enumerate(wanted):
        session_number += 1 + hole
        lines.append(b'{"name":"a","levelno":%d,"session":%d}\n' % (level, session_number))
        runs.append((session_number, 1))
        if level == 40:
            expected.append((first + index, session_number, lines[-1]))
    picker = RecordFilter(CustomStoreSettings(level="ERROR"))
    found = []
    for block in picker.pick(Entry(first, len(lines), 1, b"s" * 16, tuple(runs), b"".join(lines), 0)):
        numbers = [number for run in block.runs for number in range(run.first, run.first + run.count)]
        split = block.lines.splitlines(keepends=True)
        assert block.count == len(split) == len(numbers)
        found += list(zip(range(block.first, block.first + block.count), numbers, split, strict=True))
    assert found == expected


def test_a_store_of_some_services() -> None:
    """The fields of the line count, whoever sent it."""
    lines = [b'{"service":"shop"}\n', b'{"service":"cart","environment":"test"}\n', b'{"name":"shop"}\n']
    for settings, wanted in (
        (CustomStoreSettings(services=("shop", "cart")), lines[:2]),
        (CustomStoreSettings(services=("cart",), environments=("prod",)), []),
        (CustomStoreSettings(environments=("test",)), lines[1:2]),
    ):
        assert settings.is_filtered
        blocks = RecordFilter(settings).pick(Entry(0, 3, 1, b"s" * 16, ((1, 3),), b"".join(lines), 0))
        assert b"".join(block.lines for block in blocks) == b"".join(wanted)
