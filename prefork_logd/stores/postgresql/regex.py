r"""Translates regular expressions of RE2 to PostgreSQL's, where the two can mean the same.

Owns the subset: characters, escapes of signs, `.`, classes, `\d`, `\w`, `\s`, `^`, `$`, groups, alternatives,
repetitions, and `(?i)` at the beginning. All else is left to RE2 itself, which the reader calls. Does not know
connections.

Whether a match exists does not depend on captures, or on which of several matches is taken: so groups are not captured,
and a repetition that prefers few is one that prefers many.
"""

from __future__ import annotations

import re

from prefork_logd.query.words import spellings
from prefork_logd.stores.postgresql.text import postgresql_text

MOST_REPEATED = 100
"""Largest bound of a repetition: PostgreSQL writes the part out so often."""
MOST_WRITTEN = 1_000
"""Largest product of bounds within one another."""

_CLASSES = {"d": "0-9", "w": "0-9A-Za-z_", "s": "\\t\\n\\f\\r "}
_ESCAPES = {"t": "\\t", "n": "\\n", "r": "\\r", "f": "\\f"}
_LAST_FOLDED = "\u017e"
"""Behind it, versions of Unicode differ in what is folded."""
_SPECIAL = set("\\.[]{}()*+?|^$")
_REPEAT = re.compile(r"([*+?]|\{(\d{1,4})(?:(,)(\d{1,4})?)?\})\??")


class _UnknownError(Exception):
    """The expression is outside of the subset."""


def translate(text: str) -> str | None:
    """Return PostgreSQL's expression with the same matches; None if there may be none.

    `text` is a valid expression of RE2.
    """
    folds = text.startswith("(?i)")
    parser = _Parser(text[4:] if folds else text, folds)
    if postgresql_text(text) != text:
        return None
    try:
        found = parser.alternatives(0)[0]
    except (_UnknownError, IndexError):
        return None
    return None if parser.at < len(parser.text) else found


class _Parser:
    """Reads one expression from left to right."""

    def __init__(self, text: str, folds: bool) -> None:
        self.text = text
        self.at = 0
        self._folds = folds

    def alternatives(self, depth: int) -> tuple[str, int]:
        """Return the alternatives up to a closing parenthesis, and how often PostgreSQL writes out their parts."""
        if depth > 20:
            raise _UnknownError
        parts = [self._sequence(depth)]
        while self.text[self.at : self.at + 1] == "|":
            self.at += 1
            parts.append(self._sequence(depth))
        return "|".join(part for part, _ in parts), max(written for _, written in parts)

    def _sequence(self, depth: int) -> tuple[str, int]:
        parts, most = [], 1
        while self.at < len(self.text) and self.text[self.at] not in "|)":
            atom, written, repeats = self._atom(depth)
            repeat = _REPEAT.match(self.text, self.at)
            if repeat is not None:
                if not repeats:
                    raise _UnknownError
                self.at = repeat.end()
                bound = max(int(repeat[2] or 1), int(repeat[4] or 1))
                written *= bound
                if bound > MOST_REPEATED or written > MOST_WRITTEN or _REPEAT.match(self.text, self.at):
                    raise _UnknownError
                atom += repeat[1]
            most = max(most, written)
            parts.append(atom)
        if not parts:
            raise _UnknownError  # an empty alternative
        return "".join(parts), most

    def _atom(self, depth: int) -> tuple[str, int, bool]:
        """Return one part, how often parts of it are written out, and whether it may be repeated."""
        character = self.text[self.at]
        self.at += 1
        if character == "(":
            if self.text[self.at] == "?":
                if self.text[self.at + 1] != ":":
                    raise _UnknownError
                self.at += 2
            inner, written = self.alternatives(depth + 1)
            if self.text[self.at] != ")":
                raise _UnknownError
            self.at += 1
            return f"(?:{inner})", written, True
        if character in "^$":
            return character, 1, False
        if character == ".":
            return "[^\\n]", 1, True
        if character == "[":
            return self._class(), 1, True
        if character == "\\":
            return self._escape(), 1, True
        if character in _SPECIAL:
            raise _UnknownError
        return self._literal(character), 1, True

    def _escape(self) -> str:
        escaped = self.text[self.at]
        self.at += 1
        if escaped.lower() in _CLASSES:
            self._refuse_letters(escaped)
            return f"[{'^' if escaped.isupper() else ''}{_CLASSES[escaped.lower()]}]"
        if escaped in _ESCAPES:
            return _ESCAPES[escaped]
        return self._literal(_sign(escaped))

    def _class(self) -> str:
        """Return a class of characters, ranges and escapes. A range that folds is too much trouble."""
        parts = []
        if self.text[self.at] == "^":
            self.at += 1
            parts.append("^")
        start = self.at
        while self.text[self.at] != "]" or self.at == start:
            low = self._member()
            is_range = self.text[self.at] == "-" and self.text[self.at + 1] != "]"
            if not is_range:
                parts.append(low if len(low) > 1 else self._spelled(low))
                continue
            self.at += 1
            high = self._member()
            if len(low) > 1 or len(high) > 1 or (self._folds and not (low + high).isdigit()):
                raise _UnknownError
            parts.append(f"{_quoted(low)}-{_quoted(high)}")
        self.at += 1
        return f"[{''.join(parts)}]"

    def _member(self) -> str:
        """Return one character of a class, or the text of several."""
        character = self.text[self.at]
        self.at += 1
        if character == "[":
            raise _UnknownError  # [:alpha:], or a sign that PostgreSQL would take for one
        if character != "\\":
            return character
        escaped = self.text[self.at]
        self.at += 1
        self._refuse_letters(escaped)
        return _CLASSES.get(escaped) or _ESCAPES.get(escaped) or _sign(escaped)

    def _refuse_letters(self, escaped: str) -> None:
        """Leave a class of letters to RE2 if it folds: it has two more letters then, that fold to ASCII."""
        if self._folds and escaped in "wW":
            raise _UnknownError

    def _literal(self, character: str) -> str:
        spelled = self._spelled(character)
        return spelled if spelled == _quoted(character) else f"[{spelled}]"

    def _spelled(self, character: str) -> str:
        if not self._folds:
            return _quoted(character)
        if character > _LAST_FOLDED or len(character.casefold()) > 1:
            raise _UnknownError
        return "".join(map(_quoted, spellings(character)))


def _sign(escaped: str) -> str:
    """Return a sign that stood behind a backslash."""
    if not escaped.isascii() or escaped.isalnum() or escaped in "_<>":
        raise _UnknownError
    return escaped


def _quoted(character: str) -> str:
    """Return a character as it is written in and outside of a class."""
    return (
        f"\\{character}" if character.isascii() and not character.isalnum() and character not in " \n\t_" else character
    )
