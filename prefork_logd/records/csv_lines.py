"""Formats stored lines as CSV, for spreadsheets and other programs.

Owns the columns, and what keeps a cell from being a formula. Does not know where the lines come from.
"""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

from prefork_logd.records.render import escape_text
from prefork_logd.records.stored import FIELDS, read_row

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""First characters of a formula: a spreadsheet would execute such a cell, which a client has logged."""


def csv_lines(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Yield stored lines as rows of CSV (RFC 4180), the names of the columns first. Raises NotARecord."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerow(FIELDS)
    for line in lines:
        row = read_row(line)
        writer.writerow([spreadsheet_cell(getattr(row, name)) for name in FIELDS])
        yield buffer.getvalue().encode("utf-8", "backslashreplace")
        buffer.seek(0)
        buffer.truncate()
    if buffer.tell():
        yield buffer.getvalue().encode()


def spreadsheet_cell(value: Any) -> Any:
    """Return a value for a cell of CSV that no spreadsheet takes for a formula, with control characters escaped."""
    if value is None or isinstance(value, (int, float)):
        return value
    text = value if isinstance(value, str) else bytes(value).decode()
    if text.startswith(_FORMULA):
        text = f"'{text}"
    # Newlines and tabs stay, within quotes; characters that control a terminal or a spreadsheet are escaped.
    return escape_text(text).replace("\n\t", "\n") if not text.isprintable() else text
