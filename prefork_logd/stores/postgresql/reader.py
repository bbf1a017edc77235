"""Reads rows of the table of records: in order, a few at a time, with a deadline.

Owns the connection of a search, its deadline and its cancelling, the order of records, their ids, and the conversion of
a row to its line. Does not know what is counted or grouped.
"""

from __future__ import annotations

import contextlib
import re
import time
from typing import TYPE_CHECKING, Any, LiteralString

import msgspec
import psycopg
from psycopg import sql

from prefork_logd.errors import QueryCancelledError, QueryMemoryError, QueryTimeoutError, StoreError, too_heavy
from prefork_logd.query.search import Found, Limits, RecordId
from prefork_logd.records.stored import read_fields
from prefork_logd.stores import rows
from prefork_logd.stores.postgresql.conditions_sql import DOCUMENTS
from prefork_logd.stores.postgresql.connection import connect, store_error
from prefork_logd.stores.postgresql.filters_sql import compile_filters, moment

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping

    from prefork_logd.query.filters import Filters
    from prefork_logd.query.search import Cursor

STATEMENT_LIMIT_S = Limits().deadline_s
"""A query over a year of records may take long; the user can interrupt it."""
NO_JOURNAL = "0" * 32
"""Stands for the journal of rows that an earlier version has stored."""
FIELDS = tuple(name for name in rows.COLUMNS if name not in DOCUMENTS)
SELECTED = sql.SQL(", ").join(
    [
        sql.SQL("raw"),
        *(sql.SQL("{}::text").format(sql.Identifier(name)) for name in DOCUMENTS),
        *(sql.Identifier(name.lower()) for name in FIELDS),
    ]
)
_SETTINGS: LiteralString = "SELECT set_config('jit', 'off', false), set_config('work_mem', '32MB', false)"
"""Compiling takes longer than most queries do; and the default memory of 4 MB makes groups go to the disk."""
_BETWEEN_TOKENS = re.compile(r'("(?:[^"\\]++|\\.)*+")|(?<=[,:]) ')
_MOST_ROWS = 64
"""Rows fetched and held at once; fewer when they are large."""
_FETCH_BYTES = 4 << 20
_HEAVY = ("53200", "53400", "54")
"""SQLSTATEs of a query that needs too much memory, or too much of temporary files, or is beyond a limit of the server's
program (PostgreSQL manual, appendix A)."""
_EDGE_S = 1e-5
"""`time` is `created` to the microsecond."""


class Reader:
    """A connection that reads one schema."""

    def __init__(self, dsn: str, schema: str) -> None:
        """Connect. Raises StoreError if the server cannot be reached, or has no table of records."""
        self.limits = Limits()
        self.table = sql.Identifier(schema, "records")
        self._positions = sql.Identifier(schema, "positions")
        self._connection = connect(dsn, statement_limit_s=STATEMENT_LIMIT_S)
        self._statement_limit_s = STATEMENT_LIMIT_S
        self._ends_s = time.monotonic() + STATEMENT_LIMIT_S
        self._is_cancelled = False
        self._journals: dict[int, str] = {0: NO_JOURNAL}
        try:
            self.rows(sql.SQL(_SETTINGS))
            found = self.rows(sql.SQL("SELECT to_regclass(%(table)s)"), {"table": self.table.as_string()})
        except StoreError:
            self.close()
            raise
        if not found or found[0][0] is None:
            self.close()
            raise StoreError(f"PostgreSQL: there is nothing stored yet: no table {schema}.records")

    def begin(self) -> None:
        """Begin a call: its deadline counts from now on. Raises StoreError."""
        self._is_cancelled = False
        limit_s = self.limits.deadline_s
        self._ends_s = time.monotonic() + limit_s
        if limit_s != self._statement_limit_s:
            milliseconds = str(max(1, round(limit_s * 1e3)))
            self.rows(sql.SQL("SELECT set_config('statement_timeout', %(limit)s, false)"), {"limit": milliseconds})
            self._statement_limit_s = limit_s

    def check(self) -> None:
        """Raise QueryTimeoutError or QueryCancelledError if the call has to end."""
        if self._is_cancelled:
            raise QueryCancelledError
        if time.monotonic() > self._ends_s:
            raise QueryTimeoutError(self.limits.deadline_s)

    def cancel(self) -> None:
        """End the running call of another thread."""
        self._is_cancelled = True
        with contextlib.suppress(psycopg.Error):
            self._connection.cancel_safe(timeout=5)

    def close(self) -> None:
        """Close the connection; never raises."""
        self._connection.close()

    def rows(self, statement: sql.Composable, parameters: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """Return all rows of a statement."""
        with self._readable():
            return self._connection.execute(sql.Composed([statement]), parameters).fetchall()

    def stream(
        self, statement: sql.Composable, parameters: Mapping[str, Any], most_rows: int = _MOST_ROWS
    ) -> Generator[tuple[Any, ...], None, None]:
        """Yield the rows of a statement, of which `most_rows` are held at once, and few large ones."""
        with self._readable(), self._connection.transaction(), self._connection.cursor(name="records") as cursor:
            cursor.execute(sql.Composed([statement]), parameters)
            count = 4
            while found := cursor.fetchmany(count):
                yield from found
                largest = max(map(_size, found))
                count = max(1, min(most_rows, 2 * count, _FETCH_BYTES // max(1, largest)))

    def found(
        self, filters: Filters, cursor: Cursor | None = None, *, only_raw: bool = False
    ) -> Generator[Found, None, None]:
        """Yield matching records with their ids in the filters' order, from a cursor on; not limited.

        `only_raw`: only those whose columns are an approximation.
        """
        where = compile_filters(filters)
        condition, parameters = where.text, dict(where.named)
        if only_raw:
            condition = sql.SQL("{} AND raw IS NOT NULL").format(condition)
        is_newest = filters.order == "newest"
        if cursor is not None:
            condition = sql.SQL(
                "{} AND time {} %(edge)s AND (created, number, coalesce(journal, 0)) {}"
                " (%(created)s::float8, %(number)s::bigint, %(journal)s::integer)"
            ).format(condition, sql.SQL("<=" if is_newest else ">="), sql.SQL("<" if is_newest else ">"))
            parameters |= {
                "edge": moment(cursor.created + (_EDGE_S if is_newest else -_EDGE_S)),
                "created": cursor.created, "number": cursor.id.number, "journal": self.journal_number(cursor.id),
            }  # fmt: skip
        statement = sql.SQL("SELECT coalesce(journal, 0), number, {} FROM {} WHERE {} ORDER BY {}").format(
            SELECTED, self.table, condition, order_of(filters)
        )
        if filters.limit is not None and where.is_exact_for_raw:
            statement += sql.SQL(" LIMIT {}").format(filters.limit)  # so that the server plans for a few
        with contextlib.closing(self.stream(statement, parameters)) as found:
            for journal, number, *row in found:
                line = line_of(*row)
                record = read_fields(line)
                if where.is_exact_for_raw or (where.is_exact and row[0] is None) or filters.matches(record):
                    yield Found(RecordId(self._journal_id(journal), number), record["created"], line)

    def get(self, record: RecordId) -> Found | None:
        """Return one record by its id."""
        statement = sql.SQL(
            "SELECT {} FROM {} WHERE number = %(number)s AND coalesce(journal, 0) = %(journal)s LIMIT 1"
        ).format(SELECTED, self.table)
        found = self.rows(statement, {"number": record.number, "journal": self.journal_number(record)})
        if not found:
            return None
        line = line_of(*found[0])
        return Found(record, read_fields(line)["created"], line)

    def journal_number(self, record: RecordId) -> int:
        """Return the number that rows have in place of the journal's id; -1 for an unknown journal."""
        if record.journal not in self._journals.values():
            self._read_journals()
        return next((number for number, journal in self._journals.items() if journal == record.journal), -1)

    def _journal_id(self, number: int) -> str:
        if number not in self._journals:
            self._read_journals()
        return self._journals.get(number, NO_JOURNAL)

    def _read_journals(self) -> None:
        self._journals |= dict(self.rows(sql.SQL("SELECT id, journal FROM {}").format(self._positions)))

    @contextlib.contextmanager
    def _readable(self) -> Iterator[None]:
        """Turn the driver's errors into StoreError."""
        try:
            yield
        except psycopg.errors.QueryCanceled as error:
            if self._is_cancelled:
                raise QueryCancelledError from error
            raise QueryTimeoutError(self.limits.deadline_s) from error
        except psycopg.Error as error:
            failure = store_error(error)
            if (error.sqlstate or "").startswith(_HEAVY):
                raise QueryMemoryError(too_heavy("PostgreSQL", str(failure))) from error
            raise failure from error


def order_of(filters: Filters) -> sql.Composed:
    """Return the columns of ORDER BY; the first one has an index."""
    direction = sql.SQL("DESC" if filters.order == "newest" else "ASC")
    return sql.SQL("time {d}, created {d}, number {d}, coalesce(journal, 0) {d}").format(d=direction)


def line_of(raw: bytes | None, *values: Any) -> bytes:
    """Return the line of a row: `raw`, the documents as text, and the values of the other columns."""
    if raw is not None:
        return bytes(raw) + b"\n"
    row = rows.Row(**dict(zip(FIELDS, values[len(DOCUMENTS) :], strict=True)))
    for name, document in zip(DOCUMENTS, values, strict=False):
        if document is not None:
            # The server writes jsonb with a space after each comma and colon.
            setattr(row, name, msgspec.Raw(_BETWEEN_TOKENS.sub(lambda match: match[1] or "", document).encode()))
    return rows.render(row)


def _size(row: tuple[Any, ...]) -> int:
    """Return the approximate size of a row's texts in bytes."""
    return sum(len(value) for value in row if isinstance(value, (str, bytes)))
