"""Writes objects of known types as their usual text or JSON, without making the pickled calls.

Owns the types of the standard library, and one table of all, from a callable's exact module and name to a function that
reads its arguments. Each function checks every argument before it uses it, and returns None for one that does not fit;
the object then stays data. The functions use only arithmetic and formatting of the standard library, on checked numbers
and text. A name that is not exactly in the table has no meaning.
"""

from __future__ import annotations

import builtins
import http
import ipaddress
import ntpath
import posixpath
import re
import signal
import uuid
from typing import TYPE_CHECKING

from prefork_logd.inputs.pickles.known_libraries import LIBRARIES, NAMES
from prefork_logd.inputs.pickles.known_numpy import NUMPY
from prefork_logd.inputs.pickles.known_times import TIMES
from prefork_logd.inputs.pickles.symbols import LATIN_1, Node, Object, OctetText, Symbol, Tuple, is_call, text_of

if TYPE_CHECKING:
    import enum
    from collections.abc import Callable

    from prefork_logd.inputs.pickles.reader import ValueReader
    from prefork_logd.records.values import Plain

    Known = Callable[[ValueReader, Object, int], Plain]

MAX_DECIMAL_CHARACTERS = 200
MAX_PATH_CHARACTERS = 16_384
MAX_ADDRESS_CHARACTERS = 100
MEMBER_BYTES = 96
"""Most bytes of JSON of an enumeration's member, besides the path of its class."""
_PART_NODES = 3
"""Joining a part of a path counts as so many values, as it takes as long."""
_EXCEPTION_NODES = 8
"""Writing an exception counts as so many values, as it takes as long."""
_ADDRESS_NODES = 16
"""Writing an address counts as so many values, as it takes as long."""

_DECIMAL = re.compile(
    r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|[+-]?inf(?:inity)?|[+-]?s?nan[0-9]*", re.IGNORECASE
)
_FRACTION = re.compile(r"[+-]?[0-9]+(?:/[0-9]+)?")
_FRACTION_BOUND = 10**MAX_DECIMAL_CHARACTERS


# Numbers


def _decimal(reader: ValueReader, node: Object, _: int) -> Plain:
    """Return the text in a pickled Decimal; as a number it could be a gigabyte of zeros."""
    text = text_of(node.args[0], MAX_DECIMAL_CHARACTERS) if node.is_bare and len(node.args) == 1 else None
    if text is None or not _DECIMAL.fullmatch(text):
        return None
    return reader.text(text)


def _fraction(reader: ValueReader, node: Object, _: int) -> Plain:
    match node.args if node.is_bare else None:
        case [int(numerator), int(denominator)] if max(abs(numerator), abs(denominator)) < _FRACTION_BOUND:
            return reader.text(f"{numerator}/{denominator}" if denominator != 1 else f"{numerator}")
        case [text]:
            written = text_of(text, 2 * MAX_DECIMAL_CHARACTERS)
            if written and _FRACTION.fullmatch(written):
                return reader.text(written)
    return None


def _complex(reader: ValueReader, node: Object, _: int) -> Plain:
    match node.args if node.is_bare else None:
        case [float(real), float(imaginary)]:
            return reader.text(str(complex(real, imaginary)))
    return None


def _uuid(reader: ValueReader, node: Object, _: int) -> Plain:
    """Return the text of a UUID, whose state is its number; `is_safe` is ignored."""
    if node.args or node.kwargs or node.items or node.flat or not node.has_state:
        return None
    flat = getattr(node.state, "flat", [])
    if len(flat) > 8:
        return None
    for key, value in zip(flat[::2], flat[1::2], strict=True):
        if text_of(key, 3) == "int" and type(value) is int and 0 <= value < 1 << 128:
            return reader.text(str(uuid.UUID(int=value)))
    return None


def _range(reader: ValueReader, node: Object, _: int) -> Plain:
    match node.args if node.is_bare else None:
        case [int(start), int(stop), int(step)] if max(map(abs, node.args)) < 1 << 128:
            return reader.text(f"range({start}, {stop})" if step == 1 else f"range({start}, {stop}, {step})")
    return None


# Octets and text


def _bytes(reader: ValueReader, node: Object, _: int) -> Plain:
    """Read bytes and bytearray: nothing, octets, or a text and its encoding, which is Latin-1."""
    if not node.is_bare:
        return None
    args = node.args
    if not args:
        return ""
    if len(args) == 2:
        return _encoded(reader, node, 0)
    if is_call(args[0], "_codecs", "encode"):
        return _encoded(reader, args[0], 0)
    return reader.octets(args[0]) if isinstance(args[0], (bytes, bytearray)) else None


def _encoded(reader: ValueReader, node: Object, _: int) -> Plain:
    """Read `_codecs.encode(text, "latin1")`, the form of bytes in Python 3 below protocol 3."""
    if not node.is_bare or len(node.args) != 2 or text_of(node.args[1], 16) not in LATIN_1:
        return None
    text = node.args[0]
    if type(text) is not str:
        return None
    reader.charge(len(text))
    try:
        data = text.encode("latin-1")
    except UnicodeEncodeError:
        return None
    return reader.octets(data)


def _path(join: Callable[..., str]) -> Known:
    def path(reader: ValueReader, node: Object, _: int) -> Plain:
        if not node.is_bare or len(node.args) > MAX_ADDRESS_CHARACTERS:
            return None
        if any(type(part) not in (str, OctetText) for part in node.args):
            return None
        looked_at = sum(map(len, node.args))
        if looked_at > MAX_PATH_CHARACTERS:
            return None
        # An absolute part drops those before it, but they cost the same.
        reader.charge(looked_at + len(node.args))
        reader.charge_nodes(_PART_NODES * len(node.args))
        parts = [text_of(part, MAX_PATH_CHARACTERS) for part in node.args]
        joined = join(*parts) if parts else "."
        # Python 3.13 sends the original spelling of a path.
        return reader.text(joined.replace("/", "\\") if join is ntpath.join else joined)

    return path


def _address(kind: type[ipaddress.IPv4Address | ipaddress.IPv6Address] | None) -> Known:
    """Return the reader of a type that is pickled as its number (an address) or text (a network, an interface)."""

    def address(reader: ValueReader, node: Object, _: int) -> Plain:
        match node.args if node.is_bare else None:
            case [int(number)] if kind and 0 <= number < 1 << (32 if kind is ipaddress.IPv4Address else 128):
                reader.charge_nodes(_ADDRESS_NODES)
                return reader.text(str(kind(number)))
            case [str(text)] if len(text) <= MAX_ADDRESS_CHARACTERS:
                return reader.text(text)
        return None

    return address


# Containers


def _sequence(reader: ValueReader, node: Object, depth: int) -> Plain:
    """Read sets and deques: members come as an argument (a deque's second is its bound), or put in afterwards."""
    if node.kwargs or node.flat or node.has_state:
        return None
    first: list[Node] = []
    if node.args:
        given = node.args[0]
        if type(given) is list:
            first = given
        elif type(given) is Tuple:
            first = given.items
        else:
            return None
    return reader.sequence(first, depth) + reader.sequence(node.items, depth)


def _mapping(reader: ValueReader, node: Object, depth: int) -> Plain:
    """Read OrderedDict (Python 2 gives it a list of pairs), Counter (a dict), defaultdict (a factory, then items)."""
    if node.kwargs or node.items or node.has_state:
        return None
    flat = node.flat
    if node.args and node.path != "collections.defaultdict":
        given = node.args[0]
        given_flat = getattr(given, "flat", None)
        if type(given) is list:
            reader.charge_nodes(len(given))
            if any(type(pair) not in (list, Tuple) for pair in given):
                return None
            pairs = [pair if type(pair) is list else pair.items for pair in given]
            if any(len(pair) != 2 for pair in pairs):
                return None
            given_flat = [part for pair in pairs for part in pair]
        elif type(given) is Object or given_flat is None:
            return None
        reader.charge_nodes(len(given_flat))
        flat = [*given_flat, *flat]
    return reader.mapping(flat, depth)


# Enumerations and exceptions


def _enum(members: dict[int | str, str]) -> Known:
    def member(reader: ValueReader, node: Object, _: int) -> Plain:
        value = node.args[0] if node.is_bare and len(node.args) == 1 else None
        if type(value) not in (int, str) or value not in members:
            return None
        reader.charge(MEMBER_BYTES)
        return {"__class__": reader.text(node.path), "name": members[value], "value": value}

    return member


def _exception(reader: ValueReader, node: Object, depth: int) -> Plain:
    """Return the repr() of a built-in exception, its notes on lines below; one with other attributes is an object."""
    notes: list[Plain] = []
    reader.charge_nodes(_EXCEPTION_NODES)
    if node.kwargs or node.items or node.flat:
        return None
    if node.has_state:
        match getattr(node.state, "flat", None):
            case [str("__notes__"), list(given)]:
                notes = reader.sequence(given, depth + 2)
            case _:
                return None
    values = [(arg, reader.plain(arg, depth + 2)) for arg in node.args]
    args = [value if _is_exception(arg) and isinstance(value, str) else reader.literal(value) for arg, value in values]
    lines = [f"{node.path}({', '.join(args)})", *(note for note in notes if isinstance(note, str))]
    return reader.text("\n".join(lines))


def _is_exception(node: Node) -> bool:
    if type(node) is not Object or type(node.callee) is not Symbol:
        return False
    return KNOWN.get((node.callee.module, node.callee.name)) is _exception


_ENUMERATIONS: dict[tuple[str, str], type[enum.Enum]] = {
    ("http", "HTTPStatus"): http.HTTPStatus,
    ("http", "HTTPMethod"): http.HTTPMethod,
    ("signal", "Signals"): signal.Signals,
}
_OLD_EXCEPTIONS = ("StandardError", "EnvironmentError", "IOError", "WindowsError")
_EXCEPTIONS = [
    name for name, value in vars(builtins).items() if isinstance(value, type) and issubclass(value, BaseException)
]

KNOWN: dict[tuple[str, str], Known] = {
    **TIMES,
    **NUMPY,
    **LIBRARIES,
    ("decimal", "Decimal"): _decimal,
    ("fractions", "Fraction"): _fraction,
    ("builtins", "complex"): _complex,
    ("builtins", "range"): _range,
    ("uuid", "UUID"): _uuid,
    ("builtins", "bytes"): _bytes,
    ("builtins", "bytearray"): _bytes,
    ("_codecs", "encode"): _encoded,
    ("builtins", "set"): _sequence,
    ("builtins", "frozenset"): _sequence,
    ("collections", "deque"): _sequence,
    ("collections", "OrderedDict"): _mapping,
    ("collections", "defaultdict"): _mapping,
    ("collections", "Counter"): _mapping,
    **{("pathlib", name): _path(posixpath.join) for name in ("PurePosixPath", "PosixPath")},
    **{("pathlib", name): _path(ntpath.join) for name in ("PureWindowsPath", "WindowsPath")},
    ("ipaddress", "IPv4Address"): _address(ipaddress.IPv4Address),
    ("ipaddress", "IPv6Address"): _address(ipaddress.IPv6Address),
    **{("ipaddress", f"IPv{v}{kind}"): _address(None) for v in (4, 6) for kind in ("Network", "Interface")},
    **{path: _enum({member.value: member.name for member in members}) for path, members in _ENUMERATIONS.items()},
    **{("builtins", name): _exception for name in (*_EXCEPTIONS, *_OLD_EXCEPTIONS)},
}

MEMBERS: dict[tuple[str, str], Plain] = {
    (module, f"{name}.{member.name}"): {"__class__": f"{module}.{name}", "name": member.name, "value": member.value}
    for (module, name), members in _ENUMERATIONS.items()
    for member in members
} | dict(NAMES)
"""Single objects that are pickled by name: some, and members of enumerations by Python 3.11.0 to 3.11.3."""
