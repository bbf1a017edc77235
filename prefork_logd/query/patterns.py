"""Turns messages into patterns: numbers, ids, addresses and times become placeholders.

Owns the kinds of placeholders and their order. Does not know records or stores.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_CHARACTERS = 2_000
"""Characters of a message that are looked at."""


def _hex(match: re.Match[str]) -> str:
    """Return the placeholder of digits that are hexadecimal, unless they are decimal or a word."""
    return match[0] if match[0].isdigit() or match[0].isalpha() else "<hex>"


# Every repetition that may be tried at each character has a bound, so the time is linear in the length.
_KINDS: tuple[tuple[str, str | Callable[[re.Match[str]], str], str], ...] = (
    ("=", "=<value>", r"=(?:\"[^\"]{0,200}\"|'[^']{0,200}')"),
    ("://", "<url>", r"\b[A-Za-z][A-Za-z0-9+.]{1,20}://[^\s\"'<>]+"),
    ("@", "<email>", r"\b[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63})+"),
    ("-", "<uuid>", r"\b[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}\b"),
    ("-", "<trace>", r"\b[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}\b"),
    ("-", "<time>", r"\b\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:[.,]\d{1,9})?)?)?(?:Z|[+-]\d\d:?\d\d)?\b"),
    (":", "<time>", r"\b\d{1,2}:\d\d:\d\d(?:[.,]\d{1,9})?\b"),
    (".", "<ip>", r"\b\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}(?::\d{1,5})?\b"),
    (":", "<ip>", r"\b[0-9A-Fa-f]{1,4}(?::[0-9A-Fa-f]{0,4}){3,7}\b"),
    ("0x", "<hex>", r"\b0x[0-9A-Fa-f]+\b"),
    ("", _hex, r"\b[0-9A-Fa-f]{8,64}\b"),
    ("", "<duration>", r"\b\d{1,20}(?:\.\d{1,20})?(?:ns|us|µs|ms|s|min|h)\b"),
    ("", "<number>", r"\d{1,3}(?:,\d{3})+\b|\d+(?:\.\d+)?(?:[eE][+-]?\d+\b)?"),
)
"""A text that occurs in every message with this kind, the placeholder, and the expression."""
_COMPILED = tuple((sign, placeholder, re.compile(kind, re.ASCII).sub) for sign, placeholder, kind in _KINDS)


def pattern_of(message: str) -> str:
    """Return the pattern of a message: its first MOST_CHARACTERS, with placeholders such as <number>."""
    text = message[:MOST_CHARACTERS]
    for sign, placeholder, substitute in _COMPILED:
        if sign in text:
            text = substitute(placeholder, text)
    return text
