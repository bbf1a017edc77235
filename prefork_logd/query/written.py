"""Declares the conditions of `query` and `tail` as they are written: a text in the query language, and flags.

Does not know what a condition means: parse.py makes filters of them, as_text.py one query.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Written:
    """Conditions, each of which has to be met; none: all records."""

    text: str = ""
    """A query in the query language."""
    level: str | None = None
    """Lowest level: a name or a number."""
    loggers: Sequence[str] = ()
    """Loggers, one of which, or a child of one, has made the record."""
    grep: Sequence[str] = ()
    """Words of the message or the traceback (where.parse_words)."""
    conditions: Sequence[str] = ()
    """Such as "extra.trace_id=5f0c" (where.parse_condition)."""
    service: str | None = None
    environment: str | None = None
    host: str | None = None
