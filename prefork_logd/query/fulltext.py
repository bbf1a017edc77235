"""Full text: what a word is, and when a record holds one.

Owns the rule, which is the same for every store: a word is a run of letters and digits (`str.isalnum`), and case does
not count (`str.lower`). A store's own full-text index may find more than this rule does, never less; what it finds too
much is left out by `contains`. Knows no database.
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
    """Words that follow one another, whatever stands between them but letters and digits."""

    words: tuple[str, ...]
    """One or more, in lower case."""
    prefix: bool = False
    """Whether the last one may go on."""

    @property
    def pattern(self) -> str:
        """What stands in a `normal` text that holds the phrase."""
        return f" {' '.join(self.words)}" + ("" if self.prefix else " ")


def parse(text: str) -> tuple[Phrase, ...]:
    """Return what is asked for: each item, separated by spaces or in double quotes, has to occur somewhere.

    An item of several words, such as `user-19022` or `"not found"`, is a phrase; `*` at its end lets the last word go
    on. Raises ValueError with a sentence for the user.
    """
    phrases = []
    for match in _ITEM.finditer(text):
        item = match[1] if match[1] is not None else match[2]
        words = tuple(normal(item).split())
        if words:
            phrases.append(Phrase(words, item.endswith("*")))
    if not phrases:
        raise ValueError(f"{text!r} holds no word; a word is made of letters and digits")
    return tuple(phrases)


def normal(text: str) -> str:
    """Return the words of a text in lower case, with a space before and behind each; spaces alone if there are none."""
    return f" {_NO_WORD.sub(' ', text.lower())} "


def searchable(record: Mapping[str, Any]) -> str:
    """Return the normal text of a record's fields, of which no phrase reaches from one into the next."""
    return "|".join(normal(text) for field in TEXT_FIELDS if (text := record.get(field)))


def contains(text: str, phrases: Sequence[Phrase]) -> bool:
    """Tell whether a `searchable` text holds every phrase."""
    return all(phrase.pattern in text for phrase in phrases)
