"""Relative times become absolute, by the server's clock and in the reader's zone."""

from __future__ import annotations

import contextlib
import datetime as dt
import time
import zoneinfo
from typing import TYPE_CHECKING

from tests.support.page import Client, make_page, make_settings

if TYPE_CHECKING:
    from pathlib import Path


def test_relative_times_become_absolute(tmp_path: Path) -> None:
    """Spans, words and times of day; a missing bound stays missing, a wrong one is an error with its place."""
    zone = zoneinfo.ZoneInfo("Asia/Tokyo")
    with contextlib.closing(Client(make_page(make_settings(tmp_path)))) as client:
        began = time.time()
        found = client.get("/range", since="today", until="now", tz="Asia/Tokyo").json()
        midnight = dt.datetime.fromtimestamp(found["until"], zone).replace(hour=0, minute=0, second=0, microsecond=0)
        assert found["since"] == midnight.timestamp()
        assert began <= found["until"] <= time.time()
        assert client.get("/range", since="@5", until="").json() == {"since": 5.0, "until": None}
        assert client.get("/range").json() == {"since": None, "until": None}
        assert began - 901 < client.get("/range", since="15m").json()["since"] < time.time() - 899
        answer = client.get("/range", since="soon")
        assert (answer.status_code, answer.json()["error"]["parameter"]) == (400, "since")
