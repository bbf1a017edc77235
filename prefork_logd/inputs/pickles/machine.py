"""Holds the state of one pickle while it is read: position, stack, marks, memo and budgets.

Owns the operations on stack and memo, and the budgets of work and memory. Does not know classes: a name becomes a
Symbol, a call an Object. It never imports, calls, hashes or compares a client's value, never recurses, and never
allocates memory for an announced length that the frame does not have.

Opcodes are described in PEP 307, PEP 3154, PEP 574 and the comments of CPython's pickletools.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from prefork_logd.config.values import format_count
from prefork_logd.errors import RecordRejected
from prefork_logd.inputs.pickles.budget import Budget, exceeded

if TYPE_CHECKING:
    from prefork_logd.inputs.pickles.symbols import Node

MAX_MEMO_INDEX = 1 << 20
"""Largest memo index: picklers count from 0, and chosen colliding indexes would slow the memo down."""


class Machine:
    """One frame being read. Opcodes are made of these methods; IndexError means an underflow."""

    def __init__(self, frame: bytes, budget: Budget) -> None:
        self.frame: bytes = frame
        self.budget: Budget = budget
        self.position: int = 0
        self.stack: list[Node] = []
        self.marks: list[list[Node]] = []
        self.memo: dict[int, Node] = {}
        self.containers_left: int = budget.containers
        self.lines_left: int = budget.lines
        self.protocol_frame_end: int = 0

    def malformed(self, what: str) -> NoReturn:
        """Reject the frame because of the bytes at the position."""
        raise RecordRejected("malformed", f"{what} near byte {self.position}")

    def finish(self, stack: list[Node]) -> Node:
        """Return the one value that a whole pickle leaves behind."""
        if self.marks or len(stack) != 1:
            self.malformed("STOP with a stack that is not one value")
        if self.position != len(self.frame):
            raise RecordRejected(
                "trailing", f"{format_count(len(self.frame) - self.position, 'byte')} after the pickle's end"
            )
        return stack[0]

    # Reading the frame

    def truncated(self, end: int) -> NoReturn:
        """Reject the frame because it ends before `end`."""
        raise RecordRejected(
            "truncated", f"ends after {format_count(len(self.frame), 'byte')} where {end:,} are announced"
        )

    def take(self, count: int) -> bytes:
        """Return the next `count` bytes; a signed length field may announce a negative count."""
        end = self.position + count
        if end > len(self.frame):
            self.truncated(end)
        if count < 0:
            self.malformed("negative length")
        data = self.frame[self.position : end]
        self.position = end
        return data

    def take_length(self, width: int, *, signed: bool = False) -> int:
        """Return the number in the next `width` bytes."""
        return int.from_bytes(self.take(width), "little", signed=signed)

    def take_line(self, longest: int) -> bytes:
        """Take the next line; return its text without the newline."""
        self.lines_left -= 1
        if self.lines_left < 0:
            raise exceeded("lines of text")
        end = self.frame.find(b"\n", self.position)
        if end < 0:
            raise RecordRejected("truncated", f"ends after {format_count(len(self.frame), 'byte')}, within a line")
        if end - self.position > longest:
            self.malformed("a number that is too long")
        line = self.frame[self.position : end]
        self.position = end + 1
        return line

    # Stack and memo

    def push(self, node: Node) -> None:
        """Push a value that costs nothing beyond its bytes."""
        self.stack.append(node)

    def push_container(self, node: Node) -> None:
        """Push a value that may be many times larger than its bytes in the frame."""
        self.containers_left -= 1
        if self.containers_left < 0:
            raise exceeded("containers")
        self.stack.append(node)

    def pop_mark(self) -> list[Node]:
        """Return everything above the topmost mark, and take the mark away."""
        items = self.stack
        self.stack = self.marks.pop()
        return items

    def pop_items(self, count: int) -> list[Node]:
        """Return the topmost `count` values, and take them away."""
        stack = self.stack
        if len(stack) < count:
            raise IndexError
        items = stack[-count:]
        del stack[-count:]
        return items

    def recall(self, index: int) -> Node:
        """Return a memo entry."""
        try:
            return self.memo[index]
        except KeyError:
            self.malformed("reference to nothing")

    def memoize(self, index: int) -> None:
        """Put the topmost value into the memo."""
        if not 0 <= index < MAX_MEMO_INDEX or len(self.memo) >= self.budget.memo_entries:
            raise exceeded("memo entries")
        self.memo[index] = self.stack[-1]
