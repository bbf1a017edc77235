"""Finds what stands at a caret in the text of a query: the beginning of a field's name, or of a value.

Owns the way from a name or value to text that the language reads. Does not know which fields or values there are. The
text need not be a query: it is one that is being written.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, Literal, NamedTuple

from prefork_logd.query.conditions import SHORT_NAMES
from prefork_logd.query.language import BARE, ESCAPE, FIELD, OPERATOR, parse_field
from prefork_logd.records.record import Record

MOST_CHARACTERS = 200
"""Longest value that is written into a query."""
_SPACE = re.compile(r"(?:\s|-(?=[^\s)]))*")
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"?', re.DOTALL)
_PLAIN = re.compile(r'[^\s()"*\\=<>!~,:\-][^\s()"*\\]*')
_KEYWORDS = {"AND", "OR", "NOT"}


class Place(NamedTuple):
    """What is written at a caret."""

    kind: Literal["field", "value"]
    """A word without an operator may be the beginning of a field."""
    start: int
    """First character of it; the caret itself if there is nothing yet."""
    stop: int
    """Behind its last character, which may stand behind the caret."""
    written: str
    """The text from `start` to the caret, without quotes."""
    field: str = ""
    """The field of a value, as it is written."""
    has_operator: bool = False
    """Whether an operator follows the name of a field."""


def find_place(text: str, position: int) -> Place:
    """Return what is written at the caret behind so many characters."""
    position = max(0, min(position, len(text)))
    at = tried = 0
    subjects = [""]
    """The field of the values in each parenthesis that is open."""
    while True:
        space = _SPACE.match(text, at)
        at = space.end() if space else at
        field = subjects[-1]
        if at >= position:
            return Place("value" if field else "field", position, position, "", field)
        if text[at] in "()":
            if text[at] == "(":
                subjects.append(field)
            elif len(subjects) > 1:
                subjects.pop()
            at += 1
            continue
        # A name without an operator has none from a later one of its parts on either.
        name = FIELD.match(text, at) if not field and at >= tried else None
        tried = name.end() if name else tried
        operator = OPERATOR.match(text, name.end()) if name else None
        if name and operator and name[0] not in _KEYWORDS:
            if position <= name.end():
                return Place("field", at, name.end(), _unquoted(text[at:position]), has_operator=True)
            at, field = operator.end(), name[0]
            if at < position and text[at] == "(":
                subjects.append(field)
                at += 1
                continue
        value = (_QUOTED if text[at : at + 1] == '"' else BARE).match(text, at)
        stop = value.end() if value else at
        if stop >= position:
            at = min(at, position)
            return Place("value" if field else "field", at, stop, _unquoted(text[at:position]), field)
        at = stop


def _unquoted(text: str) -> str:
    if not text.startswith('"'):
        return text
    inner = text[1:-1] if len(text) > 1 and text.endswith('"') else text[1:]
    return ESCAPE.sub(r"\1", inner)


def short_field(field: str) -> str:
    """Return a field as somebody writes it: without `extra.` where it is not needed."""
    rest = field.removeprefix("extra.")
    first = rest.split(".")[0]
    if rest == field or '"' in field or first in Record.__struct_fields__ or first in SHORT_NAMES:
        return field
    try:
        parse_field(rest)
    except ValueError:
        return field
    return rest


def written_value(value: Any) -> str | None:
    """Return a JSON value as the language writes it behind `=`; None for one that cannot be written."""
    if isinstance(value, (bool, int, float)):
        return json.dumps(value) if math.isfinite(value) else None
    if not isinstance(value, str) or len(value) > MOST_CHARACTERS:
        return None
    if _PLAIN.fullmatch(value) and value not in _KEYWORDS:
        return value
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
