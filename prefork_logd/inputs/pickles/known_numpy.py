"""Writes numpy's scalars as numbers and its arrays as lists, from their octets; a large array as its first items.

Owns the element types that are read, and the size up to which an array is written whole. Part of the table in known.py,
under its rules. numpy is not imported.
"""

from __future__ import annotations

import datetime as dt
import re
import struct
from typing import TYPE_CHECKING, Any, NamedTuple

from prefork_logd.inputs.pickles.symbols import LATIN_1, Dict, Node, Object, Symbol, Tuple, is_call, text_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefork_logd.inputs.pickles.reader import ValueReader
    from prefork_logd.records.values import Plain

SMALL_ARRAY = 100
"""Items of an array that is written whole."""
FIRST_ITEMS = 10
MAX_DIMENSIONS = 32
MAX_FIELDS, MAX_NAME = 32, 100
"""Fields of a structured array that is read, and characters of the name of one."""
_LARGEST_ROW = 4_096
_ITEM_NODES = 2
"""Reading an item counts as so many values more, as it takes as long."""
_FIELD_NODES = 4
"""Reading the type of a field counts as so many values."""

_FORMATS = {
    "b1": "?",
    "i1": "b",
    "i2": "h",
    "i4": "i",
    "i8": "q",
    "u1": "B",
    "u2": "H",
    "u4": "I",
    "u8": "Q",
    "f2": "e",
    "f4": "f",
    "f8": "d",
    "c8": "ff",
    "c16": "dd",
    "M8": "q",
    "m8": "q",
}
"""Element types, as numpy writes them, and what the struct module calls them."""
_NAMES = {"b": "bool", "i": "int", "u": "uint", "f": "float", "c": "complex"}
_SIZE = re.compile("[1-9][0-9]{0,9}")
_NOT_A_TIME = -(1 << 63)
_EPOCH = dt.datetime(1970, 1, 1)  # noqa: DTZ001 - numpy's times have no zone
_SECONDS = {"D": 86_400, "h": 3_600, "m": 60, "s": 1}
_FRACTIONS = {"ms": 3, "us": 6, "ns": 9}
_UNIT_NAMES = {
    "Y": "years",
    "M": "months",
    "W": "weeks",
    "D": "days",
    "h": "hours",
    "m": "minutes",
    "s": "seconds",
    "ms": "milliseconds",
    "us": "microseconds",
    "ns": "nanoseconds",
}


class Element(NamedTuple):
    """The type of an array's items."""

    code: str
    """Kind and size, as numpy writes them: "i8", "U5"."""
    order: str
    """Order of octets as the struct module writes it: "<", ">" or "=", of one octet."""
    unit: str = ""
    """Of a date or a duration."""

    @property
    def nbytes(self) -> int:
        """Octets of an item; 0 for items that are objects."""
        size = int(self.code[1:])
        return 4 * size if self.code[0] == "U" else 0 if self.code[0] == "O" else size

    @property
    def name(self) -> str:
        """The type as numpy's str() has it."""
        kind, size = self.code[0], int(self.code[1:])
        order = ">" if self.order == ">" else ""
        if kind == "O":
            return "object"
        if kind in "MmUS":
            long = {"M": "datetime64", "m": "timedelta64"}.get(kind)
            mark = "|" if kind == "S" else order or "<"
            return f"{order}{long}[{self.unit}]" if long and self.unit else f"{mark}{kind}{size}"
        return f"{order}{self.code}" if order else _NAMES[kind] + ("" if kind == "b" else str(8 * size))


class Row(NamedTuple):
    """The type of a structured array's items."""

    nbytes: int
    """Octets of an item; 0 for items that are tuples of objects."""
    size: int
    parts: tuple[tuple[str, int, Element], ...]
    """Name, offset and type of each field; none if one of the fields has a type that is not read here."""

    @property
    def name(self) -> str:
        """The type's size: its fields may have long names."""
        return f"V{self.size}"


def _element(reader: ValueReader, node: Node) -> Element | Row | None:
    """Return the element type in a pickled numpy.dtype, if it is one that is read here."""
    if (
        type(node) is not Object
        or type(node.callee) is not Symbol
        or node.callee.path != "numpy.dtype"
        or not node.args
    ):
        return None
    code = text_of(node.args[0], 12)
    # Instead of a size, rows may have a class: numpy.record.
    return _row(reader, node.state) if code is None or code[0:1] == "V" else _simple(node, code)


def _row(reader: ValueReader, state: Node) -> Row | None:
    """Return the type of rows: the fourth to sixth part of their type's state are names, fields and size."""
    match state:
        case Tuple(items=[_, _, _, Tuple(items=names), Dict(flat=flat), int(size), *_]) if 0 < size <= _LARGEST_ROW:
            if not 0 < len(names) <= MAX_FIELDS or len(flat) > 4 * MAX_FIELDS:
                return Row(size, size, ())
        case _:
            return None
    reader.charge_nodes(_FIELD_NODES * len(flat))
    fields = {text_of(key, MAX_NAME): field for key, field in zip(flat[::2], flat[1::2], strict=True)}
    found = [_field(text_of(name, MAX_NAME), fields, size) for name in names]
    parts = tuple(part for part in found if part is not None)
    if len(parts) < len(names):
        parts = ()
    return Row(size if all(part.nbytes for _, _, part in parts) else 0, size, parts)


def _field(name: str | None, fields: dict[str | None, Node], size: int) -> tuple[str, int, Element] | None:
    """Return a field's name, offset and type, if they are some that are read here."""
    match fields.get(name):
        case Tuple(items=[Object(args=[kind, *_]) as dtype, int(offset), *_]) if name is not None:
            element = _simple(dtype, text_of(kind, 12))
            if element is not None and 0 <= offset <= size - element.nbytes:
                return name, offset, element
    return None


def _simple(node: Object, code: str | None) -> Element | None:
    if code is None or not (code in _FORMATS or code == "O8" or (code[:1] in ("U", "S") and _SIZE.fullmatch(code[1:]))):
        return None
    state = node.state.items if type(node.state) is Tuple else []
    order = text_of(state[1], 1) if len(state) > 1 else None
    unit = ""
    if code[0] in "Mm":
        unit = (_unit(state[-1]) if state else None) or ""
        if not unit:
            return None
    return Element(code, ">" if order == ">" else "<", unit)


def _unit(node: Node) -> str | None:
    """Return the unit in a dtype's metadata, (None, (unit, 1, 1, 1)), if it counts single ones of a unit known here."""
    match node:
        case Tuple(items=[_, Tuple(items=[unit, 1, 1, 1])]):
            name = unit.decode("latin-1") if isinstance(unit, bytes) else None
            if is_call(unit, "_codecs", "encode") and unit.args:
                name = text_of(unit.args[0], 4)
            return name if name in _UNIT_NAMES else None
    return None


def _octets(reader: ValueReader, node: Node, total: int, wanted: int) -> bytes | None:
    """Return the first `wanted` of the `total` octets of a pickled bytes, if that is how many there are."""
    if is_call(node, "_codecs", "encode") and len(node.args) == 2 and text_of(node.args[1], 16) in LATIN_1:
        text = node.args[0]
        if type(text) is not str or len(text) != total:
            return None
        try:
            data = text[:wanted].encode("latin-1")
        except UnicodeEncodeError:
            return None
    elif total == 0 and is_call(node, "builtins", "bytes") and not node.args:
        return b""
    elif isinstance(node, (bytes, bytearray)) and len(node) == total:
        data = bytes(node[:wanted])
    else:
        return None
    reader.charge(wanted)
    return data


def _rows(row: Row, content: Node, count: int) -> list[Any] | None:
    """Return rows as dicts, of their octets or of tuples of objects."""
    rows: list[Any] = []
    for index in range(count):
        made = Dict()
        if isinstance(content, bytes):
            at = index * row.nbytes
            values = [_items(part, content[at + start : at + start + part.nbytes])[0] for _, start, part in row.parts]
        else:
            values = content[index].items if type(content[index]) is Tuple else []
        if len(values) != len(row.parts):
            return None
        for (name, _, _), value in zip(row.parts, values, strict=True):
            made.flat += (name, value)
        rows.append(made)
    return rows


def _items(element: Element, data: bytes) -> list[Any]:
    """Return the items in `data`, which is a whole number of them."""
    kind, size = element.code[0], element.nbytes
    count = len(data) // size if size else 0
    if kind == "U":
        coding = "utf-32-be" if element.order == ">" else "utf-32-le"
        return [data[at : at + size].decode(coding, "replace").rstrip("\0") for at in range(0, count * size, size)]
    if kind == "S":
        parts = [data[at : at + size].rstrip(b"\0") for at in range(0, count * size, size)]
        return [part.decode("latin-1").encode("unicode_escape").decode() for part in parts]
    found: list[Any] = list(struct.unpack(element.order + _FORMATS[element.code] * count, data))
    if kind == "c":
        return [str(complex(*pair)) for pair in zip(found[::2], found[1::2], strict=True)]
    if kind in "Mm":
        return [_time_text(element, number) for number in found]
    return found


def _time_text(element: Element, number: int) -> str:
    """Return a datetime64 or a timedelta64 as str() has it; one beyond the years of Python by its number alone."""
    if number == _NOT_A_TIME:
        return "NaT"
    unit = element.unit
    if element.code[0] == "m" or unit in ("Y", "M", "W"):
        return f"{number} {_UNIT_NAMES[unit]}" + ("" if element.code[0] == "m" else " since 1970")
    digits = _FRACTIONS.get(unit, 0)
    seconds, fraction = divmod(number, 10**digits) if digits else (number * _SECONDS[unit], 0)
    try:
        text = (_EPOCH + dt.timedelta(seconds=seconds)).isoformat()
    except OverflowError:
        return f"{number} {_UNIT_NAMES[unit]} since 1970"
    shown = {"D": 10, "h": 13, "m": 16}.get(unit, 19)
    return text[:shown] + (f".{fraction:0{digits}}" if digits else "")


def _scalar(reader: ValueReader, node: Object, depth: int) -> Plain:
    element = _element(reader, node.args[0]) if node.is_bare and len(node.args) == 2 else None
    if element is None or not element.nbytes or element.nbytes > 1_024:
        return None
    data = _octets(reader, node.args[1], element.nbytes, element.nbytes)
    if data is None:
        return None
    if not isinstance(element, Row):
        return reader.fresh(_items(element, data)[0], depth)
    rows = _rows(element, data, 1) if element.parts else None
    return reader.fresh(rows[0], depth) if rows else {"__class__": "numpy.void", "dtype": reader.text(element.name)}


def _array(reader: ValueReader, node: Object, depth: int) -> Plain:
    """Read the state of numpy.ndarray: a version, its shape, its type, whether columns come first, its octets."""
    match node.state:
        case Tuple(items=[int(), Tuple(items=shape), dtype, order, content]):
            element = _element(reader, dtype)
            if element is not None and not (node.items or node.flat or node.kwargs):
                return _spell_array(reader, shape, element, columns_first=order is True, content=content, depth=depth)
    return None


def _from_buffer(reader: ValueReader, node: Object, depth: int) -> Plain:
    """Read what numpy makes of pickle protocol 5: octets, an element type, a shape and an order."""
    match node.args if node.is_bare else None:
        case [content, dtype, Tuple(items=shape), order]:
            element = _element(reader, dtype)
            if element is not None:
                first = text_of(order, 1) == "F"
                return _spell_array(reader, shape, element, columns_first=first, content=content, depth=depth)
    return None


def _spell_array(
    reader: ValueReader, shape: list[Node], element: Element | Row, *, columns_first: bool, content: Node, depth: int
) -> Plain:
    if len(shape) > MAX_DIMENSIONS or any(type(size) is not int or not 0 <= size < 1 << 40 for size in shape):
        return None
    count = 1
    for size in shape:
        count *= size
    parts = len(element.parts) if isinstance(element, Row) else 1
    whole = count <= SMALL_ARRAY and parts > 0
    # The first items of an array whose columns come first are far apart.
    wanted = count if whole else 0 if not parts or (columns_first and len(shape) > 1) else FIRST_ITEMS
    reader.charge_nodes(_ITEM_NODES * wanted * parts)
    items = _content(reader, element, content, count, wanted)
    if items is None:
        return None
    if not whole:
        return {
            "__class__": "numpy.ndarray",
            "shape": list(shape),
            "dtype": reader.text(element.name),
            "first": reader.fresh(items, depth + 1),
        }
    return reader.fresh(_nested(items, shape, columns_first=columns_first), depth)


def _content(reader: ValueReader, element: Element | Row, content: Node, count: int, wanted: int) -> list[Any] | None:
    """Return the first `wanted` of `count` items."""
    found: Node = None
    if element.nbytes:
        if count * element.nbytes > 1 << 40:
            return None
        found = _octets(reader, content, count * element.nbytes, wanted * element.nbytes)
    elif type(content) is list and len(content) == count:
        found = content[:wanted]
    if found is None:
        return None
    if isinstance(element, Row):
        return _rows(element, found, wanted)
    return _items(element, found) if element.nbytes else found


def _nested(items: list[Any], shape: list[int], *, columns_first: bool) -> Any:
    """Return the items as lists within lists, one level for each dimension."""
    if not shape:
        return items[0]
    if columns_first:
        return _by_columns(items, shape)
    for size in reversed(shape[1:]):
        items = [items[at : at + size] for at in range(0, len(items), size)] if size else [[] for _ in range(shape[0])]
    return items


def _by_columns(items: list[Any], shape: list[int]) -> Any:
    """Do the same for an array whose first index varies fastest."""
    if len(shape) == 1:
        return items
    return [_by_columns(items[index :: shape[0]], shape[1:]) for index in range(shape[0])]


_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")
NUMPY: dict[tuple[str, str], Callable[[ValueReader, Object, int], Plain]] = {
    **{(module, "scalar"): _scalar for module in _MODULES},
    **{(module, "_reconstruct"): _array for module in _MODULES},
    **{(module, "_frombuffer"): _from_buffer for module in ("numpy.core.numeric", "numpy._core.numeric")},
}
