"""Searches words in PostgreSQL: an index that finds every record with a phrase, and maybe some more.

Owns the indexed expression and the search in it. The rule for words is in query/words.py; an exact condition leaves out
records that only the index matches. Does not know connections.

Here words are runs of ASCII letters and digits, and all other characters separate them, so that the result does not
depend on the server's locale or its parser (which takes shop.orders for the name of a host). A word of other letters is
found by its ASCII fragments. A few other characters fold to ASCII letters (query/words.py): the text has these instead.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prefork_logd.query.tree import Words

MAX_WORD = 1_000
"""Longer words are searched by the reader only: a tsvector leaves out words of 2 KiB."""
INDEXED = {"message": 200_000, "exc_text": 150_000, "stack_info": 50_000}
"""Characters of each field whose words are in the index: so many always fit into a tsvector, which holds 1 MiB."""
LONG = "+"
"""It stands in the index for the words that are left out, if a field is longer. No word is spelled so."""

_FOLDED = {"\u212a": "k", "\u017f": "s", "\u0130": "i", "\u0131": "i"}
_TWO = {"\u00df": "ss", "\u1e9e": "ss"}


def _text() -> str:
    text = " || ' ' || ".join(f"coalesce(left({field}, {most}), '')" for field, most in INDEXED.items())
    for character, letters in _TWO.items():
        text = f"replace({text}, '{character}', '{letters}')"
    return f"lower(translate({text}, '{''.join(_FOLDED)}', '{''.join(_FOLDED.values())}') COLLATE \"C\")"


TEXT = _text()
"""The indexed text, folded."""


def _expression() -> str:
    words = f"to_tsvector('simple', regexp_replace({TEXT}, '[^a-z0-9]+', ' ', 'g'))"
    # octet_length reads no text, and a text has at least as many octets as characters.
    is_long = " OR ".join(f"coalesce(octet_length({field}), 0) > {most}" for field, most in INDEXED.items())
    return f"({words} || CASE WHEN {is_long} THEN '''{LONG}'''::tsvector ELSE ''::tsvector END)"


EXPRESSION = _expression()
_FRAGMENT = re.compile("[a-z0-9]+")


def query_of(node: Words) -> str:
    """Return the tsquery that every record with a phrase meets; empty if the index does not help."""
    whole, beginnings = fragments(node)
    terms = dict.fromkeys([*(f"'{word}'" for word in whole), *(f"'{word}':*" for word in beginnings)])
    return f"({' & '.join(terms)}) | '{LONG}'" if terms else ""


def fragments(node: Words) -> tuple[list[str], list[str]]:
    """Return the ASCII words that must occur, and the beginnings of words."""
    whole: list[str] = []
    beginnings: list[str] = []
    for position, word in enumerate(node.words):
        goes_on = node.is_prefix and position == len(node.words) - 1
        for match in _FRAGMENT.finditer(word):
            if match.end() - match.start() <= MAX_WORD:
                (beginnings if goes_on and match.end() == len(word) else whole).append(match[0])
    return whole, beginnings
