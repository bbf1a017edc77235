"""Writes stored lines of any store as one Parquet file.

Owns the columns: those of a segment (schema.py) without the journal's. Does not know where the lines come from.

DuckDB cannot add to a file. So the lines become parts of a bounded size, and their row groups are copied into one file.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from prefork_logd.errors import StoreError
from prefork_logd.stores.parquet import engine, schema
from prefork_logd.stores.parquet.joining import concatenate
from prefork_logd.stores.parquet.rows import make_rows
from prefork_logd.stores.parquet.segments import failing_as_store_error
from prefork_logd.system.memory_file import make_memory_file

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

PART_BYTES = 32 << 20
"""Lines that become a part."""
MOST_BYTES = 8 << 30
"""Bytes of all parts."""
MEMORY_BYTES = 176 << 20
_LEFT_OUT = ("journal", "number")
_COLUMNS = ", ".join(schema.quoted(name) for name in schema.COLUMNS if name not in _LEFT_OUT)


def write_file(lines: Iterable[bytes], directory: Path) -> Path:
    """Return a new Parquet file of these lines, in their order, in an empty directory. Raises StoreError."""
    parts: list[Path] = []
    some: list[bytes] = []
    nbytes = written = 0
    with failing_as_store_error(directory):
        for line in lines:
            some.append(line if line.endswith(b"\n") else line + b"\n")
            nbytes += len(line)
            if nbytes >= PART_BYTES:
                written += _write_part(some, directory, parts)
                some, nbytes = [], 0
                if written > MOST_BYTES:
                    raise StoreError(f"the file would have more than {MOST_BYTES >> 30} GiB; choose a shorter range")
        if some or not parts:
            _write_part(some, directory, parts)
        if len(parts) == 1:
            return parts[0]
        target = directory / "records.parquet"
        concatenate(parts, target)
        return target


def _write_part(lines: list[bytes], directory: Path, parts: list[Path]) -> int:
    """Write a part, and return its size. Raises OSError, StoreError."""
    path = directory / f"part-{len(parts):06}.parquet"
    data = make_rows(b"".join(lines), 0, lambda *_: None).data if lines else b""
    fd = make_memory_file("rows", data)
    try:
        # A row is at most the longest line twice, as JSON in JSON has a backslash before each quote.
        longest = 2 * max(map(len, lines), default=0) + 1024
        with engine.connect(MEMORY_BYTES, 1) as connection, engine.failing_as_store_error():
            rows = f"({schema.rows_source(f'/proc/self/fd/{fd}', '', longest)})" if data else schema.NOTHING
            statement = f"SELECT {_COLUMNS} FROM {rows}"
            connection.execute(f"COPY ({statement}) TO {engine.text(str(path))} ({schema.COMPRESSION})")
    finally:
        os.close(fd)
    parts.append(path)
    return path.stat().st_size
