"""Searches a store of Parquet files, and the records of the journal that are in no file yet.

Owns the queries. Does not know how a condition becomes SQL (filters_sql.py), or what a query reads (snapshot.py).

A record that its columns hold exactly is found by DuckDB. The few others, which have their line beside their columns,
are judged by query/evaluate.py. Lines come in slices of time: so the first ones come at once, and the memory does not
grow with their number. What is too large for the memory is searched in halves.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import os
from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefork_logd.errors import QueryCancelledError, QueryMemoryError, QueryTimeoutError, StoreError
from prefork_logd.query.search import Bar, Found, Page, RecordId, levels_by_name
from prefork_logd.query.tree import EVERYTHING
from prefork_logd.records.stored import read_fields
from prefork_logd.stores.parquet import engine, schema, sql
from prefork_logd.stores.parquet.analysis import Analysis
from prefork_logd.stores.parquet.calls import Calls
from prefork_logd.stores.parquet.contents import Contents
from prefork_logd.stores.parquet.costs import ends_late
from prefork_logd.stores.parquet.counting import count_exact
from prefork_logd.stores.parquet.filters_sql import EVER, behind, of_keys, order_of, slot_of, time_bounds
from prefork_logd.stores.parquet.needs import needs_of
from prefork_logd.stores.parquet.row_streams import begun, characters, judged
from prefork_logd.stores.parquet.rows import make_line
from prefork_logd.stores.parquet.slices import SLICE, SLOTS, halved, reaches, slices
from prefork_logd.stores.parquet.snapshot import Snapshot
from prefork_logd.stores.parquet.spare import Spare
from prefork_logd.stores.parquet.tree_sql import Compiled, Compiler, compile_tree

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import duckdb

    from prefork_logd.config.stores.parquet import ParquetStoreSettings
    from prefork_logd.query.filters import Filters
    from prefork_logd.query.search import Cursor
    from prefork_logd.stores.parquet.contents import Lines
    from prefork_logd.stores.parquet.filters_sql import Bounds
    from prefork_logd.stores.parquet.slices import Ends, Range
    from prefork_logd.stores.parquet.spare import Parameters

MEMORY_BYTES = 128 << 20
"""Memory of DuckDB for a query; Python and the end of the journal come to it."""
MOST_THREADS = 4
MOST_JUDGED = 10_000
"""Records with a line beside their columns that SQL is told by their ids."""
FEW = 20_000
"""Up to so many matching records are sorted at once."""
PAGE = 50
"""Records of a page without a limit."""
_FETCH = 512
"""Rows that are taken from DuckDB at once, if they are short."""
_FETCH_BYTES = 1 << 20
"""Characters of such rows."""
_LIMITED = 10_000
"""Up to this limit the lines are found by one query, which keeps the best ones only."""
_LINE_COLUMNS = ", ".join(map(schema.quoted, schema.LINE_COLUMNS))
_ALL_COLUMNS = ", ".join(map(schema.quoted, schema.COLUMNS))
_EVERY = Compiled("true", {}, is_exact=True)


def open_search(settings: ParquetStoreSettings, journal: Path | None = None) -> ParquetSearch:
    """Return the store of these settings, opened for reading, with the end of the journal in a directory.

    Raises StoreError if there is nothing to read.
    """
    return ParquetSearch(settings, journal)


class ParquetSearch(Analysis):
    """A Search of a store, as it was when it was made. Longer than other classes: it has each call of that contract."""

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
            self._connection = self._resources.enter_context(contextlib.closing(_SPARE.take(*_database())))
            self._contents = Contents(self._snapshot, self._connection)
            self._calls = Calls(partial(engine.interrupt, self._connection))
        except BaseException:
            self._resources.close()
            raise
        if self._snapshot.is_empty and not self._root.is_dir():
            self.close()
            raise StoreError(f"{self._root}: there is nothing stored yet")

    # Queries

    def _fetch(
        self,
        select: str,
        where: Compiled,
        end: str = "",
        *,
        bounds: Bounds = EVER,
        lines: Lines = "with",
        source: str = "",
        among: set[str] | None = None,
    ) -> Iterator[Sequence[Any]]:
        """Yield the rows of a query; begin again without a file that cannot be read, unless rows have come already."""
        while not self._snapshot.is_empty:
            has_begun = False
            try:
                with self._calls.running(), engine.failing_as_store_error(str(self._root)):
                    chosen = (
                        f"SELECT * FROM {source} WHERE {where.sql}"
                        if source
                        else self._contents.select(_ALL_COLUMNS, where.sql, bounds, lines, where.needs, among)
                    )
                    statement = f"SELECT {select} FROM ({chosen}) {end}"
                    cursor = self._connection.execute(statement, where.used(statement))
                    found = cursor.fetchmany(size := 1)
                while found:
                    has_begun = True
                    yield from found
                    size = max(1, min(2 * size, _FETCH, _FETCH_BYTES // characters(found[-1])))
                    with self._calls.running(), engine.failing_as_store_error(str(self._root)):
                        found = cursor.fetchmany(size)
            except (QueryTimeoutError, QueryCancelledError, QueryMemoryError):
                raise
            except StoreError:
                if has_begun or not self._snapshot.drop_damaged():
                    raise
            else:
                return

    def _ends(self) -> Ends | None:
        """Return the ends of all records; None if there are none."""
        while not self._snapshot.is_empty:
            try:
                with self._calls.running(), engine.failing_as_store_error(str(self._root)):
                    return self._contents.ends()
            except (QueryTimeoutError, QueryCancelledError):
                raise
            except StoreError:
                if not self._snapshot.drop_damaged():
                    raise
        return None

    def page(self, filters: Filters, cursor: Cursor | None = None) -> Page:
        """Return matching records with their ids, from the cursor on."""
        self._calls.begin(self.limits.deadline_s)
        limit = PAGE if filters.limit is None else filters.limit
        found = self._first(filters, compile_tree(filters.tree), limit + 1, cursor)
        records = [*itertools.islice(found, limit + 1)]
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
        limit = filters.limit
        condition = compile_tree(filters.tree)
        if limit is not None and limit <= _LIMITED:
            lines: Iterator[bytes] = (one.line for one in self._first(filters, condition, limit))
        else:
            lines = judged(filters, condition, self._ordered(filters, condition, _LINE_COLUMNS))
        yield from itertools.islice(lines, limit)

    def rows(self, filters: Filters, condition: Compiled, columns: str) -> Iterator[Sequence[Any]]:
        """Yield columns of the records that meet an exact condition, and of all with a line, in order."""
        self._calls.begin(self.limits.deadline_s)
        yield from self._ordered(filters, condition, columns)

    def _ordered(self, filters: Filters, condition: Compiled, columns: str) -> Iterator[Sequence[Any]]:
        for part in self._parts(filters, condition):
            yield from self._in_order(filters, condition, part, columns)

    def _in_order(self, filters: Filters, condition: Compiled, part: Range, columns: str) -> Iterator[Sequence[Any]]:
        """Yield the rows of a range in order; of one that is too large for the memory, those of its halves."""
        bounds = time_bounds(filters, *part)
        try:
            rows = begun(self._fetch(columns, condition, f"ORDER BY {order_of(filters)}", bounds=bounds))
        except QueryMemoryError:
            ((least, greatest),) = self._fetch("min(created), max(created)", _EVERY, bounds=bounds)
            halves = halved(part, least, greatest, filters.order)
            if not halves:
                raise
            rows = itertools.chain.from_iterable(self._in_order(filters, condition, half, columns) for half in halves)
        yield from rows

    def _parts(self, filters: Filters, condition: Compiled) -> Iterator[Range]:
        """Yield ranges whose records follow each other in order: one if few match, or one for each slice."""
        if filters.tree != EVERYTHING:
            bounds = time_bounds(filters, None, None)
            if self._most(condition, bounds) <= SLICE:
                # No more than a slice: to count the matching ones would read most of it twice.
                yield None, None
                return
            for count, least, most in self._fetch("count(*), min(created), max(created)", condition, bounds=bounds):
                if count <= FEW:
                    if count:
                        yield least, math.nextafter(most, math.inf)
                    return
        yield from self._slices(filters)

    def _most(self, condition: Compiled, bounds: Bounds) -> float:
        """Return how many records may match, or more, without a look at them."""
        try:
            with self._calls.running(), engine.failing_as_store_error(str(self._root)):
                return self._contents.most(bounds, condition.needs)
        except (QueryTimeoutError, QueryCancelledError, QueryMemoryError):
            raise
        except StoreError:
            # The query finds out which file cannot be read.
            return math.inf

    def _first(
        self, filters: Filters, condition: Compiled, wanted: int, cursor: Cursor | None = None
    ) -> Iterator[Found]:
        """Yield the first matching records behind the cursor, `wanted` or more.

        They are searched at the end of time where they begin, then farther. DuckDB finds their keys first: for a
        condition that it cannot push into the files it would read every column of every record.
        """
        ends = self._ends()
        for low, high in reaches(ends, filters, None if cursor is None else cursor.created) if ends else ():
            bounds = time_bounds(filters, low, high)
            if cursor is not None:
                bounds = behind(bounds, cursor, filters)
            offset, size = 0, wanted
            while size:
                end = f"ORDER BY {order_of(filters)} LIMIT {size} OFFSET {offset}"
                keys = [*self._fetch("created, journal, number", condition, end, bounds=bounds)]
                for at in range(0, len(keys), _FETCH):
                    yield from self._of_keys(filters, condition, keys[at : at + _FETCH])
                if len(keys) < size:
                    break
                offset, size = offset + size, max(size, _FETCH)

    def _of_keys(self, filters: Filters, condition: Compiled, keys: Sequence[Sequence[Any]]) -> Iterator[Found]:
        """Yield the records with these keys, which are in order, without those that Python refuses."""
        select = f"journal, number, {_LINE_COLUMNS}"
        try:
            rows = begun(self._fetch(select, _EVERY, f"ORDER BY {order_of(filters)}", bounds=of_keys(keys)))
        except QueryMemoryError:
            if len(keys) == 1:
                raise
            for half in (keys[: len(keys) // 2], keys[len(keys) // 2 :]):
                yield from self._of_keys(filters, condition, half)
            return
        for journal, number, *row in rows:
            for line in judged(filters, condition, [row]):
                yield Found(RecordId(journal, number), row[0], line)

    def _slices(self, filters: Filters) -> Iterator[Range]:
        """Yield ranges of `created` in order, each with a bounded number of records of the store."""
        bounds = time_bounds(filters, None, None)
        found = [*self._fetch("min(created), max(created)", _EVERY, bounds=bounds)] if bounds.sql else [self._ends()]
        if not found or found[0] is None or found[0][0] is None:
            return
        least, most = found[0][:2]
        width = max((most - least) / SLOTS, 1e-6)
        select = f"CAST(floor((created - {least!r}::DOUBLE) / {width!r}::DOUBLE) AS BIGINT) AS slot, count(*)"
        counts = [*self._fetch(select, _EVERY, "GROUP BY slot ORDER BY slot", bounds=bounds)]
        yield from slices(least, width, [(slot, count) for slot, count in counts], filters.order)

    def ends_late(self, filters: Filters) -> bool:
        """Tell whether a call with these filters may end late (costs.py)."""
        return ends_late(filters.tree, self._snapshot.record_octets)

    def count(self, filters: Filters) -> int:
        """Return how many records match."""
        self._calls.begin(self.limits.deadline_s)
        condition, bounds = compile_tree(filters.tree), time_bounds(filters, None, None)
        if not condition.is_exact:
            rows = self._fetch(_LINE_COLUMNS, condition, bounds=bounds)
            return sum(1 for _ in judged(filters, condition, rows))
        counted = self._fetch("count(*)", condition, bounds=bounds, lines="without")
        return sum(int(count) for (count,) in counted) + sum(1 for _ in self._odd_lines(filters))

    def _odd_lines(self, filters: Filters) -> Iterator[dict[str, Any]]:
        """Yield the fields of the matching records that have their line beside their columns."""
        for (line,) in self._fetch("line", _EVERY, bounds=time_bounds(filters, None, None), lines="only"):
            record = read_fields(line.encode() + b"\n")
            if filters.matches(record):
                yield record

    def span(self) -> tuple[float, float] | None:
        """Return the least and the greatest `created`."""
        self._calls.begin(self.limits.deadline_s)
        ends = self._ends()
        return None if ends is None else (ends.least, ends.greatest)

    def histogram(self, filters: Filters, start: float, slot_s: float, slots: int) -> list[Bar]:
        """Return the number of matching records in each slot of time."""
        self._calls.begin(self.limits.deadline_s)
        end = start + slot_s * slots
        condition = compile_tree(filters.tree)
        bounds = time_bounds(filters, start, end)
        if condition.is_exact:
            fetch = partial(self._fetch, where=condition, lines="without")
            counts = count_exact(fetch, self._contents.count, filters, bounds, start, slot_s)
            others: Iterator[dict[str, Any]] = self._odd_lines(filters)
        else:
            counts = Counter()
            rows = self._fetch(_LINE_COLUMNS, condition, bounds=bounds)
            others = (read_fields(line) for line in judged(filters, condition, rows))
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
        bounds = time_bounds(filters, None, None)
        with self._calls.running(), engine.failing_as_store_error(str(self._root)):
            exact = self._contents.select(_ALL_COLUMNS, wanted, bounds, "without", needs_of(filters.tree))
            # Apart: nearly all files have no `line` at all, so the second part reads next to nothing.
            odd = self._contents.select(_ALL_COLUMNS, "true", bounds._replace(sql=judged), "only")
        chosen = exact if judged == "false" else f"{exact} UNION ALL {odd}"
        count = 0 if most is None else self.count(filters)
        if most is None or count <= most:
            return f"({chosen})", True
        return self.newest(chosen, most, count, compiler), False

    def _judged_ids(self, filters: Filters) -> str | None:
        """Return the condition that names the matching records with a line beside their columns; None: too many."""
        found: list[str] = []
        for journal, number, line in self._fetch(
            "journal, number, line", _EVERY, bounds=time_bounds(filters, None, None), lines="only"
        ):
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
        return levels_by_name((name, number) for name, number in self._fetch("DISTINCT levelname, levelno", _EVERY))

    @contextlib.contextmanager
    def database(self, target: str = "") -> Iterator[duckdb.DuckDBPyConnection]:
        """Give a database with the view `records`, for sql.py, which can write the file `target` and reach no other."""
        source, paths = self._snapshot.source(), self._snapshot.paths
        threads = min(os.cpu_count() or 1, MOST_THREADS)
        with contextlib.closing(
            sql.open_database(source, paths, MEMORY_BYTES, threads, engine.spill_directory(), target)
        ) as connection:
            yield connection

    def cancel(self) -> None:
        """End the running call of another thread."""
        super().cancel()
        self._calls.cancel()

    def close(self) -> None:
        """Close every file."""
        self._resources.close()


def _database() -> Parameters:
    return MEMORY_BYTES, min(os.cpu_count() or 1, MOST_THREADS), engine.spill_directory()


_SPARE = Spare()
