"""Answers who asks, and in which time zone the server is.

Does not know how users log in.
"""

from __future__ import annotations

import datetime as dt
import time
from pathlib import Path

from prefork_logd.web.api.answers import Session
from prefork_logd.web.api.endpoint import Asked, Call

LOCALTIME = Path("/etc/localtime")


async def session(asked: Asked) -> Session:
    """Return the user and the server's time."""
    user = asked.request.user
    return Session(
        user=user.display_name,
        role=getattr(user, "role", "viewer"),
        csrf=getattr(user, "csrf", ""),
        server_time=time.time(),
        timezone=server_zone(),
    )


def server_zone() -> str:
    """Return the name of the server's time zone, or its offset to UTC now if it has no known name."""
    name = str(LOCALTIME.resolve()).partition("/zoneinfo/")[2]
    if name:
        return name
    offset = dt.datetime.now().astimezone().utcoffset() or dt.timedelta()
    minutes = int(offset.total_seconds()) // 60
    return f"UTC{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}" if minutes else "UTC"


CALLS = (Call(path="/session", summary="Tell who asks.", handle=session, answer=Session),)
