r"""A stored record as typed columns, and back as the line it was.

Owns what becomes of a record's JSON line on its way into a database and out of it, also for the values that a database
cannot hold. Knows no database.

A line is what `records.render` writes, byte for byte, so that `render(decode(line)) == line`. The hostile values in it
are lone surrogates in text (`\udcff` in JSON), which no UTF-8 holds; NUL characters; integers of any size, which are in
`extra` alone; and floats, whose spelling in `extra` is kept because `extra` is never taken apart.
"""

from __future__ import annotations

import re

from prefork_logd.records.record import rfc3339
from prefork_logd.records.render import render_values
from prefork_logd.records.stored import FIELDS, NO_EXTRA, TEXT_COLUMNS, Row, read_row, read_rows

__all__ = ["COLUMNS", "FIELDS", "NO_EXTRA", "TEXT_COLUMNS", "Row"]

COLUMNS = tuple(name for name in FIELDS if name != "time")
"""What a table has columns for: `time` follows from `created`."""

decode = read_row
decode_lines = read_rows


def render(row: Row) -> bytes:
    """Return the line of a row, newline included; `time` is made from `created`."""
    values = {name: value for name in FIELDS if (value := getattr(row, name)) is not None and value != ""}
    if not row.received:
        del values["received"]
    if not bytes(row.extra):
        del values["extra"]
    values["time"] = rfc3339(row.created)
    return render_values({name: values[name] for name in FIELDS if name in values})


# What a database cannot hold


def to_octets(text: str) -> bytes:
    """Return a text with lone surrogates as octets: UTF-8, with the surrogates encoded as other characters are."""
    return text.encode("utf-8", "surrogatepass")


def from_octets(octets: bytes) -> str:
    """Return what `to_octets` was given."""
    return octets.decode("utf-8", "surrogatepass")


_FOREIGN_TEXT = re.compile("[\0\ud800-\udfff]")
_FOREIGN_ESCAPE = re.compile(rb"\\u([dD][89a-fA-F][0-9a-fA-F]{2}|0000)|\\.")
_INEXACT = re.compile(rb"[eE-](?:(?<=\d.)[+-]?\d|0(?:\.0+)?(?![.\d]))")
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"')


# PostgreSQL's text and jsonb hold no NUL and no lone surrogates, and the numbers of jsonb no exponents and no -0. A
# line with any of them has to be kept besides, as octets.


def has_foreign_escape(lines: bytes) -> bool:
    """Tell whether there may be a NUL or a lone surrogate in one line or in many."""
    return rb"\u" in lines and (rb"\u0000" in lines or rb"\ud" in lines or rb"\uD" in lines)


def has_inexact_number(extra: bytes) -> bool:
    """Tell whether jsonb might spell a number of this JSON in another way."""
    if _INEXACT.search(extra) is None:
        return False
    # Dates and hexadecimal ids look alike: those are in strings, which are left out of the second look.
    return _INEXACT.search(_STRING.sub(b'""', extra)) is not None


def postgresql_text(text: str) -> str:
    """Return the nearest text that PostgreSQL holds: U+FFFD in the place of NUL and of lone surrogates."""
    return _FOREIGN_TEXT.sub("\ufffd", text)


def postgresql_json(extra: bytes) -> bytes:
    """Return the nearest JSON that jsonb holds, as `postgresql_text` does for text."""
    return _FOREIGN_ESCAPE.sub(lambda match: rb"\ufffd" if match[1] else match[0], extra)
