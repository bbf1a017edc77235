"""Writes the filters of a query as an SQL condition for PostgreSQL.

Owns the condition, with parameters for everything that a user wrote: first conditions that indexes answer, which may
find too many rows (`_near`), then the exact ones (conditions_sql.py). Knows no connections.

The columns of a row with `raw` are only an approximation of the record. A condition therefore excludes such a row only
by its time, its level, the beginning of its logger's name, and the words that its texts have in any case.
"""

from __future__ import annotations

import datetime as dt
import json
from typing import TYPE_CHECKING, Any, NamedTuple

from psycopg import sql

from prefork_logd.query.tree import EVERYTHING, And, Compare, Has, Node, Or, Words, all_of, conjuncts, leaves
from prefork_logd.records.record import END_OF_TIME
from prefork_logd.stores.postgresql.conditions_sql import Parameters, compile_exactly
from prefork_logd.stores.postgresql.copy_rows import MAX_NAME
from prefork_logd.stores.postgresql.fulltext import EXPRESSION, query_of
from prefork_logd.stores.postgresql.text import postgresql_text

if TYPE_CHECKING:
    from prefork_logd.query.filters import Filters

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_CONSTANTS = {"true": True, "false": False, "null": None}
_IN_EVERY_ROW = {("levelno",), ("created",)}
"""Fields that a row with `raw` has exactly in its columns, too."""


class Where(NamedTuple):
    """A condition and its parameters."""

    text: sql.Composable
    values: Parameters
    is_exact: bool
    """Whether every row that meets it matches, except rows with `raw`; the others must be checked again."""
    is_exact_for_raw: bool
    """Whether also every row with `raw` that meets it matches."""

    @property
    def named(self) -> dict[str, Any]:
        """The parameters by name."""
        return self.values.named


def compile_filters(filters: Filters) -> Where:
    """Return the condition of a SELECT from the table of records, without `limit` and `order`."""
    values = Parameters()
    parts: list[sql.Composable] = []
    if filters.since is not None:
        parts.append(
            sql.SQL("created >= {} AND time >= {}").format(
                values.add(filters.since), values.add(moment(filters.since - 1e-5))
            )
        )
    if filters.until is not None:
        parts.append(
            sql.SQL("created < {} AND time <= {}").format(
                values.add(filters.until), values.add(moment(filters.until + 1e-5))
            )
        )
    sure = [node for node in conjuncts(filters.tree) if _is_in_every_row(node)]
    others = all_of(node for node in conjuncts(filters.tree) if not _is_in_every_row(node))
    is_exact = True
    for node in sure:
        condition, is_exact_here = compile_exactly(node, values)
        is_exact &= is_exact_here
        parts.append(condition)
    if others != EVERYTHING:
        parts += [near for node in conjuncts(others) if (near := _near(node, values)) is not None]
        condition, is_exact_here = compile_exactly(others, values)
        is_exact &= is_exact_here
        # CASE keeps the order: an approximation may be a number that the condition cannot handle.
        parts.append(sql.SQL("CASE WHEN raw IS NOT NULL THEN true ELSE {} END").format(condition))
    text = sql.SQL(" AND ").join(parts) if parts else sql.SQL("true")
    return Where(text, values, is_exact, is_exact and others == EVERYTHING)


def moment(at: float) -> dt.datetime:
    """Return a time as a timestamp, as near as one that a record may have."""
    return _EPOCH + dt.timedelta(seconds=max(0.0, min(at, END_OF_TIME)))


def _is_in_every_row(node: Node) -> bool:
    return all(isinstance(leaf, (Compare, Has)) and leaf.path in _IN_EVERY_ROW for leaf in leaves(node))


def _near(node: Node, values: Parameters) -> sql.Composable | None:
    """Return a condition that an index may answer and every match meets; None if there is none."""
    match node:
        case And(parts):
            found = [near for part in parts if (near := _near(part, values)) is not None]
            return sql.SQL("({})").format(sql.SQL(" AND ").join(found)) if found else None
        case Or(parts) if parts:
            alternatives = [_near(part, values) for part in parts]
            if any(near is None for near in alternatives):
                return None
            return sql.SQL("({})").format(sql.SQL(" OR ").join(near for near in alternatives if near is not None))
        case Words():
            return _words(node, values)
        case Compare(("name",), "=" | "^=" as operator, operand):
            return _name(operator, postgresql_text(operand)[:MAX_NAME], values)
        case Compare(("extra", first, *rest), "=") if not any(key[:1].isdigit() for key in (first, *rest)):
            return _value_in_extra(node, [first, *rest], values)
        case Compare(("levelno",)):
            return compile_exactly(node, values)[0]
    return None


def _words(node: Words, values: Parameters) -> sql.Composable | None:
    query = query_of(node)
    if not query:
        return None
    return sql.SQL("{} @@ {}::tsquery").format(sql.SQL(EXPRESSION), values.add(query))


def _name(operator: str, stored: str, values: Parameters) -> sql.Composable | None:
    if operator == "=":
        return sql.SQL("name = {}").format(values.add(stored))
    # The order is of code points. Not all last characters have a successor that is a character.
    if not stored or not stored[-1].isascii():
        return None
    end = stored[:-1] + chr(ord(stored[-1]) + 1)
    return sql.SQL("(name >= {} AND name < {})").format(values.add(stored), values.add(end))


def _value_in_extra(node: Compare, keys: list[str], values: Parameters) -> sql.Composable | None:
    """Return the condition that `extra` has one of the JSON values that equal an operand.

    A number is found by its decimal digits: one that is spelled with more digits than a double has is not found by the
    double that it becomes in Python.
    """
    texts = (*keys, node.operand)
    if any(postgresql_text(text) != text for text in texts):
        return None
    wanted: list[Any] = [node.operand]
    number = node.number
    if isinstance(number, float):
        return None
    if number is not None:
        wanted.append(number)
    elif node.operand in _CONSTANTS:
        wanted.append(_CONSTANTS[node.operand])
    found = []
    for value in wanted:
        document: Any = value
        for key in reversed(keys):
            document = {key: document}
        found.append(sql.SQL("extra @> {}::jsonb").format(values.add(json.dumps(document, ensure_ascii=False))))
    return sql.SQL("({})").format(sql.SQL(" OR ").join(found))
