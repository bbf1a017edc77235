"""Calls for saved searches and share links."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

import pytest

from prefork_logd.web.api.endpoint import MOST_BODY_BYTES
from prefork_logd.web.page_files import PageFiles
from prefork_logd.web.shares import Shares
from tests.support.page import Anybody, Client, bounds, make_page, make_settings, seed
from tests.support.stores import NOW, line

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from prefork_logd.web.shares import Bounds


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    """Return a client of a collector without records."""
    with contextlib.closing(Client(make_page(make_settings(tmp_path)))) as made:
        yield made


def post(client: Client, path: str, **body: Any) -> Any:
    """Return the answer to a POST."""
    return client.request("POST", path, json=body)


def test_searches_are_saved_and_removed(client: Client) -> None:
    """Times stay as they are written."""
    assert client.get("/searches").json() == {"searches": []}
    saved = post(client, "/searches", name=" slow ", q="duration_ms>500", since="1h", columns=["tenant"]).json()
    want = {
        "name": "slow", "q": "duration_ms>500", "since": "1h", "until": "", "columns": ["tenant"], "user": "tester"
    }  # fmt: skip
    assert saved == want
    assert post(client, "/searches", name="audit", q="level>=AUDIT").status_code == 200
    assert [one["name"] for one in client.get("/searches").json()["searches"]] == ["audit", "slow"]
    left = client.request("DELETE", "/searches", params={"name": "audit"}).json()
    assert left == {"searches": [want]}
    answer = client.request("DELETE", "/searches", params={"name": "audit"})
    assert answer.status_code == 404
    assert answer.json()["error"]["message"] == "there is no saved search 'audit'"
    assert client.request("DELETE", "/searches").json()["error"]["parameter"] == "name"


@pytest.mark.parametrize(
    ("body", "status", "part"),
    [
        ({"name": "a", "q": "(x"}, 400, "column 1"),
        ({"name": "a", "since": "soon"}, 400, "is not a time"),
        ({"name": " "}, 400, "at least one character"),
        ({"name": "a\x1b"}, 400, "cannot be printed"),
        ({"name": "x" * 101}, 400, "length"),
        ({"q": "a"}, 400, "name"),
        ({"name": "a", "wrong": 1}, 400, "wrong"),
        ({"name": "a", "columns": ["x"] * 51}, 400, "length"),
        ({"name": "a", "q": "x" * MOST_BODY_BYTES}, 413, "more than 65,536 bytes"),
    ],
)
def test_what_cannot_be_saved_is_refused(client: Client, body: dict[str, Any], status: int, part: str) -> None:
    """The answer says why."""
    answer = post(client, "/searches", **body)
    assert answer.status_code == status
    assert part in answer.json()["error"]["message"]
    assert client.get("/searches").json() == {"searches": []}


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b"\xff", b"[" * 10_000, b'{"name":7}'])
def test_a_body_that_is_no_search_is_refused(client: Client, body: bytes) -> None:
    """Whatever it is."""
    answer = client.request("POST", "/searches", content=body)
    assert answer.status_code == 400
    assert "the body is not as it has to be" in answer.json()["error"]["message"]


def test_a_viewer_removes_its_own_searches_only(tmp_path: Path) -> None:
    """The user is part of a saved search."""
    settings = make_settings(tmp_path)
    PageFiles(tmp_path).write("searches.json", b'[{"name":"a","q":"","since":"","until":"","columns":[],"user":"ada"}]')
    for scopes, status in ((("view",), 403), (("view", "admin"), 200)):
        with contextlib.closing(Client(make_page(settings, Anybody(scopes)))) as client:
            assert client.request("DELETE", "/searches", params={"name": "a"}).status_code == status


def test_a_link_has_absolute_times(client: Client, tmp_path: Path) -> None:
    """So it shows the same records later; without an end it ends now."""

    def read(answer: Any) -> Bounds:
        path, text = answer.json()["url"].rsplit("/", 1)
        assert path == "/share"
        found = Shares(PageFiles(tmp_path), 1.0).read(text)
        assert found is not None
        assert found.expires == answer.json()["expires"]
        return found

    before = time.time()
    found = read(post(client, "/shares", q="level>=AUDIT", since="1h"))
    assert found.q == "level>=AUDIT"
    assert before - 3601 <= float((found.since or "")[1:]) <= time.time() - 3599
    assert before - 1 <= float((found.until or "")[1:]) <= time.time() + 1
    assert (found.store, found.tz) == ("parquet", None), "the first store, even if another one becomes the first"
    found = read(post(client, "/shares", since="2026-11-22T17:24:10.5", until=f"@{NOW + 1}", tz="Pacific/Honolulu"))
    assert (found.since, found.until) == (f"@{NOW:.6f}", f"@{NOW + 1:.6f}")
    assert found.tz == "Pacific/Honolulu"
    found = read(post(client, "/shares", lifetime_s=60, store="parquet"))
    assert found.expires == pytest.approx(time.time() + 60, abs=5)


@pytest.mark.parametrize(
    ("body", "part"),
    [
        ({"q": "(x"}, "column 1"),
        ({"q": "x" * 5000}, "write a shorter one"),
        ({"lifetime_s": 1e9}, "web.share_lifetime"),
        ({"lifetime_s": -1}, "lifetime_s"),
        ({"tz": "Mars"}, "is not a time zone"),
        ({"store": "other"}, "there is no such store"),
    ],
)
def test_what_cannot_be_shared_is_refused(client: Client, body: dict[str, Any], part: str) -> None:
    """The answer says why."""
    answer = post(client, "/shares", **body)
    assert answer.status_code == 400
    assert part in answer.json()["error"]["message"]


def test_a_link_keeps_records_of_clocks_that_are_ahead(tmp_path: Path) -> None:
    """Without an end of its own it has those that were there when it was made, whatever their time."""
    settings = make_settings(tmp_path)
    now = time.time()
    seed(settings, [line(now - 5, msg="in time"), line(now - 4, msg="ahead", created=now + 600)])
    with contextlib.closing(Client(make_page(settings))) as client:
        url = post(client, "/shares", q="ahead OR time", since="1h").json()["url"]
    seed(settings, [line(time.time() + 1, msg="later, ahead", created=now + 300)], 2)
    link = Shares(PageFiles(tmp_path), settings.web.share_lifetime_s).read(url.rpartition("/")[2])
    with contextlib.closing(Client(make_page(settings, Anybody(("view",), link)))) as client:
        found = client.get("/records", order="oldest").json()["records"]
        assert [one["record"]["message"] for one in found] == ["in time", "ahead"]


def test_a_share_shares_nothing(tmp_path: Path) -> None:
    """And sees no saved searches."""
    backend = Anybody(("view",), bounds("x"))
    with contextlib.closing(Client(make_page(make_settings(tmp_path), backend))) as client:
        assert client.get("/searches").status_code == 403
        assert post(client, "/searches", name="a").status_code == 403
        assert post(client, "/shares").status_code == 403
