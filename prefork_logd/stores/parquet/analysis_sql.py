"""Writes facets and statistics as SQL for DuckDB.

Owns the value of a field as the text of a JSON value, and the statements. Does not know how records are chosen.
query/analysis.py and query/statistics.py are the specification; only objects whose keys come in another order are other
values here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefork_logd.query.long_values import MOST_TEXT
from prefork_logd.query.statistics import MOST_GROUPS
from prefork_logd.records.record import INTEGER_FIELDS
from prefork_logd.stores import rows
from prefork_logd.stores.parquet.rows import JSON_COLUMNS
from prefork_logd.stores.parquet.schema import TYPES, quoted
from prefork_logd.stores.parquet.tree_sql import TIME_TEXT, has_padded_index, is_lone, pointer_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefork_logd.query.conditions import Field
    from prefork_logd.query.statistics import Aggregate, Statistics

    Parameter = Callable[[str], str]
    """Returns the placeholder of a text."""

SPARE_VALUES = 1_000
"""Values that are fetched beyond those wanted: objects that are one value may be several in SQL."""


def value_of(field: Field, parameter: Parameter) -> str | None:
    """Return the value of a field as the text of JSON, NULL if it is missing or null; None: SQL cannot express it."""
    found = [_at(path, parameter) for path in field.paths]
    known = [one for one in found if one is not None]
    return f"coalesce({', '.join([*known, 'NULL'])})" if len(known) == len(found) else None


def _at(path: tuple[str, ...], parameter: Parameter) -> str | None:
    name, *keys = path
    if name in JSON_COLUMNS:
        if not keys:
            return quoted(name)
        if has_padded_index(keys):
            return None
        if any(map(is_lone, keys)):
            return "NULL::VARCHAR"
        return f"nullif(CAST(json_extract({quoted(name)}, {parameter(pointer_of(keys))}) AS VARCHAR), 'null')"
    if keys or name not in rows.FIELDS:
        return "NULL::VARCHAR"
    if name in INTEGER_FIELDS:
        return f"CAST({quoted(name)} AS VARCHAR)"
    return f"CAST(to_json({TIME_TEXT if name == 'time' else quoted(name)}) AS VARCHAR)"


def plain_column(field: Field) -> str | None:
    """Return the column that is the value of a field as it is; None: the value has to be made of a column."""
    path = field.paths[0]
    is_plain = len(field.paths) == len(path) == 1 and path[0] in rows.FIELDS and path[0] not in ("time", *JSON_COLUMNS)
    return quoted(path[0]) if is_plain else None


def facet_statement(chosen: str, value: str, top: int, *, is_plain: bool) -> str:
    """Return a SELECT of (value or NULL, count, records): the missing ones first, then the most frequent values.

    `value` is a plain column, or the text of a JSON value. DuckDB counts the values of a column by its dictionary, so
    what makes equal numbers equal is applied to the counted values only. Long texts are shortened as
    query/long_values.py reads them.
    """
    counted = f"SELECT {value} AS k, count(*) AS n FROM {chosen} GROUP BY {value}"
    if not is_plain:
        counted = f"SELECT {_key('v')} AS k, sum(one) AS n FROM (SELECT k AS v, n AS one FROM ({counted})) GROUP BY k"
    shown = "k" if is_plain and TYPES[value.strip('"')] != "VARCHAR" else _shortened("k")
    best = f"ORDER BY k IS NOT NULL, n DESC, k LIMIT {top + SPARE_VALUES}"
    return f"SELECT {shown}, n, records FROM (SELECT k, n, sum(n) OVER () AS records FROM ({counted}) {best})"


def stats_statement(chosen: str, statistics: Statistics, parameter: Parameter) -> str | None:
    """Return a SELECT of groups' values and aggregates, then the numbers of groups and of records; None: SQL cannot.

    The largest first aggregate comes first, at most MOST_GROUPS rows. Long values are shortened as query/long_values.py
    reads them.
    """
    by = [value_of(field, parameter) for field in statistics.by]
    values = ["NULL::VARCHAR" if one.field is None else value_of(one.field, parameter) for one in statistics.aggregates]
    if None in by or None in values:
        return None
    columns = [f"{value} AS g{index}" for index, value in enumerate(by)]
    columns += [f"{value} AS a{index}" for index, value in enumerate(values)]
    keys = [f"{_key(f'g{index}')} AS k{index}" for index in range(len(by))]
    numbers = [f"{_number(f'a{index}')} AS n{index}" for index in range(len(values))]
    texts = [f"{_key(f'a{index}')} AS t{index}" for index in range(len(values))]
    inner = f"SELECT {', '.join([*keys, *numbers, *texts])} FROM (SELECT {', '.join(columns)} FROM {chosen})"
    results = [_aggregate(one, index) for index, one in enumerate(statistics.aggregates)]
    group = f"GROUP BY {', '.join(f'k{index}' for index in range(len(by)))}" if by else ""
    names = [*(f"k{index}" for index in range(len(by))), *(f"{one} AS r{index}" for index, one in enumerate(results))]
    grouped = f"SELECT {', '.join([*names, 'count(*) AS records'])} FROM ({inner}) {group}"
    best = (
        f"SELECT * EXCLUDE (records), count(*) OVER () AS found, sum(records) OVER () AS total FROM ({grouped}) "
        f"ORDER BY r0 DESC NULLS LAST LIMIT {MOST_GROUPS}"
    )
    shown = [
        *(_shortened(f"k{index}") for index in range(len(by))),
        *(f"r{index}" for index in range(len(results))),
    ]
    return f"SELECT {', '.join(shown)}, found, total FROM ({best})"


def _shortened(value: str) -> str:
    """Return a text as query/long_values.py reads it."""
    return f"CASE WHEN length({value}) > {MOST_TEXT} THEN left({value}, {MOST_TEXT}) || md5({value}) ELSE {value} END"


def _is_number(value: str) -> str:
    # The first character of a number is "-" (45) or a digit (48 to 57); no value begins with one of those between.
    return f"(ascii({value}) BETWEEN 45 AND 57)"


def _number(value: str) -> str:
    """Return the number that a text of JSON is; NULL for another value."""
    return f"CASE WHEN {_is_number(value)} THEN TRY_CAST({value} AS DOUBLE) END"


def _key(value: str) -> str:
    """Return the text that is the same for equal numbers."""
    number = f"TRY_CAST({value} AS DOUBLE)"
    return (
        f"CASE WHEN NOT {_is_number(value)} THEN {value} WHEN {value} = '-0' THEN '0' "
        f"WHEN NOT (contains({value}, '.') OR contains({value}, 'e') OR contains({value}, 'E')) THEN {value} "
        f"WHEN abs({number}) < 1e38 AND {number} = floor({number}) THEN CAST(CAST({number} AS HUGEINT) AS VARCHAR) "
        f"ELSE {value} END"
    )


def _aggregate(aggregate: Aggregate, index: int) -> str:
    match aggregate.function:
        case "count":
            return "count(*)" if aggregate.field is None else f"count(t{index})"
        case "distinct":
            return f"count(DISTINCT t{index})"
        case "sum":
            return f"fsum(n{index})"
        case "percentile":
            return f"quantile_cont(n{index}, {aggregate.fraction!r})"
        case name:
            return f"{name}(n{index})"
