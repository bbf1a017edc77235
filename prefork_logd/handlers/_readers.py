"""Knows how an object of a class is read as data: classes of the standard library and of well-known packages.

Imports none of those packages: a class is known by its name and its module's. Takes declared public fields and usual
texts, never `__dict__` as a whole, and nothing that may ask a database. Knows no budget: what a reader returns is made
plain in its turn.
"""
from __future__ import absolute_import, division

import array
import collections
import datetime as dt
import re
import types

from ._compat import PY2, TEXT, bases_of, text_of
from ._fields import STRUCTURES, Fields, Items
from ._packages import FIRST_ITEMS, NAMED, SMALL_ARRAY, describe_first, is_lazy_proxy, read_lazy_proxy, read_pairs
from ._texts import HIDDEN, Shortened, class_name, root_and_name, shown

try:
    from collections.abc import Mapping
except ImportError:
    from collections import Mapping

_SECRET = re.compile(r"^(?:Secret.*|.*Secret(?:Str|Bytes|Value)?|Passwords?|Credentials?|Authorization)$")
_MOST_BYTES = 1 << 16
_MOST_KINDS = 1000
_kinds = {}  # id of a class: the class, which is kept so that the id is its own, and its reader


def reader_of(kind):
    """Return the function that makes simpler data of an object of this class, Fields or Items; None without one."""
    known = _kinds.get(id(kind))  # not by the class: its metaclass may have a __hash__ that raises
    if known is not None:
        return known[1]
    try:
        found = _find_reader(kind)
    except Exception:  # noqa: BLE001 - a metaclass may do anything
        found = None
    if len(_kinds) >= _MOST_KINDS:
        _kinds.clear()
    _kinds[id(kind)] = kind, found
    return found


def _find_reader(kind):
    """Return a class's reader: as a secret, a member, a class, by name, by declared fields, by base, or by text."""
    bases = bases_of(kind)
    if _SECRET.match(kind.__name__) and BaseException not in bases:
        return _hide
    names = frozenset(root_and_name(base) for base in bases)
    if ("enum", "Enum") in names:
        return next((_BASES[base] for base in (str, TEXT, int, float) if base in bases), read_member)
    if issubclass(kind, type):
        return _read_name
    for (root, name), found in NAMED:
        if (root, name) in names:
            return found
    if ("argparse", "Namespace") in names:
        return _read_namespace
    for has, found in STRUCTURES:
        if has(kind):
            return found
    for base in bases:
        if base in _BASES:
            return _BASES[base]
    if any(name in _TEXTS for name in names):
        return shown
    if is_lazy_proxy(kind):
        return read_lazy_proxy
    if not issubclass(kind, Mapping):
        return None
    return read_pairs if any(hasattr(kind, name) for name in ("getall", "getlist", "multi_items")) else _read_mapping


# Usual texts and bases


def _hide(_):
    return HIDDEN


def _read_name(value):
    return {u"__name__": u"%s.%s" % (value.__module__, getattr(value, "__qualname__", value.__name__))}


def read_member(value):
    """Return a member of an enumeration by its name and value."""
    return {u"__class__": class_name(type(value)), u"name": value._name_, u"value": value._value_}


def _read_time(value):
    return value.isoformat()


def read_clock(value):
    """Return a time without a day; its zone behind it, which has no offset without one."""
    text = value.isoformat()
    return text if value.tzinfo is None or value.utcoffset() is not None else u"%s[%s]" % (text, text_of(value.tzinfo))


def _read_tuple(value):
    """Return a namedtuple as an object, another tuple as a list."""
    names = getattr(type(value), "_fields", None)
    if names is None:
        return list(tuple.__iter__(value))
    return collections.OrderedDict(zip(names, tuple.__iter__(value)))


def _read_dict(value):
    return dict(dict.items(value))


def _read_mapping(value):
    return Items(((key, value[key]) for key in value), len(value))


def _read_bytes(value):
    return _first_bytes(bytes(value[:_MOST_BYTES]), len(value))


def _read_view(value):
    first = value[:_MOST_BYTES] if value.ndim == 1 else value
    return _first_bytes(first.tobytes()[:_MOST_BYTES], len(value) * value.itemsize if value.ndim == 1 else value.nbytes)


def _first_bytes(data, size):
    return data if size <= _MOST_BYTES else Shortened(data)


def _read_array(value):
    if len(value) <= SMALL_ARRAY:
        return value.tolist()
    return describe_first(value, [len(value)], value.typecode, value[:FIRST_ITEMS].tolist())


def _read_namespace(value):
    attributes = vars(value)
    return Fields(list(attributes), attributes.__getitem__)


def _read_wrapper(value):
    return value.data


_TEXTS = frozenset([
    ("decimal", "Decimal"), ("pydecimal", "Decimal"), ("fractions", "Fraction"), ("uuid", "UUID"),
    ("pathlib", "PurePath"), ("ipaddress", "_IPAddressBase"), ("re", "Pattern"), ("re", "SRE_Pattern"),
    ("sre", "SRE_Pattern"), ("django", "__proxy__"), ("yarl", "URL"), ("httpx", "URL"), ("starlette", "URL"),
    ("pydantic", "_BaseUrl"), ("pydantic", "_BaseMultiHostUrl"), ("pydantic_core", "Url"), ("pandas", "NAType"),
    ("pydantic_core", "MultiHostUrl"),
])
_BASES = {
    str: str.__str__,
    int: int.__int__,
    float: lambda value: float.__add__(value, 0.0),
    bytes: lambda value: bytes.__getitem__(value, slice(None)),
    TEXT: lambda value: TEXT.__getitem__(value, slice(None)),
    tuple: _read_tuple,
    list: lambda value: list(list.__iter__(value)),
    set: lambda value: list(set.__iter__(value)),
    frozenset: lambda value: list(frozenset.__iter__(value)),
    collections.deque: list,
    dict: _read_dict,
    bytearray: _read_bytes,
    memoryview: _read_view,
    array.array: _read_array,
    complex: shown,
    dt.datetime: _read_time,
    dt.date: _read_time,
    dt.time: read_clock,
    dt.timedelta: dt.timedelta.total_seconds,
    dt.tzinfo: shown,
    BaseException: lambda value: shown(repr(value)),
    types.FunctionType: _read_name,
    types.BuiltinFunctionType: lambda value: {u"__name__": text_of(value.__name__)},
}
for _kind, _reader in (
    (getattr(types, "SimpleNamespace", None), _read_namespace),
    (getattr(types, "MappingProxyType", None), _read_mapping),
    (getattr(types, "ClassType", None), _read_name),
    (type(range(0)) if not PY2 else type(xrange(0)), shown),  # noqa: F821 - of Python 2
    (type({}.keys()) if not PY2 else None, list),
    (type({}.values()) if not PY2 else None, list),
    (type({}.items()) if not PY2 else None, list),
    (getattr(collections, "UserList", None), _read_wrapper),
    (getattr(collections, "UserString", None), _read_wrapper),
    (getattr(collections, "UserDict", None), _read_wrapper),
):
    if _kind is not None:
        _BASES[_kind] = _reader
del _kind, _reader
