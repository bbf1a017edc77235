"""Defines the values that a record may hold.

Owns the type of a value, and the mark of a value that was cut. Does not know pickles.
"""

from __future__ import annotations

from typing import TypeAlias

Plain: TypeAlias = "str | int | float | bool | list[Plain] | dict[str, Plain] | None"
"""A plain value: one that JSON can express. Floats are finite; a str may hold lone surrogates."""
TRUNCATED = "<truncated>"
"""Replaces a value that was left out of a too large record."""
REST = "..."
"""The key of the number of values that were left out: the last of an object, or of an object that ends a list."""


def cut_text(text: str, longest: int) -> str:
    """Return a text of at most `longest` characters: its head and its tail, and between them how many are missing."""
    if len(text) <= longest:
        return text
    kept = max(0, longest - _CUT_CHARACTERS)
    head = kept - kept // 2
    return f"{text[:head]}... ({len(text) - kept} characters cut) ...{text[len(text) - kept // 2 :]}"


_CUT_CHARACTERS = len(f"... ({1 << 32} characters cut) ...")
