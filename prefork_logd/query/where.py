"""Reads and evaluates conditions on a field of a record, such as `extra.trace_id=5f0c` or `lineno>=100`.

Owns their syntax and meaning. Does not know databases.

The operand is text, as on a command line. It is compared with a stored text character by character (code points), and
with a stored number as a number, if it is one; `true`, `false` and `null` are equal to JSON's values of these names.
Other pairs, such as a list, a number with `abc`, or a missing field, are neither equal nor less nor greater: of all
operators, only `!=` matches them.
"""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

from prefork_logd.records.record import Record

if TYPE_CHECKING:
    from collections.abc import Mapping

Operator = Literal["=", "!=", "<", "<=", ">", ">=", "~"]

_WRITTEN = re.compile(
    r'((?:"[^"]+"|[^."=!<>~\s]+)(?:\.(?:"[^"]+"|[^."=!<>~\s]+))*)\s*(!=|<=|>=|=|<|>|~)(.*)', re.DOTALL
)
_KEY = re.compile(r'"([^"]+)"|([^."]+)')
_NUMBER = re.compile(r"-?(?:0|[1-9]\d{0,999})(?:\.\d{1,999})?(?:[eE][+-]?\d{1,3})?", re.ASCII)
_CONSTANTS = {"true": True, "false": False, "null": None}
_ABSENT = object()


class Condition(NamedTuple):
    """One field compared with an operand."""

    path: tuple[str, ...]
    """A field of the record, then keys of objects or indexes of lists."""
    operator: Operator
    """`~` means "contains this text"."""
    operand: str

    @property
    def number(self) -> int | float | None:
        """The operand as a JSON number, or None."""
        if not _NUMBER.fullmatch(self.operand):
            return None
        return int(self.operand) if self.operand.lstrip("-").isdigit() else float(self.operand)


def parse(text: str) -> Condition:
    """Return the condition of a text PATH OPERATOR VALUE. Raises ValueError with a sentence for the user."""
    match = _WRITTEN.fullmatch(text)
    if match is None:
        raise ValueError(
            f"{text!r} is not a condition; write FIELD=VALUE, such as extra.trace_id=5f0c (or != < <= > >= ~)"
        )
    path = tuple(quoted or plain for quoted, plain in _KEY.findall(match[1]))
    fields = Record.__struct_fields__
    if path[0] not in fields:
        meant = " or ".join((f"extra.{match[1]}", *difflib.get_close_matches(path[0], fields)))
        raise ValueError(f"{text!r}: a record has no field {path[0]!r}; did you mean {meant}?")
    if path == ("extra",):
        raise ValueError(f"{text!r}: `extra` is an object; name one of its keys, such as extra.trace_id")
    return Condition(path, cast("Operator", match[2]), match[3])


def meets(record: Mapping[str, Any], condition: Condition) -> bool:
    """Tell whether a record, given as the object in its line, meets a condition."""
    value: Any = record
    for key in condition.path:
        if isinstance(value, dict):
            value = value.get(key, _ABSENT)
        elif isinstance(value, list) and key.isascii() and key.isdigit() and len(key) < 10 and int(key) < len(value):
            value = value[int(key)]
        else:
            value = _ABSENT
    return compares(value, condition)


def compares(value: Any, condition: Condition) -> bool:
    """Tell whether a JSON value meets the comparison of a condition."""
    operator, operand = condition.operator, condition.operand
    if operator == "~":
        return isinstance(value, str) and operand in value
    if operator == "=":
        return _equal(value, condition)
    if operator == "!=":
        return not _equal(value, condition)
    other: Any
    if isinstance(value, str):
        other = operand
    elif isinstance(value, (int, float)) and not isinstance(value, bool) and condition.number is not None:
        other = condition.number
    else:
        return False
    if operator == "<":
        return bool(value < other)
    if operator == "<=":
        return bool(value <= other)
    return bool(value > other) if operator == ">" else bool(value >= other)


def _equal(value: Any, condition: Condition) -> bool:
    if isinstance(value, str):
        return value == condition.operand
    if value is None or isinstance(value, bool):
        return condition.operand in _CONSTANTS and _CONSTANTS[condition.operand] is value
    if isinstance(value, (int, float)):
        return condition.number is not None and value == condition.number
    return False
