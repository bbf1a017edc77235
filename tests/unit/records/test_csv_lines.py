"""Lines as CSV: every field a column, and nothing that a spreadsheet would execute."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest

from prefork_logd.records.csv_lines import csv_lines, spreadsheet_cell
from prefork_logd.records.stored import FIELDS
from tests.support.stores import NOW, line


def test_lines_become_rows() -> None:
    """The first row has the names; values with commas, quotes and newlines come back."""
    data = b"".join(csv_lines([line(NOW, msg='a, "b"\nc', tenant="north"), line(NOW)]))
    head, first, second = csv.reader(io.StringIO(data.decode(), newline=""))
    assert tuple(head) == FIELDS
    row = dict(zip(head, first, strict=True))
    assert row["message"] == 'a, "b"\nc'
    assert row["extra"] == '{"tenant":"north"}'
    assert dict(zip(head, second, strict=True))["extra"] == ""
    assert b"".join(csv_lines([])).decode() == ",".join(FIELDS) + "\r\n"


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("\uff1d1+1", "'\uff1d1+1"),
        ("@x", "'@x"),
        ("a\x1b[1m", "a\\x1b[1m"),
        (7, 7),
        (None, None),
        ("a\nb", "a\nb"),
        (b"{}", "{}"),
    ],
)
def test_a_cell_is_neither_a_formula_nor_a_control_sequence(value: Any, cell: Any) -> None:
    """Other text stays as it is."""
    assert spreadsheet_cell(value) == cell
