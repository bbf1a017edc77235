"""Writes rows in the binary form of COPY.

Owns the columns, their order and the octets of each value (PostgreSQL manual, "COPY", binary format; the types' own
send and receive functions). Does not know connections, table names or clocks.

Rows are packed without psycopg. Values that most records of a service share (all except time, texts and `extra`) are
packed once and then looked up. The compiled core (stores/rows_c/copy.pxi) does the same as `Encoder.encode`, for lines
in the collector's own form.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from psycopg import sql

from prefork_logd.stores.postgresql.text import (
    has_foreign_escape,
    has_inexact_number,
    postgresql_json,
    postgresql_text,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from prefork_logd.stores.rows import Row

COLUMNS = (
    ("day", "date NOT NULL"),
    ("slice", "integer NOT NULL"),
    ("number", "bigint NOT NULL"),
    ("time", "timestamptz NOT NULL"),
    ("created", "double precision NOT NULL"),
    ("received", "double precision NOT NULL"),
    ("name", 'text COLLATE "C"'),
    ("levelno", "bigint"),
    ("levelname", 'text COLLATE "C"'),
    ("pathname", 'text COLLATE "C"'),
    ("filename", 'text COLLATE "C"'),
    ("module", 'text COLLATE "C"'),
    ("lineno", "bigint"),
    ("funcname", 'text COLLATE "C"'),
    ("msg", 'text COLLATE "C"'),
    ("process", "bigint"),
    ("processname", 'text COLLATE "C"'),
    ("thread", "bigint"),
    ("threadname", 'text COLLATE "C"'),
    ("taskname", 'text COLLATE "C"'),
    ("peer", 'text COLLATE "C"'),
    ("host", 'text COLLATE "C"'),
    ("service", 'text COLLATE "C"'),
    ("environment", 'text COLLATE "C"'),
    ("version", 'text COLLATE "C"'),
    ("peer_name", 'text COLLATE "C"'),
    ("message", 'text COLLATE "C"'),
    ("exc_text", 'text COLLATE "C"'),
    ("stack_info", 'text COLLATE "C"'),
    ("extra", "jsonb"),
    ("truncated", "jsonb"),
    ("exception", "jsonb"),
    ("raw", "bytea"),
)
"""Name and type. Collation C compares code points: it is fast, and does not depend on the server's locale."""
NAMES = sql.SQL(", ").join(sql.Identifier(name) for name, _ in COLUMNS)

HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = b"\xff\xff"

MAX_NAME = 256
"""Characters of a logger's name in its column and index; an index accepts no key above 2.7 KiB."""

_EPOCH_S = 946_684_800
"""2000-01-01, the epoch of PostgreSQL's dates and times, in seconds since 1970."""
_EPOCH_US = _EPOCH_S * 1_000_000
DAY_S = 86_400
EPOCH_DAY = _EPOCH_S // DAY_S
MOST_KEY_CHARS = 1024
"""The longest key of a cached origin: a client may send names of any length."""
ENTRY_BYTES = 600
"""The approximate memory of a cached origin besides its packed form."""
MOST_CACHED_BYTES = 16 << 20
"""The most bytes of all cached origins in packed form; their keys need a few times as much at most."""

_HEAD = struct.Struct(">hiiiiiqiqidid")
_LENGTH = struct.Struct(">i").pack
_INTEGER = struct.Struct(">iq").pack
_NULL = _LENGTH(-1)
_TWO_NULLS = _NULL + _NULL


class Encoder:
    """Packs rows; one for each connection."""

    def __init__(self) -> None:
        self._origins: dict[object, bytes] = {}
        self._cached_bytes = 0

    def encode(self, decoded: Sequence[Row], lines: Sequence[bytes], number: int, day: int, part: int) -> bytes:
        """Return rows in the form of COPY.

        `lines` are their sources; a line is kept whole (`raw`) if the columns cannot reproduce it.
        `number` is the first one in the journal; `day` counts from 1970, and identifies the partition with `part`.

        Longer than other functions: it runs for every row, and a call for each column would cost more than packing it.
        """
        packed: list[bytes] = []
        origins, pack_head, day = self._origins, _HEAD.pack, day - EPOCH_DAY
        for row, line in zip(decoded, lines, strict=True):
            origin = (
                row.name,
                row.levelno,
                row.levelname,
                row.pathname,
                row.filename,
                row.module,
                row.lineno,
                row.funcName,
                row.msg,
                row.process,
                row.processName,
                row.thread,
                row.threadName,
                row.taskName,
                row.peer,
                row.host,
                row.service,
                row.environment,
                row.version,
                row.peer_name,
            )
            created = row.created
            packed += (
                pack_head(
                    33, 4, day, 4, part, 8, number, 8, round(created * 1e6) - _EPOCH_US, 8, created, 8, row.received
                ),
                origins.get(origin) or self._pack_origin(origin),
            )
            number += 1
            documents = (bytes(row.extra), bytes(row.truncated), bytes(row.exception))
            if (
                (rb"\u" in line and has_foreign_escape(line))
                or any(map(has_inexact_number, documents))
                or (row.name is not None and len(row.name) > MAX_NAME)
            ):
                packed.append(_foreign(row, line))
                continue
            message = row.message
            if message is None:
                packed.append(_NULL)
            else:
                octets = message.encode()
                packed += (_LENGTH(len(octets)), octets)
            packed.append(_TWO_NULLS if row.exc_text is None and row.stack_info is None else _pack_trace(row))
            packed += (*map(_pack_json, documents), _NULL)
        return b"".join(packed)

    def _pack_origin(self, origin: tuple[str | int | None, ...]) -> bytes:
        name, *others = origin
        if isinstance(name, str):
            name = name[:MAX_NAME]
        packed = pack_values((name, *others))
        if sum(len(value) for value in origin if isinstance(value, str)) <= MOST_KEY_CHARS:
            if self._cached_bytes > MOST_CACHED_BYTES:
                self._origins.clear()
                self._cached_bytes = 0
            self._origins[origin] = packed
            self._cached_bytes += len(packed) + ENTRY_BYTES
        return packed


def pack_values(values: Iterable[str | int | None]) -> bytes:
    """Return values in the form that they have in a row."""
    return b"".join(map(_pack, values))


def _pack_trace(row: Row) -> bytes:
    return _pack(row.exc_text) + _pack(row.stack_info)


def _pack_json(document: bytes) -> bytes:
    return _LENGTH(len(document) + 1) + b"\x01" + document if document else _NULL


def _foreign(row: Row, line: bytes) -> bytes:
    documents = map(postgresql_json, (bytes(row.extra), bytes(row.truncated), bytes(row.exception)))
    return b"".join(
        (
            *map(_pack, (row.message, row.exc_text, row.stack_info)),
            *map(_pack_json, documents),
            _LENGTH(len(line)) + line,
        )
    )


def _pack(value: str | int | None) -> bytes:
    if value is None:
        return _NULL
    return _INTEGER(8, value) if isinstance(value, int) else _pack_text(postgresql_text(value))


def _pack_text(text: str) -> bytes:
    octets = text.encode()
    return _LENGTH(len(octets)) + octets
