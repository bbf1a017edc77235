"""Turns a JSON line into the values of a day's tables, and back.

Owns the order of the values. Knows no database. What a line may hold is the business of `stores.rows`.
"""

from __future__ import annotations

from typing import Any

import msgspec

from prefork_logd.records.record import Created, Integer  # noqa: TC001 - msgspec reads the annotations
from prefork_logd.records.stored import judge, split_lines
from prefork_logd.stores import rows

Values = tuple[Any, ...]


class _Columns(msgspec.Struct, gc=False):
    """The columns of a line in the order in which they are taken apart: sites, origins, and what is the row's own."""

    created: Created
    name: str | None = None
    levelno: Integer | None = None
    levelname: str | None = None
    pathname: str | None = None
    filename: str | None = None
    module: str | None = None
    lineno: Integer | None = None
    funcName: str | None = None  # noqa: N815 - LogRecord's own names
    msg: str | None = None
    process: Integer | None = None
    processName: str | None = None  # noqa: N815
    thread: Integer | None = None
    threadName: str | None = None  # noqa: N815
    taskName: str | None = None  # noqa: N815
    peer: str | None = None
    host: str | None = None
    service: str | None = None
    environment: str | None = None
    version: str | None = None
    received: Created = 0.0
    message: str | None = None
    exc_text: str | None = None
    stack_info: str | None = None
    extra: msgspec.Raw = rows.NO_EXTRA
    truncated: msgspec.Raw = rows.NO_EXTRA
    exception: msgspec.Raw = rows.NO_EXTRA


NAMES = _Columns.__struct_fields__
SITE = slice(1, 10)
ORIGIN = slice(10, 20)
RECEIVED = 20
MESSAGE, EXC_TEXT, STACK_INFO, EXTRA, TRUNCATED, EXCEPTION = range(21, 27)

_decode = msgspec.json.Decoder(_Columns).decode
_decode_lines = msgspec.json.Decoder(_Columns).decode_lines
values_of = msgspec.structs.astuple


def decode_lines(lines: bytes) -> list[Any]:
    """Return lines, each of which ends in a newline, for `values_of`.

    Raises ValueError or RecursionError when one of them is not a stored record or holds lone surrogates.
    """
    found = _decode_lines(lines)
    for line, columns in zip(split_lines(lines), found, strict=True):
        judge(line, columns.extra, columns.truncated, columns.exception)
    return found


def take_apart(line: bytes) -> Values:
    """Return the values of any line, its newline included or not. Raises NotARecord."""
    try:
        columns = _decode(line)
    except (ValueError, RecursionError):
        row = rows.decode(line)  # which knows what to do with lone surrogates
    else:
        judge(line, columns.extra, columns.truncated, columns.exception)
        return values_of(columns)
    return tuple(_storable(getattr(row, name)) for name in NAMES)


def _storable(value: Any) -> Any:
    """Return a value that SQLite takes: text that is no valid Unicode becomes octets, which come back as text."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return rows.to_octets(value)
    return value


def put_together(values: Values) -> rows.Row:
    """Return the row whose values in the order of NAMES were read from a database."""
    row = rows.Row(created=values[0])
    for name, value in zip(NAMES[1:], values[1:], strict=True):
        if name in ("extra", *rows.LIST_COLUMNS):
            setattr(row, name, msgspec.Raw(value.encode()) if value else rows.NO_EXTRA)
        elif type(value) is bytes:
            setattr(row, name, rows.from_octets(value))
        else:
            setattr(row, name, value)
    return row


def render(values: Values) -> bytes:
    """Return the line of such values."""
    return rows.render(put_together(values))
