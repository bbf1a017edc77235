"""Searches a PostgreSQL store: the SQL of `query`.

Owns the statements of a query, and the conversion of a row to its line. Needs no running collector. Rows come through a
server-side cursor, a few at a time.
"""

from __future__ import annotations

import contextlib
import itertools
import re
from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec
import psycopg
from psycopg import sql

from prefork_logd.errors import StoreError
from prefork_logd.query.search import Bar, levels_by_name
from prefork_logd.records.stored import read_fields
from prefork_logd.stores import rows
from prefork_logd.stores.postgresql.conditions_sql import DOCUMENTS
from prefork_logd.stores.postgresql.connection import connect, store_error
from prefork_logd.stores.postgresql.filters_sql import compile_filters

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from prefork_logd.config.stores.postgresql import PostgresqlStoreSettings
    from prefork_logd.query.filters import Filters
    from prefork_logd.stores.postgresql.filters_sql import Where

STATEMENT_LIMIT_S = 3600.0
"""A query over a year of records may take long; the user can interrupt it."""
FIELDS = tuple(name for name in rows.COLUMNS if name not in DOCUMENTS)
SELECTED = sql.SQL(", ").join(
    [
        sql.SQL("raw"),
        *(sql.SQL("{}::text").format(sql.Identifier(name)) for name in DOCUMENTS),
        *(sql.Identifier(name.lower()) for name in FIELDS),
    ]
)
_BETWEEN_TOKENS = re.compile(r'("(?:[^"\\]++|\\.)*+")|(?<=[,:]) ')
_MOST_ROWS = 64
"""Rows fetched and held at once; fewer when they are large."""
_FETCH_BYTES = 4 << 20
_LATEST_ROWS = 100_000


def open_search(settings: PostgresqlStoreSettings) -> PostgresqlSearch:
    """Return the store of these settings, opened for reading. Raises StoreError."""
    return PostgresqlSearch(settings.dsn, settings.schema)


class PostgresqlSearch:
    """A Search (query/search.py) of one schema."""

    def __init__(self, dsn: str = "", schema: str = "prefork_logd") -> None:
        """Connect. Raises StoreError if the server cannot be reached, or has no table of records."""
        self._connection = connect(dsn, statement_limit_s=STATEMENT_LIMIT_S)
        self._table = sql.Identifier(schema, "records")
        try:
            with _readable():
                self._connection.execute("SELECT set_config('jit', 'off', false)")  # takes longer than most queries do
                found = self._connection.execute("SELECT to_regclass(%s)", (self._table.as_string(),)).fetchone()
        except StoreError:
            self.close()
            raise
        if found is None or found[0] is None:
            self.close()
            raise StoreError(f"PostgreSQL: there is nothing stored yet: no table {schema}.records")

    def lines(self, filters: Filters) -> Generator[bytes, None, None]:
        """Yield the line of each matching record, in the order and up to the number in `filters`."""
        where = compile_filters(filters)
        with contextlib.closing(self._lines(filters, where, where.text)) as found:
            yield from itertools.islice(found, filters.limit)

    def _lines(self, filters: Filters, where: Where, condition: sql.Composable) -> Generator[bytes, None, None]:
        direction = sql.SQL("DESC" if filters.order == "newest" else "ASC")
        statement = sql.SQL("SELECT {} FROM {} WHERE {} ORDER BY time {d}, created {d}, number {d}").format(
            SELECTED, self._table, condition, d=direction
        )
        if filters.limit is not None and where.is_exact_for_raw:
            statement += sql.SQL(" LIMIT {}").format(filters.limit)  # so that the server plans for a few
        with contextlib.closing(self._stream(statement, where)) as found:
            for row in found:
                line = line_of(*row)
                if where.is_exact_for_raw or (where.is_exact and row[0] is None) or filters.matches(read_fields(line)):
                    yield line

    def _stream(self, statement: sql.Composed, where: Where) -> Generator[tuple[Any, ...], None, None]:
        with _readable(), self._connection.transaction(), self._connection.cursor(name="records") as cursor:
            cursor.execute(statement, where.parameters)
            count = 4
            while found := cursor.fetchmany(count):
                yield from found
                largest = max(map(_size, found))
                count = max(1, min(_MOST_ROWS, 2 * count, _FETCH_BYTES // max(1, largest)))

    def count(self, filters: Filters) -> int:
        """Return the number of matching records."""
        where = compile_filters(filters)
        statement = sql.SQL("SELECT count(*) FROM {} WHERE {}")
        if not where.is_exact:
            return sum(1 for _ in self._lines(filters, where, where.text))
        if where.is_exact_for_raw:
            return self._number(statement.format(self._table, where.text), where)
        near = sql.SQL("{} AND raw IS NOT NULL").format(where.text)
        exact = sql.SQL("{} AND raw IS NULL").format(where.text)
        return self._number(statement.format(self._table, exact), where) + sum(
            1 for _ in self._lines(filters, where, near)
        )

    def _number(self, statement: sql.Composed, where: Where) -> int:
        with _readable():
            row = self._connection.execute(statement, where.parameters).fetchone()
        return int(row[0]) if row else 0

    def span(self) -> tuple[float, float] | None:
        """Return the least and the greatest `created`, to the microsecond; None without a record."""
        with _readable():
            row = self._connection.execute(
                sql.SQL("SELECT extract(epoch FROM min(time)), extract(epoch FROM max(time)) FROM {}").format(
                    self._table
                )
            ).fetchone()
        return None if row is None or row[0] is None else (float(row[0]), float(row[1]))

    def histogram(self, filters: Filters, start: float, slot_s: float, slots: int) -> list[Bar]:
        """Return the number of matching records in each slot of time."""
        counts: Counter[tuple[int, int]] = Counter()
        for slot, levelno, count in self._slots(filters, start, slot_s):
            if 0 <= slot < slots:
                counts[slot, levelno] += count
        return [Bar(*key, count) for key, count in sorted(counts.items())]

    def _slots(self, filters: Filters, start: float, slot_s: float) -> Iterator[tuple[int, int, int]]:
        where = compile_filters(filters)
        looked_at = where.text if not where.is_exact else sql.SQL("{} AND raw IS NOT NULL").format(where.text)
        if not where.is_exact_for_raw:
            for line in self._lines(filters, where, looked_at):
                row = rows.decode(line)
                yield int((row.created - start) // slot_s), row.levelno or 0, 1
        if not where.is_exact:
            return
        counted = where.text if where.is_exact_for_raw else sql.SQL("{} AND raw IS NULL").format(where.text)
        statement = sql.SQL(
            "SELECT floor((created - %(start)s) / %(slot_s)s)::bigint AS slot, coalesce(levelno, 0), count(*)"
            " FROM {} WHERE {} GROUP BY 1, 2"
        ).format(self._table, counted)
        parameters = where.parameters | {"start": start, "slot_s": slot_s}
        yield from self._stream(statement, where._replace(parameters=parameters))

    def levels(self) -> dict[str, int]:
        """Return the levels that the latest records carry by name."""
        statement = sql.SQL(
            "SELECT DISTINCT levelname, levelno FROM "
            "(SELECT levelname, levelno FROM {} ORDER BY time DESC LIMIT {}) AS latest"
        ).format(self._table, _LATEST_ROWS)
        with _readable():
            return levels_by_name(self._connection.execute(statement))

    def close(self) -> None:
        """Close the connection; never raises."""
        self._connection.close()


def _size(row: tuple[Any, ...]) -> int:
    """Return the approximate size of a row's texts in bytes."""
    return sum(len(value) for value in row if isinstance(value, (str, bytes)))


def line_of(raw: bytes | None, *values: Any) -> bytes:
    """Return the line of a row: `raw`, the DOCUMENTS as text, and the values of FIELDS."""
    if raw is not None:
        return bytes(raw) + b"\n"
    row = rows.Row(**dict(zip(FIELDS, values[len(DOCUMENTS) :], strict=True)))
    for name, document in zip(DOCUMENTS, values, strict=False):
        if document is not None:
            # The server writes jsonb with a space after each comma and colon.
            setattr(row, name, msgspec.Raw(_BETWEEN_TOKENS.sub(lambda match: match[1] or "", document).encode()))
    return rows.render(row)


@contextlib.contextmanager
def _readable() -> Iterator[None]:
    """Turn the driver's errors into StoreError."""
    try:
        yield
    except psycopg.Error as error:
        raise store_error(error) from error
