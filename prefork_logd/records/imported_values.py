"""Reads times and levels as other programs write them.

Owns the meaning of a value. Does not know names of fields, files or clocks. Local time is that of the process.
"""

from __future__ import annotations

import datetime as dt
import re
from typing import Any

from prefork_logd.records.levels import LEVELS
from prefork_logd.records.record import END_OF_TIME

SYSLOG = (50, 50, 50, 40, 30, 25, 20, 10)
"""Levels of RFC 5424's severities, 0 (emergency) to 7 (debug), which GELF and journald use, too."""
_SYSLOG_NAMES = ("EMERGENCY", "ALERT", "CRITICAL", "ERROR", "WARNING", "NOTICE", "INFO", "DEBUG")
_WORDS = {
    "VERBOSE": 5, "INFORMATION": 20, "INFORMATIONAL": 20, "ERR": 40, "SEVERE": 40, "CRIT": 50, "ALERT": 50, "EMERG": 50,
    "EMERGENCY": 50, "PANIC": 50, "DPANIC": 50,
}  # fmt: skip
_NODE = {10: 5, 20: 10, 30: 20, 40: 30, 50: 40, 60: 50}
"""Levels of pino's and bunyan's numbers."""
_STANDARD_NAMES = {5: "TRACE", 10: "DEBUG", 20: "INFO", 25: "NOTICE", 30: "WARNING", 40: "ERROR", 50: "CRITICAL"}
_GOOGLE_FROM = 100
"""Google's severities count in hundreds: 200 is INFO, 400 WARNING, 500 ERROR."""
_GOOGLE = {1: 10, 2: 20, 3: 25, 4: 30, 5: 40, 6: 50, 7: 50, 8: 50}
_OPEN_TELEMETRY = (5, 10, 20, 30, 40, 50)
"""Levels for the severity numbers 1 to 24, four numbers for each: TRACE to FATAL."""

_NUMBER = re.compile(r"\d{9,20}(?:\.\d{1,20})?", re.ASCII)
"""A time as a number: fewer digits would be a date, such as 20261128."""
_STAMP = re.compile(
    r"(\d{4})-?(\d\d)-?(\d\d)[T ](\d\d):?(\d\d)(?::?(\d\d)(?:[.,](\d{1,30}))?)?\s*(Z|UTC|GMT|[+-]\d\d(?::?\d\d)?)?",
    re.ASCII | re.IGNORECASE,
)
_UNITS = ((1.0, 1), (1e3, 1), (1e6, 1), (1e9, 1000))
"""The possible units of a number per second, and the number of the smallest in a microsecond."""


def read_time(value: Any) -> tuple[float, bool] | None:
    """Return seconds since 1970, and whether they are exact to the microsecond; None if the value is not a time.

    A number counts seconds, milliseconds, microseconds or nanoseconds: the unit that gives a time from 1970 to 2200. A
    text is such a number or ISO 8601, also with a space, a comma, `UTC` or a leap second; without a zone it is local.
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, float)):
        return _epoch(value)
    if not isinstance(value, str) or len(value) > 64:
        return None
    text = value.strip()
    if _NUMBER.fullmatch(text):
        return _epoch(float(text) if "." in text else int(text))
    return _stamp(text)


def _epoch(value: float) -> tuple[float, bool] | None:
    for unit, part in _UNITS:
        if 0 <= value < END_OF_TIME * unit:
            return value / unit, isinstance(value, float) or value % part == 0
    return None


def _stamp(text: str) -> tuple[float, bool] | None:
    match = _STAMP.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute = map(int, match.groups()[:5])
    second, fraction, zone = match[6] or "0", match[7] or "", match[8] or ""
    leap = second == "60"
    micro = int(fraction[:6].ljust(6, "0"))
    try:
        at = dt.datetime(year, month, day, hour, minute, 59 if leap else int(second), micro, _zone(zone)).timestamp()
    except (ValueError, OverflowError, OSError):
        return None
    at += leap
    return (at, not fraction[6:].strip("0")) if 0 <= at < END_OF_TIME else None


def _zone(text: str) -> dt.tzinfo | None:
    if not text:
        return None
    if text[0] not in "+-":
        return dt.UTC
    digits = text[1:].replace(":", "").ljust(4, "0")
    offset = dt.timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    return dt.timezone(-offset if text[0] == "-" else offset)


def level_of_name(name: str) -> int | None:
    """Return the number of a level's name, in any case; None for an unknown one."""
    word = name.strip().upper()
    return LEVELS.get(word, _WORDS.get(word))


def level_of_number(number: float, scale: str) -> int | None:
    """Return the level of a number on a scale: "syslog", "node" (pino, bunyan), "opentelemetry" or "any".

    "any" chooses one of these or Google's scale by size: 0 to 7 are syslog's, and 8 to 99 are logging's own.
    """
    if not -1e9 < number < 1e9 or number != int(number):
        return None
    whole = int(number)
    if scale == "node":
        return _NODE.get(whole, whole)
    if scale == "opentelemetry":
        return _OPEN_TELEMETRY[(whole - 1) // 4] if 1 <= whole <= 24 else None
    if 0 <= whole < len(SYSLOG):
        return SYSLOG[whole]
    if scale == "syslog":
        return None
    return _GOOGLE.get(whole // 100, whole) if whole >= _GOOGLE_FROM else whole


def name_of(levelno: int, number: float, scale: str) -> str | None:
    """Return the name of the level of a number on a scale; None if it has none."""
    if scale in {"syslog", "any"} and 0 <= number < len(_SYSLOG_NAMES):
        return _SYSLOG_NAMES[int(number)]
    return _STANDARD_NAMES.get(levelno)
