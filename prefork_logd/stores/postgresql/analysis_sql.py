"""Writes facets and statistics as SQL for PostgreSQL.

Owns the value of a field as jsonb, and the statements over a set of rows. Does not know how the set is chosen, or
connections. query/analysis.py and query/statistics.py are the specification.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, LiteralString

from psycopg import sql

from prefork_logd.query.long_values import MOST_TEXT
from prefork_logd.query.statistics import MOST_GROUPS
from prefork_logd.stores.postgresql.conditions_sql import DOCUMENTS, Parameters
from prefork_logd.stores.postgresql.text import postgresql_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prefork_logd.query.conditions import Field
    from prefork_logd.query.statistics import Aggregate, Statistics

_RFC3339: LiteralString = "to_jsonb(to_char(time AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'))"
# As a numeric, because a sum of doubles fails where it overflows; and numbers beyond a double are cut to one.
_NUMBER: LiteralString = (
    "CASE jsonb_typeof({v}) WHEN 'number' THEN"
    " CASE WHEN scale({v}::numeric) > 300 THEN round({v}::numeric, 300) ELSE {v}::numeric END END"
)
_DOUBLE: LiteralString = "(CASE WHEN {n} > 1.7e308 THEN 1.7e308 WHEN {n} < -1.7e308 THEN -1.7e308 ELSE {n} END)::float8"


def value_of(field: Field, values: Parameters) -> sql.Composable:
    """Return the value of a field as jsonb; NULL if it is missing or null."""
    alternatives = [_at(path, values) for path in field.paths]
    return sql.SQL("coalesce({})").format(sql.SQL(", ").join(alternatives))


def _at(path: tuple[str, ...], values: Parameters) -> sql.Composable:
    name, *keys = path
    if name in DOCUMENTS:
        if any(postgresql_text(key) != key for key in keys):
            return sql.SQL("NULL::jsonb")
        document = sql.SQL("({} #> {})").format(sql.Identifier(name), values.add(keys))
        return sql.SQL("nullif({}, 'null'::jsonb)").format(document)
    if keys:
        return sql.SQL("NULL::jsonb")
    if name == "time":
        return sql.SQL(_RFC3339)
    if name == "received":
        return sql.SQL("to_jsonb(nullif(received, 0))")
    return sql.SQL("to_jsonb({})").format(sql.Identifier(name.lower()))


def facets_statement(chosen: sql.Composable, fields: Sequence[Field], top: int, values: Parameters) -> sql.Composable:
    """Return a SELECT of (index of the field, value or NULL, count, records) over the rows that `chosen` selects.

    `chosen` has a place {} for the columns. One scan counts every field. Of each field come NULL and the first values.
    """
    names = [sql.Identifier(f"v{index}") for index in range(len(fields))]
    columns = sql.SQL(", ").join(
        sql.SQL("{} AS {}").format(value_of(field, values), name) for field, name in zip(fields, names, strict=True)
    )
    # grouping() has a bit for each field, the last one lowest; the bit of the field that is counted is 0.
    everything = (1 << len(fields)) - 1
    bits = sql.SQL(", ").join(
        sql.SQL("({}, {})").format(sql.Literal(everything ^ (1 << (len(fields) - 1 - index))), sql.Literal(index))
        for index in range(len(fields))
    )
    listed = sql.SQL(", ").join(names)
    sets = sql.SQL(", ").join(sql.SQL("({})").format(name) for name in names)
    return sql.SQL(
        "WITH chosen AS NOT MATERIALIZED ({chosen}), counted AS ("
        "SELECT grouping({listed}) AS bits, coalesce({listed}) AS value, count(*) AS n"
        " FROM chosen GROUP BY {group}),"
        " ranked AS (SELECT bits, value, n,"
        " row_number() OVER (PARTITION BY bits ORDER BY value IS NULL, n DESC, value) AS rank,"
        " sum(n) OVER (PARTITION BY bits) AS records FROM counted)"
        " SELECT field, {value}, n, records FROM ranked JOIN (VALUES {bits}) AS fields (mask, field)"
        " ON mask = bits WHERE value IS NULL OR rank <= {top} ORDER BY field, rank"
    ).format(
        chosen=_with_columns(chosen, columns), listed=listed, bits=bits, top=values.add(top),
        value=_shortened(sql.Identifier("value")),
        # One set would be sorted instead of hashed.
        group=listed if len(names) == 1 else sql.SQL("GROUPING SETS ({})").format(sets),
    )  # fmt: skip


def stats_statement(chosen: sql.Composable, statistics: Statistics, values: Parameters) -> sql.Composable:
    """Return a SELECT of the groups' values, the aggregates, the number of groups and the number of records."""
    fields = [*statistics.by, *(one.field for one in statistics.aggregates if one.field is not None)]
    names = {field: sql.Identifier(f"v{index}") for index, field in enumerate(dict.fromkeys(fields))}
    columns = [sql.SQL("{} AS {}").format(value_of(field, values), name) for field, name in names.items()]
    groups = [names[field] for field in statistics.by]
    computed = [_aggregate(one, names, values) for one in statistics.aggregates]
    selected = [_shortened(name) for name in groups]
    return sql.SQL(
        "WITH chosen AS NOT MATERIALIZED ({chosen}) SELECT {selected}, count(*) OVER (), sum(count(*)) OVER ()"
        " FROM chosen {group} ORDER BY {order} DESC NULLS LAST{by} LIMIT {most}"
    ).format(
        chosen=_with_columns(chosen, sql.SQL(", ").join(columns or [sql.SQL("1").format()])),
        selected=sql.SQL(", ").join((*selected, *computed)),
        group=sql.SQL("GROUP BY {}").format(sql.SQL(", ").join(groups)) if groups else sql.SQL(""),
        order=sql.Literal(len(groups) + 1),
        by=sql.SQL("").join(sql.SQL(", {}").format(name) for name in groups),
        most=sql.Literal(MOST_GROUPS),
    )


def _shortened(value: sql.Composable) -> sql.Composable:
    """Return the text of a jsonb value as query/long_values.py reads it."""
    return sql.SQL(
        "CASE WHEN length({v}::text) > {most} THEN left({v}::text, {most}) || md5({v}::text) ELSE {v}::text END"
    ).format(v=value, most=sql.Literal(MOST_TEXT))


def _with_columns(chosen: sql.Composable, columns: sql.Composable) -> sql.Composable:
    return sql.SQL("SELECT {} FROM ({}) AS found").format(columns, chosen)


def _aggregate(one: Aggregate, names: dict[Field, sql.Identifier], values: Parameters) -> sql.Composable:
    if one.field is None:
        return sql.SQL("count(*)")
    value = names[one.field]
    if one.function == "count":
        return sql.SQL("count({})").format(value)
    if one.function == "distinct":
        return sql.SQL("count(DISTINCT {})").format(value)
    number = sql.SQL(_NUMBER).format(v=value)
    if one.function == "percentile":
        return sql.SQL("percentile_cont({}) WITHIN GROUP (ORDER BY {})").format(
            values.add(one.fraction), sql.SQL(_DOUBLE).format(n=number)
        )
    function = {"sum": "sum", "avg": "avg", "min": "min", "max": "max"}[one.function]
    return sql.SQL(_DOUBLE).format(n=sql.SQL("{}({})").format(sql.SQL(function), number))
