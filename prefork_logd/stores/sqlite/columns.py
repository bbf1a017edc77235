"""From JSON lines to the values of a day's tables: the way that every record takes, so it has to be short.

Owns the order of the values. Knows no database. What a line may hold is the business of `stores.rows`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta

from prefork_logd.records.record import Created, Integer  # noqa: TC001 - msgspec reads the annotations
from prefork_logd.stores import rows

if TYPE_CHECKING:
    from collections.abc import Callable

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
    process: Integer | None = None
    processName: str | None = None  # noqa: N815
    thread: Integer | None = None
    threadName: str | None = None  # noqa: N815
    taskName: str | None = None  # noqa: N815
    peer: str | None = None
    received: Annotated[float, Meta(ge=0)] = 0.0
    message: str | None = None
    exc_text: str | None = None
    stack_info: str | None = None
    extra: msgspec.Raw = rows.NO_EXTRA


NAMES = _Columns.__struct_fields__
SITE = slice(1, 9)
ORIGIN = slice(9, 15)
RECEIVED = 15

_decode_lines = msgspec.json.Decoder(_Columns).decode_lines
_values = msgspec.structs.astuple


def take_apart(lines: bytes, number: int, refuse: Callable[[int, bytes, str], None]) -> list[tuple[int, Values]]:
    """Return (number, values) of each line, of which `number` is the first one's; `refuse` gets what is no record."""
    try:
        found = _decode_lines(lines)
        if len(found) == lines.count(b"\n"):
            return list(enumerate(map(_values, found), number))
    except (msgspec.DecodeError, ValueError):
        pass
    taken = []
    for offset, line in enumerate(lines.split(b"\n")[:-1]):
        try:
            row = rows.decode(line)
        except ValueError as error:  # msgspec's errors, and what is no UTF-8
            refuse(number + offset, line + b"\n", str(error))
            continue
        taken.append((number + offset, tuple(_storable(getattr(row, name)) for name in NAMES)))
    return taken


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
        if name == "extra":
            row.extra = msgspec.Raw(value.encode()) if value else rows.NO_EXTRA
        elif type(value) is bytes:
            setattr(row, name, rows.from_octets(value))
        else:
            setattr(row, name, value)
    return row


def render(values: Values) -> bytes:
    """Return the line of such values."""
    return rows.render(put_together(values))
