"""Finds out why a query may have found nothing: fields and values that no record has, and words meant as operators.

Owns the hints and their order. Does not know how they are shown. It asks a search about all records of a range of time,
so it is for queries that have found none.
"""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, NamedTuple

from prefork_logd.config.values import format_count
from prefork_logd.query.completion import short_field, written_value
from prefork_logd.query.conditions import FINGERPRINT, SHORT_NAMES
from prefork_logd.query.fingerprints import KEY
from prefork_logd.query.language import parse_field, read_terms
from prefork_logd.records.record import Record

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from prefork_logd.query.conditions import Field, Path
    from prefork_logd.query.filters import Filters
    from prefork_logd.query.language import Term
    from prefork_logd.query.search import Search

MOST = 3
"""Hints about one query."""
MOST_VALUES = 500
"""Values of a field that are looked at."""
MOST_ASKED = 4
"""Conditions of a query for which values are asked: each is a search."""
_LONGEST = 200
"""Characters of names and values that are compared with others."""
_LIKENESS = 0.75
"""Of names and values that may be meant (difflib)."""
_KEYWORDS = ("and", "or", "not")
_ID = re.compile(r"(?=.*\d)[0-9A-Za-z]{8,}(?:-[0-9A-Za-z]+)*", re.ASCII)
_LIST = re.compile(r"[^,\s]+(?:,[^,\s]+)+")
_ABOUT_IDS = {"id", "ids", "trace", "span", "request", "session", "uuid", "guid", "key"}
_MOST_IDS = 4
_PARTS = re.compile(r"[._-]|(?<=[a-z])(?=[A-Z])")
_OF_OTHERS = {
    "since": ("created>={}", "the range of time is chosen beside the query, or by `created`"),
    "until": ("created<{}", "the range of time is chosen beside the query, or by `created`"),
    "has": ("{}:*", "any value of a field is written `FIELD:*`"),
    "_exists_": ("{}:*", "any value of a field is written `FIELD:*`"),
}
"""Names that other query languages have for what is written differently here."""


class Hint(NamedTuple):
    """Something about a query that may not be as it is meant."""

    column: int
    """In characters, from 1."""
    sentence: str
    query: str = ""
    """The whole query as it may be meant; empty if nothing is known."""


class _Known(NamedTuple):
    """The fields that records have."""

    paths: frozenset[Path]
    names: tuple[str, ...]
    """As somebody writes them."""
    records: int
    """Number of records that were looked at."""


def hints_of(text: str, search: Search, filters: Filters) -> list[Hint]:
    """Return hints about a query, at most MOST, in the order of the query.

    `filters` has the records that it could find: its range of time, without its own conditions. Raises StoreError.
    """
    terms = read_terms(text)
    known = _known(search, filters) if any(_is_asked(term) for term in terms) else None
    found: list[Hint] = []
    asked = 0
    for term in terms:
        if len(found) == MOST:
            break
        hint = None
        if term.field is None:
            hint = _about_words(text, term, known)
        elif known is not None and known.records and term.name:
            hint = _about_field(text, term, term.field, known)
            if hint is None and asked < MOST_ASKED and _has_values(term, term.field):
                asked += 1
                hint = _about_value(text, term, term.field, search, filters)
        found += [hint] if hint is not None else []
    return found


def _is_asked(term: Term) -> bool:
    return term.field is not None or _ID.fullmatch(term.value.text) is not None


def _known(search: Search, filters: Filters) -> _Known:
    found = search.fields(filters)
    names = [one.field for one in found.fields if one.field not in SHORT_NAMES]
    paths = {path for name in names for path in parse_field(name).paths}
    written = dict.fromkeys([*map(short_field, names), *SHORT_NAMES])
    return _Known(frozenset(paths), tuple(written), found.coverage.records)


def _about_words(text: str, term: Term, known: _Known | None) -> Hint | None:
    word = term.value.text
    if term.value.is_quoted:
        return None
    if word in _KEYWORDS:
        meant = _with(text, term.start, term.stop, word.upper())
        sentence = f"`{word}` is looked for as a word; the operator is written {word.upper()}"
        # At the end of a query an operator is missing something.
        return Hint(term.start + 1, sentence, meant if read_terms(meant) else "")
    if known is None or not known.records or not _ID.fullmatch(word):
        return None
    names = [name for name in known.names if _is_about_ids(name)][:_MOST_IDS]
    meant = _with(text, term.start, term.stop, _any_of(f"{name}={word}" for name in names)) if names else ""
    sentence = (
        "words are looked for in messages and tracebacks; another field is named, as in `trace_id=" + word[:8] + "`"
    )
    return Hint(term.start + 1, sentence, meant)


def _is_about_ids(name: str) -> bool:
    last = {part.lower() for part in _PARTS.split(name.rpartition(".")[2])}
    return name not in Record.__struct_fields__ and bool(last & _ABOUT_IDS)


def _about_field(text: str, term: Term, field: Field, known: _Known) -> Hint | None:
    """Return a hint if no record has the field."""
    (*keys, last) = field.paths[0]
    if not keys and not field.short and (last,) not in known.paths and ("extra", last) in known.paths:
        sentence = f"`{last}` is a field of the record, and records have a key of `extra` that is called like it"
        return Hint(term.start + 1, sentence, _with(text, term.start, term.start, "extra."))
    if any(_has(known.paths, path) for path in field.paths):
        return None
    if term.name == FINGERPRINT and KEY.fullmatch(term.value.text):
        return None
    if term.name in _OF_OTHERS and term.sign in {":", "="}:
        form, sentence = _OF_OTHERS[term.name]
        changed = _with(text, term.start, term.stop, form.format(term.value.text))
        return Hint(term.start + 1, sentence, changed if read_terms(changed) else "")
    meant = _nearest(term.name.removeprefix("extra.").replace('"', ""), known.names)
    sentence = f"none of the newest {format_count(known.records, 'record')} has a field `{term.name}`"
    if not meant:
        return Hint(term.start + 1, sentence)
    changed = _with(text, term.start, term.start + len(term.name), meant)
    return Hint(term.start + 1, f"{sentence}; one is `{meant}`", changed)


def _has(known: frozenset[Path], path: Path) -> bool:
    """Return whether records have a path: keys that they have, a part of those, or something inside of a list."""
    if path[0] in Record.__struct_fields__ and path[0] != "extra":
        return True
    return any(path[: len(one)] == one or one[: len(path)] == path for one in known)


def _nearest(name: str, names: Sequence[str]) -> str:
    """Return the name that may be meant; empty if none is like it."""
    inner = [one for one in names if one.rpartition(".")[2].lower() == name.lower()]
    by_case = {one.lower(): one for one in reversed(names)}
    found = difflib.get_close_matches(name.lower(), by_case, 1, _LIKENESS) if len(name) <= _LONGEST else []
    return inner[0] if inner else by_case[found[0]] if found else ""


def _has_values(term: Term, field: Field) -> bool:
    """Return whether a condition is about one value, which others can be like."""
    is_one = term.sign in {":", "="} and not term.value.is_star and 0 < len(term.value.text) <= _LONGEST
    return is_one and not field.is_number and not field.has_words


def _about_value(text: str, term: Term, field: Field, search: Search, filters: Filters) -> Hint | None:
    """Return a hint if records have values like the one that is meant, but not this one."""
    value = term.value.text
    (facet,) = search.facets(filters, [parse_field(SHORT_NAMES.get(field.short, term.name))], MOST_VALUES).facets
    known = [one.value for one in facet.values if isinstance(one.value, str)]
    if field.short == "logger":
        # A logger stands for its children, too.
        known = [
            ".".join(parts[:end]) for parts in (one.split(".") for one in known) for end in range(1, len(parts) + 1)
        ]
    if value in known:
        return None
    start, column = term.stop - len(value) - 2 * term.value.is_quoted, term.start + 1
    if _LIST.fullmatch(value) and not term.value.is_quoted and term.sign == ":":
        values = " OR ".join(value.split(","))
        return Hint(column, "several values are written in parentheses", _with(text, start, term.stop, f"({values})"))
    by_case: dict[str, str] = {}
    for one in filter(lambda one: len(one) <= _LONGEST, known):
        by_case.setdefault(one.casefold(), one)
    found = difflib.get_close_matches(value.casefold(), by_case, 1, _LIKENESS)
    if not found or (term.value.is_quoted and "\\" in value):
        return None
    meant = by_case[found[0]]
    because = "upper and lower case count: " if meant.casefold() == value.casefold() else ""
    return Hint(
        column,
        f"{because}no record has this value of `{term.name}`, and some have `{meant:.100}`",
        _with(text, start, term.stop, written_value(meant) or ""),
    )


def _any_of(conditions: Iterable[str]) -> str:
    listed = [*conditions]
    return listed[0] if len(listed) == 1 else f"({' OR '.join(listed)})"


def _with(text: str, start: int, stop: int, part: str) -> str:
    """Return a text with another part from `start` to `stop`."""
    return f"{text[:start]}{part}{text[stop:]}"
