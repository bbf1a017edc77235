"""Limits the cost of one frame, in work and in output.

Owns the limits. Does not know pickles.
"""

from __future__ import annotations

import msgspec

from prefork_logd.errors import RecordRejected


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """Limits for one frame: above them it is cut, first its pickle (trim.py), then its result (values.py)."""

    opcodes: int = 66_000
    """Opcodes, weighted by the time that they take (opcodes.COSTS): most count as one, a name as twenty."""
    lines: int = 30_000
    """Lines of text in opcodes: numbers and names of protocol 0, which take several times as long to read."""
    containers: int = 20_000
    """Lists, tuples, dicts, sets, objects and class names built, also unused ones."""
    memo_entries: int = 100_000
    integer_bytes: int = 1_700
    """Bytes of an integer in two's complement: 4,094 decimal digits, below CPython's limit of 4,300 for int to str."""
    name_characters: int = 256
    """Characters of a module's or a class's name."""
    marks: int = 200
    """Open marks, one for each container of several values that is being built."""
    depth: int = 200
    """Depth of nested lists and objects in the result. values.py and the JSON encoder recurse once for each level."""
    nodes: int = 26_000
    """Values in the result, with keys; lists, dicts and calls count more than once. A value counts once for each
    reference to it. Above this the result is cut."""
    nodes_cut: int = 10_000
    """Most values kept of a cut result: its values have been paid for once already by then."""
    nodes_per_two_bytes: int = 4
    nodes_always: int = 256
    """Values for each byte of a frame: in a short frame a reference of two bytes may stand for thousands of values."""
    output_per_byte: int = 6
    """Bytes of a line for each byte of the frame: the longest escape takes six bytes for one."""
    repeated_per_byte: int = 10
    """Additional bytes for values with many references ..."""
    repeated_bytes: int = 1 << 19
    """... but no more than this."""
    output_always: int = 4_096
    """Bytes that every line may have."""

    def nodes_for(self, frame_bytes: int) -> int:
        """Return the most values in the result of a frame of this length."""
        return min(self.nodes, self.nodes_always + self.nodes_per_two_bytes * frame_bytes // 2)

    def output_for(self, frame_bytes: int) -> int:
        """Return the most bytes in the line of a frame of this length; above them the record is cut."""
        repeated_bytes = min(self.repeated_per_byte * frame_bytes, self.repeated_bytes)
        return self.output_always + self.output_per_byte * frame_bytes + repeated_bytes


DEFAULT_BUDGET = Budget()
TRIMMED_BUDGET = Budget(opcodes=1_000_000, lines=200_000, containers=1_000_000, memo_entries=1_000_000, marks=10_000)
"""Limits for a pickle that trim.py has made smaller."""


class OverBudgetError(Exception):
    """The result is too large: the frame is not decoded any further."""


def exceeded(what: str) -> RecordRejected:
    """Return the rejection of a frame with too much of `what`."""
    return RecordRejected("budget", f"too many or too large: {what}")
