"""The standard library's types as their usual text or JSON, from the arguments of calls that were never made.

Owns one table, from a callable's exact module and name to a function that reads its arguments. Each of these checks
every argument before it uses it and returns None for what does not fit, and the object is then kept as data; what they
use of the standard library is arithmetic and formatting on numbers and text already checked. A name that is not in the
table, however near, is of no meaning here.
"""

from __future__ import annotations

import builtins
import datetime as dt
import http
import ipaddress
import ntpath
import posixpath
import re
import signal
import uuid
from typing import TYPE_CHECKING

from prefork_logd.records.symbols import Node, Object, OctetText, Symbol, Tuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefork_logd.records.budget import Plain
    from prefork_logd.records.plain import Reader

    Known = Callable[[Reader, Object, int], Plain]

MAX_DECIMAL_CHARACTERS = 200
MAX_PATH_CHARACTERS = 16_384
MAX_ADDRESS_CHARACTERS = 100

_DECIMAL = re.compile(
    r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|[+-]?inf(?:inity)?|[+-]?s?nan[0-9]*", re.IGNORECASE
)
_FRACTION = re.compile(r"[+-]?[0-9]+(?:/[0-9]+)?")
_FRACTION_BOUND = 10**MAX_DECIMAL_CHARACTERS
_LATIN_1 = frozenset({"latin1", "latin-1", "iso-8859-1", "8859"})
_FOLD = 128


def _text(node: Node, longest: int) -> str | None:
    """Return a text of either Python, if it is not longer than `longest` characters or octets."""
    if type(node) is str:
        return node if len(node) <= longest else None
    return node.text() if type(node) is OctetText and len(node) <= longest else None


def _is_call(node: Node, module: str, name: str) -> bool:
    """Tell whether the node is a call of this callable, with positional arguments only."""
    if type(node) is not Object or not node.is_bare:
        return False
    callee = node.callee
    return type(callee) is Symbol and callee.module == module and callee.name == name


def _stamp(node: Node, length: int) -> bytes | None:
    """Return the packed fields of a datetime, date or time, if there are `length` bytes of them.

    Python 2 sends them as its str, and Python 3 below protocol 3 as the Latin-1 text and a call that encodes it.
    """
    if _is_call(node, "_codecs", "encode") and len(node.args) == 2 and _text(node.args[1], 16) in _LATIN_1:
        text = _text(node.args[0], length)
        try:
            node = text.encode("latin-1") if text else None
        except UnicodeEncodeError:
            return None
    return node if isinstance(node, bytes) and len(node) == length else None


# Time


def _duration(node: Node) -> dt.timedelta | None:
    if not _is_call(node, "datetime", "timedelta") or len(node.args) > 3:
        return None
    if any(type(part) is not int or abs(part) > 10**15 for part in node.args):
        return None
    try:
        return dt.timedelta(*node.args)
    except OverflowError:
        return None


def _zone(node: Node) -> tuple[dt.tzinfo | None, str] | None:
    """Return an offset, and a suffix that names the zone, for the time zones in common use; None for others.

    A zone that is only named is not looked up: which offset it has is the time zone database's to say.
    """
    if type(node) is not Object or type(node.callee) is not Symbol:
        return None
    match (node.callee.module, node.callee.name), node.args:
        case ("datetime", "timezone"), [offset, *_]:
            delta = _duration(offset)
            if delta is None or abs(delta) >= dt.timedelta(days=1):
                return None
            return dt.timezone(delta), ""
        case ("zoneinfo", "ZoneInfo._unpickle" | "ZoneInfo"), [str(key), *_] if len(key) <= MAX_ADDRESS_CHARACTERS:
            return None, f"[{key}]"
        case ((("pytz", "_UTC") | ("dateutil.tz.tz", "tzutc") | ("django.utils.timezone", "UTC")), []):
            return dt.UTC, ""
        case ("pytz", "_p"), [name, int(seconds), *_] if abs(seconds) < 86_400:
            label = _text(name, MAX_ADDRESS_CHARACTERS)
            if label is None:
                return None
            return dt.timezone(dt.timedelta(seconds=seconds)), f"[{label}]"
    return None


def _when(node: Object) -> str | None:
    """Return a datetime as ISO 8601, a named zone added in brackets as RFC 9557 has it."""
    if not node.is_bare or not 1 <= len(node.args) <= 2:
        return None
    data = _stamp(node.args[0], 10)
    zone = _zone(node.args[1]) if len(node.args) > 1 else (None, "")
    if data is None or zone is None:
        return None
    fold, month = divmod(data[2], _FOLD)
    microsecond = int.from_bytes(data[7:10], "big")
    try:
        value = dt.datetime(
            data[0] * 256 + data[1], month, data[3], data[4], data[5], data[6], microsecond, zone[0], fold=fold
        )
    except ValueError:
        return None
    return value.isoformat() + zone[1]


def _datetime(reader: Reader, node: Object, depth: int) -> Plain:
    text = _when(node)
    if text is not None:
        return reader.text(text)
    if node.is_bare and len(node.args) == 2:
        local = _when(Object(node.callee, node.args[:1]))
        if local is not None:
            return {
                "__class__": "datetime.datetime",
                "args": [reader.text(local), reader.plain(node.args[1], depth + 2)],
            }
    return None


def _date(reader: Reader, node: Object, _: int) -> Plain:
    data = _stamp(node.args[0], 4) if node.is_bare and len(node.args) == 1 else None
    if data is None:
        return None
    try:
        return reader.text(dt.date(data[0] * 256 + data[1], data[2], data[3]).isoformat())
    except ValueError:
        return None


def _time(reader: Reader, node: Object, _: int) -> Plain:
    if not node.is_bare or not 1 <= len(node.args) <= 2:
        return None
    data = _stamp(node.args[0], 6)
    zone = _zone(node.args[1]) if len(node.args) > 1 else (None, "")
    if data is None or zone is None:
        return None
    fold, hour = divmod(data[0], _FOLD)
    try:
        value = dt.time(hour, data[1], data[2], int.from_bytes(data[3:6], "big"), zone[0], fold=fold)
    except ValueError:
        return None
    return reader.text(value.isoformat() + zone[1])


def _timedelta(_: Reader, node: Object, __: int) -> Plain:
    """Return the seconds."""
    delta = _duration(node)
    return None if delta is None else delta.total_seconds()


def _timezone(reader: Reader, node: Object, _: int) -> Plain:
    zone = _zone(node) if node.is_bare else None
    if zone is None:
        return None
    return reader.text(str(zone[0]) if zone[0] else zone[1][1:-1])


# Numbers


def _decimal(reader: Reader, node: Object, _: int) -> Plain:
    """Return the text that a Decimal is sent as; as a number it could be a gigabyte of zeros."""
    text = _text(node.args[0], MAX_DECIMAL_CHARACTERS) if node.is_bare and len(node.args) == 1 else None
    if text is None or not _DECIMAL.fullmatch(text):
        return None
    return reader.text(text)


def _fraction(reader: Reader, node: Object, _: int) -> Plain:
    match node.args if node.is_bare else None:
        case [int(numerator), int(denominator)] if max(abs(numerator), abs(denominator)) < _FRACTION_BOUND:
            return reader.text(f"{numerator}/{denominator}" if denominator != 1 else f"{numerator}")
        case [text]:
            written = _text(text, 2 * MAX_DECIMAL_CHARACTERS)
            if written and _FRACTION.fullmatch(written):
                return reader.text(written)
    return None


def _complex(reader: Reader, node: Object, _: int) -> Plain:
    match node.args if node.is_bare else None:
        case [float(real), float(imaginary)]:
            return reader.text(str(complex(real, imaginary)))
    return None


def _uuid(reader: Reader, node: Object, _: int) -> Plain:
    """Return the text of a UUID, whose state is its number; `is_safe` is about how it was made."""
    if node.args or node.kwargs or node.items or node.flat or not node.has_state:
        return None
    flat = getattr(node.state, "flat", [])
    if len(flat) > 8:
        return None
    for key, value in zip(flat[::2], flat[1::2], strict=True):
        if _text(key, 3) == "int" and type(value) is int and 0 <= value < 1 << 128:
            return reader.text(str(uuid.UUID(int=value)))
    return None


def _range(reader: Reader, node: Object, _: int) -> Plain:
    match node.args if node.is_bare else None:
        case [int(start), int(stop), int(step)] if max(map(abs, node.args)) < 1 << 128:
            return reader.text(f"range({start}, {stop})" if step == 1 else f"range({start}, {stop}, {step})")
    return None


# Octets and text


def _bytes(reader: Reader, node: Object, _: int) -> Plain:
    """Read bytes and bytearray: nothing, octets, or a text and its encoding, which is Latin-1."""
    if not node.is_bare:
        return None
    args = node.args
    if not args:
        return ""
    if len(args) == 2:
        return _encoded(reader, node, 0)
    if _is_call(args[0], "_codecs", "encode"):
        return _encoded(reader, args[0], 0)
    return reader.octets(args[0]) if isinstance(args[0], (bytes, bytearray)) else None


def _encoded(reader: Reader, node: Object, _: int) -> Plain:
    """Read `_codecs.encode(text, "latin1")`, which is how Python 3 writes bytes below protocol 3."""
    if not node.is_bare or len(node.args) != 2 or _text(node.args[1], 16) not in _LATIN_1:
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
    def path(reader: Reader, node: Object, _: int) -> Plain:
        if not node.is_bare or len(node.args) > MAX_ADDRESS_CHARACTERS:
            return None
        if any(type(part) not in (str, OctetText) for part in node.args):
            return None
        if sum(map(len, node.args)) > MAX_PATH_CHARACTERS:
            return None
        parts = [_text(part, MAX_PATH_CHARACTERS) for part in node.args]
        return reader.text(join(*parts) if parts else ".")

    return path


def _address(kind: type[ipaddress.IPv4Address | ipaddress.IPv6Address] | None) -> Known:
    """Return the reader of a type that is sent as its number (an address) or text (a network, an interface)."""

    def address(reader: Reader, node: Object, _: int) -> Plain:
        match node.args if node.is_bare else None:
            case [int(number)] if kind and 0 <= number < 1 << (32 if kind is ipaddress.IPv4Address else 128):
                reader.charge_nodes(4)
                return reader.text(str(kind(number)))
            case [str(text)] if len(text) <= MAX_ADDRESS_CHARACTERS:
                return reader.text(text)
        return None

    return address


# Containers


def _sequence(reader: Reader, node: Object, depth: int) -> Plain:
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


def _mapping(reader: Reader, node: Object, depth: int) -> Plain:
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
    def enum(reader: Reader, node: Object, _: int) -> Plain:
        value = node.args[0] if node.is_bare and len(node.args) == 1 else None
        if type(value) not in (int, str) or value not in members:
            return None
        return {"__class__": reader.text(node.path), "name": members[value], "value": value}

    return enum


def _exception(reader: Reader, node: Object, depth: int) -> Plain:
    """Return the repr() of a built-in exception, its notes on lines below; one with other attributes is an object."""
    notes: list[Plain] = []
    if node.kwargs or node.items or node.flat:
        return None
    if node.has_state:
        match getattr(node.state, "flat", None):
            case [str("__notes__"), list(given)]:
                notes = reader.sequence(given, depth + 2)
            case _:
                return None
    args = [
        value if _is_exception(arg) and isinstance(value, str) else reader.literal(value)
        for arg, value in zip(node.args, reader.sequence(node.args, depth + 1), strict=True)
    ]
    lines = [f"{node.path}({', '.join(args)})", *(note for note in notes if isinstance(note, str))]
    return reader.text("\n".join(lines))


def _is_exception(node: Node) -> bool:
    if type(node) is not Object or type(node.callee) is not Symbol:
        return False
    return KNOWN.get((node.callee.module, node.callee.name)) is _exception


_OLD_EXCEPTIONS = ("StandardError", "EnvironmentError", "IOError", "WindowsError")
_EXCEPTIONS = [
    name for name, value in vars(builtins).items() if isinstance(value, type) and issubclass(value, BaseException)
]

KNOWN: dict[tuple[str, str], Known] = {
    ("datetime", "datetime"): _datetime,
    ("datetime", "date"): _date,
    ("datetime", "time"): _time,
    ("datetime", "timedelta"): _timedelta,
    ("datetime", "timezone"): _timezone,
    ("zoneinfo", "ZoneInfo"): _timezone,
    ("zoneinfo", "ZoneInfo._unpickle"): _timezone,
    ("pytz", "_UTC"): _timezone,
    ("pytz", "_p"): _timezone,
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
    ("http", "HTTPStatus"): _enum({status.value: status.name for status in http.HTTPStatus}),
    ("http", "HTTPMethod"): _enum({method.value: method.name for method in http.HTTPMethod}),
    ("signal", "Signals"): _enum({number.value: number.name for number in signal.Signals}),
    **{("builtins", name): _exception for name in (*_EXCEPTIONS, *_OLD_EXCEPTIONS)},
}
