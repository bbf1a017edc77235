"""Pages of records and their number."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest

from prefork_logd.query.filters import Filters
from prefork_logd.query.search import Cursor, Found, Page, RecordId
from prefork_logd.web.api.records import FIRST_RECORDS, MOST_BYTES, read_page
from prefork_logd.web.search_pool import Lease
from tests.support.page import Anybody, Client, bounds, make_page, make_settings, seed
from tests.support.page_records import ODD_LINES, RECORDS, lines
from tests.support.stores import JOURNAL, NOW, line

if TYPE_CHECKING:
    from pathlib import Path

    from prefork_logd.config.settings import Settings


def test_pages_have_every_record_once(client: Client) -> None:
    """The cursor leads from page to page, newest first, until there is none."""
    found: list[dict[str, object]] = []
    cursor = None
    while True:
        page = client.get("/records", limit=50, **({"cursor": cursor} if cursor else {})).json()
        found += page["records"]
        assert page["problems"] == []
        cursor = page["cursor"]
        if cursor is None:
            break
    assert [one["record"] for one in found] == [json.loads(one) for one in reversed(lines())]
    assert [one["id"] for one in found] == [f"{JOURNAL}-{number}" for number in reversed(range(RECORDS))]
    assert found[0]["created"] == NOW + RECORDS - 1


def test_conditions_order_and_times_are_applied(client: Client) -> None:
    """A query, a range and an order select the records."""
    page = client.get("/records", q="level>=ERROR", since=f"@{NOW + 10}", until=f"@{NOW + 40}", order="oldest").json()
    assert [one["record"]["created"] - NOW for one in page["records"]] == [10, 20, 30]
    assert client.get("/count", q="status=500").json() == {"count": 12}


def test_times_are_read_in_the_zone(client: Client) -> None:
    """The same text is another time in another zone, also inside of the query."""
    written = "2026-11-22T17:24:10.5"  # NOW in Honolulu
    hawaii = {"tz": "Pacific/Honolulu"}
    assert client.get("/count", since=written, **hawaii).json()["count"] == RECORDS
    assert client.get("/count", until=written, tz="UTC").json()["count"] == 0
    query = f"created<{written}"
    assert client.get("/count", q=query, **hawaii).json()["count"] == 0


def test_a_wrong_cursor_is_refused(client: Client) -> None:
    """The error names the parameter and the remedy."""
    answer = client.get("/records", cursor="1_x")
    assert answer.status_code == 400
    assert answer.json()["error"]["parameter"] == "cursor"
    assert "is not the id of a record" in answer.json()["error"]["message"]


class _LargeRecords:
    """A search whose records are a mebibyte each."""

    def __init__(self) -> None:
        self.asked: list[int | None] = []
        self.limits = None

    def page(self, filters: Filters, cursor: Cursor | None = None) -> Page:
        self.asked.append(filters.limit)
        first = cursor.id.number + 1 if cursor else 0
        found = [
            Found(RecordId(JOURNAL, number), float(number), bytes(1 << 20))
            for number in range(first, first + (filters.limit or 50))
        ]
        return Page(found, found[-1].cursor)


@pytest.mark.parametrize("limit", [1000, MOST_BYTES >> 20])
def test_a_page_of_large_records_is_short(limit: int) -> None:
    """It ends with the record that does not fit; the cursor leads to the others, also if that was the last one read."""
    search = _LargeRecords()
    found, cursor = read_page(Lease(search, 10, None), Filters(limit=limit), None)  # type: ignore[arg-type]
    assert len(found) << 20 == MOST_BYTES
    assert cursor == found[-1].cursor
    assert search.asked == [min(limit, FIRST_RECORDS)]


def test_one_record_and_its_line(client: Client) -> None:
    """A record is found by its id; its line is what was stored."""
    found = client.get(f"/records/{JOURNAL}-7").json()
    assert found == {"id": f"{JOURNAL}-7", "created": NOW + 7, "record": json.loads(lines()[7])}
    answer = client.get(f"/records/{JOURNAL}-7/line")
    assert answer.content == lines()[7]
    assert answer.headers["cache-control"] == "no-store"


def test_lines_keep_every_byte(tmp_path: Path) -> None:
    """Large integers, lone surrogates, keys that occur twice, and white space come back as they were stored."""
    settings = make_settings(tmp_path)
    seed(settings, ODD_LINES)
    with contextlib.closing(Client(make_page(settings))) as client:
        for number, line in enumerate(ODD_LINES):
            assert client.get(f"/records/{JOURNAL}-{number}/line").content == line
        page = client.get("/records", order="oldest").content
        for line in ODD_LINES:
            assert line.rstrip() in page


@pytest.mark.parametrize(
    "name", ["7", f"{JOURNAL}-", f"{JOURNAL}-x", f"{JOURNAL}-{'9' * 19}", "%00", "%ff", "x" * 5000]
)
def test_an_odd_id_is_refused(client: Client, name: str) -> None:
    """The answer says how an id is written."""
    for path in (f"/records/{name}", f"/records/{name}/line", f"/records/{name}/around"):
        answer = client.get(path)
        assert answer.status_code == 400
        assert "is not the id of a record" in answer.json()["error"]["message"]


def test_an_unknown_id_is_not_found(client: Client) -> None:
    """The record may have been removed."""
    for path in ("", "/line", "/around"):
        answer = client.get(f"/records/{JOURNAL}-{RECORDS}{path}")
        assert answer.status_code == 404
        assert "not in the store, or no longer" in answer.json()["error"]["message"]


def test_neighbours_of_a_record(client: Client) -> None:
    """The records beside it come in order of time, all of them or those of the same process."""
    found = client.get(f"/records/{JOURNAL}-50/around", before=2, after=3).json()
    assert [one["record"]["created"] - NOW for one in found["before"]] == [48, 49]
    assert found["record"]["record"]["created"] == NOW + 50
    assert [one["record"]["created"] - NOW for one in found["after"]] == [51, 52, 53]
    found = client.get(f"/records/{JOURNAL}-50/around", before=2, after=0, same="process").json()
    assert [one["record"]["created"] - NOW for one in found["before"]] == [46, 48]
    assert found["after"] == []
    answer = client.get(f"/records/{JOURNAL}-50/around", same="task")
    assert answer.status_code == 400
    assert answer.json()["error"]["parameter"] == "same"


def test_a_share_has_one_store(tmp_path: Path) -> None:
    """Whatever the request asks for."""
    settings = make_settings(
        tmp_path, "".join(f'[[store]]\ntype = "parquet"\nname = "{name}"\npath = "{name}"\n' for name in "ab")
    )
    seed(settings, [line(NOW, msg="in a")], store=0)
    seed(settings, [line(NOW, msg="in b"), line(NOW + 1, msg="in b")], store=1)
    for store, count in (("a", 1), ("b", 2), (None, 1)):
        backend = Anybody(("view",), bounds("in", store=store))
        with contextlib.closing(Client(make_page(settings, backend))) as client:
            for asked in ("a", "b", "none", ""):
                assert client.get("/count", store=asked).json() == {"count": count}


def test_times_of_a_share_are_in_its_zone(settings: Settings) -> None:
    """The reader's zone is for the reader's own query."""
    there = datetime.fromtimestamp(NOW + 60, ZoneInfo("Pacific/Honolulu")).strftime("%Y-%m-%dT%H:%M:%S")
    backend = Anybody(("view",), replace(bounds(f"created>={there}"), tz="Pacific/Honolulu"))
    with contextlib.closing(Client(make_page(settings, backend))) as client:
        assert client.get("/count", tz="Asia/Tokyo").json() == {"count": 60}


def test_a_share_has_no_other_records(settings: Settings) -> None:
    """Ids and neighbours outside of the link's records are not found."""
    backend = Anybody(("view",), bounds("level>=ERROR", f"@{NOW}", f"@{NOW + 60}"))
    with contextlib.closing(Client(make_page(settings, backend))) as client:
        assert client.get(f"/records/{JOURNAL}-51").status_code == 404
        assert client.get(f"/records/{JOURNAL}-51/line").status_code == 404
        assert client.get(f"/records/{JOURNAL}-90/line").status_code == 404
        found = client.get(f"/records/{JOURNAL}-50/around").json()
        assert [one["record"]["created"] - NOW for one in found["before"]] == [0, 10, 20, 30, 40]
        assert found["after"] == []
