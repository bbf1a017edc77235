"""Relative times become absolute, by the server's clock and in the reader's zone."""

from __future__ import annotations

import contextlib
import datetime as dt
import re
import time
import zoneinfo
from typing import TYPE_CHECKING

import pytest

from tests.support.page import Anybody, Client, bounds, make_page, make_settings, seed
from tests.support.stores import line

if TYPE_CHECKING:
    from pathlib import Path

    from prefork_logd.config.settings import Settings


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


def _ahead(settings: Settings) -> None:
    """Store a record of now, and one of a clock that is ten minutes ahead."""
    now = time.time()
    seed(settings, [line(now - 5, msg="in time"), line(now - 4, msg="ahead", created=now + 600)])


def test_a_lasting_search_keeps_records_of_clocks_that_are_ahead(tmp_path: Path) -> None:
    """With a bound of `received` in the query; a search with an end, or without such records, has none."""
    settings = make_settings(tmp_path)
    with contextlib.closing(Client(make_page(settings))) as client:
        began = time.time()
        found = client.get("/lasting", since="1h", q="ahead").json()
        assert (found["q"], found["until"]) == ("ahead", pytest.approx(began, abs=30))
        _ahead(settings)
        answer = client.get("/lasting", since="1h", q="-nothing").json()
        assert re.fullmatch(r'\(-nothing\) -received>="20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"', answer["q"])
        given = {"q": answer["q"], "since": f"@{answer['since']}", "until": f"@{answer['until']}"}
        assert client.get("/count", **given).json() == {"count": 2}
    seed(settings, [line(time.time() + 1, msg="later")], 2)
    with contextlib.closing(Client(make_page(settings))) as client:
        assert client.get("/count").json() == {"count": 3}
        assert client.get("/count", **given).json() == {"count": 2}
        assert client.get("/lasting", since="1h", until="now", q="ahead").json()["q"] == "ahead"
        assert client.get("/lasting", since="1h", q="time").json()["q"] == "time"
        assert client.get("/lasting", q="(").status_code == 400
    with contextlib.closing(Client(make_page(settings, Anybody(("view",), bounds("time"))))) as client:
        assert client.get("/lasting", since="1h").json()["q"] == ""
