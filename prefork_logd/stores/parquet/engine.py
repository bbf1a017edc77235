"""Opens DuckDB, with bounds, and words its errors.

Owns the settings of a connection. Does not know records or segments.

DuckDB has threads: it is imported and used only in processes that never fork. Nothing is fetched or loaded from
elsewhere, and temporary files are in the store's own directory.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from prefork_logd.errors import QueryMemoryError, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    import duckdb

_CONFIGURATION = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "preserve_insertion_order": "true",
    "python_enable_replacements": "false",
}


def connect(memory_bytes: int, threads: int, temporary: Path | None = None) -> duckdb.DuckDBPyConnection:
    """Return a connection to a database in memory. Raises StoreError.

    `memory_bytes` bounds the memory of its queries; beyond it they use files in the directory `temporary`, None for no
    files. `threads` is the number of threads of a query.
    """
    try:
        import duckdb  # noqa: PLC0415 - it has threads, and takes 70 ms
    except ImportError as error:
        raise StoreError(f"the library duckdb cannot be used: {error}; install it: pip install duckdb") from error
    configuration: dict[str, Any] = {
        **_CONFIGURATION,
        "memory_limit": f"{memory_bytes >> 10}KiB",
        "threads": threads,
        "temp_directory": str(temporary) if temporary is not None else "",
    }
    with failing_as_store_error():
        connection = duckdb.connect(":memory:", config=configuration)
        # A file never changes, so its footer is read once for all statements.
        connection.execute("SET parquet_metadata_cache = true")
        return connection


@contextlib.contextmanager
def failing_as_store_error(place: str = "") -> Iterator[None]:
    """Raise StoreError for an error of DuckDB, with its first line; QueryMemoryError if memory is short."""
    import duckdb  # noqa: PLC0415

    try:
        yield
    except (duckdb.Error, MemoryError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        kind = QueryMemoryError if isinstance(error, (duckdb.OutOfMemoryException, MemoryError)) else StoreError
        raise kind(f"{place}: {lines[0]}" if place else lines[0]) from error


@contextlib.contextmanager
def suppressing_closed() -> Iterator[None]:
    """Ignore the error of a connection that was closed meanwhile."""
    import duckdb  # noqa: PLC0415

    with contextlib.suppress(duckdb.ConnectionException):
        yield


def text(value: str) -> str:
    """Return a text as a literal of SQL."""
    return "'" + value.replace("'", "''") + "'"


def text_list(values: Iterable[object]) -> str:
    """Return a list of texts as a literal of SQL."""
    return "[" + ", ".join(text(str(value)) for value in values) + "]"
