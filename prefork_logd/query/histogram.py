"""Chooses the slots of time of a histogram: round ones, as short as the number of records allows.

Does not know how bars are drawn. Local time is that of the process, or of a zone that is passed in.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefork_logd.query.search import Bar

_SLOTS_S = (0.001, 0.01, 0.1, 1, 5, 10, 30, 60, 300, 600, 1800, 3600, 3 * 3600, 6 * 3600, 12 * 3600, 86_400, 7 * 86_400)
MOST_SLOTS = 60
FEW_SLOTS = 10
"""Slots that a histogram may have even with fewer records."""


def slots_for(
    start: float, stop: float, most: int = MOST_SLOTS, zone: dt.tzinfo | None = None
) -> tuple[float, float, int]:
    """Return (start, length in seconds, number) of round slots that cover a range of time.

    Their number may be one above `most`. Days begin at midnight in `zone` (None: local time).
    """
    length = next((size for size in _SLOTS_S if (stop - start) / size <= most), None)
    if length is None:
        length = _SLOTS_S[-1] * -(-(stop - start) // (_SLOTS_S[-1] * most))
    # Some time zones differ from UTC by half hours.
    local = dt.datetime.fromtimestamp(min(max(start, 0), 1e11)).astimezone(zone)
    offset = (local.utcoffset() or dt.timedelta()).total_seconds()
    first = (start + offset) // length * length - offset
    return first, length, max(1, int(-(-(stop - first) // length)))


def zoom_in(
    histogram: Callable[[float, float, int], list[Bar]], start: float, stop: float
) -> tuple[list[Bar], float, float, int]:
    """Return the bars of a range of time, and start, length and number of slots, from the first bar to the last one.

    Calls `histogram` with ever shorter slots, until they are as short as the number of records allows.
    """
    begin, length, slots = slots_for(start, stop)
    bars = histogram(begin, length, slots)
    while bars:
        first, last = min(bar.slot for bar in bars), max(bar.slot for bar in bars)
        most = min(MOST_SLOTS, max(FEW_SLOTS, sum(bar.count for bar in bars)))
        start, stop = max(start, begin + first * length), min(stop, begin + (last + 1) * length)
        finer = slots_for(start, stop, most)
        # A range of `most` round slots may need one more, as it may begin between round times.
        if finer[1] >= length and last - first <= most:
            return (
                [bar._replace(slot=bar.slot - first) for bar in bars],
                begin + first * length,
                length,
                last - first + 1,
            )
        begin, length, slots = finer
        bars = histogram(begin, length, slots)
    return [], begin, length, 0
