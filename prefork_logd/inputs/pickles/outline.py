"""Finds which bytes of a pickle belong to which attribute of its record, without building a value.

Owns the operands of every opcode, its effect on the height of the stack, and the offsets of the record's keys and
values. Does not know what a value is. trim.py leaves out parts of a pickle by this outline.

A frame may have a hole: bytes that were not kept. A text over the hole is complete but for its middle; a frame whose
hole is anywhere else ends there.
"""

from __future__ import annotations

import enum
import sys
from typing import NamedTuple

from prefork_logd.inputs.pickles.opcodes import COSTS

COUNTED, LINE, LINES, FORBIDDEN, UNKNOWN = 16, 32, 33, 64, 65
"""Kinds of operands besides a fixed number of bytes: COUNTED plus the width of a length, a line, two lines, none."""


class Effect(enum.IntEnum):
    """The effect of an opcode on the stack."""

    PUSH = 0
    GET = 1
    PUT = 2
    MARK = 3
    POP = 4
    POP_MARK = 5
    DUP = 6
    COLLECT = 7
    """Replaces everything above the mark by a container."""
    FILL = 8
    """Puts everything above the mark into the container below it."""
    PUT_ONE = 9
    """Puts the topmost value, or pair, into the container below it."""
    MAKE = 10
    """Replaces the topmost values by one: small tuples."""
    CALL = 11
    """Does the same for a name, or a call."""
    BUILD = 12
    CALL_MARKED = 13
    """OBJ and INST."""
    PROTO = 14
    FRAME = 15
    STOP = 16


# As plain numbers: to look up a member of an enumeration takes longer than the rest of an opcode.
PUSH, GET, PUT, MARK, POP, POP_MARK, DUP, COLLECT, FILL = map(int, list(Effect)[: Effect.PUT_ONE])
PUT_ONE, MAKE, CALL, BUILD, CALL_MARKED, PROTO, FRAME, STOP = map(int, list(Effect)[Effect.PUT_ONE :])
VALUES = (PUSH, GET, DUP)
"""Effects of the opcodes that push a value."""
ENDS = (POP_MARK, COLLECT, FILL, CALL_MARKED)
"""Of those that take a mark away."""
COMBINES = (PUT_ONE, MAKE, CALL, BUILD)
"""Of those that take values and leave one, or none."""


def _table(default: int, rows: dict[int, bytes]) -> bytes:
    table = bytearray([default]) * 256
    for value, codes in rows.items():
        for code in codes:
            table[code] = value
    return bytes(table)


OPERANDS = _table(
    UNKNOWN,
    {
        0: b"(.012N])}aeltdsuobR\x81\x85\x86\x87\x88\x89\x8f\x90\x91\x92\x93\x94",
        1: b"Khq\x80",
        2: b"M",
        4: b"Jjr",
        8: b"G\x95",
        COUNTED + 1: b"UC\x8a\x8c",
        COUNTED + 4: b"TXB\x8b",
        COUNTED + 8: b"\x8d\x8e\x96",
        LINE: b"ILFSVpg",
        LINES: b"ci",
        FORBIDDEN: b"\x82\x83\x84PQ\x97\x98",
    },
)
"""The operands of each opcode."""
EFFECTS = _table(
    Effect.PUSH,
    {
        Effect.GET: b"hjg",
        Effect.PUT: b"qrp\x94",
        Effect.MARK: b"(",
        Effect.POP: b"0",
        Effect.POP_MARK: b"1",
        Effect.DUP: b"2",
        Effect.COLLECT: b"ltd\x91",
        Effect.FILL: b"eu\x90",
        Effect.PUT_ONE: b"as",
        Effect.MAKE: b"\x85\x86\x87",
        Effect.CALL: b"R\x81\x92\x93",
        Effect.BUILD: b"b",
        Effect.CALL_MARKED: b"oi",
        Effect.PROTO: b"\x80",
        Effect.FRAME: b"\x95",
        Effect.STOP: b".",
    },
)
TAKES = _table(0, {1: b"ab\x85", 2: b"sR\x81\x93\x86", 3: b"\x92\x87"})
"""Values that an opcode takes from the stack."""
WEIGHTS = bytes(1 + COSTS.get(code, 0) for code in range(256))
"""The cost of each opcode, as unpickle.run counts it."""
MAX_INTEGER_LINE = 4_097
LINE_SHIFT = 15


class Broken(Exception):  # noqa: N818 - never leaves this room
    """The bytes are not a whole pickle."""

    def __init__(self, reason: int) -> None:
        super().__init__(reason)
        self.reason = reason


TRUNCATED, MALFORMED, UNSAFE, TRAILING, TOO_LONG = -1, -2, -3, -4, -5
"""Reasons."""
TEXTS = b"XU\x8c\x8dV"
"""Opcodes of texts: those of a key that is not referred to."""
REFERENCES = b"hjg"
CROSSING = b"XTU\x8c\x8d"
"""Opcodes of texts that may have the hole in them."""


class Pair(NamedTuple):
    """One attribute of the record: offsets into the frame."""

    key: int
    value: int
    end: int
    cost: int


class Reader:
    """Steps through the opcodes of a frame."""

    def __init__(self, frame: bytes, hole: int, hole_bytes: int) -> None:
        """Step through a frame that lacks `hole_bytes` before the offset `hole`; 0: it is whole."""
        self.frame = frame
        self.size = len(frame)
        self.hole = hole
        self.hole_bytes = hole_bytes
        self.start = 0
        """Offset of the operand."""
        self.end = 0
        """Offset of the next opcode."""
        self.crosses = False
        """Whether the operand is a text with the hole in it."""

    def step(self, at: int) -> int:
        """Read the opcode at an offset; return it, or -1 where the frame ends at its hole. Raises Broken."""
        frame, size = self.frame, self.size
        self.crosses = False
        if self.hole_bytes and at == self.hole:
            return -1
        if at >= size:
            raise Broken(TRUNCATED)
        opcode = frame[at]
        kind = OPERANDS[opcode]
        self.start = start = at + 1
        if kind < COUNTED and not self.hole_bytes:
            self.end = end = start + kind
            if end > size:
                raise Broken(TRUNCATED)
            return opcode
        if kind < COUNTED:
            end = start + kind
        elif kind < LINE:
            self.start = start + kind - COUNTED
            length = int.from_bytes(frame[start : self.start], "little")
            end = self.start + length
            in_text = self.hole_bytes > 0 and at < self.hole < end and self.start <= self.hole and opcode in CROSSING
            if in_text and end - self.hole >= self.hole_bytes and end - self.hole_bytes <= size:
                end -= self.hole_bytes
                self.crosses = True
        elif kind < FORBIDDEN:
            end = start
            for _ in range(kind - LINE + 1):
                end = frame.find(b"\n", end) + 1 or size + 1
        else:
            raise Broken(UNSAFE if kind == FORBIDDEN else MALFORMED)
        if self.hole_bytes and at < self.hole < end and not self.crosses:
            return -1
        if end > size:
            raise Broken(TRUNCATED)
        self.end = end
        return opcode

    def cost(self, opcode: int) -> int:
        """Return the cost of the opcode that was read last; long numbers cost the square of their length."""
        if opcode == 0x49 or opcode == 0x4C:  # noqa: PLR1714 - INT, LONG; of every opcode this is asked
            length = self.end - self.start - 1
            if length <= MAX_INTEGER_LINE:
                return WEIGHTS[opcode] + (length * length >> LINE_SHIFT)
        return WEIGHTS[opcode]


class Outline(NamedTuple):
    """The attributes of a frame."""

    pairs: list[Pair]
    opcodes: int
    """The cost of all opcodes but STOP, without that of long numbers."""


def outline(reader: Reader, most_steps: int = sys.maxsize) -> Outline:
    """Return the attributes of a frame's record. Raises Broken, also above so many opcodes.

    Longer than other functions: it is one loop over the effects of opcodes.
    """
    starts: list[tuple[int, int]] = []
    marks: list[tuple[int, int]] = []
    bases = [0]
    pairs: list[Pair] = []
    at = cost = opcodes = 0
    step, cost_of = reader.step, reader.cost
    while True:
        most_steps -= 1
        if most_steps < 0:
            raise Broken(TOO_LONG)
        opcode = step(at)
        here = (at, cost)
        if opcode < 0:
            _add_open(pairs, reader.frame, starts, marks, bases, here)
            return Outline(pairs, opcodes)
        effect = EFFECTS[opcode]
        if effect == STOP:
            if reader.end != len(reader.frame):
                raise Broken(TRAILING)
            return Outline(pairs, opcodes)
        opcodes += WEIGHTS[opcode]
        cost += cost_of(opcode)
        if effect == POP and len(starts) == bases[-1]:
            effect = POP_MARK
        if effect in VALUES:
            starts.append(here)
        elif effect == MARK:
            marks.append(here)
            bases.append(len(starts))
        elif effect == POP:
            starts.pop()
        elif effect in ENDS:
            if not marks:
                raise Broken(MALFORMED)
            height, mark = bases.pop(), marks.pop()
            if effect == FILL and height == bases[-1]:
                raise Broken(MALFORMED)
            if not marks and (height, opcode) in _RECORDS:
                _add_pairs(pairs, starts, height, here)
            del starts[height:]
            if effect in (COLLECT, CALL_MARKED):
                starts.append(mark)
        elif effect in COMBINES:
            height = len(starts) - TAKES[opcode]
            if height < bases[-1] + (effect in (PUT_ONE, BUILD)):
                raise Broken(MALFORMED)
            first = starts[height]
            if not marks and (height, opcode) in _RECORDS:
                _add_pairs(pairs, starts, 1, here)
            del starts[height:]
            if effect in (MAKE, CALL):
                starts.append(first)
        at = reader.end


_RECORDS = ((1, 0x75), (1, 0x73), (0, 0x64))
"""Where pairs are put into the lowest value of the stack: the height below them, and the opcode."""


def _add_pairs(pairs: list[Pair], starts: list[tuple[int, int]], first: int, end: tuple[int, int]) -> None:
    """Add keys and values in turn, which are on the stack from `first` on."""
    for index in range(first, len(starts) - 1, 2):
        key, value = starts[index], starts[index + 1]
        after = starts[index + 2] if index + 2 < len(starts) else end
        pairs.append(Pair(key[0], value[0], after[0], after[1] - key[1]))


def _add_open(
    pairs: list[Pair],
    frame: bytes,
    starts: list[tuple[int, int]],
    marks: list[tuple[int, int]],
    bases: list[int],
    end: tuple[int, int],
) -> None:
    """Add the pairs of a record that ends in the middle; the last value may be an unfinished one."""
    if len(bases) < 2 or bases[1] != 1:
        return
    inner = bases[2] if len(bases) > 2 else len(starts)
    found = starts[1:inner]
    if len(bases) > 2 and inner % 2 == 0:
        found.append(marks[1])
    last = 0
    while last < len(found) and frame[found[last][0]] in TEXTS + REFERENCES:
        last += 2
    # A key that is not a text is part of the value before it, of which more than one part is on the stack.
    _add_pairs(pairs, [*found[: min(last, len(found) // 2 * 2)]], 0, end)
