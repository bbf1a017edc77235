"""Turns messages into patterns: numbers, ids, addresses and times become placeholders.

Owns the kinds of placeholders and their order. Does not know records or stores.
"""

from __future__ import annotations

import re

MOST_CHARACTERS = 2_000
"""Characters of a message that are looked at."""

# Every repetition that may be tried at each character has a bound, so the time is linear in the length.
_KINDS = (
    (("='", '="'), "=<value>", r"=(?:\"[^\"]{0,200}\"|'[^']{0,200}')"),
    (("://",), "<url>", r"\b[A-Za-z][A-Za-z0-9+.]{1,20}://[^\s\"'<>]+"),
    (("@",), "<email>", r"\b[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63})+"),
    (("-",), "<uuid>", r"\b[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}\b"),
    (("-",), "<trace>", r"\b[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}\b"),
    (("-",), "<time>", r"\b\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:[.,]\d{1,9})?)?)?(?:Z|[+-]\d\d:?\d\d)?\b"),
    ((":",), "<time>", r"\b\d{1,2}:\d\d:\d\d(?:[.,]\d{1,9})?\b"),
    (("." ,), "<ip>", r"\b\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}(?::\d{1,5})?\b"),
    ((":",), "<ip>", r"\b[0-9A-Fa-f]{1,4}(?::[0-9A-Fa-f]{0,4}){3,7}\b"),
    (("0x",), "<hex>", r"\b0x[0-9A-Fa-f]+\b"),
    ((), "<hex>", r"\b(?=[0-9]{0,64}[A-Fa-f])(?=[A-Fa-f]{0,64}[0-9])[0-9A-Fa-f]{8,64}\b"),
    ((), "<duration>", r"\b\d{1,20}(?:\.\d{1,20})?(?:ns|us|µs|ms|s|min|h)\b"),
    ((), "<number>", r"\d{1,3}(?:,\d{3})+\b|\d+(?:\.\d+)?(?:[eE][+-]?\d+\b)?"),
)  # fmt: skip
"""Texts of which one occurs in a message with this kind, the placeholder, and the expression."""
_COMPILED = tuple(
    (signs, placeholder, re.compile(expression, re.ASCII).sub) for signs, placeholder, expression in _KINDS
)


def pattern_of(message: str) -> str:
    """Return the pattern of a message: its first MOST_CHARACTERS, with placeholders such as <number>."""
    text = message[:MOST_CHARACTERS]
    for signs, placeholder, substitute in _COMPILED:
        if not signs or any(sign in text for sign in signs):
            text = substitute(placeholder, text)
    return text
