"""Answers a statement of SQL over the records, in a database that can reach nothing else.

Owns the restrictions: one statement that only reads, a view `records`, and no other file. Does not know how an answer
is printed.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from prefork_logd.config.values import format_count
from prefork_logd.errors import StoreError
from prefork_logd.stores.parquet import engine, schema

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import duckdb

_FETCH = 500


def open_database(
    source: str, paths: Sequence[str], memory_bytes: int, threads: int, spill: Path | None, target: str = ""
) -> duckdb.DuckDBPyConnection:
    """Return a database with the view `records` of the query `source`, which reads the files `paths`.

    A statement can read these files and write `target`, and cannot change that. Raises StoreError.
    """
    connection = engine.connect(memory_bytes, threads, spill)
    try:
        with engine.failing_as_store_error():
            connection.execute(f"CREATE VIEW records AS SELECT * FROM {source or schema.NOTHING}")
            allowed = [*paths, *([target] if target else [])]
            connection.execute(f"SET allowed_paths = {engine.text_list(allowed)}")
            if spill is not None:
                connection.execute(f"SET allowed_directories = {engine.text_list([spill])}")
            connection.execute("SET enable_external_access = false")
            connection.execute("SET lock_configuration = true")
    except BaseException:
        connection.close()
        raise
    return connection


def read_only(connection: duckdb.DuckDBPyConnection, statement: str) -> str:
    """Return the one statement of a text. Raises StoreError if it is another number, or does more than read."""
    with engine.failing_as_store_error("SQL"):
        found = connection.extract_statements(statement)
    if len(found) != 1:
        raise StoreError(f"SQL: {format_count(len(found), 'statement')}; write one")
    if found[0].type.name != "SELECT":
        raise StoreError(f"SQL: {found[0].type.name} is not possible; write SELECT, FROM, DESCRIBE or SUMMARIZE")
    return str(found[0].query).strip().rstrip(";")


def answer(connection: duckdb.DuckDBPyConnection, statement: str) -> tuple[list[str], Iterator[tuple[Any, ...]]]:
    """Return the names of the columns, and the rows as they come. Raises StoreError."""
    wanted = read_only(connection, statement)
    try:
        with engine.failing_as_store_error("SQL"):
            cursor = connection.execute(wanted)
            columns = [column[0] for column in cursor.description or ()]
    except StoreError as error:
        if type(error.__cause__).__name__ not in ("BinderException", "CatalogException"):
            raise
        raise StoreError(f"{error}; DESCRIBE records prints the columns of `records`") from error

    def rows() -> Iterator[tuple[Any, ...]]:
        while True:
            with engine.failing_as_store_error("SQL"):
                found = cursor.fetchmany(_FETCH)
            if not found:
                return
            yield from found

    return columns, rows()


def write_parquet(connection: duckdb.DuckDBPyConnection, statement: str, target: str) -> None:
    """Write the answer to a Parquet file. Raises StoreError."""
    wanted = read_only(connection, statement)
    with engine.failing_as_store_error("SQL"), contextlib.closing(connection.cursor()) as cursor:
        form = "FORMAT parquet, COMPRESSION zstd, USE_TMP_FILE false"
        cursor.execute(f"COPY ({wanted}\n) TO {engine.text(target)} ({form})")
