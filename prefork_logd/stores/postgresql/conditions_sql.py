"""Writes the tree of a query as a condition on the columns of a row without `raw`, which is exact where SQL can be.

Owns what each node means in SQL, by the specification in query/evaluate.py. Conditions are true or false, never null.
Does not know indexes or tables.

Not exact are regular expressions that PostgreSQL would read otherwise than RE2, the text of `time`, and a few odd
operands. Such a condition is true, or false below a Not, so that the whole one finds all matches and maybe more.
"""

from __future__ import annotations

import math
import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from psycopg import sql

from prefork_logd.query import words
from prefork_logd.query.tree import And, Compare, Has, InGroup, Not, Or, Words
from prefork_logd.records.record import INTEGER_FIELDS, INTEGER_MAX
from prefork_logd.records.stored import LIST_COLUMNS
from prefork_logd.stores.postgresql.regex import translate
from prefork_logd.stores.postgresql.text import postgresql_text

if TYPE_CHECKING:
    from prefork_logd.query.tree import Node

DOCUMENTS = ("extra", *LIST_COLUMNS)
"""Columns of the type jsonb."""
_TIMES = {"created", "received"}
_TRUE, _FALSE = sql.SQL("true"), sql.SQL("false")
_LARGEST_EXACT = 1 << 53
"""Integers up to here are exact as doubles."""
_SIGNED = re.compile(r"\s*[+-]")
"""A key that PostgreSQL would take for an index from the end of a list."""
_LONGEST_SCALE = 300


class Parameters:
    """The parameters of a statement, which get their names as they are added."""

    def __init__(self) -> None:
        self.named: dict[str, Any] = {}

    def add(self, value: Any) -> sql.Placeholder:
        """Return the placeholder of a value."""
        name = f"p{len(self.named)}"
        self.named[name] = value
        return sql.Placeholder(name)


def compile_exactly(node: Node, values: Parameters) -> tuple[sql.Composable, bool]:
    """Return the condition, and whether it is exact; otherwise it is met by all matches, and maybe more."""
    compiler = _Compiler(values)
    return compiler.compile(node, is_positive=True), compiler.is_exact


class _Compiler:
    """Writes one tree."""

    def __init__(self, values: Parameters) -> None:
        self._values = values
        self.is_exact = True

    def compile(self, node: Node, *, is_positive: bool) -> sql.Composable:
        match node:
            case And(parts):
                return self._joined(parts, " AND ", is_positive) if parts else _TRUE
            case Or(parts):
                return self._joined(parts, " OR ", is_positive) if parts else _FALSE
            case Not(part):
                return sql.SQL("(NOT {})").format(self.compile(part, is_positive=not is_positive))
            case Words():
                return self._words(node)
            case Has(path):
                found = self._has(path)
            case Compare():
                found = self._compare(node)
            case InGroup():
                found = None
        if found is None:
            self.is_exact = False
            return _TRUE if is_positive else _FALSE
        return found

    def _joined(self, parts: tuple[Node, ...], operator: str, is_positive: bool) -> sql.Composable:
        compiled = [self.compile(part, is_positive=is_positive) for part in parts]
        return sql.SQL("({})").format(sql.SQL(" AND " if operator == " AND " else " OR ").join(compiled))

    def _words(self, node: Words) -> sql.Composable:
        pattern = self._values.add(words.pattern(node.words, node.is_prefix))
        if any(postgresql_text(word) != word for word in node.words):
            return _FALSE
        each = [sql.SQL("coalesce({} ~ {}, false)").format(sql.Identifier(field), pattern) for field in node.fields]
        return sql.SQL("({})").format(sql.SQL(" OR ").join(each))

    def _has(self, path: tuple[str, ...]) -> sql.Composable | None:
        field, *keys = path
        if field == "time":
            return _TRUE if not keys else _FALSE
        if field in DOCUMENTS and keys:
            value = self._document(field, keys)
            return value and sql.SQL("coalesce(jsonb_typeof({}) <> 'null', false)").format(value)
        if keys:
            return _FALSE
        column = sql.Identifier(field.lower())
        if field == "received":
            return sql.SQL("({} <> 0)").format(column)
        return sql.SQL("({} IS NOT NULL)").format(column)

    def _document(self, field: str, keys: list[str]) -> sql.Composable | None:
        """Return the value of a path in a document; None if SQL and the specification may disagree on it."""
        if any(map(_SIGNED.match, keys)):
            return None
        stored = [postgresql_text(key) for key in keys]
        if stored != keys:
            return sql.SQL("NULL::jsonb")  # no column can hold such a key
        return sql.SQL("({} #> {})").format(sql.Identifier(field), self._values.add(stored))

    def _compare(self, node: Compare) -> sql.Composable | None:
        field, *keys = node.path
        if field in DOCUMENTS:
            if not keys:
                return _FALSE
            value = self._document(field, keys)
            return value and self._of_json(node, value)
        if keys:
            return _FALSE
        if field == "time":
            return None
        column = sql.Identifier(field.lower())
        found: sql.Composable | None
        if field in _TIMES:
            found = self._of_double(node, sql.SQL("nullif({}, 0)").format(column) if field == "received" else column)
        elif field in INTEGER_FIELDS:
            found = self._of_integer(node, column)
        else:
            found = self._of_text(node, column)
        return found and sql.SQL("coalesce({}, false)").format(found)

    def _of_text(self, node: Compare, value: sql.Composable) -> sql.Composable | None:
        if node.operator == "=~":
            expression = translate(node.operand)
            if expression is None:
                return None
            return sql.SQL("{} ~ {}").format(value, self._values.add(expression))
        if postgresql_text(node.operand) != node.operand:
            return None if node.operator.startswith(("<", ">")) else _FALSE
        operand = self._values.add(node.operand)
        if node.operator == "~":
            return sql.SQL("strpos({}, {}) > 0").format(value, operand)
        if node.operator == "^=":
            return sql.SQL("starts_with({}, {})").format(value, operand)
        return sql.SQL('{} COLLATE "C" {} {}').format(value, _sign(node), operand)

    def _of_integer(self, node: Compare, column: sql.Composable) -> sql.Composable | None:
        number = node.number
        if number is None:
            return _FALSE
        if isinstance(number, int) and abs(number) <= INTEGER_MAX:
            return sql.SQL("{} {} {}::bigint").format(column, _sign(node), self._values.add(number))
        if number in {math.inf, -math.inf}:
            return None
        return sql.SQL("{}::numeric {} {}").format(column, _sign(node), self._values.add(Decimal(number)))

    def _of_double(self, node: Compare, column: sql.Composable) -> sql.Composable | None:
        number = node.number
        if number is None:
            return _FALSE
        if not _is_exact_double(number):
            return None
        return sql.SQL("{} {} {}::float8").format(column, _sign(node), self._values.add(float(number)))

    def _of_json(self, node: Compare, value: sql.Composable) -> sql.Composable | None:
        text = self._of_text(node, sql.SQL("({} #>> '{{}}')").format(value))
        if text is None:
            return None
        parts = [sql.SQL("WHEN 'string' THEN {}").format(text)]
        number = node.number
        if number is not None:
            if not _is_exact_double(number):
                return None
            # A number with a fraction is a double when Python reads it; a whole one is an integer of any size.
            parts.append(
                sql.SQL(
                    "WHEN 'number' THEN CASE WHEN scale({v}::numeric) = 0 OR scale({v}::numeric) > {scale}"
                    " OR abs({v}::numeric) > 1e300 THEN {v}::numeric {sign} {exact}"
                    " ELSE {v}::numeric::float8 {sign} {double}::float8 END"
                ).format(
                    v=value, sign=_sign(node), exact=self._values.add(Decimal(number)),
                    double=self._values.add(float(number)), scale=_LONGEST_SCALE,
                )
            )  # fmt: skip
        if node.operator == "=" and node.operand in {"true", "false", "null"}:
            parts.append(sql.SQL("ELSE {} = {}::jsonb").format(value, self._values.add(node.operand)))
        return sql.SQL("coalesce(CASE jsonb_typeof({}) {} END, false)").format(value, sql.SQL(" ").join(parts))


def _is_exact_double(number: float) -> bool:
    """Return whether an operand is a finite double, or an integer that is one."""
    return abs(number) <= _LARGEST_EXACT if isinstance(number, int) else math.isfinite(number)


def _sign(node: Compare) -> sql.SQL:
    match node.operator:
        case "<":
            return sql.SQL("<")
        case "<=":
            return sql.SQL("<=")
        case ">":
            return sql.SQL(">")
        case ">=":
            return sql.SQL(">=")
    return sql.SQL("=")
