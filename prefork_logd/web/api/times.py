"""Answers which times a range of time stands for now.

Does not know how times are written (query/times.py), or records.
"""

from __future__ import annotations

import time

from prefork_logd.web.api.answers import Range
from prefork_logd.web.api.endpoint import Asked, Call
from prefork_logd.web.api.parameters import SINCE, UNTIL, ZONE, read_time, read_zone


async def absolute(asked: Asked) -> Range:
    """Return a range as seconds since 1970."""
    now, zone = time.time(), read_zone(asked.values["tz"])
    return Range(read_time(asked.values, "since", now, zone), read_time(asked.values, "until", now, zone))


CALLS = (
    Call(
        path="/range",
        summary="Read a range of time: `today` and other relative times become absolute ones.",
        handle=absolute,
        answer=Range,
        parameters=(SINCE, UNTIL, ZONE),
    ),
)
