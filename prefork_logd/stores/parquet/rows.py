r"""Turns stored lines into rows that DuckDB's JSON reader takes, and rows of columns back into lines.

Owns the exactness: a line comes back byte for byte. Does not know DuckDB or files.

A row is a line of JSON with `number`, the record's fields, and `extra`, `truncated` and `exception` as texts. A line
that its columns cannot give back is in `line`, too: one with lone surrogates, an empty field, another order of fields
or another spelling. Its columns hold the nearest values, so that it is found.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from prefork_logd.errors import NotARecord
from prefork_logd.records import render
from prefork_logd.records.record import rfc3339
from prefork_logd.stores import rows, rows_core

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

JSON_COLUMNS = ("extra", *rows.LIST_COLUMNS)
"""Columns that hold JSON as text."""
_JSON_INDEXES = tuple(rows.COLUMNS.index(name) for name in JSON_COLUMNS)
_NO_TIME = rows.Row.__struct_defaults__[-1]
"""The encoder leaves out a float only if it is the default itself."""
_DAY_S = 86_400

_SURROGATE = re.compile("[\ud800-\udfff]")
_OWN_ESCAPES = "|".join(
    f"{ord(one):04x}"
    for one in re.findall(f"[{render.UNSAFE}]", "".join(map(chr, range(0xD800))))
    if one not in "\b\t\n\f\r"
)
_FOREIGN_ESCAPE = re.compile(rf"(?<!\\)(?:\\\\)*\\(?:/|u(?!{_OWN_ESCAPES}|feff))".encode())
"""An escape that the collector does not write (records/render.py), or one of a surrogate: a search could miss the text
or fail."""
_ESCAPE = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})|\\.", re.DOTALL
)
_SPACE = re.compile(rb"[ \t\r]")
_encode = msgspec.json.Encoder().encode


class Day(NamedTuple):
    """The place in rows where the day changes."""

    offset: int
    """Offset in bytes of the first row of the day."""
    number: int
    """Number of its record."""
    day: int
    """Days since 1970, UTC."""


class Rows(NamedTuple):
    """Rows of JSON, and their days."""

    data: bytes
    days: list[Day]


def make_rows(lines: bytes, number: int, refuse: Callable[[int, bytes, str], None]) -> Rows:
    """Return the rows of lines, the first of which has this number in the journal.

    A line that is not a record is passed to `refuse` with its number and the reason.
    """

    def make(line: bytes, number: int) -> tuple[bytes, float] | None:
        try:
            return make_row(line, number)
        except NotARecord as error:
            refuse(number, line, str(error))
            return None

    if rows_core.json_rows is not None and _is_utf8(lines):
        data, days = rows_core.json_rows(lines, number, make)
        return Rows(data, [Day(*day) for day in days])
    return _make_in_python(lines, number, make)


def _is_utf8(lines: bytes) -> bool:
    if not lines.isascii():
        try:
            lines.decode()
        except UnicodeDecodeError:
            return False
    return True


def _make_in_python(lines: bytes, number: int, make: Callable[[bytes, int], tuple[bytes, float] | None]) -> Rows:
    made: list[bytes] = []
    days: list[Day] = []
    offset = 0
    for index, line in enumerate(lines.split(b"\n")[:-1], number):
        row = make(line + b"\n", index)
        if row is None:
            continue
        data, received = row
        day = int(received / _DAY_S)
        if not days or days[-1].day != day:
            days.append(Day(offset, index, day))
        made.append(data)
        offset += len(data)
    return Rows(b"".join(made), days)


def make_row(line: bytes, number: int) -> tuple[bytes, float]:
    """Return the row of one line, and its `received` in seconds since 1970. Raises NotARecord."""
    row = rows.decode(line)
    try:
        text = line.removesuffix(b"\n").decode()
    except UnicodeDecodeError as error:
        raise NotARecord(f"is not UTF-8: {error.reason} at byte {error.start}") from error
    is_exact = rows.render(row) == line and _FOREIGN_ESCAPE.search(line) is None and _is_compact(row)
    values: dict[str, Any] = {"number": number}
    if is_exact:
        # The same bytes as the line, with JSON as text.
        values |= {name: value for name in rows.FIELDS if (value := getattr(row, name)) is not None}
        for name in JSON_COLUMNS:
            values[name] = bytes(values[name]).decode()
            if not values[name]:
                del values[name]
        if not row.received:
            del values["received"]
        return render.render_values(values), row.received or row.created
    for name in rows.FIELDS:
        value = getattr(row, name)
        if name in JSON_COLUMNS:
            value = _ESCAPE.sub(lambda match: "\\ufffd" if match[1] else match[0], bytes(value).decode())
        elif isinstance(value, str):
            value = _SURROGATE.sub("\ufffd", value)
        if (value is not None and value not in ("", 0.0)) or name == "created":
            values[name] = value
    values["line"] = text
    return _encode(values) + b"\n", row.received or row.created


def _is_compact(row: rows.Row) -> bool:
    """Return whether JSON has no white space between tokens: searches look for `"key":`."""
    for name in JSON_COLUMNS:
        octets = bytes(getattr(row, name))
        if octets and _SPACE.search(octets) and msgspec.json.format(octets, indent=-1) != octets:
            return False
    return True


def make_line(values: Sequence[Any]) -> bytes:
    """Return the line of a row that was read: the values of rows.COLUMNS in order, and of `line`."""
    *columns, line = values
    if line is not None:
        return str(line).encode() + b"\n"
    for index in _JSON_INDEXES:
        value = columns[index]
        columns[index] = msgspec.Raw(value.encode()) if value is not None else rows.NO_EXTRA
    if columns[-1] is None:
        columns[-1] = _NO_TIME
    octets = _encode(rows.Row(columns[0], rfc3339(columns[0]), *columns[1:]))
    if not octets.isascii() or b"\x7f" in octets:
        octets = render.escape_json(octets)
    return octets + b"\n"
