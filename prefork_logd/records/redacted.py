"""Defines the text in place of a secret, the place after an escape, and how names and values of secrets are called."""

from __future__ import annotations

import itertools

REDACTED = "<redacted>"

ESCAPED = r"(?<=%[0-9A-Fa-f]{2})|(?<=\\[abfnrtv])|(?<=\\x[0-9A-Fa-f]{2})|(?<=\\u[0-9A-Fa-f]{4})"
"""A regular expression of the place after an escape, whose last sign is a letter or a digit."""

INVISIBLE = "\u00ad\u200b-\u200d\u2060\ufeff"
"""A class of characters that nobody sees, such as the mark at the beginning of a file (U+FEFF) in its first name."""


def _spellings(*words: str) -> frozenset[str]:
    """Return words in every mixture of lower and upper case."""
    return frozenset(
        "".join(signs) for word in words for signs in itertools.product(*zip(word, word.upper(), strict=True))
    )


NAME_KEYS, VALUE_KEYS = _spellings("name", "key", "header"), _spellings("value")
"""Keys of an object that has the name of a secret beside its value."""
