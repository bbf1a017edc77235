r"""Turns a stored record into typed columns, and back into its line.

Owns what becomes of a record's JSON line on its way into a database and out of it, also for the values that a database
cannot hold. Knows no database.

A line is what `records.render` writes, byte for byte, so that `render(decode(line)) == line`. The hostile values in it
are lone surrogates in text (`\udcff` in JSON), which no UTF-8 holds; NUL characters; integers of any size, which are in
`extra` alone; and floats, whose spelling in `extra` is kept because `extra` is never taken apart.
"""

from __future__ import annotations

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


# PostgreSQL's text and jsonb hold no NUL and no lone surrogates, and the numbers of jsonb no exponents and no -0. A
# line with any of them has to be kept besides, as octets.
