"""Reads times as people write them: "2h" ago, a date, an hour of today, RFC 3339.

Owns the forms. Does not know a clock: the present time is passed in. Local time is that of the process, or of a zone
that is passed in.
"""

from __future__ import annotations

import datetime as dt
import re

from prefork_logd.config.values import parse_duration

_CLOCK = re.compile(r"\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?")
_SECONDS = re.compile(r"@(-?\d+(?:\.\d+)?)")
FORMS = (
    '"2h" (ago), "2026-11-23", "2026-11-23 14:05", "2026-11-23T14:05:00Z", "14:05", '
    '"today", "yesterday", "now", "@1795429550"'
)


def parse_time(text: str, now: float, zone: dt.tzinfo | None = None) -> float:
    """Return the seconds since 1970 for a text, at the time `now`; a text without a zone is in `zone` (None: local).

    Raises ValueError with a sentence for the user.
    """
    stripped = text.strip()
    today = dt.datetime.fromtimestamp(now).astimezone(zone)
    midnight = dt.datetime(today.year, today.month, today.day)  # noqa: DTZ001 - local, the rules of its day are applied below
    try:
        if stripped == "now":
            return now
        if stripped in {"today", "yesterday"}:
            return _seconds(midnight - dt.timedelta(days=stripped == "yesterday"), zone)
        if seconds := _SECONDS.fullmatch(stripped):
            return float(seconds[1])
        if _CLOCK.fullmatch(stripped):
            clock = dt.time.fromisoformat(stripped if stripped[2] == ":" else f"0{stripped}")
            return _seconds(dt.datetime.combine(midnight, clock), zone)
        if stripped[-1:] in "smhdw" and stripped[:1].isdigit():
            return now - parse_duration(stripped)
        return _seconds(dt.datetime.fromisoformat(stripped), zone)
    except (ValueError, OverflowError):
        raise ValueError(f"{text!r} is not a time; write one of {FORMS}") from None


def _seconds(time: dt.datetime, zone: dt.tzinfo | None) -> float:
    if time.tzinfo is None and zone is not None:
        time = time.replace(tzinfo=zone)
    return time.timestamp()
