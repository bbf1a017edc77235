"""Writes the SELECT of the records that a condition is applied to, for each kind of place in which they are.

Owns the view of DuckDB on a snapshot: files whose columns hold each record, files that also have lines beside their
columns, and the end of the journal. Does not know what a query is about.

Nearly all files have no line beside their columns. So they are asked without a look at `line`, and DuckDB skips the
row groups in which no record can match. The indexes of files leave out those of other times, and records that lack a
needed word. The end of the journal is read once and becomes a table.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Literal

from prefork_logd.stores.parquet import engine, needs, schema
from prefork_logd.stores.parquet.filters_sql import EVER
from prefork_logd.stores.parquet.slices import Ends

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Sequence

    import duckdb

    from prefork_logd.stores.parquet.filters_sql import Bounds
    from prefork_logd.stores.parquet.index import Count
    from prefork_logd.stores.parquet.needs import Needs
    from prefork_logd.stores.parquet.snapshot import Snapshot

Lines = Literal["without", "with", "only"]
"""Records without a line beside their columns; these, and all of the others; the others alone."""
_TAIL = "journal_end"
_FILE = "path of the file"
"""A name that no field of a record has."""
MOST_RANGES = 64
"""Ranges of numbers that DuckDB compares with; of more, the whole files are read."""


class Contents:
    """What DuckDB reads of a snapshot, found out when it is first needed and again after a file was left out."""

    def __init__(self, snapshot: Snapshot, connection: duckdb.DuckDBPyConnection) -> None:
        self._snapshot = snapshot
        self._connection = connection
        self._has_tail = False
        self._paths: list[str] | None = None
        """The files for which `_odd` is known."""
        self._odd: set[str] = set()
        """Files with lines beside their columns."""
        self._needed: Needs = needs.NOTHING
        """What was last needed."""
        self._lacking: dict[str, list[tuple[int, int]]] = {}
        """For files, the ranges of numbers, in order, whose records lack what is needed."""

    def select(
        self,
        columns: str,
        condition: str,
        bounds: Bounds = EVER,
        lines: Lines = "with",
        needed: Needs = needs.NOTHING,
        among: Container[str] | None = None,
    ) -> str:
        """Return a SELECT of the records within the bounds that meet the condition, and of `lines`.

        A line beside the columns has to be judged by Python, so the condition does not apply to its record. `needed` is
        what each other record has that meets the condition. `among`: of these files only, and of the journal. Raises
        duckdb.Error, StoreError.
        """
        self._look()
        limits = [bounds.sql] if bounds.sql else []
        files = [
            path for path in self._snapshot.files if (among is None or path in among) and self._may_have(path, bounds)
        ]
        parts = []
        if lines != "only":
            for paths, numbers in self._choose(files, needed):
                wanted = [numbers, *limits, condition]
                plain = [path for path in paths if path not in self._odd]
                others = [path for path in paths if path in self._odd]
                parts += [(source, wanted) for source in self._sources(plain)]
                parts += [(source, ["line IS NULL", *wanted]) for source in self._sources(others)]
            parts += [(_TAIL, ["line IS NULL", *limits, condition])] if self._has_tail else []
        if lines != "without":
            some = [path for path in files if path in self._odd]
            odd = [*self._sources(some), *([_TAIL] if self._has_tail else [])]
            parts += [(source, ["line IS NOT NULL", *limits]) for source in odd]
        if not parts:
            return f"SELECT {columns} FROM {schema.NOTHING}"
        return " UNION ALL ".join(
            f"SELECT {columns} FROM {source} WHERE {' AND '.join([one for one in wanted if one != 'true'] or ['true'])}"
            for source, wanted in parts
        )

    def _sources(self, paths: list[str]) -> list[str]:
        """Return queries of files: those with the columns of this version, and the others."""
        current = [path for path in paths if self._snapshot.is_current(path)]
        others = [path for path in paths if not self._snapshot.is_current(path)]
        found = [_files(current)] if current else []
        return [*found, *([schema.files_of_any_columns(engine.text_list(others))] if others else [])]

    def _may_have(self, path: str, bounds: Bounds) -> bool:
        """Return whether a file may have records within the bounds."""
        index = self._snapshot.index(path)
        return index is None or bounds.may_have(index.head.least, index.head.greatest)

    def count(self, bounds: Bounds, add: Callable[[list[Count]], None]) -> set[str]:
        """Pass the counts of each file that may have records within the bounds to `add`; return files without counts.

        Counts are about records without a line beside their columns. Raises StoreError.
        """
        left = set()
        for path in self._snapshot.files:
            if self._may_have(path, bounds):
                index = self._snapshot.index(path)
                counts = None if index is None else index.counts
                if counts is None:
                    left.add(path)
                else:
                    add(counts)
        return left

    def _choose(self, paths: list[str], needed: Needs) -> list[tuple[list[str], str]]:
        """Return the files with records that may match, in groups, each with a condition for its numbers."""
        if needed == needs.NOTHING or not paths:
            return [(paths, "true")] if paths else []
        if self._needed != needed:
            self._needed, self._lacking = needed, {}
        chosen: defaultdict[str, list[str]] = defaultdict(list)
        ranges: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
        for path in paths:
            one = self._snapshot.files[path]
            if path not in self._lacking:
                self._lacking[path] = self._find_lacking(path, needed)
            left = _without((one.first, one.next), self._lacking[path])
            if left:
                chosen[one.journal].append(path)
                ranges[one.journal] += left
        return [(chosen[journal], _numbers(_joined(ranges[journal]))) for journal in chosen]

    def most(self, bounds: Bounds, needed: Needs) -> int:
        """Return how many records within the bounds may have what is needed, or more.

        Raises duckdb.Error, StoreError.
        """
        self._look()
        files = [path for path in self._snapshot.files if self._may_have(path, bounds)]
        self._choose(files, needed)
        count = 0
        for path in files:
            one = self._snapshot.files[path]
            lacking = self._lacking.get(path, []) if needed != needs.NOTHING else []
            count += sum(stop - first for first, stop in _without((one.first, one.next), lacking))
        if self._has_tail:
            count += self._connection.execute(f"SELECT count(*) FROM {_TAIL}").fetchall()[0][0]
        return count

    def _find_lacking(self, path: str, needed: Needs) -> list[tuple[int, int]]:
        """Return the ranges of numbers, in order, whose records cannot match by the file's filters."""
        index = self._snapshot.index(path)
        if index is None:
            return []
        return [(one.first, one.next) for one in index.head.filters if not needs.may_hold(needed, index.finder(one))]

    def ends(self) -> Ends | None:
        """Return the ends of all records; None if there are none. Raises duckdb.Error, StoreError."""
        self._look()
        indexes = {path: self._snapshot.index(path) for path in self._snapshot.files}
        found = [(one.head.least, one.head.greatest, one.head.records) for one in indexes.values() if one is not None]
        others = [path for path, one in indexes.items() if one is None]
        # DuckDB answers this by the statistics of files, but not of a union.
        for source in [*([_files(others)] if others else []), *([_TAIL] if self._has_tail else [])]:
            found += self._connection.execute(f"SELECT min(created), max(created), count(*) FROM {source}").fetchall()
        found = [row for row in found if row[2]]
        if not found:
            return None
        return Ends(min(row[0] for row in found), max(row[1] for row in found), sum(row[2] for row in found))

    def _look(self) -> None:
        if not self._has_tail and self._snapshot.tail is not None:
            rows = schema.rows_source(*self._snapshot.tail)
            self._connection.execute(f"CREATE TEMP TABLE {_TAIL} AS {rows}")
            self._has_tail = True
        paths = [*self._snapshot.files]
        if self._paths == paths:
            return
        indexes = {path: self._snapshot.index(path) for path in paths}
        odd = {path for path, one in indexes.items() if one is not None and one.head.odd}
        others = [path for path, one in indexes.items() if one is None]
        if others:
            # DuckDB reads only row groups that have such a line, by their statistics.
            named = f"read_parquet({engine.text_list(others)}, filename = {engine.text(_FILE)})"
            found = self._connection.execute(
                f"SELECT DISTINCT {schema.quoted(_FILE)} FROM {named} WHERE line IS NOT NULL"
            )
            odd.update(path for (path,) in found.fetchall())
        self._odd, self._paths = odd, paths


def _files(paths: list[str]) -> str:
    return f"read_parquet({engine.text_list(paths)})"


def _without(whole: tuple[int, int], holes: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the parts of a range of numbers between `holes`, which are ranges in it."""
    left = []
    at, stop = whole
    for first, following in sorted(holes):
        if first > at:
            left.append((at, first))
        at = max(at, following)
    return [*left, (at, stop)] if at < stop else left


def _joined(ranges: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the same numbers as fewer ranges."""
    joined: list[tuple[int, int]] = []
    for first, following in sorted(ranges):
        if joined and joined[-1][1] >= first:
            joined[-1] = joined[-1][0], max(joined[-1][1], following)
        else:
            joined.append((first, following))
    return joined


def _numbers(ranges: Sequence[tuple[int, int]]) -> str:
    """Return the condition that a number is in one of the ranges; "true" for too many of them."""
    if len(ranges) > MOST_RANGES:
        return "true"
    parts = [f"number BETWEEN {first}::UBIGINT AND {following - 1}::UBIGINT" for first, following in ranges]
    return f"({' OR '.join(parts)})"
