"""Passes rows of DuckDB on to a search: judged by Python where SQL is not exact, and in pieces of a bounded size.

Does not know how rows are fetched.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from prefork_logd.records.stored import read_fields
from prefork_logd.stores.parquet.rows import make_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from prefork_logd.query.filters import Filters
    from prefork_logd.stores.parquet.tree_sql import Compiled


def judged(filters: Filters, condition: Compiled, found: Iterable[Sequence[Any]]) -> Iterator[bytes]:
    """Yield the lines of rows, without those that Python refuses."""
    for row in found:
        line = make_line(row)
        if (row[-1] is None and condition.is_exact) or filters.matches(read_fields(line)):
            yield line


def begun(rows: Iterator[Sequence[Any]]) -> Iterator[Sequence[Any]]:
    """Return rows of which the first one was read: a query for too much memory raises QueryMemoryError here."""
    first = next(rows, None)
    return itertools.chain(() if first is None else (first,), rows)


def characters(row: Sequence[Any]) -> int:
    """Return the number of characters in a row, or 1."""
    return sum(len(value) for value in row if isinstance(value, str)) or 1
