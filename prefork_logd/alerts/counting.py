"""Counts the records of a window that match a rule's query.

Owns how a window is asked for. Does not know stores: it asks any Search (query/search.py), nor states.

A record counts by the time at which the collector received it, not by `created`: one that waited in a service's spool
is late, but it is new. `created` is bounded, too, so that a store can leave out old files.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from prefork_logd.errors import StoreError
from prefork_logd.query import analysis, language, tree
from prefork_logd.query.filters import Filters
from prefork_logd.query.statistics import Aggregate, Statistics
from prefork_logd.records.stored import read_fields

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from prefork_logd.alerts.clock import Range
    from prefork_logd.query.conditions import Field
    from prefork_logd.query.search import Found, Search

MOST_READ = 50_000
"""Records that are read one by one after the clock was set."""
_PAGE = 1_000


class _Arrival(msgspec.Struct):
    received: float = 0.0


_read_arrival = msgspec.json.Decoder(_Arrival).decode


class Counts(NamedTuple):
    """How many records of a window have each value of a field."""

    rows: list[tuple[Any, int]]
    """The most frequent values; None stands for records without one."""
    rest: int
    """No value that is not in `rows` has more records than this."""


def count(
    search: Search,
    query: str,
    ranges: Sequence[Range],
    lateness_s: float,
    enough: int,
    journal: str,
    *,
    is_simple: bool,
) -> int:
    """Return how many records of a window match; it stops at `enough` if records have to be read one by one.

    `journal` is the collector's own. Raises StoreError, ValueError for a query.
    """
    filters = _filters(search, query, ranges, lateness_s)
    if is_simple:
        return search.count(filters)
    found = 0
    for _ in _arrived(search, filters, ranges, journal):
        found += 1
        if found >= enough:
            break
    return found


def count_by(
    search: Search,
    query: str,
    ranges: Sequence[Range],
    lateness_s: float,
    field: Field,
    journal: str,
    *,
    is_simple: bool,
) -> Counts:
    """Return how many records of a window match, by the values of a field. Raises StoreError, ValueError."""
    filters = _filters(search, query, ranges, lateness_s)
    if is_simple:
        return _counts(search, filters, field)
    arrived = (read_fields(record.line) for record in _arrived(search, filters, ranges, journal))
    rows, left_out = analysis.stats_of(arrived, _by(field))
    return Counts([(value, number) for value, number in rows], rows[-1][1] if left_out else 0)


def count_past(search: Search, query: str, past: Range, lateness_s: float) -> int:
    """Return how many records of a window that is over match. Raises StoreError, ValueError."""
    return search.count(_within(_filters(search, query, (past,), lateness_s), past))


def count_past_by(search: Search, query: str, past: Range, lateness_s: float, field: Field) -> Counts:
    """Return the same by the values of a field. Raises StoreError, ValueError."""
    return _counts(search, _within(_filters(search, query, (past,), lateness_s), past), field)


def _by(field: Field) -> Statistics:
    return Statistics((Aggregate("count", "count"),), (field,))


def _counts(search: Search, filters: Filters, field: Field) -> Counts:
    table = search.stats(filters, _by(field))
    return Counts([(value, number) for value, number in table.rows], table.rows[-1][1] if table.left_out else 0)


def _filters(search: Search, query: str, ranges: Sequence[Range], lateness_s: float) -> Filters:
    least = min(one.least for one in ranges)
    node = language.parse(query, now=ranges[-1].least, carried=search.levels)
    arrived = tree.Compare(("received",), ">=", f"{least:.6f}")
    return Filters(since=least - lateness_s, tree=tree.all_of((node, arrived)), order="newest")


def _within(filters: Filters, past: Range) -> Filters:
    """Return the filters of a window that is over."""
    below = tree.Compare(("received",), "<", f"{past.below:.6f}")
    return replace(filters, tree=tree.all_of((filters.tree, below)))


def _arrived(search: Search, filters: Filters, ranges: Sequence[Range], journal: str) -> Iterator[Found]:
    """Yield the records of a window by their numbers, because `received` is ambiguous after the clock was set."""
    read, cursor = 0, None
    while True:
        page = search.page(replace(filters, limit=_PAGE), cursor)
        yield from (record for record in page.records if _is_in(record, ranges, journal))
        read += len(page.records)
        cursor = page.cursor
        if cursor is None:
            return
        if read >= MOST_READ:
            raise StoreError(
                f"the clock was set, and more than {MOST_READ:,} records match; write a query that matches fewer, "
                "or wait until the window has passed"
            )


def _is_in(record: Found, ranges: Sequence[Range], journal: str) -> bool:
    try:
        received = _read_arrival(record.line).received
    except msgspec.MsgspecError:
        return False
    number = record.id.number if record.id.journal == journal else None
    return any(
        one.least <= received < one.below
        and (number is None or (one.first <= number and (one.last is None or number < one.last)))
        for one in ranges
    )
