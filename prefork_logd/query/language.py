r"""Reads the query language: a text becomes a tree, or an error that names its column and a remedy.

Owns the grammar, which docs/query.md explains to users, and the bounds of a query. Does not know which fields there are
(conditions.py), what a condition means, clocks or stores.

    query     = [ or ] ;
    or        = and , { "OR" , and } ;
    and       = not , { [ "AND" ] , not } ;
    not       = { "NOT" | "-" } , ( "(" , or , ")" | condition | value ) ;
    condition = field , operator , ( value | "(" , or , ")" ) ;   values in parentheses: after `:` and `=` alone
    operator  = ":" | "=" | "!=" | "<" | "<=" | ">" | ">=" | "~" | "=~" ;
    field     = key , { "." , key } ;                             a key in double quotes may have any characters
    value     = word | '"' , characters , '"' ;                   `\"` and `\\` stand for `"` and `\`

The operators `AND`, `OR` and `NOT` are written in capitals. White space is optional around operators other than `:`.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from prefork_logd.config.values import format_count
from prefork_logd.query import tree
from prefork_logd.query.conditions import Surroundings, Value, condition, find_field, phrase

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import tzinfo

    from prefork_logd.query.conditions import Field
    from prefork_logd.query.tree import Node

MOST_CHARACTERS = 16_384
MOST_TERMS = 512
"""Most conditions of a query."""
MOST_OF_SIGN = {"=~": 16, "~": 64}
"""Most conditions with these operators. A store ends a search between two blocks of records only, and each of them
reads all text of a block: with hundreds of them nothing would end it for minutes."""
MOST_DEPTH = 32
"""Deepest nesting of parentheses."""

_KEY = r'(?:"[^"]+"|[^\s"()=!<>~:.,;*]+)'
FIELD = re.compile(rf'((?:"[^"]+"|[^\W\d][^\s"()=!<>~:.,;*]*|@[^\s"()=!<>~:.,;*]+)(?:\.{_KEY})*)')
"""The first key begins with a letter, `_` or `@`, so that `12:30` and `2026-11-29T12:30` are words."""
OPERATOR = re.compile(r"\s*(!=|=~|<=|>=|=|<|>|~)\s*|:(?!:|//)(<=|>=|<|>)?")
"""`std::vector` and `http://host` are words, too."""
_QUOTED_KEY = re.compile(r'"([^"]+)"|([^".]+)')
BARE = re.compile(r'[^\s()"]+')
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
ESCAPE = re.compile(r'\\(["\\])')
_SPACE = re.compile(r"\s*")


class QueryError(ValueError):
    """A text is not a query. `column` counts characters from 1; `problem` is a sentence with the remedy."""

    def __init__(self, column: int, problem: str) -> None:
        super().__init__(f"column {column} of the query: {problem}")
        self.column = column
        self.problem = problem


def parse(
    text: str, *, now: float, carried: Callable[[], Mapping[str, int]] = dict, zone: tzinfo | None = None
) -> Node:
    """Return the tree of a query; an empty text, or `*`, finds every record. Raises QueryError.

    `now` (seconds since 1970) is for times such as `2h`, and `zone` for those without a zone (None: local time);
    `carried` returns the names of levels that records carry.
    """
    if len(text) > MOST_CHARACTERS:
        raise QueryError(MOST_CHARACTERS + 1, f"a query has at most {MOST_CHARACTERS:,} characters; leave some out")
    return _Parser(text, Surroundings(now, carried, zone)).parse()


class Term(NamedTuple):
    """A condition of a query as it is written."""

    start: int
    """In characters, from 0."""
    stop: int
    """Behind its value."""
    name: str
    """The field as it is written; empty for words without one."""
    field: Field | None
    sign: str
    value: Value


def read_terms(text: str) -> list[Term]:
    """Return the conditions of a query in their order; none if it is not one. Any name of a level passes."""
    parser = _Parser(text, Surroundings(1e9, any_level))
    try:
        parser.parse()
    except QueryError:
        return []
    return parser.terms


class _AnyLevel(dict[str, int]):
    """Levels of every name: records carry those that are not in `levels.LEVELS`."""

    def __missing__(self, name: str) -> int:
        return 0

    def __contains__(self, name: object) -> bool:
        return True


def any_level() -> Mapping[str, int]:
    """Return levels of every name, for a query that is only checked."""
    return _AnyLevel(ANY=0)


def problem_of(text: str) -> str:
    """Return what is wrong with a query, with the column; empty if nothing is. Any name of a level passes."""
    try:
        parse(text, now=1e9, carried=any_level)
    except QueryError as error:
        return str(error)
    return ""


def parse_field(text: str) -> Field:
    """Return the field of a text that is nothing but its name. Raises ValueError with a sentence for the user."""
    name = FIELD.fullmatch(text)
    if name is None:
        raise ValueError(f'{text!r} is not a field; write one such as name, extra.status or "a key"')
    return find_field(_keys(text), has_quotes='"' in text)


def field_problem_of(text: str) -> str:
    """Return what is wrong with the name of a field whose values are told apart; empty if nothing is."""
    try:
        field = parse_field(text)
    except ValueError as error:
        return str(error)
    return f"{text} is an object; name one of its keys" if field.paths in ((("extra",),), (("truncated",),)) else ""


def _keys(name: str) -> tuple[str, ...]:
    return tuple(quoted or plain for quoted, plain in _QUOTED_KEY.findall(name))


class _Parser:
    """Reads one text from left to right."""

    def __init__(self, text: str, about: Surroundings) -> None:
        self._text = text
        self._about = about
        self._at = 0
        self._terms = 0
        self._signs: Counter[str] = Counter()
        self._depth = 0
        self._stop = 0
        """The end of the last value."""
        self.terms: list[Term] = []
        self._subject: tuple[Field, str] | None = None
        """The field and operator whose values are in the parentheses that are open."""

    def parse(self) -> Node:
        self._skip_space()
        if self._at == len(self._text):
            return tree.EVERYTHING
        found = self._or()
        if self._at < len(self._text):
            raise self._error("`)` closes nothing; leave it out, or put text with parentheses into double quotes")
        return found

    def _or(self) -> Node:
        parts = [self._and()]
        while self._take("OR"):
            parts.append(self._and())
        return tree.any_of(parts) if len(parts) > 1 else parts[0]

    def _and(self) -> Node:
        parts = [self._not()]
        while True:
            start = self._at
            is_written = self._take("AND")
            if not is_written and (self._at == len(self._text) or self._text[self._at] == ")" or self._peek("OR")):
                return tree.all_of(parts) if len(parts) > 1 else parts[0]
            if not is_written and self._subject and not self._subject[0].has_words and not self._sees_not():
                raise self._error("write OR between the values", start)
            parts.append(self._not())

    def _not(self) -> Node:
        is_negated = False
        while True:
            if self._take("NOT"):
                is_negated = not is_negated
            elif re.match(r"-[^\s)]", self._text[self._at : self._at + 2]):
                self._at += 1
                is_negated = not is_negated
            else:
                break
        found = self._group() if self._text[self._at : self._at + 1] == "(" else self._condition()
        return tree.negated(found) if is_negated else found

    def _group(self) -> Node:
        opened = self._at
        self._depth += 1
        if self._depth > MOST_DEPTH:
            raise self._error(f"parentheses are nested at most {MOST_DEPTH} deep; write the conditions side by side")
        self._at += 1
        self._skip_space()
        if self._text[self._at : self._at + 1] == ")":
            raise self._error("the parentheses are empty; put text with parentheses into double quotes", opened)
        found = self._or()
        if self._at == len(self._text):
            raise self._error("the parenthesis is not closed; add `)`", opened)
        self._at += 1
        self._depth -= 1
        self._skip_space()
        return found

    def _condition(self) -> Node:
        start = self._at
        if self._subject is not None:
            return self._made(start, *self._subject, self._value())
        name = FIELD.match(self._text, self._at)
        operator = OPERATOR.match(self._text, name.end()) if name else None
        if name is None or operator is None:
            return self._word()
        sign = operator[1] or operator[2] or ":"
        try:
            field = find_field(_keys(name[0]), has_quotes='"' in name[0])
        except ValueError as error:
            raise self._error(str(error), start) from None
        self._at = operator.end()
        if self._text[self._at : self._at + 1] == "(":
            return self._list(field, sign)
        if not self._text[self._at : self._at + 1].strip() or self._text[self._at] == ")":
            written = self._text[start : self._at].rstrip()
            raise self._error(f'a value is missing behind {written}; add one, or write "{written}" for the word', start)
        return self._made(start, field, sign, self._value())

    def _list(self, field: Field, sign: str) -> Node:
        if sign not in {":", "=", "!="}:
            raise self._error(f"`{sign}` takes one value; write the comparisons side by side, with OR between them")
        self._subject = (field, ":" if sign == "!=" else sign)
        found = self._group()
        self._subject = None
        return tree.negated(found) if sign == "!=" else found

    def _made(self, start: int, field: Field, sign: str, value: Value) -> Node:
        self._signs[sign] += 1
        most = MOST_OF_SIGN.get(sign, MOST_TERMS)
        if self._signs[sign] > most:
            raise self._error(
                f"a query has at most {format_count(most, 'condition')} with `{sign}`; leave some out", start
            )
        name = FIELD.match(self._text, start)
        self.terms.append(Term(start, self._stop, name[0] if name and not self._subject else "", field, sign, value))
        try:
            return condition(field, sign, value, self._about)
        except ValueError as error:
            raise self._error(str(error), start) from None

    def _word(self) -> Node:
        start = self._at
        for keyword in ("AND", "OR"):
            if self._peek(keyword):
                raise self._error(f'{keyword} needs a condition on both sides; write "{keyword}" for the word')
        if self._at == len(self._text) or self._text[self._at] == ")":
            raise self._error("a condition is missing here; add one, or leave the operator before it out")
        value = self._value()
        if value.is_star:
            return tree.EVERYTHING
        wanted = value.text.lstrip("!")
        if wanted and wanted != value.text and not value.is_quoted:
            raise self._error(f'`!` is not an operator; write -{wanted}, or "{value.text}" for the word', start)
        self.terms.append(Term(start, self._stop, "", None, "", value))
        try:
            return phrase(value)
        except ValueError as error:
            raise self._error(str(error), start) from None

    def _value(self) -> Value:
        """Read a word or a text in quotes, and the space behind it."""
        start = self._at
        self._terms += 1
        if self._terms > MOST_TERMS:
            raise self._error(f"a query has at most {MOST_TERMS} conditions; leave some out")
        if self._text[start : start + 1] == '"':
            quoted = _QUOTED.match(self._text, start)
            if quoted is None:
                raise self._error('the double quote is not closed; add one, or write \\" for a quote inside', start)
            value = Value(ESCAPE.sub(r"\1", quoted[1]), is_quoted=True)
            self._at = quoted.end()
        else:
            bare = BARE.match(self._text, start)
            if bare is None:
                raise self._error("a value is missing here; add one, or leave the operator before it out", start)
            value = Value(bare[0], is_quoted=False)
            self._at = bare.end()
        if self._text[self._at : self._at + 1] in {'"', "("}:
            sign = self._text[self._at]
            raise self._error(f"`{sign}` follows without a space; put a text with such signs into double quotes")
        self._stop = self._at
        self._skip_space()
        return value

    def _peek(self, keyword: str) -> bool:
        return re.match(rf'{keyword}(?![^\s()"])', self._text[self._at : self._at + 4]) is not None

    def _sees_not(self) -> bool:
        return self._peek("NOT") or self._text.startswith("-", self._at)

    def _take(self, keyword: str) -> bool:
        if not self._peek(keyword):
            return False
        self._at += len(keyword)
        self._skip_space()
        return True

    def _skip_space(self) -> None:
        space = _SPACE.match(self._text, self._at)
        self._at = space.end() if space else self._at

    def _error(self, problem: str, at: int | None = None) -> QueryError:
        return QueryError((self._at if at is None else at) + 1, problem)
