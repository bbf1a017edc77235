"""Counts the records of a window that match a rule's query.

Owns how a window is asked for. Does not know stores: it asks any Search (query/search.py), nor states.

A record counts by the time at which the collector received it, not by `created`: one that waited in a service's spool
is late, but it is new. `created` is bounded, too, so that a store can leave out old files.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec

from prefork_logd.errors import StoreError
from prefork_logd.query import language, tree
from prefork_logd.query.filters import Filters

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prefork_logd.alerts.clock import Range
    from prefork_logd.query.search import Found, Search

MOST_READ = 50_000
"""Records that are read one by one after the clock was set."""
_PAGE = 1_000


class _Arrival(msgspec.Struct):
    received: float = 0.0


_read_arrival = msgspec.json.Decoder(_Arrival).decode


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
    least = min(one.least for one in ranges)
    node = language.parse(query, now=ranges[-1].least, carried=search.levels)
    arrived = tree.Compare(("received",), ">=", f"{least:.6f}")
    filters = Filters(since=least - lateness_s, tree=tree.all_of((node, arrived)), order="newest")
    if is_simple:
        return search.count(filters)
    return _count_each(search, replace(filters, limit=_PAGE), ranges, enough, journal)


def _count_each(search: Search, filters: Filters, ranges: Sequence[Range], enough: int, journal: str) -> int:
    """Count by the numbers of records, because `received` is ambiguous after the clock was set."""
    found, read, cursor = 0, 0, None
    while True:
        page = search.page(filters, cursor)
        found += sum(_is_in(record, ranges, journal) for record in page.records)
        read += len(page.records)
        cursor = page.cursor
        if cursor is None or found >= enough:
            return found
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
