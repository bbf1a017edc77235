"""Lists the columns of a segment, and the SQL that reads rows into them.

Owns the types of the columns. Does not know files' names or queries.

The columns are the fields of a record (docs/record.md) under their own names, and `journal`, `number` and `line`.
`time` is a timestamp in UTC, for other programs. `extra`, `truncated` and `exception` are JSON as text. `line` is NULL
unless the other columns cannot give the line back.
"""

from __future__ import annotations

from prefork_logd.records.record import INTEGER_FIELDS
from prefork_logd.stores import rows
from prefork_logd.stores.parquet.engine import text

COMPRESSION = "FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1, PARQUET_VERSION V2, ROW_GROUP_SIZE 61440"
"""Level 3 takes half more of the time, and saves nothing with random ids, which are most of a record.

One record is read in half the time as from row groups of twice the size, DuckDB's default, for 6% more bytes.
"""
TIME = "make_timestamp(CAST(round_even(created * 1e6, 0) AS BIGINT))"
"""`time` of `created`, rounded as `record.rfc3339` does."""
_LEAST_OBJECT_BYTES = 1 << 20


def _type(name: str) -> str:
    if name in ("created", "received"):
        return "DOUBLE"
    return "BIGINT" if name in INTEGER_FIELDS else "VARCHAR"


TYPES = {"number": "UBIGINT", **{name: _type(name) for name in rows.COLUMNS}, "line": "VARCHAR"}
"""Type of each column of a row (stores/parquet/rows.py)."""
COLUMNS = ("journal", "number", "created", "time", *rows.COLUMNS[1:], "line")
"""Columns of a segment, in order."""
LINE_COLUMNS = (*rows.COLUMNS, "line")
"""Columns that give a line back, in the order of rows.make_line."""


def _nothing() -> str:
    types = {**TYPES, "journal": "VARCHAR", "time": "TIMESTAMP"}
    return f"(SELECT {', '.join(f'NULL::{types[name]} AS {quoted(name)}' for name in COLUMNS)} WHERE false)"


def quoted(name: str) -> str:
    """Return the name of a column as SQL."""
    return f'"{name}"'


def rows_source(path: str, journal: str, longest: int) -> str:
    """Return a query of the rows in a file of JSON lines as the columns of a segment.

    `longest` is the length of the longest row, in bytes, or more.
    """
    types = ", ".join(f"{text(name)}: {text(kind)}" for name, kind in TYPES.items())
    columns = ", ".join(
        f"{text(journal)} AS journal" if name == "journal" else f'{TIME} AS "time"' if name == "time" else quoted(name)
        for name in COLUMNS
    )
    return (
        f"SELECT {columns} FROM read_ndjson({text(path)}, columns = {{{types}}}, "
        f"maximum_object_size = {max(longest + 2, _LEAST_OBJECT_BYTES)})"
    )


NOTHING = _nothing()
"""A query with the columns of a segment and no rows."""


def records_source(current: str, others: str) -> str:
    """Return a query of COLUMNS of files, two lists in SQL; an empty one is left out.

    `current` have the columns of this version. In `others`, of earlier versions and other programs, columns may be
    missing; their values are NULL.
    """
    columns = ", ".join(map(quoted, COLUMNS))
    parts = [f"SELECT {columns} FROM read_parquet({current})"] if current else []
    if others:
        parts.append(f"SELECT {columns} FROM {files_of_any_columns(others)}")
    return " UNION ALL ".join(parts)


def files_of_any_columns(paths: str) -> str:
    """Return a query of files, a list in SQL, in which columns of this version may be missing: those are NULL."""
    return f"(FROM {NOTHING} UNION ALL BY NAME FROM read_parquet({paths}, union_by_name = true))"
