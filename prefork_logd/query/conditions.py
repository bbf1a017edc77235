"""Turns a field, an operator and a value, as they are written in a query, into nodes of the tree.

Owns the names of fields, those that are short forms, and what `:` means for each kind of field. Raises ValueError with
a sentence for the user. Does not know where in the query the condition stands, or clocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, cast

from prefork_logd.config.values import level_number
from prefork_logd.query import tree, words
from prefork_logd.query.expressions import compile_expression
from prefork_logd.query.fingerprints import ALGORITHMS, ERROR, KEY, VARIANT
from prefork_logd.query.times import parse_time
from prefork_logd.records.record import INTEGER_FIELDS, Record

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import tzinfo

    from prefork_logd.query.tree import Node, Operator

Path = tuple[str, ...]

SHORT_NAMES = {"exc": "exc_text", "stack": "stack_info", "time": "created", "logger": "name", "level": "levelno"}
"""Names in a query that stand for a field; `logger` has its children with it, `level` takes names."""
FINGERPRINT = "fingerprint"
"""With the key of a group of errors, a field that is computed; with another value, a key of `extra` like any other."""
_NUMBERS = INTEGER_FIELDS | {"created", "received"}
_TIMES = {"created", "received"}
_NESTED = {"extra", "truncated", "exception"}
_FIELDS = Record.__struct_fields__
_LOWER = {name.lower(): name for name in _FIELDS}
_TEXT_OPERATORS = {"~", "=~", "^="}


class Value(NamedTuple):
    """A value as it is written."""

    text: str
    is_quoted: bool

    @property
    def is_star(self) -> bool:
        """Whether it is the bare `*` of `field:*`."""
        return self.text == "*" and not self.is_quoted


@dataclass(frozen=True, slots=True)
class Field:
    """A field as it is written, and where a record has it."""

    written: str
    paths: tuple[Path, ...]
    """One of them has to lead to the value: a dotted name may be one key, or keys of nested objects."""
    short: str = ""
    """The short name, if it is one."""

    @property
    def has_words(self) -> bool:
        """Whether `:` looks for words in it."""
        return len(self.paths[0]) == 1 and self.paths[0][0] in tree.TEXT_FIELDS

    @property
    def is_number(self) -> bool:
        """Whether only numbers are stored in it."""
        return len(self.paths[0]) == 1 and self.paths[0][0] in _NUMBERS


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What conditions depend on besides their text."""

    now: float
    """Seconds since 1970, for times such as `2h`."""
    carried: Callable[[], Mapping[str, int]]
    """Returns the names of levels that records carry; called for a name that levels.LEVELS lacks."""
    zone: tzinfo | None = None
    """The time zone of times without one; None: local time."""


def find_field(keys: Path, *, has_quotes: bool = False) -> Field:
    """Return the field of a name: a field of the record, else a key of `extra`.

    A quoted name is never a short one, and its dots belong to the keys. Raises ValueError.
    """
    first, written = keys[0], ".".join(keys)
    if len(keys) == 1 and first in SHORT_NAMES and not has_quotes:
        return Field(written, ((SHORT_NAMES[first],),), first)
    if first in _NESTED or (len(keys) == 1 and first in _FIELDS):
        inner = keys[1:] if first == "extra" else ()
    elif len(keys) == 1 and first.lower() in _LOWER and not has_quotes:
        raise ValueError(f"a record has no field {first}; write {_LOWER[first.lower()]}, or extra.{first}")
    else:
        inner, keys = keys, ("extra", *keys)
    if len(inner) > 1 and not has_quotes:
        return Field(written, (keys, ("extra", ".".join(inner))))
    return Field(written, (keys,))


def phrase(value: Value, fields: tuple[str, ...] = tree.TEXT_FIELDS) -> Node:
    """Return the condition that a record has these consecutive words. Raises ValueError."""
    text = value.text
    is_prefix = text.endswith("*")
    if not value.is_quoted and "*" in text.rstrip("*"):
        raise ValueError(f"`*` stands only at the end of a word; for parts of words write message~{_part(text)}")
    found = tuple(words.words_of(text))
    if not found:
        raise ValueError(f"{text!r} has no letter or digit; to look for signs write message~{_quoted(text)}")
    if len(found) > words.MOST_WORDS:
        raise ValueError(f"a phrase has at most {words.MOST_WORDS} words, and this one {len(found)}; leave some out")
    if any("s" * (words.MOST_S + 1) in word for word in found):
        raise ValueError(f"a word has at most {words.MOST_S} consecutive s; write message~{_quoted(text)}")
    return tree.Words(found, is_prefix, fields)


def condition(field: Field, operator: str, value: Value, about: Surroundings) -> Node:
    """Return the node of a condition; `operator` is one of the tree's, `!=` or `:`. Raises ValueError."""
    if operator == "!=":
        return tree.negated(condition(field, "=", value, about))
    if operator == ":":
        return _colon(field, value, about)
    if operator == "=" and not value.is_quoted and value.text.startswith("="):
        raise ValueError(f"`==` is not an operator; write {field.written}={value.text.lstrip('=')}")
    if operator == "<" and not value.is_quoted and value.text.startswith(">"):
        raise ValueError(f"`<>` is not an operator; write {field.written}!={value.text.lstrip('>')}")
    known = cast("Operator", operator)
    if field.short == "level":
        _refuse_text_operator(field, operator)
        return tree.level_is(known, level_number(value.text, _levels(value.text, about)))
    if field.short == "logger" and operator == "=":
        return tree.logger(value.text)
    if field.written == FINGERPRINT and operator == "=" and KEY.fullmatch(value.text):
        return _in_group(value.text)
    if field.paths == (("extra",),):
        raise ValueError("`extra` is an object; name one of its keys, such as extra.trace_id")
    operand = value.text
    if field.is_number:
        _refuse_text_operator(field, operator)
        operand = _number(field, operand, about)
    if operator == "=~":
        compile_expression(operand)
    return tree.any_of(tree.Compare(path, known, operand) for path in field.paths)


def _in_group(key: str) -> Node:
    """Return the condition of `fingerprint=KEY`, with one that stores can use: it leaves few records to be computed."""
    version = key.partition(":")[0]
    if version.removesuffix(VARIANT) not in ALGORITHMS:
        known = ", ".join(ALGORITHMS)
        raise ValueError(f"{key} is a key of {version}, which this release does not know; it knows {known}")
    is_error = tree.any_of((tree.level_from(ERROR), tree.Has(("exc_text",)), tree.Has(("exception",))))
    return tree.all_of((is_error, tree.InGroup(key)))


def _colon(field: Field, value: Value, about: Surroundings) -> Node:
    if value.is_star:
        return tree.any_of(tree.Has(path) for path in field.paths)
    if field.has_words:
        return phrase(value, field.paths[0])
    if "*" not in value.text or value.is_quoted:
        return condition(field, "=", value, about)
    start = value.text.rstrip("*")
    if "*" in start or not start:
        raise ValueError(f"`*` stands only at the end; for a part of a value write {field.written}~{_part(value.text)}")
    return tree.any_of(tree.Compare(path, "^=", start) for path in _texts(field))


def _texts(field: Field) -> tuple[Path, ...]:
    _refuse_text_operator(field, "^=")
    return field.paths


def _refuse_text_operator(field: Field, operator: str) -> None:
    if operator in _TEXT_OPERATORS and field.is_number:
        sign = "a `*`" if operator == "^=" else f"`{operator}`"
        raise ValueError(f"{field.written} is a number, and {sign} is for texts; write {field.written}= or >= or <")


def _levels(name: str, about: Surroundings) -> Mapping[str, int] | None:
    try:
        level_number(name)
    except ValueError:
        return about.carried()
    return None


def _number(field: Field, operand: str, about: Surroundings) -> str:
    """Return the number of an operand, for a field of times also that of a time."""
    if tree.Compare(field.paths[0], "=", operand).number is not None:
        return operand
    if field.paths[0][0] in _TIMES:
        return repr(parse_time(operand, about.now, about.zone))
    raise ValueError(f"{field.written} is a number, and {operand!r} is not")


def _part(text: str) -> str:
    return _quoted(max(text.split("*"), key=len))


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
