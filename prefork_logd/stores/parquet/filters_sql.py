"""Writes the bounds, the order and the slots of time of a query as SQL for DuckDB.

Owns the SQL around a tree. Does not know connections, or the SQL of a node (tree_sql.py).
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

from prefork_logd.stores.parquet import engine

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prefork_logd.query.filters import Filters
    from prefork_logd.query.search import Cursor


class Bounds(NamedTuple):
    """A range of `created` in seconds since 1970, None for no end, and a condition for records in it."""

    low: float | None = None
    """Least time."""
    high: float | None = None
    """Time before which a record is, or at which it is if `sql` has no bound of it."""
    sql: str = ""
    """The whole condition; empty: every record."""

    def may_have(self, least: float, greatest: float) -> bool:
        """Return whether a record between two times may be in the range."""
        return (self.low is None or greatest >= self.low) and (self.high is None or least <= self.high)


EVER = Bounds()


def time_bounds(filters: Filters, low: float | None, high: float | None) -> Bounds:
    """Return the condition on time: from the later of the lower ends, before the earlier of the upper ends."""
    since = max((end for end in (filters.since, low) if end is not None), default=None)
    until = min((end for end in (filters.until, high) if end is not None), default=None)
    parts = [f"created >= {since!r}::DOUBLE"] if since is not None else []
    if until is not None:
        parts.append(f"created < {until!r}::DOUBLE")
    return Bounds(since, until, " AND ".join(parts))


def behind(bounds: Bounds, cursor: Cursor, filters: Filters) -> Bounds:
    """Return the bounds of the records in `bounds` that are behind a place in the order."""
    is_newest = filters.order == "newest"
    sign = "<" if is_newest else ">"
    created, record = f"{cursor.created!r}::DOUBLE", cursor.id
    place = f"({created}, {record.number}::UBIGINT, {engine.text(record.journal)})"
    condition = f"created {sign}= {created} AND (created, number, journal) {sign} {place}"
    low, high = bounds.low, bounds.high
    if is_newest:
        high = cursor.created if high is None else min(high, cursor.created)
    else:
        low = cursor.created if low is None else max(low, cursor.created)
    return Bounds(low, high, f"{bounds.sql} AND {condition}" if bounds.sql else condition)


def of_keys(keys: Sequence[Sequence[Any]]) -> Bounds:
    """Return the condition for the records with these keys: `created`, journal and number."""
    times = [created for created, _, _ in keys]
    numbers: defaultdict[str, list[str]] = defaultdict(list)
    for _, journal, number in keys:
        numbers[journal].append(f"{number}::UBIGINT")
    # DuckDB leaves out row groups by the numbers if there is one journal, as nearly always.
    ids = " OR ".join(
        f"(journal = {engine.text(journal)} AND number IN ({', '.join(some)}))" for journal, some in numbers.items()
    )
    low, high = min(times), max(times)
    return Bounds(low, high, f"created BETWEEN {low!r}::DOUBLE AND {high!r}::DOUBLE AND ({ids})")


def order_of(filters: Filters) -> str:
    """Return the order of a query's records; those of the same time come in the order of arrival."""
    direction = "DESC" if filters.order == "newest" else "ASC"
    return f"created {direction}, number {direction}, journal {direction}"


def slot_of(created: float, start: float, slot_s: float) -> int:
    """Return the slot of a time; the edges are start + slot_s * number, whatever a division says."""
    number = int((created - start) // slot_s)
    if created < start + slot_s * number:
        return number - 1
    return number + 1 if created >= start + slot_s * (number + 1) else number


def slot_sql(start: float, slot_s: float) -> str:
    """Return the same as SQL."""
    first, width = f"{start!r}::DOUBLE", f"{slot_s!r}::DOUBLE"
    number = f"CAST(floor((created - {first}) / {width}) AS BIGINT)"
    return (
        f"CASE WHEN created < {first} + {width} * {number} THEN {number} - 1 "
        f"WHEN created >= {first} + {width} * ({number} + 1) THEN {number} + 1 ELSE {number} END"
    )
