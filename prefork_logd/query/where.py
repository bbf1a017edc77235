"""Reads the flags `--where` and `--grep`, which are older than the query language and mean the same as ever.

Owns their syntax. Does not know databases, or the meaning of a condition (evaluate.py).
"""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, cast

from prefork_logd.query import tree, words
from prefork_logd.query.conditions import Value, phrase
from prefork_logd.records.record import Record

if TYPE_CHECKING:
    from prefork_logd.query.tree import Node, Operator

_WRITTEN = re.compile(
    r'((?:"[^"]+"|[^."=!<>~\s]+)(?:\.(?:"[^"]+"|[^."=!<>~\s]+))*)\s*(!=|<=|>=|=|<|>|~)(.*)', re.DOTALL
)
_KEY = re.compile(r'"([^"]+)"|([^."]+)')
_ITEM = re.compile(r'"([^"]*)"|(\S+)')


def parse_condition(text: str) -> Node:
    """Return the condition of a text PATH OPERATOR VALUE. Raises ValueError with a sentence for the user."""
    path, operator, value = split_condition(text)
    if operator == "!=":
        return tree.Not(tree.Compare(path, "=", value))
    return tree.Compare(path, cast("Operator", operator), value)


def split_condition(text: str) -> tuple[tuple[str, ...], str, str]:
    """Return path, operator and value of a condition. Raises ValueError with a sentence for the user."""
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
    return path, match[2], match[3]


def parse_words(text: str) -> Node:
    """Return the condition of a text of words: its items, separated by spaces or in double quotes, must all occur.

    An item of several words, such as `user-19022` or `"not found"`, is a phrase; `*` at its end makes its last word a
    prefix. Raises ValueError with a sentence for the user.
    """
    return tree.all_of(phrase(Value(item, is_quoted=True)) for item in items_of(text))


def items_of(text: str) -> list[str]:
    """Return the items of a text that have a word. Raises ValueError with a sentence for the user if there are none."""
    items = [match[1] if match[1] is not None else match[2] for match in _ITEM.finditer(text)]
    found = [item for item in items if words.words_of(item)]
    if not found:
        raise ValueError(f"{text!r} does not hold a word; a word is made of letters and digits")
    return found
