"""Finds the time zone of a pickled datetime: its offset from the pickle itself, or from the time zone database here.

Owns the pickled forms of zones (datetime, zoneinfo, pytz, dateutil, pendulum, Django), and the zones of the database
that were asked for last. Does not know the pickled forms of datetimes. No class of a client is imported; a zone's name
is a name in the database, never a path.
"""

from __future__ import annotations

import datetime as dt
import functools
import re
import zoneinfo
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from prefork_logd.inputs.pickles.symbols import Dict, Node, Object, Symbol, is_call, text_of

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_ZONE_CHARACTERS = 100
ZONE_NODES = 16
"""Finding a zone in the database counts as so many values, as it takes as long."""
_KEY = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(?:/[A-Za-z0-9_+-]+){0,3}")


class Zone(NamedTuple):
    """What is known of a zone."""

    tzinfo: dt.tzinfo | None
    """Its offsets; None for one that is not in the database."""
    name: str
    """Its name; empty for an offset."""

    @property
    def suffix(self) -> str:
        """What stands behind a time whose offset is not known (RFC 9557)."""
        return f"[{self.name}]" if self.tzinfo is None and self.name else ""


_UTC = Zone(dt.UTC, "")


def duration(node: Node) -> dt.timedelta | None:
    """Return a pickled timedelta; None for anything else."""
    if not is_call(node, "datetime", "timedelta") or len(node.args) > 3:
        return None
    if any(type(part) is not int or abs(part) > 10**15 for part in node.args):
        return None
    try:
        return dt.timedelta(*node.args)
    except OverflowError:
        return None


@functools.lru_cache(maxsize=1_024)
def named(key: str) -> Zone:
    """Return the zone of this name; without offsets if the database does not have it."""
    if not _KEY.fullmatch(key):
        return Zone(None, key)
    roots = [root for root in zoneinfo.TZPATH if Path(root).is_dir()]
    # Where the system has a database, a name that is not in it is not looked for in Python's packages.
    if roots and not any((Path(root) / key).is_file() for root in roots):
        return Zone(None, key)
    try:
        return Zone(zoneinfo.ZoneInfo(key), key)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return Zone(None, key)


def _fixed(seconds: float) -> Zone | None:
    return Zone(dt.timezone(dt.timedelta(seconds=seconds)), "") if abs(seconds) < 86_400 else None


def _offset(args: Sequence[Node]) -> Zone | None:
    """Read the argument of datetime.timezone."""
    delta = duration(args[0]) if args else None
    return None if delta is None else _fixed(delta.total_seconds())


def _attribute(node: Object, name: str) -> Node:
    flat = node.state.flat if type(node.state) is Dict and len(node.state.flat) <= 16 else []
    return next((value for key, value in zip(flat[::2], flat[1::2], strict=True) if key == name), None)


def _dateutil_offset(node: Object) -> Zone | None:
    delta = duration(_attribute(node, "_offset"))
    return None if delta is None else _fixed(delta.total_seconds())


def find_zone(node: Node) -> Zone | None:
    """Return the zone that a pickle describes; None for anything else."""
    if type(node) is not Object or type(node.callee) is not Symbol:
        return None
    match (node.callee.module, node.callee.name), node.args:
        case ("datetime", "timezone"), args:
            return _offset(args)
        case ("zoneinfo", "ZoneInfo._unpickle" | "ZoneInfo"), [str(key), *_] if len(key) <= MAX_ZONE_CHARACTERS:
            return named(key)
        case ("pendulum.tz.timezone", "Timezone._unpickle" | "Timezone"), [str(key), *_]:
            return named(key) if len(key) <= MAX_ZONE_CHARACTERS else None
        case ("pendulum.tz.timezone", "FixedTimezone"), [int(seconds), *_]:
            return _fixed(seconds)
        case ((("pytz", "_UTC") | ("django.utils.timezone", "UTC")), []):
            return _UTC
        case ("dateutil.tz.tz", "tzutc"), _:
            return _UTC
        case ("dateutil.tz.tz", "tzoffset"), _:
            return _dateutil_offset(node)
        case ("dateutil.tz.tz", "tzfile"), [_, str(path), *_] if "zoneinfo/" in path:
            key = path.rpartition("zoneinfo/")[2]
            return named(key) if len(key) <= MAX_ZONE_CHARACTERS else None
        case ("pytz", "_p"), [_]:
            name = text_of(node.args[0], MAX_ZONE_CHARACTERS)
            return None if name is None else named(name)
        case ("pytz", "_p"), [name, int(seconds), *_] if text_of(name, MAX_ZONE_CHARACTERS) is not None:
            return _fixed(seconds)
    return None
