"""Counts records by the minutes and levels in the indexes of segments, for conditions that are about nothing else.

Owns the conditions and slots that are served, and the sums. Does not know where counts are kept (index.py) or SQL.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any

from prefork_logd.query import evaluate
from prefork_logd.query.tree import And, Compare, Has, Not, Or
from prefork_logd.stores.parquet.filters_sql import slot_of, slot_sql, time_bounds
from prefork_logd.stores.parquet.index import MINUTE_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from prefork_logd.query.filters import Filters
    from prefork_logd.query.tree import Node
    from prefork_logd.stores.parquet.filters_sql import Bounds
    from prefork_logd.stores.parquet.index import Count

_FARTHEST_S = 1 << 40
"""Up to this time in seconds floats have minutes exactly, and every slot of whole minutes."""


def is_about_levels(node: Node) -> bool:
    """Return whether a condition is about the levelno of a record only."""
    match node:
        case And(parts) | Or(parts):
            return all(map(is_about_levels, parts))
        case Not(part):
            return is_about_levels(part)
        case Compare(path) | Has(path):
            return path == ("levelno",)
        case _:
            return False


def whole_minutes(bounds: Bounds, start: float, slot_s: float) -> tuple[int, int] | None:
    """Return the first minute of a range of time with two ends that is wholly in it, and the one after the last.

    None: there is none, or the slots of this length from `start` on do not consist of minutes.
    """
    if bounds.low is None or bounds.high is None or start % MINUTE_S or slot_s % MINUTE_S:
        return None
    if max(abs(bounds.low), abs(bounds.high)) > _FARTHEST_S:
        return None
    first, following = math.ceil(bounds.low / MINUTE_S), math.floor(bounds.high / MINUTE_S)
    return (first, following) if first < following else None


class Sums:
    """The numbers of records by slot and level, for the minutes of a range and the levels that a condition accepts."""

    def __init__(self, node: Node, minutes: tuple[int, int], start: float, slot_s: float) -> None:
        self._node = node
        self._first, self._following = minutes
        self._start = start
        self._slot_s = slot_s
        self._slots: dict[int, int] = {}
        self._accepted: dict[int | None, bool] = {}
        self.counts: Counter[tuple[int, int]] = Counter()
        """By slot and level; level 0 has the records without a level, too."""

    def add(self, counts: Iterable[Count]) -> None:
        """Add the counts of a file."""
        for minute, level, count in counts:
            if not self._first <= minute < self._following:
                continue
            if level not in self._accepted:
                record = {} if level is None else {"levelno": level}
                self._accepted[level] = evaluate.matches(self._node, record)
            if self._accepted[level]:
                slot = self._slots.get(minute)
                if slot is None:
                    slot = self._slots[minute] = slot_of(minute * MINUTE_S, self._start, self._slot_s)
                self.counts[slot, level or 0] += count


def count_exact(
    fetch: Callable[..., Iterator[Sequence[Any]]],
    count_files: Callable[[Bounds, Callable[[list[Count]], None]], set[str]],
    filters: Filters,
    bounds: Bounds,
    start: float,
    slot_s: float,
) -> Counter[tuple[int, int]]:
    """Return how many records without a line beside their columns match, by slot and level.

    Whole minutes are counted by `count_files` (contents.py), if the condition is about levels. `fetch` yields the rows
    of a query of matching records.
    """
    minutes = whole_minutes(bounds, start, slot_s) if is_about_levels(filters.tree) else None
    parts: list[tuple[Bounds, set[str] | None]] = [(bounds, None)]
    counts: Counter[tuple[int, int]] = Counter()
    if minutes is not None:
        sums = Sums(filters.tree, minutes, start, slot_s)
        low, high = (float(minute * MINUTE_S) for minute in minutes)
        inner = time_bounds(filters, low, high)
        ends = (time_bounds(filters, bounds.low, low), time_bounds(filters, high, bounds.high))
        parts = [(end, None) for end in ends if end.low != end.high]
        parts.append((inner, count_files(inner, sums.add)))
        counts = sums.counts
    select = f"{slot_sql(start, slot_s)} AS slot, coalesce(levelno, 0) AS level, count(*)"
    for part, files in parts:
        for number, level, count in fetch(select, end="GROUP BY slot, level", bounds=part, among=files):
            counts[number, level] += count
    return counts
