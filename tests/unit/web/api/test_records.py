"""Pages of records and their number."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from prefork_logd.query.filters import Filters
from prefork_logd.query.search import Cursor, Found, Page, RecordId
from prefork_logd.web.api.records import MOST_BYTES, read_page
from prefork_logd.web.search_pool import Lease
from tests.support.page import JOURNAL
from tests.support.stores import NOW
from tests.unit.web.conftest import RECORDS, lines

if TYPE_CHECKING:
    from tests.support.page import Client


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


def test_a_page_of_large_records_is_short() -> None:
    """Not more records are read than fit; the cursor leads to the others."""
    search = _LargeRecords()
    found, cursor = read_page(Lease(search, 10, None), Filters(limit=1000), None)  # type: ignore[arg-type]
    assert len(found) * (1 << 20) < MOST_BYTES + (100 << 20)
    assert cursor == found[-1].cursor
    assert search.asked == [100]
