"""Writes objects of the datetime module as ISO 8601, without making the pickled calls.

Owns the packed form of a pickled datetime, date or time, by which subclasses are known, too, and the forms of pandas
and pendulum. Part of the table in known.py, under its rules; zones.py knows the zones.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

from prefork_logd.inputs.pickles.symbols import LATIN_1, Node, Object, is_call, text_of
from prefork_logd.inputs.pickles.zones import ZONE_NODES, Zone, duration, find_zone

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from prefork_logd.inputs.pickles.reader import ValueReader
    from prefork_logd.records.values import Plain

_FOLD = 128
_NO_ZONE = Zone(None, "")


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


def _zone_of(reader: ValueReader, args: Sequence[Node]) -> Zone | None:
    """Return the zone in the last argument, if there is one; None if that is no zone."""
    if not args:
        return _NO_ZONE
    reader.charge_nodes(ZONE_NODES)
    return find_zone(args[0])


def _when(data: bytes, zone: Zone) -> str | None:
    """Return the packed fields of a datetime as ISO 8601."""
    fold, month = divmod(data[2], _FOLD)
    microsecond = int.from_bytes(data[7:10], "big")
    try:
        value = dt.datetime(
            data[0] * 256 + data[1], month, data[3], data[4], data[5], data[6], microsecond, zone.tzinfo, fold=fold
        )
        return value.isoformat() + zone.suffix
    except (ValueError, OverflowError):
        return None


def _datetime(reader: ValueReader, node: Object, depth: int) -> Plain:
    if not node.is_bare or not 1 <= len(node.args) <= 2:
        return None
    data = _stamp(node.args[0], 10)
    if data is None:
        return None
    zone = _zone_of(reader, node.args[1:])
    text = _when(data, zone or _NO_ZONE)
    if text is None:
        return None
    if zone is None:
        # A class of the service's own says what its offset is.
        return {"__class__": node.path, "args": [reader.text(text), reader.plain(node.args[1], depth + 2)]}
    return reader.text(text)


def unknown_class(reader: ValueReader, node: Object, depth: int) -> Plain:
    """Return the ISO 8601 of an object with the packed fields of a datetime: a subclass; None for any other."""
    return _datetime(reader, node, depth) if may_be_datetime(node) else None


def may_be_datetime(node: Object) -> bool:
    """Tell whether an object may be of a subclass of datetime."""
    first = node.args[0] if 1 <= len(node.args) <= 2 else None
    return (isinstance(first, bytes) and len(first) == 10) or is_call(first, "_codecs", "encode")


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
    zone = _zone_of(reader, node.args[1:])
    if data is None or zone is None:
        return None
    fold, hour = divmod(data[0], _FOLD)
    try:
        value = dt.time(hour, data[1], data[2], int.from_bytes(data[3:6], "big"), zone.tzinfo, fold=fold)
    except ValueError:
        return None
    # The offset of a named zone depends on the day.
    return reader.text(value.isoformat() + (f"[{zone.name}]" if zone.name else ""))


def _timedelta(_: ValueReader, node: Object, __: int) -> Plain:
    """Return the seconds."""
    delta = duration(node)
    return None if delta is None else delta.total_seconds()


def _timezone(reader: ValueReader, node: Object, _: int) -> Plain:
    reader.charge_nodes(ZONE_NODES)
    zone = find_zone(node)
    if zone is None:
        return None
    return reader.text(zone.name or str(zone.tzinfo))


# pandas and pendulum

_UNITS = {10: 1_000_000_000, 9: 1_000_000, 8: 1_000, 7: 1}
"""Units a second of pandas' numbers of resolutions (NPY_DATETIMEUNIT)."""
_EPOCH = dt.datetime(1970, 1, 1)  # noqa: DTZ001 - a naive Timestamp counts from it, too


def instant(number: int, units: int, zone: Zone) -> str | None:
    """Return a number of units (up to 10**9 a second) since 1970 as ISO 8601; it is counted in UTC if it has a zone."""
    second, rest = divmod(number, units)
    nanosecond = rest * (1_000_000_000 // units)
    try:
        value = _EPOCH + dt.timedelta(seconds=second, microseconds=nanosecond // 1_000)
        if zone.tzinfo is not None:
            value = value.replace(tzinfo=dt.UTC).astimezone(zone.tzinfo)
    except (OverflowError, ValueError):
        return None
    if nanosecond % 1_000 == 0:
        return value.isoformat() + zone.suffix
    head, _, tail = value.isoformat(timespec="microseconds").partition(".")
    return f"{head}.{tail[:6]}{nanosecond % 1_000:03}{tail[6:]}{zone.suffix}"


def _timestamp(reader: ValueReader, node: Object, _: int) -> Plain:
    """Read pandas.Timestamp: a number, a frequency of earlier versions, a zone, and a resolution."""
    match node.args if node.is_bare else None:
        case [int(number), _, zone_node, *rest] if abs(number) < 1 << 63 and len(rest) <= 1:
            units = _UNITS.get(rest[0], 0) if rest and type(rest[0]) is int else 1_000_000_000
            zone = _zone_of(reader, [] if zone_node is None else [zone_node])
            text = instant(number, units, zone) if units and zone is not None else None
            if text is not None and zone is not None:
                # A time in UTC whose zone is not known says so.
                is_utc = zone.tzinfo is None and zone.name
                return reader.text(text.replace("[", "Z[", 1) if is_utc else text)
    return None


def _pandas_timedelta(_: ValueReader, node: Object, __: int) -> Plain:
    match node.args if node.is_bare else None:
        case [int(number), *rest] if abs(number) < 1 << 63 and len(rest) <= 1:
            units = _UNITS.get(rest[0], 0) if rest and type(rest[0]) is int else 1_000_000_000
            return number / units if units else None
    return None


def _not_a_time(reader: ValueReader, _: Object, __: int) -> Plain:
    return reader.text("NaT")


def _pendulum(reader: ValueReader, node: Object, _: int) -> Plain:
    """Read pendulum's DateTime (seven numbers, a zone, a fold) and Time (four numbers, a zone)."""
    count = 7 if node.path.endswith("DateTime") else 4
    numbers = node.args[:count]
    if not node.is_bare or len(numbers) != count or any(type(one) is not int for one in numbers):
        return None
    zone = _zone_of(reader, [one for one in node.args[count : count + 1] if one is not None])
    if zone is None:
        return None
    try:
        if count == 7:
            fold = 1 if node.args[8:9] == [1] else 0
            value = dt.datetime(*numbers, fold=fold).replace(tzinfo=zone.tzinfo)  # noqa: DTZ001 - it may have none
            return reader.text(value.isoformat() + zone.suffix)
        return reader.text(
            dt.time(*numbers).replace(tzinfo=zone.tzinfo).isoformat() + (f"[{zone.name}]" if zone.name else "")
        )
    except (ValueError, OverflowError):
        return None


def _pendulum_duration(_: ValueReader, node: Object, __: int) -> Plain:
    numbers = node.args[:3]
    if not node.is_bare or any(type(one) is not int or abs(one) > 10**15 for one in numbers):
        return None
    try:
        return dt.timedelta(*numbers).total_seconds()
    except OverflowError:
        return None


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
    ("pendulum.tz.timezone", "Timezone._unpickle"): _timezone,
    ("pandas._libs.tslibs.timestamps", "_unpickle_timestamp"): _timestamp,
    ("pandas._libs.tslibs.timedeltas", "_timedelta_unpickle"): _pandas_timedelta,
    ("pandas._libs.tslibs.nattype", "_nat_unpickle"): _not_a_time,
    ("pendulum.datetime", "DateTime"): _pendulum,
    ("pendulum.time", "Time"): _pendulum,
    ("pendulum.date", "Date"): _date,
    ("pendulum.duration", "Duration"): _pendulum_duration,
}
