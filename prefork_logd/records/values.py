"""Defines the values that a record may hold.

Owns the type of a value, and the mark of a value that was cut. Does not know pickles.
"""

from __future__ import annotations

from typing import TypeAlias

Plain: TypeAlias = "str | int | float | bool | list[Plain] | dict[str, Plain] | None"
"""A plain value: one that JSON can express. Floats are finite; a str may hold lone surrogates."""
TRUNCATED = "<truncated>"
"""Replaces a value that was left out of a too large record, and all values after it in its container."""
