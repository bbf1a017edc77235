"""Makes a smaller pickle of a record's pickle that is too large to be read, without the parts that are too much.

Owns the share of the work that each attribute gets, and the form of what is left out. Does not know values: opcodes are
copied until the share of an attribute is used up. After that only the end of each container is written, and the values
that do not get into it are counted. So every byte costs the same small time, and the values behind are whole.

The result is a pickle with three more opcodes, which no frame may have: CUT for a value that is left out, REST with the
number of values that are, and CUT_TEXT with a text of which the middle is missing (outline.py).

Longer than other modules: it specifies one pass of the compiled core (core_c/trim.pxi), in the same steps.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from prefork_logd.config.values import format_count
from prefork_logd.errors import RecordRejected
from prefork_logd.inputs.pickles.outline import (
    BUILD,
    CALL,
    CALL_MARKED,
    COLLECT,
    COMBINES,
    CROSSING,
    DUP,
    EFFECTS,
    ENDS,
    FILL,
    GET,
    MALFORMED,
    MARK,
    POP,
    POP_MARK,
    PROTO,
    PUT,
    PUT_ONE,
    STOP,
    TAKES,
    TOO_LONG,
    TRAILING,
    TRUNCATED,
    UNSAFE,
    VALUES,
    Broken,
    Outline,
    Pair,
    Reader,
    outline,
)

if TYPE_CHECKING:
    from collections.abc import Callable

CUT, REST, CUT_TEXT = 0xF0, 0xF1, 0xF2
WORK = 20_000
"""Cost of the opcodes that are kept of a record (outline.WEIGHTS)."""
HEAVY = 512
"""An attribute that costs more is cut, if the record is."""
LEAST_SHARE = 64
GAP_WORK = 4_096
"""Cost of the opcodes that are kept between attributes."""
MOST_INDEX = 1 << 20
SKIPPED, WRITTEN, TEXT_AT = 1, 2, 3
"""What the memo has at an index: nothing that was written, something, or the text at an offset above TEXT_AT."""
SHORT_TEXT = 255
"""Bytes of a text that is written where it is referred to, if it was left out where it stands: names of keys."""
MOST_MARKS = 4_096
WITHIN = 0
"""Returned for a frame that is small enough."""
OWN_NAMES = frozenset(
    b"name msg args levelname levelno pathname filename module exc_info exc_text stack_info lineno funcName created"
    b" thread threadName processName process taskName message msecs relativeCreated asctime".split()
)
"""Attributes that are kept however many others there are."""

MOST_STEPS_IN_PYTHON = 200_000
"""Opcodes above which a pickle is rejected where there is no compiled core: each takes about 1.5 microseconds, and
meanwhile nobody else is served."""

_REASONS = {
    TOO_LONG: ("budget", "too many opcodes to be read without the compiled core"),
    TRUNCATED: ("truncated", "ends within an opcode"),
    MALFORMED: ("malformed", "opcodes that do not fit together"),
    UNSAFE: ("forbidden", "an opcode that refers outside the record"),
    TRAILING: ("trailing", "bytes after the pickle's end"),
}


def trimmed(frame: bytes, limit: int, hole: int = 0, hole_bytes: int = 0) -> bytes | None:
    """Return a smaller pickle of a frame; None if the opcodes of the frame cost less than `limit`.

    `hole_bytes` are missing before the offset `hole`. Raises RecordRejected if it is not a pickle.
    """
    found = trim(frame, limit, hole, hole_bytes)
    if isinstance(found, int):
        if found == WITHIN:
            return None
        reason, detail = _REASONS[found]
        raise RecordRejected(reason, f"{detail}, in a pickle of {format_count(len(frame), 'byte')}")
    return found


def trim_in_python(frame: bytes, limit: int, hole: int, hole_bytes: int, most_steps: int = sys.maxsize) -> bytes | int:
    """Do what `trimmed` does; return WITHIN, or the reason of a rejection, as a number."""
    reader = Reader(frame, hole, hole_bytes)
    try:
        found = outline(reader, most_steps)
        if not hole_bytes and found.opcodes < limit:
            return WITHIN
        return _Trimmer(reader, found).run()
    except Broken as broken:
        return broken.reason


def _trim_for_a_while(frame: bytes, limit: int, hole: int, hole_bytes: int) -> bytes | int:
    """Do the same without the compiled core, which takes a hundredth of the time: not for any number of opcodes."""
    return trim_in_python(frame, limit, hole, hole_bytes, MOST_STEPS_IN_PYTHON)


trim: Callable[[bytes, int, int, int], bytes | int] = _trim_for_a_while
"""The function in use: this one, or the compiled one."""


def _shares(frame: bytes, pairs: list[Pair]) -> list[int]:
    """Return what may be kept of each attribute, as a cost; -1 for one that is left out."""
    heavy = sum(pair.cost > HEAVY for pair in pairs)
    light = sum(pair.cost for pair in pairs if pair.cost <= HEAVY)
    light_left = min(light, WORK // 2 if heavy else WORK)
    heavy_left = WORK - light_left
    share = max(LEAST_SHARE, heavy_left // heavy) if heavy else 0
    seen: set[bytes] = set()
    shares = []
    for pair in pairs:
        name = _own_name(frame, pair.key)
        is_own = bool(name) and name not in seen
        seen.add(name)
        if pair.cost > HEAVY:
            keeps = is_own or heavy_left >= share
            heavy_left -= share if keeps else 0
            shares.append(share if keeps else -1)
        else:
            keeps = is_own or light_left >= pair.cost
            light_left -= pair.cost if keeps else 0
            shares.append(pair.cost if keeps else -1)
    return shares


def _own_name(frame: bytes, at: int) -> bytes:
    """Return the key at an offset if it is one of OWN_NAMES, else nothing."""
    opcode = frame[at]
    width = 4 if opcode == 0x58 else 1 if opcode in b"U\x8c" else 0
    start = at + 1 + width
    name = frame[start : start + min(int.from_bytes(frame[at + 1 : start], "little"), 32)] if width else b""
    return name if name in OWN_NAMES else b""


class _Level:
    """The values above one mark."""

    __slots__ = ("filled", "is_written", "kind", "real", "rest", "skipped")

    def __init__(self, is_written: bool) -> None:
        self.is_written = is_written
        """Whether its mark was written."""
        self.real = 0
        """Number of values that were written; the lowest ones."""
        self.skipped = 0
        """Number of values above them that were not."""
        self.rest = 0
        """Values that did not get into the topmost real one."""
        self.filled = 0
        """The opcode that would have put them there."""
        self.kind = 0
        """The opcode that has made the topmost real one."""


class _Trimmer:
    """Copies opcodes; see the module's docstring.

    A real value never stands above a skipped one: while `skims`, no new value is written.

    Longer than other classes: each kind of opcode has a method, and all of them share one state.
    """

    def __init__(self, reader: Reader, found: Outline) -> None:
        self.reader = reader
        self.frame = reader.frame
        self.pairs = found.pairs
        self.shares = _shares(reader.frame, found.pairs)
        self.places = {at for pair in found.pairs for at in (pair.key, pair.value, pair.end)}
        """Where something begins or ends for `enter`."""
        self.out = bytearray()
        self.levels = [_Level(is_written=True)]
        self.top = self.levels[0]
        self.memo: dict[int, int] = {}
        """SKIPPED, WRITTEN, or a text's offset above TEXT_AT, for each index."""
        self.text_at = self.text_end = 0
        """The latest short text that was left out."""
        self.skims = False
        self.left = GAP_WORK
        self.gap_left = GAP_WORK
        self.may_put = False
        self.ends_open = False
        self.index = self.phase = self.dropped = self.height = 0

    def run(self) -> bytes:
        """Return the smaller pickle. Raises Broken."""
        reader, at = self.reader, 0
        while True:
            opcode = reader.step(at)
            if opcode < 0:
                self.close_open()
                break
            if at in self.places:
                self.enter(at)
            effect = EFFECTS[opcode]
            if effect == STOP:
                break
            if not self.skims:
                self.left -= reader.cost(opcode)
                self.skims = self.left < 0
            if effect == POP and not self.top.real and not self.top.skipped:
                effect = POP_MARK
            self.take(at, opcode, effect)
            at = reader.end
        if len(self.levels) == 1 and self.top.real == 1:
            self.end_record()
        self.out += b"."
        return bytes(self.out)

    def end_record(self) -> None:
        """Add the number of attributes that were left out, or of bytes."""
        if self.ends_open:
            self.out.append(CUT)
            self.put_text(b"%d bytes cut" % self.reader.hole_bytes)
            self.out += b"s"
        elif self.dropped:
            self.out.append(CUT)
            self.put_rest(self.dropped)
            self.out += b"s"

    # Attributes

    def enter(self, at: int) -> None:
        """Begin and end the attributes whose keys and values do at this offset."""
        while self.index < len(self.pairs):
            pair, share = self.pairs[self.index], self.shares[self.index]
            if self.phase == 0 and at == pair.key:
                self.phase = 1
                self.gap_left = self.left
                if share >= 0:
                    self.settle()
                self.left, self.skims = share, share < 0
            elif self.phase == 1 and at == pair.value:
                self.phase = 2
                if share >= 0:
                    self.settle()
                    self.skims = self.left < 0
                    self.height = self.top.real + 1
            elif self.phase == 2 and at == pair.end:
                self.leave(share)
            else:
                return

    def leave(self, share: int) -> None:
        """End an attribute."""
        if share < 0:
            self.dropped += 1
            if self.frame[self.pairs[self.index].end] != 0x73:  # SETITEM takes them away itself
                self.top.skipped = 0
        else:
            self.settle()
        self.left = self.gap_left
        self.skims = self.left < 0
        self.phase = 0
        self.index += 1

    def settle(self) -> None:
        """Write what is needed below the next value. Raises Broken if the record itself was skipped."""
        if len(self.levels) > 2 or (len(self.levels) == 2 and self.levels[0].skipped):
            raise Broken(MALFORMED)
        if not self.top.is_written:
            self.out += b"("
            self.top.is_written = True
        if self.top.skipped > 1:
            raise Broken(MALFORMED)
        self.flush()
        if self.top.skipped:
            self.out.append(CUT)
            self.top.real += 1
            self.top.skipped = self.top.kind = 0
        self.skims = False

    def close_open(self) -> None:
        """End every container of a frame that ends at its hole."""
        while len(self.levels) > 2:
            level = self.levels.pop()
            self.top = self.levels[-1]
            if level.is_written:
                self.out.append(CUT)
                kind = self.top.kind
                if kind == 0x7D:
                    self.out += bytes([CUT]) * (level.real % 2 == 0) + b"u"
                elif kind in (0x5D, 0x8F):
                    self.out += b"e" if kind == 0x5D else b"\x90"
                else:
                    self.out += b"t"
                    self.top.real += 1
                    self.top.kind = 0x74
        top = self.top
        if len(self.levels) == 2:
            if top.is_written:
                self.flush()
                wanted = self.height if self.phase == 2 and self.shares[self.index] >= 0 else top.real // 2 * 2
                self.out += b"0" * (top.real - wanted)
                self.out += bytes([CUT]) * (wanted - top.real) + b"u"
            self.levels.pop()
            self.top = self.levels[-1]
        else:
            self.out += b"0" * (top.real - 1)
        self.top.real = 1
        self.ends_open = True

    # Opcodes

    def copy(self, at: int) -> None:
        """Write the opcode at an offset, which was read last, as it is."""
        self.out += self.frame[at : self.reader.end]

    def put_rest(self, count: int) -> None:
        """Write the number of values that are left out."""
        self.out.append(REST)
        self.out += min(count, 0xFFFF_FFFF).to_bytes(4, "little")

    def put_text(self, text: bytes) -> None:
        """Write a text that is not in the frame as it is."""
        self.out.append(CUT_TEXT)
        self.out += len(text).to_bytes(4, "little") + text

    def flush(self) -> None:
        """Write how many values did not get into the topmost real one."""
        top = self.top
        if top.rest:
            if top.filled in b"us":
                self.out.append(CUT)
                self.put_rest(top.rest)
                self.out += b"s"
            elif top.filled == 0x90:
                self.out += b"("
                self.put_rest(top.rest)
                self.out += b"\x90"
            else:
                self.put_rest(top.rest)
                self.out += b"a"
            top.rest = 0

    def leave_out(self, opcode: int, count: int) -> None:
        """Count values that are put into the topmost one, of `opcode`."""
        if not self.top.skipped and count:
            if not self.top.rest:
                self.top.filled = opcode
            self.top.rest += count // 2 if opcode in b"us" else count

    def take(self, at: int, opcode: int, effect: int) -> None:
        """Do what an opcode does."""
        if effect in VALUES:
            self.push(at, opcode, effect)
        elif effect == PUT:
            self.memoize(at, opcode)
        elif effect == MARK:
            if len(self.levels) > MOST_MARKS:
                self.skims = True
            if not self.skims:
                self.copy(at)
            self.top = _Level(is_written=not self.skims)
            self.levels.append(self.top)
        elif effect == POP:
            if self.top.skipped:
                self.top.skipped -= 1
            else:
                self.top.real -= 1
                self.top.rest = self.top.kind = 0
                self.out += b"0"
        elif effect in ENDS:
            self.end_level(at, opcode, effect)
        elif effect in COMBINES:
            self.combine(at, opcode, effect)
        elif effect == PROTO:
            if at:
                raise Broken(MALFORMED)
            self.copy(at)

    def push(self, at: int, opcode: int, effect: int) -> None:
        """Write an opcode that pushes a value, or count the value."""
        top = self.top
        state, number = WRITTEN, 0
        if effect == GET:
            number = self.memo_index(opcode)
            if number not in self.memo and number < MOST_INDEX:
                raise Broken(MALFORMED)
            state = self.memo.get(number, SKIPPED)
        elif effect == DUP and not top.real + top.skipped:
            raise Broken(MALFORMED)
        if self.skims:
            top.skipped += 1
            if (
                opcode in CROSSING + b"V"
                and self.reader.end - self.reader.start <= SHORT_TEXT
                and not self.reader.crosses
            ):
                self.text_at, self.text_end = at, self.reader.end
            return
        top.real += 1
        top.kind = opcode
        if state == SKIPPED:
            self.out.append(CUT)
        elif state >= TEXT_AT:
            reader = Reader(self.frame, self.reader.hole, self.reader.hole_bytes)
            reader.step(state - TEXT_AT)
            self.out += self.frame[state - TEXT_AT : reader.end]
            self.put_memo(number)
            self.memo[number] = WRITTEN
        elif self.reader.crosses:
            self.put_text(joined(self.frame, self.reader))
        else:
            self.copy(at)

    def memo_index(self, opcode: int) -> int:
        """Return the operand of an opcode of the memo. Raises Broken."""
        operand = self.frame[self.reader.start : self.reader.end]
        if opcode in b"gp":
            if not 1 < len(operand) < 20 or not operand[:-1].isdigit():
                raise Broken(MALFORMED)
            return int(operand)
        return int.from_bytes(operand, "little")

    def memoize(self, at: int, opcode: int) -> None:
        """PUT: a skipped value is remembered as one."""
        top = self.top
        if not top.real + top.skipped:
            raise Broken(MALFORMED)
        index = len(self.memo) if opcode == 0x94 else self.memo_index(opcode)
        if index >= MOST_INDEX:
            return
        writes = not top.skipped and (self.may_put or not self.skims)
        self.memo[index] = WRITTEN if writes else TEXT_AT + self.text_at if at == self.text_end else SKIPPED
        self.may_put = False
        if writes:
            self.put_memo(index)

    def put_memo(self, index: int) -> None:
        """Write the opcode that puts the topmost value into the memo."""
        self.out += b"q%c" % index if index < 256 else b"r" + index.to_bytes(4, "little")

    def end_level(self, at: int, opcode: int, effect: int) -> None:
        """Take a mark away, and what is above it."""
        if effect != POP_MARK:
            self.flush()
        level = self.levels.pop()
        if not self.levels:
            raise Broken(MALFORMED)
        top = self.top = self.levels[-1]
        makes = effect in (COLLECT, CALL_MARKED)
        if effect == FILL and not top.real + top.skipped:
            raise Broken(MALFORMED)
        if not level.is_written:
            if makes:
                top.skipped += 1
            elif effect == FILL:
                self.leave_out(opcode, level.skipped)
            return
        if opcode == 0x6F and not level.real:
            effect = POP_MARK
            top.skipped += 1
        if effect == POP_MARK:
            self.out += b"1" if opcode != 0x30 else b"0"
            return
        left = level.skipped
        if opcode in b"ud" and level.real % 2 and left:
            self.out.append(CUT)
            left -= 1
        if opcode == 0x64 and left > 1:
            self.out.append(CUT)
            self.put_rest(left // 2)
        elif makes and opcode != 0x64 and left:
            self.put_rest(left)
        self.copy(at)
        if makes:
            top.real += 1
            top.kind = opcode
            self.may_put = True
        else:
            self.leave_out(opcode, left)

    def combine(self, at: int, opcode: int, effect: int) -> None:
        """Take the topmost values, and put one in their place, or into the one below."""
        top, count = self.top, TAKES[opcode]
        skipped = min(top.skipped, count)
        real = count - skipped
        puts = effect in (PUT_ONE, BUILD)
        if top.real - real < 0 or top.real + top.skipped - count < puts:
            raise Broken(MALFORMED)
        top.skipped -= skipped
        if real:
            self.flush()
        top.real -= real
        is_loop = opcode == 0x85 and self.skims and real
        if puts and not real:
            if opcode == 0x73 and len(self.levels) == 1 and top.real == 1:
                pass  # an attribute that was left out, and counted
            elif effect == PUT_ONE:
                self.leave_out(opcode, count)
            elif not top.skipped:
                self.out += bytes([CUT]) + b"b"
        elif (effect == CALL and skipped) or is_loop or not real:
            self.out += b"0" * real
            top.skipped += 1
        else:
            self.out += bytes([CUT]) * skipped
            self.copy(at)
            top.kind = 0
            if not puts:
                top.real += 1
                self.may_put = True


def joined(frame: bytes, reader: Reader) -> bytes:
    """Return a text with a hole: head and tail, and between them how many bytes are missing."""
    head_end, tail = reader.hole, reader.hole
    while head_end > reader.start and head_end < len(frame) and frame[head_end - 1] & 0xC0 == 0x80:
        head_end -= 1
    if head_end > reader.start and frame[head_end - 1] >= 0xC0:
        head_end -= 1
    else:
        head_end = reader.hole
    while tail < reader.end and frame[tail] & 0xC0 == 0x80:
        tail += 1
    missing = reader.hole_bytes + reader.hole - head_end + tail - reader.hole
    return b"%b... (%d bytes cut) ...%b" % (frame[reader.start : head_end], missing, frame[tail : reader.end])
