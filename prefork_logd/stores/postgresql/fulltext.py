"""Searches words in PostgreSQL: an index that finds every record with a phrase, and maybe some more.

Owns the indexed expression and the search in it. The rule for words is in query/fulltext.py; the reader applies it, to
leave out records that only the index matches. Does not know connections.

Here words are runs of ASCII letters and digits, and all other characters separate them, so that the result does not
depend on the server's locale or its parser (which takes shop.orders for the name of a host). A word of other letters is
found by its ASCII fragments. Two characters become ASCII in lower case: the Kelvin sign, and the capital I with a dot.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prefork_logd.query.fulltext import Phrase

MAX_WORD = 1_000
"""Longer words are searched by the reader only: a tsvector leaves out words of 2 KiB."""

TEXT = (
    "lower(replace(replace(coalesce(left(message, 200000), '') || ' ' || coalesce(left(exc_text, 150000), '') || ' ' ||"
    " coalesce(left(stack_info, 50000), ''), '\u212a', 'k'), '\u0130', 'i ') COLLATE \"C\")"
)
"""The searched text, in lower case; each field is cut so that it always fits into a tsvector, which holds 1 MiB."""
EXPRESSION = f"to_tsvector('simple', regexp_replace({TEXT}, '[^a-z0-9]+', ' ', 'g'))"
_FRAGMENT = re.compile("[a-z0-9]+")


def fragments(phrases: Iterable[Phrase]) -> tuple[list[str], list[str]]:
    """Return the ASCII words that must occur, and the beginnings of words."""
    whole: list[str] = []
    beginnings: list[str] = []
    for phrase in phrases:
        for position, word in enumerate(phrase.words):
            goes_on = phrase.prefix and position == len(phrase.words) - 1
            for match in _FRAGMENT.finditer(word):
                if match.end() - match.start() <= MAX_WORD:
                    (beginnings if goes_on and match.end() == len(word) else whole).append(match[0])
    return whole, beginnings
