"""The values that a record may hold.

Owns the type of a value, and the mark of a value that was cut. Knows no pickles.
"""

from __future__ import annotations

from typing import TypeAlias

Plain: TypeAlias = "str | int | float | bool | list[Plain] | dict[str, Plain] | None"
"""What is left of a pickle: values that JSON knows. Floats are finite; a str may hold lone surrogates."""
TRUNCATED = "<truncated>"
"""Stands for a value that was left out because a record had too much, and for all that follow it in its container."""
