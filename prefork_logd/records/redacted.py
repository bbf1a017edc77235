"""Defines the text in place of a secret, and the place after an escape, where a secret may begin."""

from __future__ import annotations

REDACTED = "<redacted>"

ESCAPED = r"(?<=%[0-9A-Fa-f]{2})|(?<=\\[abfnrtv])|(?<=\\x[0-9A-Fa-f]{2})|(?<=\\u[0-9A-Fa-f]{4})"
"""A regular expression of the place after an escape, whose last sign is a letter or a digit."""
