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
from itertools import islice

from ._compat import PY2, TEXT, text_of

try:
    from collections.abc import Mapping
except ImportError:
    from collections import Mapping

HIDDEN = u"**********"
"""In the place of a secret."""
_SECRET = re.compile(r"^(?:Secret.*|.*Secret(?:Str|Bytes|Value)?|Passwords?|Credentials?)$")
# From "://" on, so that each stretch of a text is tried once, however long the text is.
_PASSWORD_IN_URL = re.compile(u"(://[^\\s/?#:@]*):[^\\s/?#@]+@")
# The URL of a cluster may have a user for each host: "postgresql://u:p@a,v:q@b/db".
_HOSTS = re.compile(u"://[^\\s/?#,]*,[^\\s/?#]*")
_LATER_PASSWORD = re.compile(u"(,[^:@,]*):[^@,]+@")
_MOST_TEXT = 10000
_SMALL_ARRAY = 100
_FIRST_ITEMS = 10
_FIRST_ROWS = 5
_MOST_BYTES = 1 << 16
_MOST_KINDS = 1000
_kinds = {}  # id of a class: the class, which is kept so that the id is its own, and its reader


class Fields(object):
    """Names of attributes, and the function that gets one: it may raise anything."""

    __slots__ = ("get", "names")

    def __init__(self, names, get):
        self.names = [name for name in names if not name.startswith("_")]
        self.get = get


def reader_of(kind):
    """Return the function that makes simpler data of an object of this class, or a Fields; None if there is none."""
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


def describe_object(value):
    """Return an object's class and its text."""
    return {u"__class__": class_name(_class_of(value)), u"text": shown(value)}


def shown(value):
    """Return a value's text without the passwords of URLs, cut after _MOST_TEXT characters."""
    text = text_of(value)
    if u"://" in text:
        text = _HOSTS.sub(_hide_later_passwords, _PASSWORD_IN_URL.sub(u"\\1:***@", text))
    if len(text) > _MOST_TEXT:
        return u"%s... (%d characters cut)" % (text[:_MOST_TEXT], len(text) - _MOST_TEXT)
    return text


def _hide_later_passwords(hosts):
    return _LATER_PASSWORD.sub(u"\\1:***@", hosts.group(0))


def _class_of(value):
    return value.__class__ if PY2 and type(value).__name__ == "instance" else type(value)


def class_name(kind):
    """Return the name of a class behind that of its module."""
    return u"%s.%s" % (kind.__module__, getattr(kind, "__qualname__", kind.__name__))


def _find_reader(kind):
    """Return a class's reader: as a secret, a member, a class, by name, by declared fields, by base, or by text."""
    bases = kind.__mro__
    if _SECRET.match(kind.__name__) and BaseException not in bases:
        return _hide
    names = frozenset(root_and_name(base) for base in bases)
    if ("enum", "Enum") in names:
        return next((_BASES[base] for base in (str, TEXT, int, float) if base in bases), read_member)
    if issubclass(kind, type):
        return _read_name
    for (root, name), found in _NAMED:
        if (root, name) in names:
            return found
    for has, found in _STRUCTURES:
        if has(kind):
            return found
    for base in bases:
        if base in _BASES:
            return _BASES[base]
    if any(name in _TEXTS for name in names):
        return shown
    return _read_mapping if issubclass(kind, Mapping) else None


def root_and_name(kind):
    """Return the first part of a class's module, without underscore, and its name."""
    return kind.__module__.partition(".")[0].lstrip("_"), kind.__name__


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


def _read_tuple(value):
    """Return a namedtuple as an object, another tuple as a list."""
    names = getattr(type(value), "_fields", None)
    if names is None:
        return list(tuple.__iter__(value))
    return collections.OrderedDict(zip(names, tuple.__iter__(value)))


def _read_dict(value):
    return dict(dict.items(value))


def _read_mapping(value):
    return dict((key, value[key]) for key in islice(value, _MOST_TEXT))


def _read_bytes(value):
    return bytes(value[:_MOST_BYTES])


def _read_view(value):
    return value.tobytes()[:_MOST_BYTES]


def _read_array(value):
    if len(value) <= _SMALL_ARRAY:
        return value.tolist()
    return _first(value, [len(value)], value.typecode, value[:_FIRST_ITEMS].tolist())


def _first(value, shape, dtype, items):
    return {u"__class__": class_name(type(value)), u"shape": list(shape), u"dtype": text_of(dtype), u"first": items}


def _read_namespace(value):
    attributes = vars(value)
    return Fields(list(attributes), attributes.__getitem__)


def _read_wrapper(value):
    return value.data


# Declared fields


def _read_dataclass(value):
    fields = type(value).__dataclass_fields__
    return Fields([name for name, field in fields.items() if field.repr], lambda name: getattr(value, name))


def _read_attrs(value):
    """Fields of attrs; one with a function for repr has that one's text."""
    shows = dict((field.name, field.repr) for field in type(value).__attrs_attrs__ if field.repr)

    def get(name):
        found = getattr(value, name)
        return text_of(shows[name](found)) if callable(shows[name]) else found

    return Fields(list(shows), get)


def _read_pydantic(value):
    """Fields of pydantic 1 and 2, as they are stored: no computed ones."""
    fields = getattr(type(value), "__pydantic_fields__", None)
    if fields is None:
        fields = type(value).__fields__
    attributes = value.__dict__
    extra = getattr(value, "__pydantic_extra__", None) or {}

    def is_shown(name):
        field = fields[name]
        field = getattr(field, "field_info", field)
        return getattr(field, "repr", True) and not getattr(field, "exclude", None) and name in attributes

    names = [name for name in fields if is_shown(name)] + list(extra)
    return Fields(names, lambda name: attributes[name] if name in attributes else extra[name])


def _read_struct(value):
    return Fields(list(type(value).__struct_fields__), lambda name: getattr(value, name))


def _read_sqlalchemy_model(value):
    """Columns that are loaded; a deferred or expired one would be asked of the database."""
    mapper, attributes = type(value).__mapper__, value.__dict__
    return Fields([column.key for column in mapper.column_attrs if column.key in attributes], attributes.__getitem__)


def _read_django_model(value):
    """Columns that are loaded; related objects by their keys alone."""
    attributes = value.__dict__
    names = [field.attname for field in type(value)._meta.concrete_fields]
    return Fields([name for name in names if name in attributes], attributes.__getitem__)


def has_base(kind, root, name):
    """Return whether a class is the one of this name, in a module of this root, or a subclass."""
    return (root, name) in [root_and_name(base) for base in kind.__mro__]


_STRUCTURES = (
    (lambda kind: hasattr(kind, "__pydantic_fields__") and not hasattr(kind, "__dataclass_fields__"), _read_pydantic),
    (lambda kind: has_base(kind, "pydantic", "BaseModel"), _read_pydantic),
    (lambda kind: hasattr(kind, "__mapper__"), _read_sqlalchemy_model),
    (lambda kind: hasattr(kind, "_meta") and has_base(kind, "django", "Model"), _read_django_model),
    (lambda kind: hasattr(kind, "__dataclass_fields__"), _read_dataclass),
    (lambda kind: hasattr(kind, "__attrs_attrs__"), _read_attrs),
    (lambda kind: hasattr(kind, "__struct_fields__"), _read_struct),
)

# Classes of packages


def _read_numpy_scalar(value):
    return shown(value) if value.dtype.kind in "mM" else value.item()


def _read_numpy_array(value):
    if value.size <= _SMALL_ARRAY:
        return _listed(value)
    return _first(value, value.shape, value.dtype, _listed(value.flat[:_FIRST_ITEMS]))


def _listed(value):
    """Return an array as lists; times as their texts, which tolist() would make numbers of."""
    return value.astype(str).tolist() if value.dtype.kind in "mM" else value.tolist()


def _read_frame(value):
    """Return the first rows of a pandas DataFrame, as objects."""
    rows = value.iloc[:_FIRST_ROWS, :_SMALL_ARRAY].to_dict("records")
    return {u"__class__": class_name(type(value)), u"shape": list(value.shape), u"first": rows}


def _read_series(value):
    """Return the values of a pandas Series or Index, all of them or the first."""
    if len(value) <= _SMALL_ARRAY:
        return value.tolist()
    return _first(value, value.shape, value.dtype, value[:_FIRST_ITEMS].tolist())


def _read_row(value):
    return dict(value._mapping)


def _read_lazy_query(value):
    """Return what a query is about: its text, its length and its truth would ask the database."""
    model = getattr(value, "model", None)
    about = u"" if model is None else u" of %s" % class_name(model)
    return {u"__class__": class_name(type(value)), u"text": u"<%s%s, not evaluated>" % (type(value).__name__, about)}


def _read_request(value):
    """Return a text as Django's, of method and path: the rest, such as the query's values, may hold secrets."""
    path = getattr(value, "path", None)
    if path is None:
        path = value.scope["path"]
    method = getattr(value, "method", None) or value.scope.get("method") or value.scope.get("type")
    return u"<%s: %s '%s'>" % (type(value).__name__, text_of(method), text_of(path)[:_MOST_TEXT])


_NAMED = (
    (("numpy", "ndarray"), _read_numpy_array),
    (("numpy", "generic"), _read_numpy_scalar),
    (("pandas", "DataFrame"), _read_frame),
    (("pandas", "Series"), _read_series),
    (("pandas", "Index"), _read_series),
    (("sqlalchemy", "Row"), _read_row),
    (("sqlalchemy", "RowMapping"), dict),
    (("sqlalchemy", "URL"), shown),
    (("django", "QuerySet"), _read_lazy_query),
    (("django", "BaseManager"), _read_lazy_query),
    (("sqlalchemy", "Query"), _read_lazy_query),
    (("django", "HttpRequest"), _read_request),
    (("werkzeug", "Request"), _read_request),
    (("starlette", "HTTPConnection"), _read_request),
)
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
    dt.time: _read_time,
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
    (getattr(collections, "UserList", None), _read_wrapper),
    (getattr(collections, "UserString", None), _read_wrapper),
    (getattr(collections, "UserDict", None), _read_wrapper),
):
    if _kind is not None:
        _BASES[_kind] = _reader
del _kind, _reader
