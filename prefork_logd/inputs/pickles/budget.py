"""What one frame may cost, in work and in output. Owns the limits; knows nothing of pickles."""

from __future__ import annotations

import msgspec

from prefork_logd.errors import RecordRejected


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """Limits for one frame: of its form, beyond which it is rejected, and of its result, which is cut."""

    opcodes: int = 66_000
    """Each counts for the time that it takes (opcodes.COSTS): most of a record's count as one, a name as twenty."""
    lines: int = 30_000
    """Lines of text that opcodes hold: numbers and names of protocol 0, which take several times as long to read."""
    containers: int = 20_000
    """Lists, tuples, dicts, sets, objects and class names built, wanted or not."""
    memo_entries: int = 100_000
    integer_bytes: int = 1_700
    """Of one integer in two's complement: 4,094 decimal digits, below CPython's limit of 4,300 for int to str."""
    name_characters: int = 256
    """Of a module's or a class's name."""
    depth: int = 200
    """Of the result, in nested lists and objects. `plain` and the JSON encoder recurse once for each."""
    nodes: int = 26_000
    """Values in the result, lists, dicts and calls more than once, keys too; what is referred to a hundred times counts
    as often. Beyond it the result is cut."""
    nodes_cut: int = 10_000
    """As many are kept of one that is cut, at most: by then it has cost what its values cost once already."""
    nodes_per_two_bytes: int = 4
    nodes_always: int = 256
    """A short frame has fewer: a reference of two bytes may stand for thousands of values."""
    output_per_byte: int = 6
    """Bytes of a line for each of the frame: the dearest escape of what stands in it once is six bytes for one."""
    repeated_per_byte: int = 10
    """As many more for values that are referred to many times ..."""
    repeated_bytes: int = 1 << 19
    """... but no more than this."""
    output_always: int = 4_096
    """Bytes that a line may always have."""

    def nodes_for(self, frame_bytes: int) -> int:
        """Return how many values the result of a frame of this length may have."""
        return min(self.nodes, self.nodes_always + self.nodes_per_two_bytes * frame_bytes // 2)

    def output_for(self, frame_bytes: int) -> int:
        """Return how many bytes a line of a frame of this length may have; beyond it the record is cut."""
        repeated_bytes = min(self.repeated_per_byte * frame_bytes, self.repeated_bytes)
        return self.output_always + self.output_per_byte * frame_bytes + repeated_bytes


DEFAULT_BUDGET = Budget()


class OverBudgetError(Exception):
    """The result has become too large: the frame is not decoded any further."""


def exceeded(what: str) -> RecordRejected:
    """Return the verdict on a frame in which there is too much of `what`."""
    return RecordRejected("budget", f"too many or too large: {what}")
