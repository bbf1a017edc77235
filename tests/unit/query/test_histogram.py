"""Bars over time begin and end with records, and are as fine as their range allows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from prefork_logd.query.histogram import MOST_SLOTS, zoom_in
from tests.support.queries import NOON, histogram_of

if TYPE_CHECKING:
    pass


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0, 3e6), min_size=1, max_size=20), st.sampled_from([1e-3, 1.0]))
def test_no_record_is_left_out_and_no_end_is_empty(offsets: list[float], scale: float) -> None:
    """Whatever the range that was asked for."""
    times = [NOON + round(offset * scale, 3) for offset in offsets]
    bars, start, slot_s, slots = zoom_in(histogram_of(times), NOON - 86_400, max(times) + 86_400)
    assert sum(bar.count for bar in bars) == len(times)
    assert (bars[0].slot, bars[-1].slot) == (0, slots - 1)
    assert start - 1e-6 <= min(times) < start + slot_s + 1e-6
    assert slots <= MOST_SLOTS + 1


def test_ten_days_in_eleven_slots_are_fine_enough() -> None:
    """Nothing finer and nothing coarser would do: the search ends there."""
    times = [NOON, NOON + 194_196.865, NOON + 833_792.324]
    bars, _, slot_s, slots = zoom_in(histogram_of(times), NOON - 86_400, max(times) + 86_400)
    assert (slot_s, slots) == (86_400, bars[-1].slot + 1)
    assert sum(bar.count for bar in bars) == 3
