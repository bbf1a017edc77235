r"""Turns a stored record into typed columns, and back into its line.

Owns the conversion of a record's JSON line for a database and back. Does not know any database.

A line has exactly the bytes of `records.render`, so `render(decode(line)) == line`. The difficult values in it are lone
surrogates in text (`\udcff` in JSON), which UTF-8 cannot encode; NUL characters; integers of any size, which are only
in `extra`; and floats, whose spelling is kept because `extra` is never parsed.
"""

from __future__ import annotations

from prefork_logd.records.record import rfc3339
from prefork_logd.records.render import render_values
from prefork_logd.records.stored import FIELDS, LIST_COLUMNS, NO_EXTRA, TEXT_COLUMNS, Row, read_row, read_rows

__all__ = ["COLUMNS", "FIELDS", "LIST_COLUMNS", "NO_EXTRA", "TEXT_COLUMNS", "Row"]

COLUMNS = tuple(name for name in FIELDS if name != "time")
"""The columns of a table; `time` is computed from `created`."""

decode = read_row
decode_lines = read_rows


def render(row: Row) -> bytes:
    """Return the line of a row, newline included; `time` is made from `created`."""
    values = {name: value for name in FIELDS if (value := getattr(row, name)) is not None and value != ""}
    if not row.received:
        del values["received"]
    for name in ("extra", *LIST_COLUMNS):
        if not bytes(values[name]):
            del values[name]
    values["time"] = rfc3339(row.created)
    return render_values({name: values[name] for name in FIELDS if name in values})
