"""Writes the SELECT of the records that a condition is applied to, for each kind of place in which they are.

Owns the view of DuckDB on a snapshot: files whose columns hold each record, files that also have lines beside their
columns, and the end of the journal. Does not know what a query is about.

Nearly all files have no line beside their columns. So they are asked without a look at `line`, and DuckDB skips the row
groups in which no record can match. The end of the journal is read once and becomes a table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from prefork_logd.stores.parquet import engine, schema
from prefork_logd.stores.parquet.slices import Ends

if TYPE_CHECKING:
    import duckdb

    from prefork_logd.stores.parquet.snapshot import Snapshot

Lines = Literal["without", "with", "only"]
"""Records without a line beside their columns; these, and all of the others; the others alone."""
_TAIL = "journal_end"
_FILE = "path of the file"
"""A name that no field of a record has."""


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

    def select(self, columns: str, condition: str, bounds: str = "", lines: Lines = "with") -> str:
        """Return a SELECT of the records within the bounds that meet the condition, and of `lines`.

        A line beside the columns has to be judged by Python, so the condition does not apply to its record.
        Raises duckdb.Error.
        """
        self._look()
        odd = set(self._odd)
        plain = [path for path in self._snapshot.files if path not in odd]
        limits = [bounds] if bounds else []
        parts = []
        if plain and lines != "only":
            parts.append((_files(plain), [*limits, condition]))
        for source in (*([_files(self._odd)] if odd else []), *([_TAIL] if self._has_tail else [])):
            match lines:
                case "without":
                    parts.append((source, [*limits, "line IS NULL", condition]))
                case "with":
                    wanted = [] if condition == "true" else [f"(line IS NOT NULL OR {condition})"]
                    parts.append((source, [*limits, *wanted]))
                case "only":
                    parts.append((source, [*limits, "line IS NOT NULL"]))
        if not parts:
            return f"SELECT {columns} FROM {schema.NOTHING}"
        return " UNION ALL ".join(
            f"SELECT {columns} FROM {source} WHERE {' AND '.join([one for one in wanted if one != 'true'] or ['true'])}"
            for source, wanted in parts
        )

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


def _files(paths: list[str]) -> str:
    return f"read_parquet({engine.text_list(paths)})"
