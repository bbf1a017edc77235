"""Opens DuckDB, with bounds, and words its errors.

Owns the settings of a connection. Does not know records or segments.

DuckDB has threads: it is imported and used only in processes that never fork. Nothing is fetched or loaded from
elsewhere, and temporary files are in the store's own directory.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefork_logd.errors import QueryMemoryError, StoreError, file_reason, remedy_for, too_heavy

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import duckdb

_CONFIGURATION = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "preserve_insertion_order": "true",
    "python_enable_replacements": "false",
}


SPILL_BYTES = 4 << 30
"""Most bytes of the temporary files of one query; by default DuckDB takes nine tenths of the disk."""
_TEMPORARY = re.compile(r"prefork-logd-(?:query|export)-(\d+)(?:-.*)?", re.ASCII)


def spill_directory() -> Path | None:
    """Return the directory for temporary files of this process's queries; None if none can be made."""
    try:
        return Path(tempfile.gettempdir()) / f"prefork-logd-query-{os.getpid()}"
    except OSError:
        return None


def temporary_directory() -> tempfile.TemporaryDirectory[str]:
    """Return a new directory for the parts of an export. Raises OSError."""
    return tempfile.TemporaryDirectory(prefix=f"prefork-logd-export-{os.getpid()}-")


def remove_old_temporaries() -> None:
    """Remove such directories of our processes that have ended: one that is killed leaves its own behind."""
    place = spill_directory()
    for path in place.parent.iterdir() if place is not None else ():
        found = _TEMPORARY.fullmatch(path.name)
        with contextlib.suppress(OSError):
            if found and path.lstat().st_uid == os.geteuid() and not Path(f"/proc/{found[1]}").exists():
                shutil.rmtree(path)


def connect(memory_bytes: int, threads: int, temporary: Path | None = None) -> duckdb.DuckDBPyConnection:
    """Return a connection to a database in memory. Raises StoreError.

    `memory_bytes` bounds the memory of its queries; beyond it they use files in the directory `temporary`, None for no
    files, of SPILL_BYTES at most. `threads` is the number of threads of a query.
    """
    try:
        import duckdb  # it has threads, and takes 70 ms
    except ImportError as error:
        raise StoreError(f"the library duckdb cannot be used: {error}; install it: pip install duckdb") from error
    configuration: dict[str, Any] = {
        **_CONFIGURATION,
        "memory_limit": f"{memory_bytes >> 10}KiB",
        "threads": threads,
        "max_temp_directory_size": f"{SPILL_BYTES >> 10}KiB",
        "temp_directory": str(temporary) if temporary is not None else "",
    }
    with failing_as_store_error():
        connection = duckdb.connect(":memory:", config=configuration)
        # A file never changes, so its footer is read once for all statements.
        connection.execute("SET parquet_metadata_cache = true")
        return connection


@contextlib.contextmanager
def failing_as_store_error(place: str = "") -> Iterator[None]:
    """Raise StoreError for an error of DuckDB, with its first line; QueryMemoryError if memory is short.

    `place` is what a query reads; the error about memory then tells how to narrow the query.
    """
    import duckdb

    try:
        yield
    except (duckdb.Error, MemoryError) as error:
        line = _plain((str(error).strip().splitlines() or [type(error).__name__])[0])
        if not isinstance(error, (duckdb.OutOfMemoryException, MemoryError)):
            raise StoreError(f"{place}: {line}" if place else line) from error
        raise QueryMemoryError(too_heavy(place, line) if place else line) from error


_NUMBERS = {os.strerror(number): number for number in errno.errorcode}
_FILE_ERROR = re.compile(
    rf"""(?:file|directory) \\*["'](/[^"'\\]+)\\*["'].*?({"|".join(map(re.escape, _NUMBERS))})""", re.IGNORECASE
)
_NO_FILE = re.compile(r"""No files found that match the pattern ["'](/[^"']+)["']""")


def _plain(line: str) -> str:
    """Return the line of an error of DuckDB; of one about a file its place, reason and remedy in our words."""
    if missing := _NO_FILE.search(line):
        place, number = missing[1], errno.ENOENT
    elif failed := _FILE_ERROR.search(line):
        place, number = failed[1], next(_NUMBERS[text] for text in _NUMBERS if text.lower() == failed[2].lower())
    else:
        return _without_json(line)
    path = Path(place)
    reason = file_reason(number) if "write" in line or missing else os.strerror(number)
    # Names with a dot are those of files that are just being written, which mean nothing to people.
    return f"{path.parent if path.name.startswith('.') else path}: {reason}"


def _without_json(line: str) -> str:
    """Return an error of DuckDB without its form as JSON, with the remedy if the system has refused a call."""
    before, brace, rest = line.partition(': {"exception_type"')
    if not brace:
        return line
    try:
        found = json.loads('{"exception_type"' + rest)
        return f"{found['exception_message']}{remedy_for(int(found.get('errno', 0)))}"
    except (ValueError, KeyError, TypeError):
        return before


@contextlib.contextmanager
def suppressing_closed() -> Iterator[None]:
    """Ignore the error of a connection that was closed meanwhile."""
    import duckdb

    with contextlib.suppress(duckdb.ConnectionException):
        yield


def interrupt(connection: duckdb.DuckDBPyConnection) -> None:
    """Make the running statement of a connection fail; do nothing if another thread has closed it meanwhile."""
    with suppressing_closed():
        connection.interrupt()


def text(value: str) -> str:
    """Return a text as a literal of SQL."""
    return "'" + value.replace("'", "''") + "'"


def text_list(values: Iterable[object]) -> str:
    """Return a list of texts as a literal of SQL."""
    return "[" + ", ".join(text(str(value)) for value in values) + "]"
