"""Searches a store of Parquet files, and the records of the journal that are in no file yet.

Owns the queries. Does not know how a condition becomes SQL (filters_sql.py), or what a query reads (snapshot.py).

A record that its columns hold exactly is found by DuckDB. The few others, which have their line beside their columns,
are judged by query/evaluate.py. Lines come in slices of time: so the first ones come at once, and the memory does not
grow with their number.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefork_logd.errors import QueryCancelledError, QueryTimeoutError, StoreError
from prefork_logd.query.search import Bar, Found, Page, RecordId, levels_by_name
from prefork_logd.query.tree import EVERYTHING
from prefork_logd.records.stored import read_fields
from prefork_logd.stores.parquet import engine, schema, sql
from prefork_logd.stores.parquet.analysis import Analysis
from prefork_logd.stores.parquet.calls import Calls
from prefork_logd.stores.parquet.filters_sql import (
    behind,
    condition_of,
    exact_condition,
    order_of,
    slot_of,
    slot_sql,
    time_bounds,
)
from prefork_logd.stores.parquet.rows import make_line
from prefork_logd.stores.parquet.snapshot import Snapshot
from prefork_logd.stores.parquet.tree_sql import Compiled, Compiler

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import duckdb

    from prefork_logd.config.stores.parquet import ParquetStoreSettings
    from prefork_logd.query.filters import Filters
    from prefork_logd.query.search import Cursor

MEMORY_BYTES = 176 << 20
"""Memory of DuckDB for a query; Python and the end of the journal come to it."""
MOST_THREADS = 4
MOST_JUDGED = 10_000
"""Records with a line beside their columns that SQL is told by their ids."""
FIRST_SLICE = 20_000
"""Records among which the first lines are searched."""
SLICE = 200_000
"""Records of each further slice."""
_SLOTS = 4_096
"""Parts of the range of time whose records are counted to cut it into slices."""
FEW = 20_000
"""Up to so many matching records are sorted at once."""
PAGE = 50
"""Records of a page without a limit."""
_FETCH = 512
_LIMITED = 10_000
"""Up to this limit the lines are found by one query, which keeps the best ones only."""
_LINE_COLUMNS = ", ".join(map(schema.quoted, schema.LINE_COLUMNS))


def open_search(settings: ParquetStoreSettings, journal: Path | None = None) -> ParquetSearch:
    """Return the store of these settings, opened for reading, with the end of the journal in a directory.

    Raises StoreError if there is nothing to read.
    """
    return ParquetSearch(settings, journal)


class ParquetSearch(Analysis):
    """A Search (query/search.py) of a store, as it was when it was made."""

    def __init__(self, settings: ParquetStoreSettings, journal: Path | None = None) -> None:
        super().__init__()
        self.problems: list[str] = []
        """Sentences about what could not be read."""
        self._root = Path(settings.path)
        self._resources = contextlib.ExitStack()
        try:
            self._snapshot = self._resources.enter_context(
                contextlib.closing(Snapshot(settings, journal, self.problems.append))
            )
            self._connection = self._resources.enter_context(contextlib.closing(_connect()))
            self._calls = Calls(self._connection.interrupt)
        except BaseException:
            self._resources.close()
            raise
        if self._snapshot.is_empty and not self._root.is_dir():
            self.close()
            raise StoreError(f"{self._root}: there is nothing stored yet")

    # Queries

    def _fetch(
        self, select: str, where: Compiled, end: str = "", *, source: str | None = None
    ) -> Iterator[Sequence[Any]]:
        """Yield the rows of a query; begin again without a file that cannot be read, unless rows have come already."""
        while not self._snapshot.is_empty:
            has_begun = False
            statement = f"SELECT {select} FROM {source or self._snapshot.source()} WHERE {where.sql} {end}"
            try:
                with self._calls.running(), engine.failing_as_store_error(str(self._root)):
                    cursor = self._connection.execute(statement, where.parameters or None)
                    found = cursor.fetchmany(_FETCH)
                while found:
                    has_begun = True
                    yield from found
                    with self._calls.running(), engine.failing_as_store_error(str(self._root)):
                        found = cursor.fetchmany(_FETCH)
            except (QueryTimeoutError, QueryCancelledError):
                raise
            except StoreError:
                if has_begun or not self._snapshot.drop_damaged():
                    raise
            else:
                return

    def page(self, filters: Filters, cursor: Cursor | None = None) -> Page:
        """Return matching records with their ids, from the cursor on."""
        self._calls.begin(self.limits.deadline_s)
        limit = PAGE if filters.limit is None else filters.limit
        condition = condition_of(filters)
        if cursor is not None:
            condition = condition._replace(sql=f"{behind(cursor, filters)} AND {condition.sql}")
        records = [*itertools.islice(self._first(filters, condition, limit + 1), limit + 1)]
        has_more = 0 < limit < len(records)
        return Page(records[:limit], records[limit - 1].cursor if has_more else None)

    def get(self, record: RecordId) -> Found | None:
        """Return one record by its id: only the files that may have it are read."""
        self._calls.begin(self.limits.deadline_s)
        source = self._snapshot.source(record.journal, record.number)
        where = Compiled(f"journal = {engine.text(record.journal)} AND number = {record.number}", {}, is_exact=True)
        for row in self._fetch(_LINE_COLUMNS, where, "LIMIT 1", source=source) if source else ():
            return Found(record, row[0], make_line(row))
        return None

    def lines(self, filters: Filters) -> Iterator[bytes]:
        """Yield the line of each record that matches, in order."""
        self._calls.begin(self.limits.deadline_s)
        left = filters.limit
        if left is not None and left <= _LIMITED:
            found = self._first(filters, condition_of(filters), left)
            yield from (one.line for one in itertools.islice(found, left))
            return
        for part in self._parts(filters):
            for line in self._judged(filters, part, self._fetch(_LINE_COLUMNS, part, f"ORDER BY {order_of(filters)}")):
                yield line
                if left is not None:
                    left -= 1
                    if not left:
                        return

    def _parts(self, filters: Filters) -> Iterator[Compiled]:
        """Yield conditions whose records follow each other in order: one if few match, or one for each slice."""
        if filters.tree != EVERYTHING:
            condition = condition_of(filters)
            for count, least, most in self._fetch("count(*), min(created), max(created)", condition):
                if count <= FEW:
                    ends = f"created BETWEEN {least!r}::DOUBLE AND {most!r}::DOUBLE" if count else "false"
                    yield condition._replace(sql=f"{ends} AND {condition.sql}")
                    return
        for low, high in self._slices(filters):
            yield condition_of(filters, low, high)

    def _first(self, filters: Filters, condition: Compiled, wanted: int) -> Iterator[Found]:
        """Yield the first matching records, `wanted` or more.

        DuckDB finds their keys first: for a condition that it cannot push into the files it would read every column of
        every record.
        """
        offset, size = 0, wanted
        while size:
            end = f"ORDER BY {order_of(filters)} LIMIT {size} OFFSET {offset}"
            keys = [*self._fetch("created, journal, number", condition, end)]
            for at in range(0, len(keys), _FETCH):
                yield from self._of_keys(filters, condition, keys[at : at + _FETCH])
            if len(keys) < size:
                return
            offset, size = offset + size, max(size, _FETCH)

    def _of_keys(self, filters: Filters, condition: Compiled, keys: Sequence[Sequence[Any]]) -> Iterator[Found]:
        """Yield the records with these keys, which are in order, without those that Python refuses."""
        times = [created for created, _, _ in keys]
        ids = ", ".join(f"({engine.text(journal)}, {number}::UBIGINT)" for _, journal, number in keys)
        chosen = Compiled(
            f"created BETWEEN {min(times)!r}::DOUBLE AND {max(times)!r}::DOUBLE AND (journal, number) IN ({ids})",
            {},
            condition.is_exact,
        )
        for journal, number, *row in self._fetch(
            f"journal, number, {_LINE_COLUMNS}", chosen, f"ORDER BY {order_of(filters)}"
        ):
            for line in self._judged(filters, condition, [row]):
                yield Found(RecordId(journal, number), row[0], line)

    @staticmethod
    def _judged(filters: Filters, condition: Compiled, found: Iterator[Sequence[Any]] | list[Any]) -> Iterator[bytes]:
        for row in found:
            line = make_line(row)
            if (row[-1] is None and condition.is_exact) or filters.matches(read_fields(line)):
                yield line

    def _slices(self, filters: Filters) -> Iterator[tuple[float | None, float | None]]:
        """Yield ranges of `created` in order, each with a bounded number of records of the store."""
        bounds = time_bounds(filters, None, None)
        ends = [*self._fetch("min(created), max(created)", Compiled(bounds or "true", {}, is_exact=True))]
        if not ends or ends[0][0] is None:
            return
        least, most = ends[0]
        width = max((most - least) / _SLOTS, 1e-6)
        counted = self._fetch(
            f"CAST(floor((created - {least!r}::DOUBLE) / {width!r}::DOUBLE) AS BIGINT) AS slot, count(*)",
            Compiled(bounds or "true", {}, is_exact=True),
            "GROUP BY slot ORDER BY slot",
        )
        edges: list[float] = []
        slots = [*counted]
        if filters.order == "newest":
            slots.reverse()
        total, most_records = 0, FIRST_SLICE
        for slot, count in slots:
            if total and total + count > most_records:
                edges.append(least + width * (slot + 1 if filters.order == "newest" else slot))
                total, most_records = 0, SLICE
            total += count
        if filters.order == "newest":
            yield from zip([*edges, None], [None, *edges], strict=True)
        else:
            yield from zip([None, *edges], [*edges, None], strict=True)

    def count(self, filters: Filters) -> int:
        """Return how many records match."""
        self._calls.begin(self.limits.deadline_s)
        condition = condition_of(filters)
        if not condition.is_exact:
            return sum(1 for _ in self._judged(filters, condition, self._fetch(_LINE_COLUMNS, condition)))
        counted = sum(count for (count,) in self._fetch("count(*)", exact_condition(filters)))
        odd = sum(1 for _ in self._odd_lines(filters))
        return int(counted) + odd

    def _odd_lines(self, filters: Filters) -> Iterator[dict[str, Any]]:
        """Yield the fields of the matching records that have their line beside their columns."""
        bounds = time_bounds(filters, None, None)
        where = Compiled(f"line IS NOT NULL{f' AND {bounds}' if bounds else ''}", {}, is_exact=False)
        for (line,) in self._fetch("line", where):
            record = read_fields(line.encode() + b"\n")
            if filters.matches(record):
                yield record

    def span(self) -> tuple[float, float] | None:
        """Return the least and the greatest `created`."""
        self._calls.begin(self.limits.deadline_s)
        ends = [*self._fetch("min(created), max(created)", Compiled("true", {}, is_exact=True))]
        return (ends[0][0], ends[0][1]) if ends and ends[0][0] is not None else None

    def histogram(self, filters: Filters, start: float, slot_s: float, slots: int) -> list[Bar]:
        """Return the number of matching records in each slot of time."""
        self._calls.begin(self.limits.deadline_s)
        counts: Counter[tuple[int, int]] = Counter()
        end = start + slot_s * slots
        condition = exact_condition(filters)
        if condition.is_exact:
            slot = slot_sql(start, slot_s)
            within = condition._replace(
                sql=f"{condition.sql} AND created >= {start!r}::DOUBLE AND created < {end!r}::DOUBLE"
            )
            for number, level, count in self._fetch(
                f"{slot} AS slot, coalesce(levelno, 0) AS level, count(*)", within, "GROUP BY slot, level"
            ):
                counts[number, level] += count
            others: Iterator[dict[str, Any]] = self._odd_lines(filters)
        else:
            where = condition_of(filters)
            others = (read_fields(line) for line in self._judged(filters, where, self._fetch(_LINE_COLUMNS, where)))
        for record in others:
            number = slot_of(record["created"], start, slot_s)
            if start <= record["created"] < end and 0 <= number < slots:
                counts[number, record.get("levelno", 0)] += 1
        return [Bar(*key, count) for key, count in sorted(counts.items()) if 0 <= key[0] < slots]

    def choose(self, filters: Filters, compiler: Compiler, most: int | None) -> tuple[str, bool] | None:
        """Return a query of the matching records, and whether it leaves none out; None: lines have to be judged."""
        self._calls.begin(self.limits.deadline_s)
        wanted = compiler.node(filters.tree)
        if wanted is None or not compiler.is_exact or self._snapshot.is_empty:
            return None
        judged = self._judged_ids(filters)
        if judged is None:
            return None
        bounds = time_bounds(filters, None, None) or "true"
        source = self._snapshot.source()
        # Apart: nearly all files have no `line` at all, so the second part reads next to nothing.
        chosen = (
            f"SELECT * FROM {source} WHERE {bounds} AND line IS NULL AND {wanted}"
            f" UNION ALL SELECT * FROM {source} WHERE line IS NOT NULL AND {judged}"
        )
        if most is None:
            return f"({chosen})", True
        order = order_of(replace(filters, order="newest"))
        return f"(SELECT * FROM ({chosen}) ORDER BY {order} LIMIT {most})", self.count(filters) <= most

    def _judged_ids(self, filters: Filters) -> str | None:
        """Return the condition that names the matching records with a line beside their columns; None: too many."""
        bounds = time_bounds(filters, None, None)
        where = Compiled(f"line IS NOT NULL{f' AND {bounds}' if bounds else ''}", {}, is_exact=False)
        found: list[str] = []
        for journal, number, line in self._fetch("journal, number, line", where):
            if filters.matches(read_fields(line.encode() + b"\n")):
                if len(found) == MOST_JUDGED:
                    return None
                found.append(f"({engine.text(journal)}, {number}::UBIGINT)")
        return f"(journal, number) IN ({', '.join(found)})" if found else "false"

    def ask(self, statement: str, compiler: Compiler) -> Iterator[Sequence[Any]]:
        """Yield the rows of a statement."""
        used = compiler.used(statement)
        with self._calls.running(), engine.failing_as_store_error(str(self._root)):
            yield from self._connection.execute(statement, used or None).fetchall()

    def levels(self) -> dict[str, int]:
        """Return the levels that records carry by name."""
        self._calls.begin(self.limits.deadline_s)
        return levels_by_name(
            (name, number)
            for name, number in self._fetch("DISTINCT levelname, levelno", Compiled("true", {}, is_exact=True))
        )

    @contextlib.contextmanager
    def database(self, target: str = "") -> Iterator[duckdb.DuckDBPyConnection]:
        """Give a database with the view `records`, for sql.py, which can write the file `target` and reach no other."""
        source, paths = self._snapshot.source(), self._snapshot.paths
        threads = min(os.cpu_count() or 1, MOST_THREADS)
        with contextlib.closing(
            sql.open_database(source, paths, MEMORY_BYTES, threads, _spill(), target)
        ) as connection:
            yield connection

    def cancel(self) -> None:
        """End the running call of another thread."""
        super().cancel()
        self._calls.cancel()

    def close(self) -> None:
        """Close every file."""
        self._resources.close()


def _connect() -> duckdb.DuckDBPyConnection:
    return engine.connect(MEMORY_BYTES, min(os.cpu_count() or 1, MOST_THREADS), _spill())


def _spill() -> Path | None:
    """Return the directory for what does not fit into memory; None if no directory can be written."""
    try:
        return Path(tempfile.gettempdir()) / f"prefork-logd-query-{os.getpid()}"
    except OSError:
        return None
