"""Writes objects of the datetime module as ISO 8601, without making the pickled calls.

Owns the packed form of a pickled datetime, date or time, and the time zones whose offset is in the pickle itself. Part
of the table in known.py, under its rules.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

from prefork_logd.inputs.pickles.symbols import LATIN_1, Node, Object, Symbol, is_call, text_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefork_logd.inputs.pickles.reader import ValueReader
    from prefork_logd.records.values import Plain

MAX_ZONE_CHARACTERS = 100

_FOLD = 128


def _stamp(node: Node, length: int) -> bytes | None:
    """Return the packed fields of a datetime, date or time, if there are `length` bytes of them.

    Python 2 sends them as its str, and Python 3 below protocol 3 as the Latin-1 text and a call that encodes it.
    """
    if is_call(node, "_codecs", "encode") and len(node.args) == 2 and text_of(node.args[1], 16) in LATIN_1:
        text = text_of(node.args[0], length)
        try:
            node = text.encode("latin-1") if text else None
        except UnicodeEncodeError:
            return None
    return node if isinstance(node, bytes) and len(node) == length else None


def _duration(node: Node) -> dt.timedelta | None:
    if not is_call(node, "datetime", "timedelta") or len(node.args) > 3:
        return None
    if any(type(part) is not int or abs(part) > 10**15 for part in node.args):
        return None
    try:
        return dt.timedelta(*node.args)
    except OverflowError:
        return None


def _zone(node: Node) -> tuple[dt.tzinfo | None, str] | None:
    """Return an offset, and a suffix that names the zone, for the time zones in common use; None for others.

    A zone with only a name is not looked up: its offset is in the time zone database.
    """
    if type(node) is not Object or type(node.callee) is not Symbol:
        return None
    match (node.callee.module, node.callee.name), node.args:
        case ("datetime", "timezone"), [offset, *_]:
            delta = _duration(offset)
            if delta is None or abs(delta) >= dt.timedelta(days=1):
                return None
            return dt.timezone(delta), ""
        case ("zoneinfo", "ZoneInfo._unpickle" | "ZoneInfo"), [str(key), *_] if len(key) <= MAX_ZONE_CHARACTERS:
            return None, f"[{key}]"
        case ((("pytz", "_UTC") | ("dateutil.tz.tz", "tzutc") | ("django.utils.timezone", "UTC")), []):
            return dt.UTC, ""
        case ("pytz", "_p"), [name, int(seconds), *_] if abs(seconds) < 86_400:
            label = text_of(name, MAX_ZONE_CHARACTERS)
            if label is None:
                return None
            return dt.timezone(dt.timedelta(seconds=seconds)), f"[{label}]"
    return None


def _when(node: Object) -> str | None:
    """Return a datetime as ISO 8601, a named zone added in brackets (RFC 9557)."""
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


def _datetime(reader: ValueReader, node: Object, depth: int) -> Plain:
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


def _date(reader: ValueReader, node: Object, _: int) -> Plain:
    data = _stamp(node.args[0], 4) if node.is_bare and len(node.args) == 1 else None
    if data is None:
        return None
    try:
        return reader.text(dt.date(data[0] * 256 + data[1], data[2], data[3]).isoformat())
    except ValueError:
        return None


def _time(reader: ValueReader, node: Object, _: int) -> Plain:
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


def _timedelta(_: ValueReader, node: Object, __: int) -> Plain:
    """Return the seconds."""
    delta = _duration(node)
    return None if delta is None else delta.total_seconds()


def _timezone(reader: ValueReader, node: Object, _: int) -> Plain:
    zone = _zone(node) if node.is_bare else None
    if zone is None:
        return None
    return reader.text(str(zone[0]) if zone[0] else zone[1][1:-1])


TIMES: dict[tuple[str, str], Callable[[ValueReader, Object, int], Plain]] = {
    ("datetime", "datetime"): _datetime,
    ("datetime", "date"): _date,
    ("datetime", "time"): _time,
    ("datetime", "timedelta"): _timedelta,
    ("datetime", "timezone"): _timezone,
    ("zoneinfo", "ZoneInfo"): _timezone,
    ("zoneinfo", "ZoneInfo._unpickle"): _timezone,
    ("pytz", "_UTC"): _timezone,
    ("pytz", "_p"): _timezone,
}
