"""Defines full-text search: words, phrases, and whether a record contains one.

Owns the rule, which is the same for every store: a word is a sequence of letters and digits (`str.isalnum`), and case
does not count (`str.lower`). A store's own full-text index may find more than this rule does, never less; `contains`
removes the surplus. Does not know databases.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

TEXT_FIELDS = ("message", "exc_text", "stack_info")
"""The fields that are searched."""

_NO_WORD = re.compile(r"[\W_]+")
_ITEM = re.compile(r'"([^"]*)"|(\S+)')


class Phrase(NamedTuple):
    """Consecutive words, with any characters other than letters and digits between them."""

    words: tuple[str, ...]
    """One or more, in lower case."""
    prefix: bool = False
    """Whether the last word is a prefix."""

    @property
    def pattern(self) -> str:
        """The phrase as it occurs in a `normal` text."""
        return f" {' '.join(self.words)}" + ("" if self.prefix else " ")


def parse(text: str) -> tuple[Phrase, ...]:
    """Return the phrases of a search text: its items, separated by spaces or in double quotes, must all occur.

    An item of several words, such as `user-19022` or `"not found"`, is a phrase; `*` at its end makes its last word a
    prefix. Raises ValueError with a sentence for the user.
    """
    phrases = []
    for match in _ITEM.finditer(text):
        item = match[1] if match[1] is not None else match[2]
        words = tuple(normal(item).split())
        if words:
            phrases.append(Phrase(words, item.endswith("*")))
    if not phrases:
        raise ValueError(f"{text!r} does not hold a word; a word is made of letters and digits")
    return tuple(phrases)


def normal(text: str) -> str:
    """Return the words of a text in lower case, with spaces around each; only spaces if it has none."""
    return f" {_NO_WORD.sub(' ', text.lower())} "


def searchable(record: Mapping[str, Any]) -> str:
    """Return the normal text of a record's fields, separated so that no phrase spans two of them."""
    return "|".join(normal(text) for field in TEXT_FIELDS if (text := record.get(field)))


def contains(text: str, phrases: Sequence[Phrase]) -> bool:
    """Tell whether a `searchable` text contains every phrase."""
    return all(phrase.pattern in text for phrase in phrases)
