"""Makes a search find the same records later: without those that arrive from now on.

Does not know how a search is passed on.
"""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from prefork_logd.query.language import QueryError, any_level, parse

if TYPE_CHECKING:
    from prefork_logd.query.filters import Filters
    from prefork_logd.query.search import Search


class Lasting(NamedTuple):
    """What a search without an end becomes."""

    q: str
    """In the query language."""
    until: float
    """In seconds since 1970."""


def make_lasting(search: Search, q: str, filters: Filters, now: float) -> Lasting:
    """Return the query and the end with which a search without an end finds its records of now.

    `filters` are those of `q` with a beginning. The end is now, unless a record that matches has a time in the future:
    the clock of its sender is ahead. Then the end is behind that record, and the query leaves out what is received
    from now on. In a query that is as large as one may be there is no room for that: its end is now. Raises StoreError,
    and ValueError where the store does.
    """
    least = now if filters.since is None else max(now, filters.since)
    ahead = search.page(replace(filters, since=least, order="newest", limit=1)).records
    if not ahead:
        return Lasting(q, now)
    moment = dt.datetime.fromtimestamp(now, dt.UTC).isoformat(timespec="milliseconds").removesuffix("+00:00")
    # Not `received<`: imported records may lack the field.
    bound = f'-received>="{moment}Z"'
    if q.strip():
        bound = f"({q}) {bound}"
    try:
        parse(bound, now=now, carried=any_level)
    except QueryError:
        return Lasting(q, now)
    # Addresses have milliseconds.
    return Lasting(bound, math.floor(ahead[0].created * 1e3 + 1) / 1e3)
