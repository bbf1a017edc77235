"""Searches words in PostgreSQL: an index that finds every record with a phrase, and maybe some more.

Owns the indexed expression and the search in it. The rule for words is in query/fulltext.py; the reader applies it to
leave out records that the index has found too much. Knows no connection.

Words are runs of ASCII letters and digits here, and all else separates them, so that neither the server's locale nor
its parser (which takes shop.orders for the name of a host) has a say. A word of other letters is found by its ASCII
fragments. Two characters are ASCII in lower case alone: the Kelvin sign, and the capital I with a dot.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prefork_logd.query.fulltext import Phrase

MAX_WORD = 1_000
"""Longer words are looked for by the reader alone: a tsvector leaves those of 2 KiB out."""

TEXT = (
    "lower(replace(replace(coalesce(left(message, 200000), '') || ' ' || coalesce(left(exc_text, 150000), '') || ' ' ||"
    " coalesce(left(stack_info, 50000), ''), '\u212a', 'k'), '\u0130', 'i ') COLLATE \"C\")"
)
"""What is searched, in lower case; no more of each field than a tsvector, which holds one MiB, takes in any case."""
EXPRESSION = f"to_tsvector('simple', regexp_replace({TEXT}, '[^a-z0-9]+', ' ', 'g'))"
_FRAGMENT = re.compile("[a-z0-9]+")


def fragments(phrases: Iterable[Phrase]) -> tuple[list[str], list[str]]:
    """Return the ASCII words that have to occur, and the beginnings of words."""
    whole: list[str] = []
    beginnings: list[str] = []
    for phrase in phrases:
        for position, word in enumerate(phrase.words):
            goes_on = phrase.prefix and position == len(phrase.words) - 1
            for match in _FRAGMENT.finditer(word):
                if match.end() - match.start() <= MAX_WORD:
                    (beginnings if goes_on and match.end() == len(word) else whole).append(match[0])
    return whole, beginnings
