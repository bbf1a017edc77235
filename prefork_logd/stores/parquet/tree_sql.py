"""Compiles the tree of a query to a condition in DuckDB's SQL.

Owns the SQL of each node. Does not know segments or connections.

The condition holds for exactly the records that query/evaluate.py accepts, or for more, where SQL compares in another
way than Python. `is_exact` tells which; the caller asks evaluate.py about the rest.
"""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, NamedTuple, assert_never

from prefork_logd.query import words
from prefork_logd.query.tree import And, Compare, Has, InGroup, Not, Or, Words
from prefork_logd.records.record import INTEGER_FIELDS
from prefork_logd.records.render import escape_json
from prefork_logd.stores import rows
from prefork_logd.stores.parquet import needs
from prefork_logd.stores.parquet.rows import JSON_COLUMNS
from prefork_logd.stores.parquet.schema import quoted

if TYPE_CHECKING:
    from prefork_logd.query.tree import Node
    from prefork_logd.stores.parquet.needs import Needs

_MOST_EXACT = 1 << 53
"""Up to this size each integer is a DOUBLE of the same value."""
_NUMBERS = ("created", "received", *sorted(INTEGER_FIELDS))
_PLACEHOLDER = re.compile(r"\$(q\d+)")
TIME_TEXT = "strftime(\"time\", '%Y-%m-%dT%H:%M:%S.%fZ')"


class Compiled(NamedTuple):
    """A condition, and its parameters by name."""

    sql: str
    parameters: dict[str, str | int | float]
    is_exact: bool
    """Whether it holds for no other records."""
    needs: Needs = needs.NOTHING
    """What each record has that meets it."""

    def used(self, sql: str) -> dict[str, str | int | float] | None:
        """Return the parameters that a statement has, None for none: DuckDB refuses others."""
        return _used(self.parameters, sql) or None


class Compiler:
    """Compiles nodes, and keeps the parameters."""

    def __init__(self) -> None:
        self.parameters: dict[str, str | int | float] = {}

    def parameter(self, value: str | float) -> str:
        """Return the placeholder of a value: a user's text is never a part of the SQL."""
        for name, known in self.parameters.items():
            if known == value and type(known) is type(value):
                return f"${name}"
        name = f"q{len(self.parameters)}"
        self.parameters[name] = value
        return f"${name}"

    def used(self, sql: str) -> dict[str, str | int | float]:
        """Return the parameters that a statement has: DuckDB refuses others, of conditions that were given up."""
        return _used(self.parameters, sql)

    def node(self, node: Node) -> str | None:
        """Return the condition, which may be NULL for a record that does not meet it; None: it is not exact."""
        match node:
            case And(parts):
                found = [one for part in parts if (one := self.node(part)) is not None]
                self.is_exact = self.is_exact and len(found) == len(parts)
                return f"({' AND '.join(found)})" if found else "true"
            case Or(parts):
                either = [self.node(part) for part in parts]
                exact = [one for one in either if one is not None]
                if len(exact) < len(either):
                    self.is_exact = False
                    return "true"
                return f"({' OR '.join(exact)})" if exact else "false"
            case Not(part):
                before, self.is_exact = self.is_exact, True
                inner = self.node(part)
                if inner is None or not self.is_exact:
                    self.is_exact = False
                    return "true"
                self.is_exact = before
                return f"NOT coalesce({inner}, false)"
            case Words() if any(map(is_lone, node.words)):
                return "false"
            case Words():
                pattern = self.parameter(words.pattern(node.words, node.is_prefix))
                return f"({' OR '.join(f'regexp_matches({quoted(field)}, {pattern})' for field in node.fields)})"
            case Compare():
                return self._compare(node)
            case Has(path):
                return self._has(path)
            case InGroup():
                return None
            case _:
                assert_never(node)

    is_exact = True

    def _has(self, path: tuple[str, ...]) -> str | None:
        field, *keys = path
        if any(map(is_lone, keys)):
            return "false"
        if not keys:
            return f"{quoted(field)} IS NOT NULL" if field in rows.FIELDS else "false"
        if field not in JSON_COLUMNS:
            return "false"
        if has_padded_index(keys):
            return None
        return f"({self._has_key(field, keys)} AND json_type({quoted(field)}, {self._pointer(keys)}) <> 'NULL')"

    def _pointer(self, keys: list[str]) -> str:
        return self.parameter(pointer_of(keys))

    def _has_key(self, field: str, keys: list[str]) -> str:
        """Return a condition that is quickly false for most texts without the keys."""
        wanted = [key for key in keys if not key.isdigit()]
        found = [f"contains({quoted(field)}, {self.parameter(_spelled(key) + ':')})" for key in wanted]
        return f"({' AND '.join(found)})" if found else "true"

    def _compare(self, node: Compare) -> str | None:
        field, *keys = node.path
        if any(map(is_lone, keys)):
            return "false"
        if is_lone(node.operand):
            # Only a line beside its columns has a lone surrogate; the order of one among other texts is left to Python.
            return None if "<" in node.operator or ">" in node.operator else "false"
        if field in JSON_COLUMNS:
            return self._compare_json(node, field, keys) if keys else "false"
        if keys or field not in rows.FIELDS:
            return "false"
        if field in _NUMBERS:
            return self._compare_number(quoted(field), field in INTEGER_FIELDS, node)
        return self._compare_text(TIME_TEXT if field == "time" else quoted(field), node)

    def _compare_text(self, text: str, node: Compare) -> str:
        operand = self.parameter(node.operand)
        match node.operator:
            case "~":
                return f"contains({text}, {operand})"
            case "^=":
                return f"starts_with({text}, {operand})"
            case "=~":
                return f"regexp_matches({text}, {operand})"
            case operator:
                return f"{text} {operator} {operand}"

    def _compare_number(self, value: str, is_integer: bool, node: Compare) -> str | None:
        """Return the comparison of a BIGINT or DOUBLE with the operand, exactly as Python compares; None: roughly."""
        number = node.number
        if number is None:
            return "false"
        operator, operand = node.operator, number
        if is_integer:
            bound = _integer_bound(operator, operand)
            return bound if isinstance(bound, str) else f"{value} {operator} {bound}"
        if isinstance(operand, int) and abs(operand) > _MOST_EXACT:
            return None
        if math.isinf(operand) or math.isnan(operand):
            return None
        return f"{value} {operator} {self.parameter(float(operand))}::DOUBLE"

    def _compare_json(self, node: Compare, field: str, keys: list[str]) -> str | None:
        if has_padded_index(keys):
            return None
        pointer = self._pointer(keys)
        column = quoted(field)
        kind = f"json_type({column}, {pointer})"
        text = f"json_extract_string({column}, {pointer})"
        wanted = self._has_key(field, keys)
        number = node.number
        if number is not None:
            if abs(number) >= _MOST_EXACT:
                return None
            # A text has quotes here, and is not a number; a number of 400 digits is not cast. Only these values are
            # looked at again.
            value = f"CAST(json_extract({column}, {pointer}) AS VARCHAR)"
            operand = f"{node.operator} {self.parameter(float(number))}::DOUBLE"
            infinite = (
                f"CASE WHEN {value}[1] = '-' THEN '-inf'::DOUBLE "
                f"WHEN {value}[1] BETWEEN '0' AND '9' THEN 'inf'::DOUBLE END"
            )
            as_text = f"{kind} = 'VARCHAR' AND {self._compare_text(text, node)}"
            other = f"({infinite}) {operand} OR ({as_text})"
            return f"({wanted} AND coalesce(TRY_CAST({value} AS DOUBLE) {operand}, {other}))"
        if node.operator == "=":
            wanted = f"{wanted} AND contains({column}, {self.parameter(_inside(node.operand))})"
        options = [f"({kind} = 'VARCHAR' AND {self._compare_text(text, node)})"]
        if node.operator == "=" and node.operand in ("true", "false"):
            options.append(f"({kind} = 'BOOLEAN' AND {text} = {self.parameter(node.operand)})")
        if node.operator == "=" and node.operand == "null":
            options.append(f"{kind} = 'NULL'")
        return f"({wanted} AND ({' OR '.join(options)}))"


def _integer_bound(operator: str, number: float) -> int | str:
    """Return the integer with which an integer compares as with the number, or a constant condition."""
    if isinstance(number, float):
        if math.isinf(number):
            holds = operator in ("<", "<=") if number > 0 else operator in (">", ">=")
            return "true" if holds else "false"
        if number != math.floor(number):
            if operator == "=":
                return "false"
            number = math.ceil(number) if operator in ("<", ">=") else math.floor(number)
        number = int(number)
    if number >= 1 << 100:
        return "true" if operator in ("<", "<=") else "false"
    if number <= -(1 << 100):
        return "true" if operator in (">", ">=") else "false"
    return number


def pointer_of(keys: list[str]) -> str:
    """Return the JSON pointer (RFC 6901) of keys: it leads through objects by keys and through lists by indexes."""
    return "".join(f"/{step.replace('~', '~0').replace('/', '~1')}" for step in keys)


def has_padded_index(keys: list[str]) -> bool:
    """Return whether a key is an index with leading zeros, which JSON pointers do not know."""
    return any(len(key) > 1 and key.startswith("0") and key.isdigit() for key in keys)


def is_lone(text: str) -> bool:
    """Return whether a text has lone surrogates, which DuckDB does not take."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _spelled(text: str) -> str:
    """Return a text as the collector spells it in JSON."""
    return escape_json(json.dumps(text, ensure_ascii=False).encode()).decode()


def _inside(text: str) -> str:
    return _spelled(text)[1:-1]


def _used(parameters: dict[str, str | int | float], sql: str) -> dict[str, str | int | float]:
    names = set(_PLACEHOLDER.findall(sql))
    return {name: value for name, value in parameters.items() if name in names}


def compile_tree(node: Node) -> Compiled:
    """Return the condition of a tree; it is NULL or false for a record that does not meet it."""
    compiler = Compiler()
    sql = compiler.node(node)
    if sql is None:
        return Compiled("true", {}, is_exact=False, needs=needs.needs_of(node))
    return Compiled(sql, compiler.used(sql), compiler.is_exact, needs.needs_of(node))
