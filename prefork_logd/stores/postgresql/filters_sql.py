"""Writes the filters of a query as SQL conditions for PostgreSQL.

Owns the condition, with parameters for everything that a user wrote. If SQL cannot express a filter of `query` exactly,
the condition matches more rows, and `is_exact` is false: each row must then be checked again. Knows no connections.

The columns of a row with `raw` are only an approximation of the record. A condition therefore excludes such a row only
by its time, its level, and the words that its texts have in any case.
"""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import TYPE_CHECKING, Any, LiteralString, NamedTuple

from psycopg import sql

from prefork_logd.records.record import END_OF_TIME, INTEGER_FIELDS
from prefork_logd.records.stored import LIST_COLUMNS
from prefork_logd.stores.postgresql.copy_rows import MAX_NAME
from prefork_logd.stores.postgresql.fulltext import EXPRESSION, TEXT, fragments
from prefork_logd.stores.postgresql.text import postgresql_text

if TYPE_CHECKING:
    from prefork_logd.query.filters import Filters
    from prefork_logd.query.where import Condition

_NUMBER_COLUMNS = INTEGER_FIELDS | {"created", "received"}
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_TOLERANCE = Decimal("1e-12")
"""Two numbers with a smaller relative difference may be equal as floats, though not as decimals."""
_FETCHED_TEXT: LiteralString = "{value} #>> '{{}}'"


class Where(NamedTuple):
    """A condition and its parameters."""

    text: sql.Composable
    parameters: dict[str, Any]
    is_exact: bool
    """Whether every row that meets it matches, except rows with `raw`."""


def compile_filters(filters: Filters) -> Where:
    """Return the condition of a SELECT from the table of records, without `limit` and `order`."""
    parts: list[sql.Composable] = []
    values: dict[str, Any] = {}
    if filters.since is not None:
        parts.append(sql.SQL("created >= %(since)s AND time >= %(since_time)s"))
        values |= {"since": filters.since, "since_time": _moment(filters.since - 1e-5)}
    if filters.until is not None:
        parts.append(sql.SQL("created < %(until)s AND time <= %(until_time)s"))
        values |= {"until": filters.until, "until_time": _moment(filters.until + 1e-5)}
    if filters.level:
        known = sql.SQL("levelno" if filters.level > 0 else "coalesce(levelno, 0)")
        parts.append(known + sql.SQL(" >= %(level)s"))
        values["level"] = filters.level
    if filters.loggers:
        names = []
        for number, name in enumerate(filters.loggers):
            stored = postgresql_text(name)[:MAX_NAME]
            # The order is of code points, in which "/" follows ".".
            names.append(
                sql.SQL("(name = {name} OR (name >= {first} AND name < {end}))").format(
                    name=_bind(values, f"logger{number}", stored),
                    first=_bind(values, f"first{number}", f"{stored}."[:MAX_NAME]),
                    end=_bind(values, f"end{number}", f"{stored}/"),
                )
            )
        parts.append(sql.SQL("({})").format(sql.SQL(" OR ").join(names)))
    if filters.grep:
        parts += _words(filters, values)
    conditions = [_condition(condition, f"where{number}", values) for number, condition in enumerate(filters.where)]
    if conditions:
        parts.append(sql.SQL("(raw IS NOT NULL OR ({}))").format(sql.SQL(" AND ").join(conditions)))
    text = sql.SQL(" AND ").join(parts) if parts else sql.SQL("true")
    is_exact = not filters.grep and not filters.where and all(map(_is_stored_as_it_is, filters.loggers))
    return Where(text, values, is_exact)


def _is_stored_as_it_is(name: str) -> bool:
    return len(name) < MAX_NAME and postgresql_text(name) == name


def _bind(values: dict[str, Any], name: str, value: Any) -> sql.Placeholder:
    values[name] = value
    return sql.Placeholder(name)


def _moment(at: float) -> dt.datetime:
    return _EPOCH + dt.timedelta(seconds=max(0.0, min(at, END_OF_TIME)))


def _words(filters: Filters, values: dict[str, Any]) -> list[sql.Composable]:
    """Return the search in the index, and a fast check of rows that are not indexed yet."""
    whole, beginnings = fragments(filters.grep)
    terms = [f"'{word}'" for word in whole] + [f"'{word}':*" for word in beginnings]
    if not terms:
        return []
    values["words"] = " & ".join(dict.fromkeys(terms))
    longest = max((*whole, *beginnings), key=len)
    return [
        sql.SQL("{} @@ %(words)s::tsquery").format(sql.SQL(EXPRESSION)),
        sql.SQL("{} LIKE {}").format(sql.SQL(TEXT), _bind(values, "longest", f"%{longest}%")),
    ]


def _condition(condition: Condition, name: str, values: dict[str, Any]) -> sql.Composable:
    field, *keys = condition.path
    if condition.operator == "!=" or field == "time":
        return sql.SQL("true")
    if any(postgresql_text(text) != text for text in (*keys, condition.operand)):
        return sql.SQL("false")  # no column can hold such a text; rows with `raw` pass
    if field in ("extra", *LIST_COLUMNS):
        path = sql.SQL("{} #> {}").format(sql.Identifier(field), _bind(values, f"{name}_path", keys))
        return _of_json(condition, sql.SQL("(") + path + sql.SQL(")"), name, values)
    if keys:
        return sql.SQL("false")
    column = sql.Identifier(field.lower())
    if field in _NUMBER_COLUMNS:
        number = _of_number(condition, column + sql.SQL("::numeric"), name, values)
        return number if number is not None else sql.SQL("false")
    return _of_text(condition, column, name, values)


def _of_text(condition: Condition, value: sql.Composable, name: str, values: dict[str, Any]) -> sql.Composable:
    operand = _bind(values, name, condition.operand)
    if condition.operator == "~":
        return sql.SQL("strpos({}, {}) > 0").format(value, operand)
    return sql.SQL('{} COLLATE "C" {} {}').format(value, sql.SQL(condition.operator), operand)


def _of_number(condition: Condition, value: sql.Composable, name: str, values: dict[str, Any]) -> sql.Composable | None:
    """Return the comparison of numbers, a little wider than the filter; None if the operand is not a number."""
    if condition.number is None or condition.operator == "~":
        return None
    wanted = Decimal(condition.operand)
    slack = abs(wanted) * _TOLERANCE + Decimal("1e-300")
    least, most = wanted - slack, wanted + slack
    if condition.operator == "=":
        return sql.SQL("{} BETWEEN {} AND {}").format(
            value, _bind(values, f"{name}_least", least), _bind(values, f"{name}_most", most)
        )
    bound = most if condition.operator.startswith("<") else least
    return sql.SQL("{} {} {}").format(value, sql.SQL(condition.operator), _bind(values, f"{name}_bound", bound))


def _of_json(condition: Condition, value: sql.Composable, name: str, values: dict[str, Any]) -> sql.Composable:
    text = _of_text(condition, sql.SQL("(" + _FETCHED_TEXT + ")").format(value=value), name, values)
    parts = [sql.SQL("WHEN 'string' THEN ") + text]
    number = _of_number(condition, sql.SQL("{}::numeric").format(value), name, values)
    if number is not None:
        parts.append(sql.SQL("WHEN 'number' THEN ") + number)
    if condition.operator == "=" and condition.operand in {"true", "false", "null"}:
        parts.append(sql.SQL("ELSE {} = {}::jsonb").format(value, _bind(values, f"{name}_json", condition.operand)))
    return sql.SQL("CASE jsonb_typeof({}) {} END").format(value, sql.SQL(" ").join(parts))
