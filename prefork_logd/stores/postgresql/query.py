"""Records back out of PostgreSQL, as the lines they were.

Owns the way from a row to its line. Knows no journal.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec
from psycopg import sql

from prefork_logd.stores import rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psycopg

FIELDS = tuple(name for name in rows.COLUMNS if name != "extra")
SELECTED = ", ".join(("raw", "extra::text", *(name.lower() for name in FIELDS)))
_BETWEEN_TOKENS = re.compile(r'("(?:[^"\\]|\\.)*")|(?<=[,:]) ')


def line_of(raw: bytes | None, extra: str | None, *values: Any) -> bytes:
    """Return the line of a row, of which `SELECTED` was asked for."""
    if raw is not None:
        return bytes(raw) + b"\n"
    row = rows.Row(**dict(zip(FIELDS, values, strict=True)))
    if extra is not None:
        # jsonb is written with a space behind each comma and colon.
        row.extra = msgspec.Raw(_BETWEEN_TOKENS.sub(lambda match: match[1] or "", extra).encode())
    return rows.render(row)


def read_all(connection: psycopg.Connection[Any], schema: str, since_number: int = 0) -> Iterator[bytes]:
    """Yield the lines of all records, in the order of the journal, from this number on."""
    statement = sql.SQL("SELECT {} FROM {}.records WHERE number >= {} ORDER BY number").format(
        sql.SQL(SELECTED), sql.Identifier(schema), since_number
    )
    with connection.cursor(name="records") as cursor:
        cursor.itersize = 2000
        cursor.execute(statement)
        for row in cursor:
            yield line_of(*row)
