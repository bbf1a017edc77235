"""What one frame may cost. Owns the limits; knows nothing of pickles."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from prefork_logd.errors import RecordRejected

Plain: TypeAlias = "str | int | float | bool | list[Plain] | dict[str, Plain] | None"
"""What is left of a pickle: values that JSON knows. Floats are finite; a str may hold lone surrogates."""


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """Limits for decoding one frame; a frame beyond any of them is rejected, whatever else is in it."""

    opcodes: int = 200_000
    containers: int = 20_000
    """Lists, tuples, dicts, sets, objects and class names built, wanted or not."""
    memo_entries: int = 100_000
    integer_bytes: int = 1_700
    """Of one integer in two's complement: 4,094 decimal digits, below CPython's limit of 4,300 for int to str."""
    name_characters: int = 256
    """Of a module's or a class's name."""
    depth: int = 200
    """Of the result, in nested lists and objects. `plain` and the JSON encoder recurse once for each."""
    nodes: int = 50_000
    """Values in the result, lists and dicts twice, keys too; what is referred to a hundred times counts as often."""
    text_characters: int = 2_097_152
    """Characters in the result, counted like nodes; `text_per_byte` times the frame's length comes on top."""
    text_per_byte: int = 4
    """An octet of binary data is kept as up to four characters."""

    def text_for(self, frame_bytes: int) -> int:
        """Return how many characters the result of a frame of this length may have."""
        return self.text_characters + self.text_per_byte * frame_bytes


DEFAULT_BUDGET = Budget()


def exceeded(what: str) -> RecordRejected:
    """Return the verdict on a frame in which there is too much of `what`."""
    return RecordRejected("budget", f"too many or too large: {what}")
