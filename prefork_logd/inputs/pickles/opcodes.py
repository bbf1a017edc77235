"""Lists the functions of the opcodes that the loop of unpickle.py does not contain itself.

Owns numbers in their text forms, and filling containers; calls.py has names and calls. Does not know classes. Every
function reads its operands through the machine and changes its stack; `unpickle.run` turns its errors into
RecordRejected.
"""

from __future__ import annotations

import codecs
import functools
import re
from typing import TYPE_CHECKING, NoReturn

from prefork_logd.errors import RecordRejected
from prefork_logd.inputs.pickles import calls
from prefork_logd.inputs.pickles.budget import exceeded
from prefork_logd.inputs.pickles.symbols import (
    EMPTY_TUPLE,
    Cut,
    Dict,
    Node,
    Object,
    OctetText,
    Set,
    Tuple,
    is_hashable,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefork_logd.inputs.pickles.machine import Machine

HIGHEST_PROTOCOL = 5

_INTEGER = re.compile(rb"-?[0-9]+L?")
_FLOAT = re.compile(rb"[+-]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,5})?|nan|inf)")
_MAX_FLOAT_CHARACTERS = 64
_ESCAPE = re.compile(rb"\\(?:x([0-9a-fA-F]{2})|([\\'\"nrtabfv]))")
_ESCAPES = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"a": b"\a", b"b": b"\b", b"f": b"\f", b"v": b"\v"}
_RAW_UNICODE = codecs.lookup("raw-unicode-escape").decode
"""Looked up here: the first use of a codec imports it, and a client must not cause an import."""
_DIGITS_PER_BYTE = 2.41

decode_text_in_python: Callable[[bytes], str] = functools.partial(str, encoding="utf-8", errors="surrogatepass")
"""UTF-8 that may hold lone surrogates, as text."""

decode_text: Callable[[bytes], str] = decode_text_in_python
"""The function in use: this one, or the compiled one."""


# Scalars


def _push_integer(machine: Machine, data: bytes) -> None:
    if len(data) > machine.budget.integer_bytes:
        machine.push(Cut(text=f"<truncated integer of {len(data)} bytes>"))
    else:
        machine.push(int.from_bytes(data, "little", signed=True))


def _integer_text(machine: Machine) -> None:
    """Push the number of a LONG."""
    line = machine.take_line(len(machine.frame))
    if not _INTEGER.fullmatch(line):
        machine.malformed("integer that is not a number")
    digits = line.removesuffix(b"L")
    if len(line) > int(machine.budget.integer_bytes * _DIGITS_PER_BYTE):
        machine.push(Cut(text=f"<truncated integer of {len(digits)} digits>"))
        return
    # The time to read a number grows with the square of its length.
    machine.lines_left -= len(line) * len(line) >> 15
    if machine.lines_left < 0:
        raise exceeded("lines of text")
    try:
        machine.push(int(digits))
    except ValueError:  # The interpreter's own limit of digits may be set lower.
        machine.push(Cut(text=f"<truncated integer of {len(digits)} digits>"))


def _int_text(machine: Machine) -> None:
    """Push the number of an INT, or a bool, which is 00 or 01."""
    if machine.frame.startswith((b"00\n", b"01\n"), machine.position):
        machine.push(machine.take(3) == b"01\n")
    else:
        _integer_text(machine)


def _float_text(machine: Machine) -> None:
    line = machine.take_line(_MAX_FLOAT_CHARACTERS)
    if not _FLOAT.fullmatch(line):
        machine.malformed("float that is not a number")
    machine.push(float(line))


def _quoted_text(machine: Machine) -> None:
    """Push the value of a STRING: a Python 2 str in the form of its repr()."""
    line = machine.take_line(len(machine.frame))
    if len(line) < 2 or line[:1] not in (b"'", b'"') or line[-1:] != line[:1]:
        machine.malformed("string without its quotes")
    machine.push(OctetText(unquote(line[1:-1])))


def _text(machine: Machine, data: bytes) -> None:
    machine.push(decode_text(data))


# Containers


def _put_items(machine: Machine, node: Node, items: list[Node]) -> None:
    """APPEND and APPENDS."""
    if type(node) is list:
        node.extend(items)
    elif type(node) is Object:
        node.items.extend(items)
    elif type(node) is not Cut:
        machine.malformed("APPEND to no list")


def _put_members(machine: Machine, node: Node, items: list[Node]) -> None:
    """ADDITEMS."""
    if type(node) is Cut:
        return
    if not isinstance(node, (Set, Object)) or (type(node) is Set and node.frozen):
        machine.malformed("ADDITEMS to no set")
    if not all(map(is_hashable, items)):
        machine.malformed("unhashable member of a set")
    node.items.extend(items)


def _put_pairs(machine: Machine, node: Node, flat: list[Node]) -> None:
    """SETITEM and SETITEMS."""
    if type(node) is Cut:
        return
    if not isinstance(node, (Dict, Object)):
        machine.malformed("SETITEMS to no dict")
    if len(flat) % 2:
        machine.malformed("SETITEMS with a key that has no value")
    if not all(map(is_hashable, flat[::2])):
        machine.malformed("unhashable key")
    node.flat.extend(flat)


def _small_tuple(count: int) -> Callable[[Machine], None]:
    """Return the function of TUPLE1, TUPLE2 or TUPLE3, the most expensive opcodes of one byte."""

    def push(machine: Machine) -> None:
        machine.containers_left -= 1
        if machine.containers_left < 0:
            raise exceeded("containers")
        stack = machine.stack
        if len(stack) < count:
            raise IndexError
        stack[-count:] = [Tuple(stack[-count:])]

    return push


def _append(machine: Machine) -> None:
    item = machine.stack.pop()
    _put_items(machine, machine.stack[-1], [item])


def _appends(machine: Machine) -> None:
    items = machine.pop_mark()
    _put_items(machine, machine.stack[-1], items)


def _additems(machine: Machine) -> None:
    items = machine.pop_mark()
    _put_members(machine, machine.stack[-1], items)


def _setitem(machine: Machine) -> None:
    pair = machine.pop_items(2)
    _put_pairs(machine, machine.stack[-1], pair)


def _setitems(machine: Machine) -> None:
    flat = machine.pop_mark()
    _put_pairs(machine, machine.stack[-1], flat)


def _marked_dict(machine: Machine) -> None:
    node = Dict()
    _put_pairs(machine, node, machine.pop_mark())
    machine.push_container(node)


def _frozenset(machine: Machine) -> None:
    node = Set([], frozen=False)
    _put_members(machine, node, machine.pop_mark())
    node.frozen = True
    machine.push_container(node)


# The memo


def _line_index(machine: Machine) -> int:
    line = machine.take_line(20)
    if not line.isdigit():
        machine.malformed("memo index that is not a number")
    return int(line)


# Framing


def _proto(machine: Machine) -> None:
    if machine.position != 1:
        machine.malformed("PROTO that is not at the start")
    if machine.take(1)[0] > HIGHEST_PROTOCOL:
        machine.malformed("unknown protocol")


def _protocol_frame(machine: Machine) -> None:
    if machine.position < machine.protocol_frame_end:
        machine.malformed("FRAME within a FRAME")
    length = machine.take_length(8)
    machine.protocol_frame_end = machine.position + length
    if machine.protocol_frame_end > len(machine.frame):
        machine.truncated(machine.protocol_frame_end)


def _pop(machine: Machine) -> None:
    """POP removes a mark if nothing is above it."""
    if machine.stack:
        machine.stack.pop()
    else:
        machine.pop_mark()


def _forbidden(machine: Machine) -> NoReturn:
    raise RecordRejected("forbidden", f"opcode 0x{machine.frame[machine.position - 1]:02x} refers outside the record")


def _drop_mark(machine: Machine) -> None:
    machine.pop_mark()


def unquote_in_python(text: bytes) -> bytes:
    """Return the text between the quotes of a Python 2 str's repr(), unescaped."""
    return _ESCAPE.sub(_unescape, text)


unquote: Callable[[bytes], bytes] = unquote_in_python
"""The function in use: this one, or the compiled one."""


def _unescape(match: re.Match[bytes]) -> bytes:
    if match[1]:
        return bytes.fromhex(match[1].decode())
    return _ESCAPES.get(match[2], match[2])


HANDLERS: dict[int, Callable[[Machine], None]] = {
    ord("I"): _int_text,
    ord("J"): lambda m: m.push(m.take_length(4, signed=True)),
    ord("M"): lambda m: m.push(m.take_length(2)),
    ord("L"): _integer_text,
    0x8A: lambda m: _push_integer(m, m.take(m.take_length(1))),  # LONG1
    0x8B: lambda m: _push_integer(m, m.take(m.take_length(4, signed=True))),  # LONG4
    ord("F"): _float_text,
    0x88: lambda m: m.push(True),  # NEWTRUE
    0x89: lambda m: m.push(False),  # NEWFALSE
    ord("S"): _quoted_text,
    ord("T"): lambda m: m.push(OctetText(m.take(m.take_length(4, signed=True)))),
    ord("V"): lambda m: m.push(_RAW_UNICODE(m.take_line(len(m.frame)))[0]),
    0x8D: lambda m: _text(m, m.take(m.take_length(8))),  # BINUNICODE8
    ord("C"): lambda m: m.push(m.take(m.take_length(1))),  # SHORT_BINBYTES
    ord("B"): lambda m: m.push(m.take(m.take_length(4))),
    0x8E: lambda m: m.push(m.take(m.take_length(8))),  # BINBYTES8
    0x96: lambda m: m.push(bytearray(m.take(m.take_length(8)))),  # BYTEARRAY8
    ord("]"): lambda m: m.push_container([]),
    ord("a"): _append,
    ord("e"): _appends,
    ord("l"): lambda m: m.push_container(m.pop_mark()),
    ord(")"): lambda m: m.push(EMPTY_TUPLE),
    ord("t"): lambda m: m.push_container(Tuple(m.pop_mark())),
    0x85: _small_tuple(1),
    0x86: _small_tuple(2),
    0x87: _small_tuple(3),
    ord("}"): lambda m: m.push_container(Dict()),
    ord("d"): _marked_dict,
    ord("s"): _setitem,
    ord("u"): _setitems,
    0x8F: lambda m: m.push_container(Set([], frozen=False)),  # EMPTY_SET
    0x90: _additems,
    0x91: _frozenset,
    ord("0"): _pop,
    ord("2"): lambda m: m.push(m.stack[-1]),  # DUP
    ord("1"): _drop_mark,  # POP_MARK
    ord("p"): lambda m: m.memoize(_line_index(m)),
    ord("r"): lambda m: m.memoize(m.take_length(4)),
    ord("g"): lambda m: m.push(m.recall(_line_index(m))),
    ord("j"): lambda m: m.push(m.recall(m.take_length(4))),
    ord("c"): lambda m: m.push_container(calls.take_symbol(m)),
    0x93: calls.stack_global,
    ord("R"): calls.reduce,
    0x81: calls.newobj,
    0x92: calls.newobj_ex,
    ord("o"): calls.obj,
    ord("i"): calls.inst,
    ord("b"): calls.build,
    0x80: _proto,
    0x95: _protocol_frame,
    0x82: _forbidden,  # EXT1
    0x83: _forbidden,  # EXT2
    0x84: _forbidden,  # EXT4
    ord("P"): _forbidden,  # PERSID
    ord("Q"): _forbidden,  # BINPERSID
    0x97: _forbidden,  # NEXT_BUFFER
    0x98: _forbidden,  # READONLY_BUFFER
}


def _cut_text(machine: Machine) -> None:
    """Push a text of which the middle is missing."""
    data = machine.take(machine.take_length(4))
    try:
        text = decode_text(data)
    except UnicodeDecodeError:
        text = data.decode("utf-8", "surrogateescape")
    machine.push(Cut(text=text))


TRIMMED_HANDLERS = HANDLERS | {
    0xF0: lambda m: m.push(Cut()),
    0xF1: lambda m: m.push(Cut(m.take_length(4))),
    0xF2: _cut_text,
}
"""The same with the opcodes of trim.py."""

_DEARER = {
    2: b"])02",
    3: b"}1",
    5: b"bC\x42\x8f\x8e",
    6: b"usT\x90\x8a\x8b\x8d\x96",
    7: b"Vtd\x85\x86\x87\x91pg",
    10: b"ILFSR\x81\x93o",
    12: b"c\x92",
    20: b"i",
}
COSTS = {opcode: 1 if opcode in b"rjM" else 4 for opcode in HANDLERS}
"""Additional cost of each opcode above 1, in tenths of a microsecond of its time."""
COSTS.update((opcode, cost) for cost, dearer in _DEARER.items() for opcode in dearer)
