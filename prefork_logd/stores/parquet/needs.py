"""Finds the words that a record must have to meet a condition, for the filters of word_filter.py.

Owns what each node of a query needs. Does not know filters, SQL or files.

A need may be too weak, and never too strong: a record that meets the condition has the words, unless it has a line
beside its columns (rows.py).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from prefork_logd.query.tree import And, Compare, Has, Or, Words
from prefork_logd.stores.parquet._word_set_py import INDEXED, LONGEST, ROUGH, words_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from prefork_logd.query.tree import Node

_INTEGER = re.compile(r"-?(0|[1-9]\d*)", re.ASCII)
_ASCII_WORD = re.compile("[0-9a-z]+")
_LITERALS = ("true", "false", "null")


class Every(NamedTuple):
    """Every part is needed; without parts, nothing is."""

    parts: tuple[Needs, ...]


class Some(NamedTuple):
    """One of the parts is needed."""

    parts: tuple[Needs, ...]


Needs = Every | Some | bytes
"""A word, or several."""
NOTHING = Every(())


def needs_of(node: Node) -> Needs:
    """Return the words that a record must have to meet a condition."""
    match node:
        case And(parts):
            return _every(map(needs_of, parts))
        case Or(parts):
            return _some(map(needs_of, parts))
        case Words(words, is_prefix):
            known = words[:-1] if is_prefix else words
            return _every(word[:LONGEST].encode() for word in known if _ASCII_WORD.fullmatch(word))
        case Has(("extra", *keys)):
            return _keys(keys)
        case Compare(("extra", *keys)) if keys:
            return _every((_keys(keys), _value(node)))
        case Compare((field,)) if field in INDEXED:
            return _value(node)
        case _:
            return NOTHING


def may_hold(needs: Needs, has: Callable[[bytes], bool]) -> bool:
    """Return whether records with the words for which `has` is true may meet the condition."""
    match needs:
        case Every(parts):
            return all(may_hold(part, has) for part in parts)
        case Some(parts):
            return any(may_hold(part, has) for part in parts)
        case word:
            return has(word)


def _keys(keys: list[str]) -> Needs:
    return _every(word for key in keys if not key.lstrip("+-").isdigit() for word in words_in(key))


def _value(node: Compare) -> Needs:
    """Return the words of a value that compares as wanted."""
    operand = node.operand
    found = words_in(operand)
    match node.operator:
        case "=" if integer := _INTEGER.fullmatch(operand):
            # A number may be written with a fraction or an exponent; a text has the same digits.
            return _some((integer[1][:LONGEST].encode(), ROUGH))
        case "=" if node.number is None and operand not in _LITERALS:
            return _every(found)
        case "~" | "^=":
            # At its ends the operand may be a part of a longer word.
            begins = node.operator == "~" and bool(words_in(operand[:1]))
            ends = bool(words_in(operand[-1:]))
            return _every(found[begins : len(found) - ends])
        case _:
            return NOTHING


def _every(parts: Iterable[Needs]) -> Needs:
    wanted = tuple(dict.fromkeys(part for part in parts if part != NOTHING))
    return wanted[0] if len(wanted) == 1 else Every(wanted)


def _some(parts: Iterable[Needs]) -> Needs:
    wanted = tuple(dict.fromkeys(parts))
    return NOTHING if not wanted or NOTHING in wanted else wanted[0] if len(wanted) == 1 else Some(wanted)
