"""Defines the text in place of a secret, the place after an escape, and characters that nobody sees in a name."""

from __future__ import annotations

REDACTED = "<redacted>"

ESCAPED = r"(?<=%[0-9A-Fa-f]{2})|(?<=\\[abfnrtv])|(?<=\\x[0-9A-Fa-f]{2})|(?<=\\u[0-9A-Fa-f]{4})"
"""A regular expression of the place after an escape, whose last sign is a letter or a digit."""

INVISIBLE = "\u00ad\u200b-\u200d\u2060\ufeff"
"""A class of characters that nobody sees, such as the mark at the beginning of a file (U+FEFF) in its first name."""
