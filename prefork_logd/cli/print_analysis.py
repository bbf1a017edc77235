"""Prints facets, statistics, fields and patterns as a table, JSON lines or CSV.

Does not know where the answers come from. Values are what clients have sent: control characters are escaped.
"""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING, Any, NamedTuple

from prefork_logd.cli.print_json import spaced_json_line
from prefork_logd.config.values import format_count
from prefork_logd.records.csv_lines import spreadsheet_cell
from prefork_logd.records.levels import names_of
from prefork_logd.records.render import asctime, escape_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from prefork_logd.query.search import Coverage, Facets, Fields, Patterns, Table

WIDEST = 60
"""Characters of a cell of a table, apart from the last column."""


_LEVEL = "level"
"""The field of a query that is written with names."""


class Sheet(NamedTuple):
    """An answer as columns and rows."""

    columns: Sequence[str]
    rows: list[list[Any]]
    """JSON values."""
    times: tuple[int, ...] = ()
    """Indexes of the columns with times in seconds since 1970."""

    def with_level_names(self, carried: Callable[[], Mapping[str, int]]) -> Sheet:
        """Return the sheet with names for the numbers of levels, for people. `carried`: as of levels.names_of."""
        places = [
            (row, index)
            for row in self.rows
            for index, column in enumerate(self.columns)
            if column == _LEVEL or (column == "value" and row[0] == _LEVEL and self.columns[0] == "field")
        ]
        names = names_of((row[index] for row, index in places), carried)
        for row, index in places:
            row[index] = names.get(row[index], row[index])
        return self


def facets_sheet(answer: Facets) -> Sheet:
    """Return the values of every field; `others` and `missing` only where there are some."""
    rows: list[list[Any]] = []
    for facet in answer.facets:
        rows += [[facet.field, value.value, value.count, None] for value in facet.values]
        if facet.others:
            rows.append([facet.field, None, facet.others, "other values"])
        if facet.missing:
            rows.append([facet.field, None, facet.missing, "no value"])
    return Sheet(("field", "value", "count", "of"), rows)


def fields_sheet(answer: Fields) -> Sheet:
    """Return the fields with their types and their share of the records."""
    whole = max(1, answer.coverage.records)
    rows = [[one.field, "/".join(one.types), one.records, round(one.records / whole, 4)] for one in answer.fields]
    return Sheet(("field", "type", "records", "share"), rows)


def stats_sheet(answer: Table) -> Sheet:
    """Return the table; whole numbers without a fraction."""
    return Sheet(answer.columns, [[_whole(value) for value in row] for row in answer.rows])


def patterns_sheet(answer: Patterns) -> Sheet:
    """Return the patterns with their times."""
    rows = [[one.count, one.first, one.last, one.text] for one in answer.patterns]
    return Sheet(("count", "first", "last", "pattern"), rows, (1, 2))


def format_sheet(sheet: Sheet, form: str) -> Iterator[str]:
    """Yield the lines of a sheet in the form `json` or `csv`, else as a table."""
    if form == "json":
        for row in sheet.rows:
            yield spaced_json_line(dict(zip(sheet.columns, row, strict=True)))
        return
    if form == "csv":
        buffer = io.StringIO(newline="")
        csv.writer(buffer, lineterminator="\r\n").writerows([sheet.columns, *map(_csv_row, sheet.rows)])
        yield buffer.getvalue().removesuffix("\r\n")
        return
    yield from _table(sheet)


def _csv_row(row: list[Any]) -> list[Any]:
    return [spreadsheet_cell(_json(value) if isinstance(value, (list, dict, bool)) else value) for value in row]


def _table(sheet: Sheet) -> Iterator[str]:
    cells = [[_shown(value, index in sheet.times) for index, value in enumerate(row)] for row in sheet.rows]
    head = [escape_text(name) for name in sheet.columns]
    widths = [min(WIDEST, max(map(len, column))) for column in zip(head, *cells, strict=True)]
    numeric = [all(_is_number(row[index]) for row in sheet.rows) for index in range(len(widths))]
    for row in (head, ["─" * width for width in widths], *cells):
        yield "  ".join(_padded(row, widths, numeric)).rstrip()


def _padded(row: Sequence[str], widths: Sequence[int], numeric: Sequence[bool]) -> Iterable[str]:
    for index, (cell, width) in enumerate(zip(row, widths, strict=True)):
        is_last = index == len(widths) - 1
        text = cell if is_last or len(cell) <= width else f"{cell[: width - 1]}…"
        yield f"{text:>{width}}" if numeric[index] else f"{text:<{width}}"


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))


def _shown(value: Any, is_time: bool) -> str:
    if value is None:
        return ""
    if is_time:
        return asctime(value)
    if isinstance(value, float):
        return f"{value:.6g}"
    return escape_text(value if isinstance(value, str) else _json(value))


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 1e15 else value


def coverage_sentence(coverage: Coverage) -> str:
    """Return which records an answer is about."""
    if coverage.is_complete:
        return format_count(coverage.records, "record")
    newest = format_count(coverage.records, "record")
    return f"of the newest {newest}; --until and more conditions lead to older ones"
