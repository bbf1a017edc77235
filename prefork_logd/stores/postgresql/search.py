"""Searches a PostgreSQL store: the answers to `query`.

Owns which statement answers which question. Does not know how a condition becomes SQL (filters_sql.py), or how rows are
read (reader.py). Needs no running collector.
"""

from __future__ import annotations

import contextlib
import itertools
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from psycopg import sql

from prefork_logd.query import analysis
from prefork_logd.query.by_lines import SAMPLED_MESSAGES, SearchByLines
from prefork_logd.query.long_values import key_of_text, value_of_key
from prefork_logd.query.patterns import MOST_CHARACTERS
from prefork_logd.query.search import (
    Bar,
    Coverage,
    Facet,
    Facets,
    FacetValue,
    Limits,
    Page,
    Patterns,
    Table,
    levels_by_name,
)
from prefork_logd.stores import rows
from prefork_logd.stores.postgresql.analysis_sql import facets_statement, stats_statement
from prefork_logd.stores.postgresql.filters_sql import compile_filters
from prefork_logd.stores.postgresql.reader import Reader, order_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from prefork_logd.config.stores.postgresql import PostgresqlStoreSettings
    from prefork_logd.query.conditions import Field
    from prefork_logd.query.filters import Filters
    from prefork_logd.query.search import Cursor, Found, RecordId
    from prefork_logd.query.statistics import Statistics
    from prefork_logd.stores.postgresql.conditions_sql import Parameters

MOST_JUDGED = 100_000
"""Records that facets and the like look at if SQL cannot judge the filters, and each record has to be read."""
PAGE = 50
_LATEST_ROWS = 100_000


def open_search(settings: PostgresqlStoreSettings, journal: Path | None = None) -> PostgresqlSearch:  # noqa: ARG001 - not read
    """Return the store of these settings, opened for reading. Raises StoreError."""
    return PostgresqlSearch(settings.dsn, settings.schema)


class PostgresqlSearch(SearchByLines):
    """A Search (query/search.py) of one schema."""

    def __init__(self, dsn: str = "", schema: str = "prefork_logd") -> None:
        """Connect. Raises StoreError if the server cannot be reached, or has no table of records."""
        self._reader = Reader(dsn, schema)
        super().__init__()

    @property
    def limits(self) -> Limits:
        """Bounds of the calls that follow."""
        return self._reader.limits

    @limits.setter
    def limits(self, limits: Limits) -> None:
        self._reader.limits = limits

    def lines(self, filters: Filters) -> Iterator[bytes]:
        """Yield the line of each matching record, in the order and up to the number in `filters`."""
        self._reader.begin()
        with contextlib.closing(self._reader.found(filters)) as found:
            yield from (one.line for one in itertools.islice(found, filters.limit))

    def page(self, filters: Filters, cursor: Cursor | None = None) -> Page:
        """Return matching records with their ids, from the cursor on."""
        limit = PAGE if filters.limit is None else filters.limit
        found = self._checked(replace(filters, limit=limit + 1), cursor)
        records = list(itertools.islice(found, limit + 1))
        has_more = 0 < limit < len(records)
        return Page(records[:limit], records[limit - 1].cursor if has_more else None)

    def _checked(self, filters: Filters, cursor: Cursor | None = None, *, only_raw: bool = False) -> Iterator[Found]:
        """Yield matching records until the deadline."""
        self._reader.begin()
        with contextlib.closing(self._reader.found(filters, cursor, only_raw=only_raw)) as found:
            for one in found:
                self._reader.check()
                yield one

    def get(self, record: RecordId) -> Found | None:
        """Return one record by its id."""
        self._reader.begin()
        return self._reader.get(record)

    def count(self, filters: Filters) -> int:
        """Return the number of matching records."""
        where = compile_filters(filters)
        filters = replace(filters, limit=None)
        if not where.is_exact:
            return sum(1 for _ in self._checked(filters))
        self._reader.begin()
        condition = where.text if where.is_exact_for_raw else sql.SQL("{} AND raw IS NULL").format(where.text)
        statement = sql.SQL("SELECT count(*) FROM {} WHERE {}").format(self._reader.table, condition)
        count = int(self._reader.rows(statement, where.named)[0][0])
        return count if where.is_exact_for_raw else count + sum(1 for _ in self._checked(filters, only_raw=True))

    def span(self) -> tuple[float, float] | None:
        """Return the least and the greatest `created`, to the microsecond; None without a record."""
        self._reader.begin()
        statement = sql.SQL("SELECT extract(epoch FROM min(time)), extract(epoch FROM max(time)) FROM {}")
        row = self._reader.rows(statement.format(self._reader.table))[0]
        return None if row[0] is None else (float(row[0]), float(row[1]))

    def histogram(self, filters: Filters, start: float, slot_s: float, slots: int) -> list[Bar]:
        """Return the number of matching records in each slot of time."""
        counts: Counter[tuple[int, int]] = Counter()
        for slot, levelno, count in self._slots(replace(filters, limit=None), start, slot_s):
            if 0 <= slot < slots:
                counts[slot, levelno] += count
        return [Bar(*key, count) for key, count in sorted(counts.items())]

    def _slots(self, filters: Filters, start: float, slot_s: float) -> Iterator[tuple[int, int, int]]:
        where = compile_filters(filters)
        if not where.is_exact_for_raw:
            for found in self._checked(filters, only_raw=where.is_exact):
                row = rows.decode(found.line)
                yield int((row.created - start) // slot_s), row.levelno or 0, 1
        if not where.is_exact:
            return
        self._reader.begin()
        condition = where.text if where.is_exact_for_raw else sql.SQL("{} AND raw IS NULL").format(where.text)
        statement = sql.SQL(
            "SELECT floor((created - %(start)s) / %(slot_s)s)::bigint AS slot, coalesce(levelno, 0), count(*)"
            " FROM {} WHERE {} GROUP BY 1, 2"
        ).format(self._reader.table, condition)
        parameters = where.named | {"start": start, "slot_s": slot_s}
        yield from ((slot, levelno, count) for slot, levelno, count in self._reader.stream(statement, parameters))

    def facets(self, filters: Filters, fields: Sequence[Field], top: int) -> Facets:
        """Return the most frequent values of each field."""
        values, chosen, most = self._chosen(filters, self.limits.most_records)
        facets = [Facet(field.written, [], 0, 0) for field in fields]
        records = 0
        found = self._reader.rows(facets_statement(chosen, fields, top, values), values.named)
        for index, value, count, total in found:
            records = int(total)
            if value is None:
                facets[index] = facets[index]._replace(missing=count)
            else:
                facets[index].values.append(FacetValue(value_of_key(key_of_text(value)), count))
        counted = [
            facet._replace(others=records - facet.missing - sum(value.count for value in facet.values))
            for facet in facets
        ]
        return Facets(counted, _coverage(records, most))

    def stats(self, filters: Filters, statistics: Statistics) -> Table:
        """Return aggregates by groups."""
        values, chosen, most = self._chosen(filters, self.limits.most_records)
        table: list[list[object]] = []
        groups, records, width = 0, 0, len(statistics.by)
        found = self._reader.rows(stats_statement(chosen, statistics, values), values.named)
        for *row, groups_found, total in found:
            groups, records = groups_found, int(total or 0)
            table.append(
                [*(None if value is None else value_of_key(key_of_text(value)) for value in row[:width]), *row[width:]]
            )
        return Table(statistics.columns, table, groups - len(table), _coverage(records, most))

    def patterns(self, filters: Filters, top: int) -> Patterns:
        """Return the most frequent forms of the newest messages."""
        values, chosen, most = self._chosen(filters, self._sampled(SAMPLED_MESSAGES))
        statement = sql.SQL("SELECT coalesce(left(message, {}), ''), created FROM ({}) AS found").format(
            sql.Literal(MOST_CHARACTERS), chosen
        )
        count = 0

        def messages() -> Iterator[tuple[str, float]]:
            nonlocal count
            with contextlib.closing(self._reader.stream(statement, values.named, most_rows=2_000)) as found:
                for message, created in found:
                    self._reader.check()
                    count += 1
                    yield message, created

        found, others = analysis.patterns_of(messages(), top)
        return Patterns(found, others, _coverage(count, most))

    def _chosen(self, filters: Filters, most: int | None) -> tuple[Parameters, sql.Composed, int | None]:
        """Return parameters, a SELECT of the newest matching rows, and their largest number, None without a bound.

        Begins the call. Rows that SQL cannot judge are read and judged here first.
        """
        where = compile_filters(filters)
        values, condition = where.values, where.text
        self._reader.begin()
        if not where.is_exact_for_raw:
            bound = min(most or MOST_JUDGED, MOST_JUDGED)
            newest = replace(filters, order="newest", limit=None)
            judged = [one.id for one in itertools.islice(self._checked(newest, only_raw=where.is_exact), bound)]
            known = sql.SQL("(number, coalesce(journal, 0)) IN (SELECT * FROM unnest({}::bigint[], {}::int[]))").format(
                values.add([one.number for one in judged]),
                values.add([self._reader.journal_number(one) for one in judged]),
            )
            if where.is_exact:
                known = sql.SQL("(raw IS NULL OR {})").format(known)
            else:
                most = bound
            condition = sql.SQL("{} AND {}").format(condition, known)
        chosen = sql.SQL("SELECT * FROM {} WHERE {}").format(self._reader.table, condition)
        if most is not None:
            chosen += sql.SQL(" ORDER BY {} LIMIT {}").format(
                order_of(replace(filters, order="newest")), values.add(most)
            )
        return values, chosen, most

    def levels(self) -> dict[str, int]:
        """Return the levels that the latest records carry by name."""
        statement = sql.SQL(
            "SELECT DISTINCT levelname, levelno FROM "
            "(SELECT levelname, levelno FROM {} ORDER BY time DESC LIMIT {}) AS latest"
        ).format(self._reader.table, _LATEST_ROWS)
        self._reader.begin()
        return levels_by_name((name, levelno) for name, levelno in self._reader.rows(statement))

    def cancel(self) -> None:
        """End the running call of another thread."""
        self._reader.cancel()

    def close(self) -> None:
        """Close the connection; never raises."""
        self._reader.close()


def _coverage(records: int, most: int | None) -> Coverage:
    return Coverage(records, most is None or records < most)
