"""Makes plain data of usual values at once: times, decimals, UUIDs, paths, members of enumerations, small containers.

A value that this does not take is left to _values.py, which makes the same data of those that it takes. No code of the
service runs here, so there is nothing to bound. Knows nothing of records. docs/values.md describes the result.
"""
from __future__ import absolute_import, division

import collections
import datetime as dt

from ._compat import TEXT
from ._readers import read_clock, read_member, reader_of
from ._texts import class_name, has_base, root_and_name, shown

PLAIN_KINDS = frozenset([type(None), bool, int, float, str, bytes, TEXT, type(1 << 64)])
"""Classes whose objects are sent as they are."""
PLAIN_IDS = frozenset(map(id, PLAIN_KINDS))
"""Their ids: to look for a class itself would call the `__hash__` and `__eq__` of its metaclass."""
_are_plain_ids = PLAIN_IDS.issuperset
_MOST_ITEMS, _MOST_ATTRIBUTES = 100, 32
_LONGEST_TEXT = 10000
_MOST_CLASSES = 1000
_USUAL_TEXTS = frozenset([
    ("decimal", "Decimal"), ("fractions", "Fraction"), ("uuid", "UUID"),
    ("pathlib", "PosixPath"), ("pathlib", "PurePosixPath"), ("pathlib", "WindowsPath"), ("pathlib", "PureWindowsPath"),
    ("ipaddress", "IPv4Address"), ("ipaddress", "IPv6Address"),
    ("ipaddress", "IPv4Network"), ("ipaddress", "IPv6Network"),
])
_USUAL_ZONES = frozenset(["datetime", "zoneinfo", "dateutil", "pytz"])
"""Modules whose time zones answer at once."""
_zones = {}  # id of a class of time zones: the class, which is kept so that the id is its own, and whether it is usual
_readers = {}  # id of a class: the class, and the function that reads its objects, or None


def read_usual(values):
    """Return plain data for a dict of values; None if one of them is not usual, or there are many. Raises nothing."""
    if len(values) > _MOST_ATTRIBUTES:  # together they are within the budget of one record
        return None
    result = {}
    try:
        for name, value in values.items():
            kind = id(type(value))
            if kind in PLAIN_IDS:
                result[name] = value
                continue
            read = _CONTAINERS.get(kind) or usual_reader(type(value))
            found = None if read is None else read(value)
            if found is None:
                return None
            result[name] = found
    except Exception:  # noqa: BLE001 - an object that was made without its constructor, for example
        return None
    return result


def read_one(value):
    """Return plain data for a usual value that is not a container, else None. Raises nothing."""
    try:
        read = usual_reader(type(value))
        return None if read is None else read(value)
    except Exception:  # noqa: BLE001 - as above
        return None


def usual_reader(kind):
    """Return the function that reads the objects of a class: it returns None for an unusual one. None without one."""
    known = _readers.get(id(kind))
    if known is None:
        try:
            read = _find_usual(kind)
        except Exception:  # noqa: BLE001 - a metaclass may do anything
            read = None
        if len(_readers) >= _MOST_CLASSES:
            _readers.clear()
        known = _readers[id(kind)] = kind, read
    return known[1]


def _find_usual(kind):
    """Return the reader of a class, where _readers.py has one of the same effect: a class of secrets has another."""
    for one, read in _EXACT:
        if kind is one:
            return read
    found = reader_of(kind)
    if found is shown:
        return _short_text if root_and_name(kind) in _USUAL_TEXTS else None
    if has_base(kind, "enum", "Enum"):
        if found in (reader_of(str), reader_of(int)):
            return found
        if found is read_member and kind.__getattribute__ is object.__getattribute__:
            return _reader_of_members(kind)
    return None


def _reader_of_members(kind):
    """As read_member, with the name of the class made once; None for a member whose value is not plain."""
    name = class_name(kind)

    def read(member):
        value = member._value_
        if id(type(value)) not in PLAIN_IDS:
            return None
        return {u"__class__": name, u"name": member._name_, u"value": value}

    return read


def _short_text(value):
    text = TEXT(value)
    is_usual = text.__class__ is TEXT and len(text) <= _LONGEST_TEXT and u"://" not in text
    return text if is_usual else None


def _time_text(value):
    zone = value.tzinfo
    return value.isoformat() if zone is None or _is_usual_zone(zone) else None


def _clock_text(value):
    zone = value.tzinfo
    return read_clock(value) if zone is None or _is_usual_zone(zone) else None


def _is_usual_zone(zone):
    kind = type(zone)
    known = _zones.get(id(kind))
    if known is None:
        if len(_zones) >= _MOST_CLASSES:
            _zones.clear()
        known = _zones[id(kind)] = kind, root_and_name(kind)[0] in _USUAL_ZONES
    return known[1]


def _plain_items(values):
    if len(values) > _MOST_ITEMS:
        return None
    values = list(values)  # at once: another thread may change it meanwhile
    return values if _are_plain_ids(map(id, map(type, values))) else _plain_scalars(values)


def _plain_dict(values):
    if len(values) > _MOST_ITEMS:
        return None
    values = values.copy()  # as above
    if not _are_plain_ids(map(id, map(type, values))):
        return None
    if _are_plain_ids(map(id, map(type, values.values()))):
        return values
    found = _plain_scalars(values.values())
    return None if found is None else dict(zip(values, found))


def _plain_scalars(values):
    """Return plain data for values; None if one of them is a container, or not usual."""
    result = []
    for value in values:
        if id(type(value)) not in PLAIN_IDS:
            read = usual_reader(type(value))
            found = None if read is None else read(value)
            if found is None:
                return None
            result.append(found)
        else:
            result.append(value)
    return result


_CONTAINERS = {
    id(dict): _plain_dict,
    id(list): _plain_items,
    id(tuple): _plain_items,
    id(set): _plain_items,
    id(frozenset): _plain_items,
    id(collections.deque): _plain_items,
}
_EXACT = (
    (dt.datetime, _time_text),
    (dt.date, dt.date.isoformat),
    (dt.time, _clock_text),
    (dt.timedelta, dt.timedelta.total_seconds),
)
