"""Divides time into ranges that follow each other in the order of a query.

Owns how long each range is. Does not know SQL or how records are counted.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from prefork_logd.query.filters import Filters

FIRST_REACH = 250_000
"""Records among which the first ones of an order are searched, if records are evenly spread over their time."""
_GROWTH = 4
"""How many times more records each further search is for."""
FIRST_SLICE = 20_000
"""Records among which the first lines are searched."""
SLICE = 100_000
"""Records of each further slice."""
SLOTS = 4_096
"""Parts of the range of time whose records are counted to cut it into slices."""

Range = tuple[float | None, float | None]
"""From a time on, before a time, in seconds since 1970; None: no end."""


class Ends(NamedTuple):
    """The least and the greatest `created`, and the number of records between them."""

    least: float
    greatest: float
    records: int


def reaches(ends: Ends, filters: Filters, after: float | None = None) -> Iterator[Range]:
    """Yield ranges of `created` in order, each longer than the one before.

    They begin at the end of time where the order begins, or at the time `after`. Together they have every record.
    """
    low = max(ends.least, ends.least if filters.since is None else filters.since)
    high = min(ends.greatest, ends.greatest if filters.until is None else filters.until)
    is_newest = filters.order == "newest"
    if after is not None:
        low, high = (low, min(high, after)) if is_newest else (max(low, after), high)
    width = (ends.greatest - ends.least) * FIRST_REACH / ends.records
    last: float | None = None
    while 0 < width < high - low:
        if is_newest:
            high -= width
            yield high, last
            last = high
        else:
            low += width
            yield last, low
            last = low
        width *= _GROWTH
    yield (None, last) if is_newest else (last, None)


def slices(least: float, width: float, counts: Sequence[tuple[int, int]], order: str) -> Iterator[Range]:
    """Yield ranges of `created` in order, each with a bounded number of records, unless they have the same time.

    `counts` has pairs of a slot and its number of records, in order; slot n begins at least + width * n.
    """
    is_newest = order == "newest"
    edges: list[float] = []
    total, most_records = 0, FIRST_SLICE
    for slot, count in reversed(counts) if is_newest else counts:
        if total and total + count > most_records:
            edges.append(least + width * (slot + 1 if is_newest else slot))
            total, most_records = 0, SLICE
        total += count
    yield from (
        itertools.pairwise([None, *edges, None])
        if not is_newest
        else ((low, high) for high, low in itertools.pairwise([None, *edges, None]))
    )


def halved(whole: Range, least: float, greatest: float, order: str) -> tuple[Range, ...]:
    """Return the halves of a range, in order, by the ends of its records; none if these have the same time."""
    middle = least + (greatest - least) / 2
    if not least < middle <= greatest:
        return ()
    halves = ((whole[0], middle), (middle, whole[1]))
    return halves[::-1] if order == "newest" else halves
