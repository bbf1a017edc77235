"""The pickle machine: runs the opcodes of protocols 0 to 5 on data, and nothing else.

Owns what every opcode does to stack and memo, and the budgets on work and memory while it runs. Knows no class: a name
becomes a Symbol, a call an Object. It never imports, never calls, never hashes or compares a client's value, never
recurses, and allocates nothing on the word of a length that the frame does not bear out.

Opcodes are described in PEP 307, PEP 3154, PEP 574 and the comments of CPython's pickletools.
"""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING, NoReturn

from prefork_logd.errors import RecordRejected
from prefork_logd.records.budget import Budget, exceeded
from prefork_logd.records.symbols import EMPTY_TUPLE, Dict, Node, Object, OctetText, Set, Symbol, Tuple, is_hashable

if TYPE_CHECKING:
    from collections.abc import Callable

HIGHEST_PROTOCOL = 5
MAX_MEMO_INDEX = 1 << 20
"""Picklers count from 0; a far index is a lie, and colliding ones would slow the memo down."""

_INTEGER = re.compile(rb"-?[0-9]+L?")
_FLOAT = re.compile(rb"[+-]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,5})?|nan|inf)")
_MAX_FLOAT_CHARACTERS = 64
_ESCAPE = re.compile(rb"\\(?:x([0-9a-fA-F]{2})|([\\'\"nrtabfv]))")
_ESCAPES = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"a": b"\a", b"b": b"\b", b"f": b"\f", b"v": b"\v"}
_DIGITS_PER_BYTE = 2.41
_DOUBLE = struct.Struct(">d")


def run(frame: bytes, budget: Budget) -> Node:
    """Return what the frame's pickle builds. Raises RecordRejected, and nothing else, if it is no whole sane pickle."""
    machine = _Machine(frame, budget)
    try:
        return machine.run()
    except IndexError:
        if machine.position >= len(frame):
            raise RecordRejected("truncated", f"ends after {len(frame)} bytes, without STOP") from None
        machine.malformed("stack or memo underflow")
    except UnicodeDecodeError:
        machine.malformed("text that cannot be decoded")


class _Machine:
    def __init__(self, frame: bytes, budget: Budget) -> None:
        self.frame = frame
        self.budget = budget
        self.position = 0
        self.stack: list[Node] = []
        self.marks: list[list[Node]] = []
        self.memo: dict[int, Node] = {}
        self.containers_left = budget.containers
        self.protocol_frame_end = 0

    def malformed(self, what: str) -> NoReturn:
        raise RecordRejected("malformed", f"{what} near byte {self.position}")

    def run(self) -> Node:
        """Run until STOP.

        One loop with the opcodes that make up most of any record written out, the rest from a table: a record has
        some eighty opcodes, and a call for each would be half of the time.
        """
        frame, size, memo = self.frame, len(self.frame), self.memo
        stack, marks = self.stack, self.marks
        i = 0
        opcodes_left = self.budget.opcodes
        while opcodes_left:
            opcodes_left -= 1
            self.position = i
            opcode = frame[i]
            i += 1
            if opcode == 0x71:  # BINPUT
                if len(memo) >= self.budget.memo_entries:
                    raise exceeded("memo entries")
                memo[frame[i]] = stack[-1]
                i += 1
            elif opcode == 0x58:  # BINUNICODE
                start = i + 4
                i = start + int.from_bytes(frame[i:start], "little")
                if i > size:
                    self.truncated(i)
                stack.append(str(frame[start:i], "utf-8", "surrogatepass"))
            elif opcode == 0x8C:  # SHORT_BINUNICODE
                start = i + 1
                i = start + frame[i]
                if i > size:
                    self.truncated(i)
                stack.append(str(frame[start:i], "utf-8", "surrogatepass"))
            elif opcode == 0x55:  # SHORT_BINSTRING
                start = i + 1
                i = start + frame[i]
                if i > size:
                    self.truncated(i)
                stack.append(OctetText(frame[start:i]))
            elif opcode == 0x94:  # MEMOIZE
                if len(memo) >= self.budget.memo_entries:
                    raise exceeded("memo entries")
                memo[len(memo)] = stack[-1]
            elif opcode == 0x68:  # BINGET
                stack.append(self.recall(frame[i]))
                i += 1
            elif opcode == 0x4E:  # NONE
                stack.append(None)
            elif opcode == 0x4B:  # BININT1
                stack.append(frame[i])
                i += 1
            elif opcode == 0x47:  # BINFLOAT
                if i + 8 > size:
                    self.truncated(i + 8)
                stack.append(_DOUBLE.unpack_from(frame, i)[0])
                i += 8
            elif opcode == 0x28:  # MARK
                if len(marks) > self.budget.depth:
                    raise exceeded("nested containers")
                marks.append(stack)
                stack = []
            elif opcode == 0x2E:  # STOP
                self.position = i
                return self.finish(stack)
            else:
                handler = _HANDLERS.get(opcode)
                if handler is None:
                    self.malformed(f"unknown opcode 0x{opcode:02x}")
                self.position, self.stack = i, stack
                handler(self)
                i, stack = self.position, self.stack
        raise exceeded("opcodes")

    def finish(self, stack: list[Node]) -> Node:
        if self.marks or len(stack) != 1:
            self.malformed("STOP with a stack that is not one value")
        if self.position != len(self.frame):
            raise RecordRejected("trailing", f"{len(self.frame) - self.position} bytes after the pickle's end")
        return stack[0]

    # Reading the frame

    def truncated(self, end: int) -> NoReturn:
        raise RecordRejected("truncated", f"ends after {len(self.frame)} bytes where {end} are announced")

    def take(self, count: int) -> bytes:
        """Return the next `count` bytes, a negative count being one that a signed length field announced."""
        end = self.position + count
        if end > len(self.frame):
            self.truncated(end)
        if count < 0:
            self.malformed("negative length")
        data = self.frame[self.position : end]
        self.position = end
        return data

    def take_length(self, width: int, *, signed: bool = False) -> int:
        return int.from_bytes(self.take(width), "little", signed=signed)

    def take_line(self, longest: int) -> bytes:
        """Return the text up to the next newline, which is taken too."""
        end = self.frame.find(b"\n", self.position)
        if end < 0:
            raise RecordRejected("truncated", f"ends after {len(self.frame)} bytes, within a line")
        if end - self.position > longest:
            raise exceeded("characters of a number or a name")
        line = self.frame[self.position : end]
        self.position = end + 1
        return line

    # Stack and memo

    def push(self, node: Node) -> None:
        self.stack.append(node)

    def push_container(self, node: Node) -> None:
        self.containers_left -= 1
        if self.containers_left < 0:
            raise exceeded("containers")
        self.stack.append(node)

    def pop_mark(self) -> list[Node]:
        """Return everything above the topmost mark, and take the mark away."""
        items = self.stack
        self.stack = self.marks.pop()
        return items

    def drop_mark(self) -> None:
        self.pop_mark()

    def pop_items(self, count: int) -> list[Node]:
        stack = self.stack
        if len(stack) < count:
            raise IndexError
        items = stack[-count:]
        del stack[-count:]
        return items

    def recall(self, index: int) -> Node:
        try:
            return self.memo[index]
        except KeyError:
            self.malformed("reference to nothing")

    def memoize(self, index: int) -> None:
        if not 0 <= index < MAX_MEMO_INDEX or len(self.memo) >= self.budget.memo_entries:
            raise exceeded("memo entries")
        self.memo[index] = self.stack[-1]

    def line_index(self) -> int:
        line = self.take_line(20)
        if not line.isdigit():
            self.malformed("memo index that is no number")
        return int(line)

    # Scalars

    def push_integer(self, data: bytes) -> None:
        if len(data) > self.budget.integer_bytes:
            raise exceeded("bytes of an integer")
        self.push(int.from_bytes(data, "little", signed=True))

    def integer_text(self) -> None:
        """Push the number of a LONG."""
        line = self.take_line(int(self.budget.integer_bytes * _DIGITS_PER_BYTE))
        if not _INTEGER.fullmatch(line):
            self.malformed("integer that is no number")
        try:
            self.push(int(line.removesuffix(b"L")))
        except ValueError:  # the interpreter's own limit on digits, where it was set lower
            raise exceeded("digits of an integer") from None

    def int_text(self) -> None:
        """Push the number of an INT, or a bool, which is 00 or 01."""
        if self.frame.startswith((b"00\n", b"01\n"), self.position):
            self.push(self.take(3) == b"01\n")
        else:
            self.integer_text()

    def float_text(self) -> None:
        line = self.take_line(_MAX_FLOAT_CHARACTERS)
        if not _FLOAT.fullmatch(line):
            self.malformed("float that is no number")
        self.push(float(line))

    def quoted_text(self) -> None:
        """Push what STRING holds: a Python 2 str, in the form that its repr() has."""
        line = self.take_line(len(self.frame))
        if len(line) < 2 or line[:1] not in (b"'", b'"') or line[-1:] != line[:1]:
            self.malformed("string without its quotes")
        self.push(OctetText(_ESCAPE.sub(_unescape, line[1:-1])))

    def text(self, data: bytes) -> None:
        self.push(str(data, "utf-8", "surrogatepass"))

    # Containers

    def put_items(self, node: Node, items: list[Node]) -> None:
        """APPEND and APPENDS."""
        if type(node) is list:
            node.extend(items)
        elif type(node) is Object:
            node.items.extend(items)
        else:
            self.malformed("APPEND to no list")

    def put_members(self, node: Node, items: list[Node]) -> None:
        """ADDITEMS."""
        if not isinstance(node, (Set, Object)) or (type(node) is Set and node.frozen):
            self.malformed("ADDITEMS to no set")
        if not all(map(is_hashable, items)):
            self.malformed("unhashable member of a set")
        node.items.extend(items)

    def put_pairs(self, node: Node, flat: list[Node]) -> None:
        """SETITEM and SETITEMS."""
        if not isinstance(node, (Dict, Object)):
            self.malformed("SETITEMS to no dict")
        if len(flat) % 2:
            self.malformed("SETITEMS with a key that has no value")
        if not all(map(is_hashable, flat[::2])):
            self.malformed("unhashable key")
        node.flat.extend(flat)

    def append(self) -> None:
        item = self.stack.pop()
        self.put_items(self.stack[-1], [item])

    def appends(self) -> None:
        items = self.pop_mark()
        self.put_items(self.stack[-1], items)

    def additems(self) -> None:
        items = self.pop_mark()
        self.put_members(self.stack[-1], items)

    def setitem(self) -> None:
        pair = self.pop_items(2)
        self.put_pairs(self.stack[-1], pair)

    def setitems(self) -> None:
        flat = self.pop_mark()
        self.put_pairs(self.stack[-1], flat)

    def marked_dict(self) -> None:
        node = Dict()
        self.put_pairs(node, self.pop_mark())
        self.push_container(node)

    def frozenset_(self) -> None:
        node = Set([], frozen=False)
        self.put_members(node, self.pop_mark())
        node.frozen = True
        self.push_container(node)

    # Names and calls

    def name(self, data: bytes) -> str:
        if len(data) > self.budget.name_characters:
            raise exceeded("characters of a name")
        return data.decode("utf-8")

    def take_symbol(self) -> Symbol:
        """Return the Symbol of GLOBAL and INST: module and name, each on a line."""
        module = self.name(self.take_line(self.budget.name_characters))
        return Symbol(module, self.name(self.take_line(self.budget.name_characters)))

    def stack_global(self) -> None:
        module, name = self.pop_items(2)
        if type(module) is not str or type(name) is not str:
            self.malformed("STACK_GLOBAL of no names")
        if max(len(module), len(name)) > self.budget.name_characters:
            raise exceeded("characters of a name")
        self.push_container(Symbol(module, name))

    def call(self, callee: Node, args: list[Node], kwargs: Dict | None = None) -> None:
        """Push the Object of a call; the few callables that only say what to make are read through."""
        if type(callee) is Object:
            # A call's result may be called (functools.partial is pickled so); one more step is nothing honest.
            if type(callee.callee) is not Symbol:
                self.malformed("call of a call of a call")
        elif type(callee) is not Symbol:
            self.malformed("call of something that is no class")
        else:
            helper = _HELPERS.get((callee.module, callee.name))
            made = helper and helper(self, args)
            if made:
                self.push_container(made)
                return
        self.push_container(Object(callee, args, kwargs))

    def reduce(self) -> None:
        callee, args = self.pop_items(2)
        if type(args) is not Tuple:
            self.malformed("call with arguments that are no tuple")
        self.call(callee, args.items)

    def newobj_ex(self) -> None:
        callee, args, kwargs = self.pop_items(3)
        if type(args) is not Tuple or type(kwargs) is not Dict:
            self.malformed("call with arguments that are no tuple and dict")
        self.call(callee, args.items, kwargs)

    def obj(self) -> None:
        callee, *args = self.pop_mark() or [None]
        self.call(callee, args)

    def inst(self) -> None:
        callee = self.take_symbol()
        self.call(callee, self.pop_mark())

    def build(self) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if type(target) is not Object or target.has_state:
            self.malformed("BUILD of no new object")
        target.has_state, target.state = True, state

    # Framing

    def proto(self) -> None:
        if self.position != 1:
            self.malformed("PROTO that is not at the start")
        if self.take(1)[0] > HIGHEST_PROTOCOL:
            self.malformed("unknown protocol")

    def protocol_frame(self) -> None:
        if self.position < self.protocol_frame_end:
            self.malformed("FRAME within a FRAME")
        length = self.take_length(8)
        self.protocol_frame_end = self.position + length
        if self.protocol_frame_end > len(self.frame):
            self.truncated(self.protocol_frame_end)

    def pop(self) -> None:
        """POP takes a mark away when nothing is above it."""
        if self.stack:
            self.stack.pop()
        else:
            self.pop_mark()

    def forbidden(self) -> NoReturn:
        raise RecordRejected("forbidden", f"opcode 0x{self.frame[self.position - 1]:02x} refers outside the record")


def _unescape(match: re.Match[bytes]) -> bytes:
    if match[1]:
        return bytes.fromhex(match[1].decode())
    return _ESCAPES.get(match[2], match[2])


def _reconstruct(_: _Machine, args: list[Node]) -> Node:
    """copyreg._reconstructor(class, base, state): an instance, made from `state` if the base is a builtin type."""
    if len(args) != 3 or type(args[0]) is not Symbol:
        return None
    base = args[1]
    plain = type(base) is Symbol and (base.module, base.name) == ("builtins", "object")
    return Object(args[0], [] if plain else [args[2]])


def _newobj(machine: _Machine, args: list[Node]) -> Node:
    """copyreg.__newobj__(class, *args). The copy is paid for: one tuple can be given to any number of calls."""
    if not args or type(args[0]) is not Symbol:
        return None
    machine.containers_left -= len(args) // 4
    return Object(args[0], args[1:])


def _newobj_ex(_: _Machine, args: list[Node]) -> Node:
    """copyreg.__newobj_ex__(class, args, kwargs)."""
    match args:
        case [Symbol() as callee, Tuple() as positional, Dict() as kwargs]:
            return Object(callee, positional.items, kwargs)
    return None


def _getattr(machine: _Machine, args: list[Node]) -> Node:
    """getattr(class, name): how a nested name is written below protocol 4."""
    match args:
        case [Symbol() as owner, str() as name] if len(name) <= machine.budget.name_characters - len(owner.name):
            return Symbol(owner.module, f"{owner.name}.{name}")
    return None


_HELPERS: dict[tuple[str, str], Callable[[_Machine, list[Node]], Node]] = {
    ("copyreg", "_reconstructor"): _reconstruct,
    ("copyreg", "__newobj__"): _newobj,
    ("copyreg", "__newobj_ex__"): _newobj_ex,
    ("builtins", "getattr"): _getattr,
}

_HANDLERS: dict[int, Callable[[_Machine], None]] = {
    ord("I"): _Machine.int_text,
    ord("J"): lambda m: m.push(m.take_length(4, signed=True)),
    ord("M"): lambda m: m.push(m.take_length(2)),
    ord("L"): _Machine.integer_text,
    0x8A: lambda m: m.push_integer(m.take(m.take_length(1))),  # LONG1
    0x8B: lambda m: m.push_integer(m.take(m.take_length(4, signed=True))),  # LONG4
    ord("F"): _Machine.float_text,
    0x88: lambda m: m.push(True),  # NEWTRUE
    0x89: lambda m: m.push(False),  # NEWFALSE
    ord("S"): _Machine.quoted_text,
    ord("T"): lambda m: m.push(OctetText(m.take(m.take_length(4, signed=True)))),
    ord("V"): lambda m: m.push(m.take_line(len(m.frame)).decode("raw-unicode-escape")),
    0x8D: lambda m: m.text(m.take(m.take_length(8))),  # BINUNICODE8
    ord("C"): lambda m: m.push(m.take(m.take_length(1))),  # SHORT_BINBYTES
    ord("B"): lambda m: m.push(m.take(m.take_length(4))),
    0x8E: lambda m: m.push(m.take(m.take_length(8))),  # BINBYTES8
    0x96: lambda m: m.push(bytearray(m.take(m.take_length(8)))),  # BYTEARRAY8
    ord("]"): lambda m: m.push_container([]),
    ord("a"): _Machine.append,
    ord("e"): _Machine.appends,
    ord("l"): lambda m: m.push_container(m.pop_mark()),
    ord(")"): lambda m: m.push(EMPTY_TUPLE),
    ord("t"): lambda m: m.push_container(Tuple(m.pop_mark())),
    0x85: lambda m: m.push_container(Tuple(m.pop_items(1))),  # TUPLE1
    0x86: lambda m: m.push_container(Tuple(m.pop_items(2))),  # TUPLE2
    0x87: lambda m: m.push_container(Tuple(m.pop_items(3))),  # TUPLE3
    ord("}"): lambda m: m.push_container(Dict()),
    ord("d"): _Machine.marked_dict,
    ord("s"): _Machine.setitem,
    ord("u"): _Machine.setitems,
    0x8F: lambda m: m.push_container(Set([], frozen=False)),  # EMPTY_SET
    0x90: _Machine.additems,
    0x91: _Machine.frozenset_,
    ord("0"): _Machine.pop,
    ord("2"): lambda m: m.push(m.stack[-1]),  # DUP
    ord("1"): _Machine.drop_mark,  # POP_MARK
    ord("p"): lambda m: m.memoize(m.line_index()),
    ord("r"): lambda m: m.memoize(m.take_length(4)),
    ord("g"): lambda m: m.push(m.recall(m.line_index())),
    ord("j"): lambda m: m.push(m.recall(m.take_length(4))),
    ord("c"): lambda m: m.push_container(m.take_symbol()),
    0x93: _Machine.stack_global,
    ord("R"): _Machine.reduce,
    0x81: _Machine.reduce,  # NEWOBJ: class and arguments on the stack, as for REDUCE
    0x92: _Machine.newobj_ex,
    ord("o"): _Machine.obj,
    ord("i"): _Machine.inst,
    ord("b"): _Machine.build,
    0x80: _Machine.proto,
    0x95: _Machine.protocol_frame,
    0x82: _Machine.forbidden,  # EXT1
    0x83: _Machine.forbidden,  # EXT2
    0x84: _Machine.forbidden,  # EXT4
    ord("P"): _Machine.forbidden,  # PERSID
    ord("Q"): _Machine.forbidden,  # BINPERSID
    0x97: _Machine.forbidden,  # NEXT_BUFFER
    0x98: _Machine.forbidden,  # READONLY_BUFFER
}
