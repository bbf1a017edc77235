"""Evaluates the tree of a query on one record: the specification that every store is tested against.

Owns the meaning of each node. Does not know files, databases or how a query is written.

- A path leads from the record through objects by their keys, and through lists by indexes (`extra.items.0.sku`). If a
  step has no such key or index, or the value is a text or number, the value is missing.
- Words are looked for in texts.
- An operand is text. A stored text is compared with it character by character (code points), also with `~`, `=~` and
  `^=`, where case counts. A stored number is compared as a number, exactly, if the operand is a JSON number. `true`,
  `false` and `null` are equal to JSON's values of these names.
- All other pairs, such as a list, a number with `abc`, or a missing value, are neither equal nor less nor greater. So
  `Not` of a comparison is met by them, and a comparison is not.
- `Has` is met by every value other than null, also by an empty one.
- `InGroup` is met by the records whose fingerprint is its key, which is computed from the record (fingerprints.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prefork_logd.query import words
from prefork_logd.query.expressions import compile_expression
from prefork_logd.query.fingerprints import fingerprint
from prefork_logd.query.tree import And, Compare, Has, InGroup, Not, Or, Words

if TYPE_CHECKING:
    from collections.abc import Mapping

    from prefork_logd.query.tree import Node

MISSING: Any = object()
"""The value at a path that leads nowhere."""
_CONSTANTS = {"true": True, "false": False, "null": None}


def matches(node: Node, record: Mapping[str, Any]) -> bool:
    """Tell whether a stored record, given as the object in its line, meets a condition."""
    match node:
        case And(parts):
            return all(matches(part, record) for part in parts)
        case Or(parts):
            return any(matches(part, record) for part in parts)
        case Not(part):
            return not matches(part, record)
        case Words():
            return _has_words(node, record)
        case Compare():
            return compares(value_at(record, node.path), node)
        case Has(path):
            return value_at(record, path) not in (MISSING, None)
        case InGroup(key):
            return fingerprint(record, key.partition(":")[0]) == key


def value_at(record: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    """Return the value that a path leads to, or MISSING."""
    value: Any = record
    for key in path:
        if isinstance(value, dict):
            value = value.get(key, MISSING)
        elif isinstance(value, list) and key.isascii() and key.isdigit() and len(key) < 10 and int(key) < len(value):
            value = value[int(key)]
        else:
            return MISSING
    return value


def compares(value: Any, condition: Compare) -> bool:
    """Tell whether a JSON value, or MISSING, meets a comparison."""
    operand = condition.operand
    if isinstance(value, str):
        return _text_compares(value, condition)
    if value is None or isinstance(value, bool):
        return condition.operator == "=" and operand in _CONSTANTS and _CONSTANTS[operand] is value
    if not isinstance(value, (int, float)) or (number := condition.number) is None:
        return False
    match condition.operator:
        case "=":
            return bool(value == number)
        case "<":
            return bool(value < number)
        case "<=":
            return bool(value <= number)
        case ">":
            return bool(value > number)
        case ">=":
            return bool(value >= number)
    return False


def _text_compares(value: str, condition: Compare) -> bool:
    operand = condition.operand
    match condition.operator:
        case "=":
            return value == operand
        case "<":
            return value < operand
        case "<=":
            return value <= operand
        case ">":
            return value > operand
        case ">=":
            return value >= operand
        case "~":
            return operand in value
        case "^=":
            return value.startswith(operand)
        case "=~":
            return bool(compile_expression(operand).search(value.encode("utf-8", "replace")))


def _has_words(node: Words, record: Mapping[str, Any]) -> bool:
    wanted = words.needle(node.words, node.is_prefix)
    return any(wanted in words.normal(text) for field in node.fields if (text := record.get(field)))
