"""Knows how objects of well-known packages are read: arrays, tables, rows, queries, requests, headers, proxies.

Imports none of these packages: a class is known by its name and its module's. Reads nothing that may ask a database.
"""
from __future__ import absolute_import, division

import collections
import functools
import sys
from itertools import count, islice

from ._compat import TEXT, text_of
from ._texts import HIDDEN, MOST_TEXT, Shortened, class_name, describe_object, describe_unevaluated, free_name, shown

SMALL_ARRAY, FIRST_ITEMS = 100, 10
"""An array of at most so many items is read as a whole; of a larger one so many items."""
_FIRST_ROWS = 5
_MOST_PAIRS, _MOST_COOKIES = 10000, 1000


def describe_first(value, shape, dtype, items):
    """Return a large array by its shape and its first items."""
    return {u"__class__": class_name(type(value)), u"shape": list(shape), u"dtype": text_of(dtype), u"first": items}


# Arrays and tables


def _read_numpy_scalar(value):
    kind = value.dtype.kind
    if kind in "mM":
        return shown(value)
    found = value.item()
    if type(found) is type(value):  # a longdouble, of which Python has none
        return complex(found) if kind == "c" else float(found)
    return _with_names(value.dtype, found)


def _read_numpy_array(value):
    if value.size <= SMALL_ARRAY:
        return _listed(value)
    return describe_first(value, value.shape, value.dtype, _listed(value.flat[:FIRST_ITEMS]))


def _listed(value):
    """Return an array as lists; times as their texts, which tolist() would make numbers of."""
    return value.astype(str).tolist() if value.dtype.kind in "mM" else _with_names(value.dtype, value.tolist())


def _with_names(dtype, found):
    """Return the tuples of a structured array as objects of their fields."""
    dtype = dtype.base
    if not dtype.names:
        return found
    if isinstance(found, list):
        return [_with_names(dtype, one) for one in found]
    if not isinstance(found, tuple):  # masked
        return found
    return collections.OrderedDict((name, _with_names(dtype[name], one)) for name, one in zip(dtype.names, found))


def _read_frame(value):
    """Return the first rows of a pandas DataFrame, as objects."""
    first = value.iloc[:_FIRST_ROWS, :SMALL_ARRAY]
    names = _distinct(first.columns.tolist())
    rows = [collections.OrderedDict(zip(names, row)) for row in first.itertuples(index=False, name=None)]
    return {u"__class__": class_name(type(value)), u"shape": list(value.shape), u"first": rows}


def _distinct(names):
    """Return names of which none occurs twice: later ones get an underscore, or a number."""
    found, seen, numbers = [], set(), count(2)
    for name in names:
        distinct = name if name not in seen else free_name(text_of(name), seen, numbers)
        seen.add(distinct)
        found.append(distinct)
    return found


def _read_series(value):
    """Return the values of a pandas Series, all of them or the first; an object if its labels are names."""
    if len(value) > SMALL_ARRAY:
        return describe_first(value, value.shape, value.dtype, value.iloc[:FIRST_ITEMS].tolist())
    labels = value.index.tolist()
    if not labels or not all(isinstance(label, (str, TEXT)) for label in labels):
        return value.tolist()
    return collections.OrderedDict(zip(_distinct(labels), value.tolist()))


def _read_index(value):
    if len(value) <= SMALL_ARRAY:
        return value.tolist()
    return describe_first(value, value.shape, value.dtype, value[:FIRST_ITEMS].tolist())


# Databases


def _read_row(value):
    return dict(value._mapping)


def _read_sqlite_row(value):
    return collections.OrderedDict(zip(_distinct(value.keys()), tuple(value)))


def _read_lazy_query(value):
    """Return what a query is about: its text, its length and its truth would ask the database."""
    model = getattr(value, "model", None)
    return describe_unevaluated(value, u"" if model is None else u" of %s" % class_name(model))


# Requests, headers and URLs


def _read_request(value):
    """Return a text as Django's, of method and path: the rest, such as the query's values, may hold secrets."""
    path = getattr(value, "path", None)
    if path is None:
        path = value.scope["path"]
    method = getattr(value, "method", None) or value.scope.get("method") or value.scope.get("type")
    return u"<%s: %s '%s'>" % (type(value).__name__, text_of(method), text_of(path)[:MOST_TEXT])


def read_pairs(value):
    """Return headers or a mapping that may have a key several times, such a key with a list."""
    pairs = (value.multi_items if hasattr(type(value), "multi_items") else value.items)()
    pairs = list(islice(pairs, _MOST_PAIRS + 1))
    found = collections.OrderedDict()
    for key, one in pairs[:_MOST_PAIRS]:
        found.setdefault(text_of(key), []).append(one)
    plain = dict((key, ones if len(ones) > 1 else ones[0]) for key, ones in found.items())
    return plain if len(pairs) <= _MOST_PAIRS else Shortened(plain)


def _read_cookies(value):
    """Return the names of cookies, which are secrets."""
    return dict((text_of(getattr(one, "name", one)), HIDDEN) for one in islice(value, _MOST_COOKIES))


def _read_cookie(value):
    return {text_of(value.name): HIDDEN}


def _read_split_url(value):
    url = value.geturl()
    return shown(url if isinstance(url, (str, TEXT)) else url.decode("utf-8", "replace"))


# Proxies


def _read_werkzeug_proxy(value):
    """Return what a proxy stands for just now, such as the request; of one that stands for nothing the text."""
    for name in ("_LocalProxy__wrapped", "_LocalProxy__local"):
        try:
            finds = object.__getattribute__(value, name)
        except AttributeError:
            continue
        if not _finds_context(finds):
            return describe_unevaluated(value)
        try:
            return value._get_current_object()
        except RuntimeError:
            break
    return describe_object(value)


def _finds_context(finds):
    """Return whether a proxy looks into a context; another function may ask a database, as Flask-Login's does."""
    if type(finds) is functools.partial:
        finds = finds.func
    is_context = type(finds).__name__ == "ContextVar" or type(finds).__module__ == "werkzeug.local"
    return is_context or getattr(finds, "__module__", None) in ("flask.globals", "werkzeug.local")


def _read_django_proxy(value):
    """Return what a lazy object, such as `request.user`, has become; to evaluate it may ask the database."""
    wrapped = object.__getattribute__(value, "__dict__").get("_wrapped")
    if wrapped is None or wrapped is getattr(sys.modules.get("django.utils.functional"), "empty", None):
        return describe_unevaluated(value)
    return wrapped


def is_lazy_proxy(kind):
    """Return whether a class is the proxy of the package lazy-object-proxy."""
    return all(hasattr(kind, name) for name in ("__factory__", "__resolved__", "__wrapped__"))


def read_lazy_proxy(value):
    """Return what such a proxy has become, as above."""
    return value.__wrapped__ if value.__resolved__ else {u"text": u"<lazy object, not evaluated>"}


NAMED = (
    (("numpy", "ndarray"), _read_numpy_array),
    (("numpy", "generic"), _read_numpy_scalar),
    (("pandas", "DataFrame"), _read_frame),
    (("pandas", "Series"), _read_series),
    (("pandas", "Index"), _read_index),
    (("sqlalchemy", "Row"), _read_row),
    (("sqlalchemy", "RowMapping"), dict),
    (("sqlite3", "Row"), _read_sqlite_row),
    (("sqlalchemy", "URL"), shown),
    (("django", "QuerySet"), _read_lazy_query),
    (("django", "BaseManager"), _read_lazy_query),
    (("sqlalchemy", "Query"), _read_lazy_query),
    (("django", "HttpRequest"), _read_request),
    (("werkzeug", "Request"), _read_request),
    (("starlette", "HTTPConnection"), _read_request),
    (("werkzeug", "Headers"), read_pairs),
    (("email", "Message"), read_pairs),
    (("rfc822", "Message"), read_pairs),
    (("httpx", "Cookies"), _read_cookies),
    (("http", "CookieJar"), _read_cookies),
    (("http", "BaseCookie"), _read_cookies),
    (("cookielib", "CookieJar"), _read_cookies),
    (("Cookie", "BaseCookie"), _read_cookies),
    (("http", "Cookie"), _read_cookie),
    (("cookielib", "Cookie"), _read_cookie),
    (("urllib", "ParseResult"), _read_split_url),
    (("urllib", "SplitResult"), _read_split_url),
    (("urllib", "ParseResultBytes"), _read_split_url),
    (("urllib", "SplitResultBytes"), _read_split_url),
    (("urlparse", "ParseResult"), _read_split_url),
    (("urlparse", "SplitResult"), _read_split_url),
    (("urllib3", "Url"), shown),
    (("werkzeug", "LocalProxy"), _read_werkzeug_proxy),
    (("django", "LazyObject"), _read_django_proxy),
)
"""The first part of a class's module and its name, and the reader of its objects and those of its subclasses."""
