"""Bars over time, values of fields, and the fields there are."""

from __future__ import annotations

import contextlib
from collections import Counter
from typing import TYPE_CHECKING

from tests.support.page import Anybody, Client, bounds, make_page, make_settings, seed
from tests.support.page_records import RECORDS
from tests.support.stores import NOW, line

if TYPE_CHECKING:
    from pathlib import Path


def test_bars_cover_the_span_of_the_store(client: Client) -> None:
    """Without a range the slots begin at the first record and end at the last; each record is in one bar."""
    found = client.get("/histogram", slots=12).json()
    assert found["start"] <= NOW
    assert found["start"] + found["slot_s"] * found["slots"] > NOW + RECORDS - 1
    assert found["slot_s"] == 10
    assert 12 <= found["slots"] <= 13
    by_level: Counter[int] = Counter()
    for bar in found["bars"]:
        by_level[bar["levelno"]] += bar["count"]
    assert by_level == {40: 12, 20: 108}


def test_bars_begin_at_midnight_of_the_zone(client: Client) -> None:
    """Slots of a day are days of the reader's time zone."""
    range_ = {"since": "@1795000000", "until": "@1795900000", "slots": 15}
    days = client.get("/histogram", tz="Asia/Kolkata", **range_).json()
    assert days["slot_s"] == 86_400
    assert (days["start"] + 5.5 * 3600) % 86_400 == 0


def test_bars_of_nothing(client: Client) -> None:
    """A query without a result has slots and no bars; a range of no length is not an error."""
    assert client.get("/histogram", q="nothing").json()["bars"] == []
    assert client.get("/histogram", since="@20", until="@10").json()["bars"] == []


def test_facets_have_counts_and_coverage(client: Client) -> None:
    """Values come with their counts, the others and the missing ones are counted."""
    found = client.get("/facets", field=["name", "extra.status", "absent"], top=1).json()
    assert found["coverage"] == {"records": RECORDS, "is_complete": True}
    assert found["facets"] == [
        {"field": "name", "values": [{"value": "shop.cart", "count": 80}], "others": 40, "missing": 0},
        {"field": "extra.status", "values": [{"value": 200, "count": 108}], "others": 12, "missing": 0},
        {"field": "absent", "values": [], "others": 0, "missing": RECORDS},
    ]


def test_facets_need_fields(client: Client) -> None:
    """No field, a wrong one and too many are refused."""
    for params, part in (
        ({}, "field is missing"),
        ({"field": "a b"}, "is not a field"),
        ({"field": ["a"] * 21}, "at most 20 times"),
    ):
        answer = client.get("/facets", **params)
        assert answer.status_code == 400
        assert part in answer.json()["error"]["message"]
        assert answer.json()["error"]["parameter"] == "field"


def test_fields_have_types(client: Client) -> None:
    """Each field comes with the number of records and their types."""
    found = client.get("/fields", q="level>=ERROR").json()
    assert found["coverage"] == {"records": 12, "is_complete": True}
    fields = {one["field"]: one for one in found["fields"]}
    assert fields["extra.status"] == {"field": "extra.status", "records": 12, "types": {"number": 12}}
    assert fields["message"]["types"] == {"text": 12}


def test_aggregates_by_groups(client: Client) -> None:
    """The table has the columns of the question."""
    found = client.get("/stats", stats="count, max(lineno), p50(extra.status) by name").json()
    assert found == {
        "columns": ["name", "count", "max(lineno)", "p50(extra.status)"],
        "rows": [["shop.cart", 80, None, 200.0], ["shop.orders", 40, None, 200.0]],
        "left_out": 0,
        "coverage": {"records": RECORDS, "is_complete": True},
        "groups": 1,
    }
    answer = client.get("/stats", stats="median by name")
    assert answer.status_code == 400
    assert answer.json()["error"]["parameter"] == "stats"


def test_patterns_of_messages(client: Client) -> None:
    """Numbers are placeholders, and all messages one pattern."""
    found = client.get("/patterns", q="level>=ERROR").json()
    assert found["coverage"] == {"records": 12, "is_complete": True}
    assert found["others"] == 0
    (pattern,) = found["patterns"]
    assert pattern == {
        "text": "record <number> took <number> ms",
        "count": 12,
        "first": NOW,
        "last": NOW + 110,
        "example": "record 110 took 110 ms",
    }


def test_levels_are_the_known_ones_and_those_of_records(tmp_path: Path) -> None:
    """A level of a service's own has its number; a share link does not tell it."""
    settings = make_settings(tmp_path)
    seed(settings, [line(NOW, levelno=35, levelname="AUDIT")])
    with contextlib.closing(Client(make_page(settings))) as client:
        found = client.get("/levels").json()["levels"]
        assert {"name": "AUDIT", "levelno": 35} in found
        assert {"name": "ERROR", "levelno": 40} in found
        assert [one["levelno"] for one in found] == sorted(one["levelno"] for one in found)
    with contextlib.closing(Client(make_page(settings, Anybody(("view",), bounds("x"))))) as client:
        assert "AUDIT" not in client.get("/levels").text
