"""Converts text and JSON to values that PostgreSQL can hold.

Owns the detection of values that a column cannot hold, and their substitutes. Does not know connections.
"""

from __future__ import annotations

import re

_FOREIGN_TEXT = re.compile("[\0\ud800-\udfff]")
_FOREIGN_ESCAPE = re.compile(rb"\\u([dD][89a-fA-F][0-9a-fA-F]{2}|0000)|\\.")
_INEXACT = re.compile(rb"[eE-](?:(?<=\d.)[+-]?\d|0(?:\.0+)?(?![.\d]))")
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"')


def has_foreign_escape(lines: bytes) -> bool:
    """Return whether one line, or any of many, may have a NUL or a lone surrogate."""
    return rb"\u" in lines and (rb"\u0000" in lines or rb"\ud" in lines or rb"\uD" in lines)


def has_inexact_number(extra: bytes) -> bool:
    """Return whether jsonb may spell a number of this JSON differently."""
    if _INEXACT.search(extra) is None:
        return False
    # Dates and hexadecimal ids match, too; they are in strings, which the second check leaves out.
    return _INEXACT.search(_STRING.sub(b'""', extra)) is not None


def postgresql_text(text: str) -> str:
    """Return the nearest text that PostgreSQL can hold: U+FFFD in place of NUL and lone surrogates."""
    return _FOREIGN_TEXT.sub("\ufffd", text)


def postgresql_json(extra: bytes) -> bytes:
    """Return the nearest JSON that jsonb can hold, like `postgresql_text` for text."""
    return _FOREIGN_ESCAPE.sub(lambda match: rb"\ufffd" if match[1] else match[0], extra)
