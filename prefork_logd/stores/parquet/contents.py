"""Writes the SELECT of the records that a condition is applied to, for each kind of place in which they are.

Owns the view of DuckDB on a snapshot: files whose columns hold each record, files that also have lines beside their
columns, and the end of the journal. Does not know what a query is about.

Nearly all files have no line beside their columns. So they are asked without a look at `line`, and DuckDB skips the
row groups in which no record can match. Filters of words leave out records that lack a needed word. The end of the
journal is read once and becomes a table.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Literal

from prefork_logd.stores.parquet import engine, needs, schema, word_filter
from prefork_logd.stores.parquet.slices import Ends

if TYPE_CHECKING:
    from collections.abc import Sequence

    import duckdb

    from prefork_logd.stores.parquet.needs import Needs
    from prefork_logd.stores.parquet.snapshot import Snapshot

Lines = Literal["without", "with", "only"]
"""Records without a line beside their columns; these, and all of the others; the others alone."""
_TAIL = "journal_end"
_FILE = "path of the file"
"""A name that no field of a record has."""
_FETCH = 8
"""Filters that are in memory at once; each has up to 750 KB."""
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
        self._odd: list[str] = []
        """Files with lines beside their columns."""
        self._chosen: tuple[Needs, list[tuple[list[str], str]]] = needs.NOTHING, []
        """What was last needed, and the files that may have it, with the condition for its numbers."""

    def select(
        self, columns: str, condition: str, bounds: str = "", lines: Lines = "with", needed: Needs = needs.NOTHING
    ) -> str:
        """Return a SELECT of the records within the bounds that meet the condition, and of `lines`.

        A line beside the columns has to be judged by Python, so the condition does not apply to its record. `needed` is
        what each other record has that meets the condition. Raises duckdb.Error.
        """
        self._look()
        limits = [bounds] if bounds else []
        parts = []
        if lines != "only":
            for paths, numbers in self._choose(needed):
                wanted = [numbers, *limits, condition]
                plain = [path for path in paths if path not in self._odd]
                others = [path for path in paths if path in self._odd]
                parts += [(_files(plain), wanted)] if plain else []
                parts += [(_files(others), ["line IS NULL", *wanted])] if others else []
            parts += [(_TAIL, ["line IS NULL", *limits, condition])] if self._has_tail else []
        if lines != "without":
            odd = [*([_files(self._odd)] if self._odd else []), *([_TAIL] if self._has_tail else [])]
            parts += [(source, ["line IS NOT NULL", *limits]) for source in odd]
        if not parts:
            return f"SELECT {columns} FROM {schema.NOTHING}"
        return " UNION ALL ".join(
            f"SELECT {columns} FROM {source} WHERE {' AND '.join([one for one in wanted if one != 'true'] or ['true'])}"
            for source, wanted in parts
        )

    def _choose(self, needed: Needs) -> list[tuple[list[str], str]]:
        """Return the files that may have what is needed, in groups, each with a condition for its numbers."""
        paths = [*self._snapshot.files]
        if needed == needs.NOTHING or not paths:
            return [(paths, "true")] if paths else []
        if self._chosen[0] != needed:
            self._chosen = needed, self._with_words(paths, needed)
        return self._chosen[1]

    def _with_words(self, paths: Sequence[str], needed: Needs) -> list[tuple[list[str], str]]:
        """Return the files that may have what is needed, those of a journal together, by their filters of words."""
        lacking = self._lacking(paths, needed)
        chosen: defaultdict[str, list[str]] = defaultdict(list)
        ranges: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
        for path in paths:
            one = self._snapshot.files[path]
            left = _without((one.first, one.next), lacking[path])
            if left:
                chosen[one.journal].append(path)
                ranges[one.journal] += left
        return [(chosen[journal], _numbers(_joined(ranges[journal]))) for journal in chosen]

    def _lacking(self, paths: Sequence[str], needed: Needs) -> defaultdict[str, list[tuple[int, int]]]:
        """Return for each file the ranges of numbers, in order, whose records lack what is needed."""
        lacking: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
        source = schema.files_source(engine.text_list(paths), _FILE)
        found = self._connection.execute(
            f"SELECT {schema.quoted(_FILE)}, number, words FROM {source} WHERE words IS NOT NULL"
        )
        while some := found.fetchmany(_FETCH):
            for path, first, octets in some:
                following = int.from_bytes(octets[: schema.NUMBER_BYTES], "little")
                if not needs.may_hold(needed, word_filter.finder(octets[schema.NUMBER_BYTES :])):
                    lacking[path].append((first, following))
        return lacking

    def ends(self) -> Ends | None:
        """Return the ends of all records; None if there are none. Raises duckdb.Error."""
        found = [
            row
            for source in self._sources()
            for row in self._connection.execute(f"SELECT min(created), max(created), count(*) FROM {source}").fetchall()
            if row[2]
        ]
        if not found:
            return None
        return Ends(min(row[0] for row in found), max(row[1] for row in found), sum(row[2] for row in found))

    def _sources(self) -> list[str]:
        """Return each source alone: DuckDB answers some questions by the statistics of files, but not of a union."""
        self._look()
        files = [*self._snapshot.files]
        return [*([_files(files)] if files else []), *([_TAIL] if self._has_tail else [])]

    def _look(self) -> None:
        if not self._has_tail and self._snapshot.tail is not None:
            rows = schema.rows_source(*self._snapshot.tail)
            self._connection.execute(f"CREATE TEMP TABLE {_TAIL} AS {rows}")
            self._has_tail = True
        paths = [*self._snapshot.files]
        if self._paths == paths:
            return
        # DuckDB reads only row groups that have such a line, by their statistics.
        named = f"read_parquet({engine.text_list(paths)}, filename = {engine.text(_FILE)})"
        found = (
            self._connection.execute(
                f"SELECT DISTINCT {schema.quoted(_FILE)} FROM {named} WHERE line IS NOT NULL"
            ).fetchall()
            if paths
            else []
        )
        self._odd, self._paths = [path for (path,) in found], paths
        self._chosen = needs.NOTHING, []


def _files(paths: list[str]) -> str:
    return f"read_parquet({engine.text_list(paths)})"


def _without(whole: tuple[int, int], holes: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return what is left of a range of numbers; `holes` are ranges in it."""
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
