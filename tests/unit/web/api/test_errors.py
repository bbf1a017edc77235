"""Calls for groups of errors."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.error_groups import failed, opened
from tests.support.page import Anybody, Client, bounds, make_page, make_settings, seed
from tests.support.stores import JOURNAL, NOW, block, line, never

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from starlette.authentication import AuthenticationBackend


def make_client(path: Path, backend: AuthenticationBackend | None = None) -> Client:
    """Return a client of a collector with two groups."""
    settings = make_settings(path)
    with opened(settings.errors) as store:
        store.write(
            [block(0, [failed(1), failed(2), failed(3, service="pay").replace(b"in add", b"in charge")])], never
        )
    return Client(make_page(settings, backend))


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    """Return a client that may do everything."""
    with contextlib.closing(make_client(tmp_path)) as made:
        yield made


def keys(client: Client, **params: Any) -> list[str]:
    """Return the ids of the groups that a list has."""
    return [one["id"] for one in client.get("/errors", **params).json()["groups"]]


def test_groups_are_listed(client: Client) -> None:
    """With their numbers by state, and by every parameter."""
    found = client.get("/errors", order="count").json()
    assert found["counts"] == {"open": 2, "regressed": 0, "muted": 0, "resolved": 0}
    assert [one["count"] for one in found["groups"]] == [2, 1]
    assert keys(client, order="last") == keys(client, order="count")[::-1]
    assert len(keys(client, service="pay")) == len(keys(client, text="charge")) == len(keys(client, limit=1)) == 1
    assert keys(client, offset=2) == keys(client, state=["muted", "resolved"]) == []
    assert client.get("/errors", limit=1).json()["matching"] == 2
    assert client.get("/errors", service="pay").json()["matching"] == 1
    assert client.get("/errors/services").json() == {"services": ["pay", "shop"]}
    assert client.get("/errors", state="shut").json()["error"]["parameter"] == "state"


def test_a_group_is_shown_and_changed(client: Client) -> None:
    """Each change is noted with the user's name."""
    key = keys(client, order="count")[0]
    assert client.get(f"/errors/{key}").json()["group"]["state"] == "open"

    def change(**body: Any) -> Any:
        answer = client.request("POST", f"/errors/{key}", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    assert change(action="resolve", version="2.5")["resolved_in"] == "2.5"
    assert change(action="reopen")["state"] == "open"
    assert change(action="mute", more=3)["muted_count"] == 5
    assert change(action="mute", for_s=60)["muted_until"] > 0
    assert change(action="assign", text="bob")["assignee"] == "bob"
    assert change(action="note", text="see 7")["note"] == "see 7"
    shown = client.get(f"/errors/{key[3:9]}").json()
    told = ["noted", "assigned", "muted", "muted", "opened", "resolved", "new"]
    assert [one["what"] for one in shown["events"]] == told
    assert {one["who"] for one in shown["events"][:-1]} == {"tester"}
    assert (len(shown["hours"]), shown["hours_from"] % 3600) == (336, 0)
    assert shown["samples"][0]["record"]["exc_text"].endswith("KeyError: 1")


@pytest.mark.parametrize(
    ("body", "status"),
    [({}, 400), ({"action": "drop"}, 400), ({"action": "mute", "more": -1}, 400), ({"action": "note", "x": 1}, 400),
     ({"action": "note", "text": "x" * 5_000}, 400)],
)  # fmt: skip
def test_wrong_changes_are_refused(client: Client, body: dict[str, Any], status: int) -> None:
    """Nothing changes."""
    key = keys(client)[0]
    assert client.request("POST", f"/errors/{key}", json=body).status_code == status
    assert client.get(f"/errors/{key}").json()["group"]["state"] == "open"


@pytest.mark.parametrize("key", ["g1:0000000000000000", "x", "%25", "g1:%00", "..%2f..", "a" * 5_000])
def test_a_group_that_is_not_there(client: Client, key: str) -> None:
    """Is said to be missing."""
    for method in ("GET", "POST"):
        answer = client.request(method, f"/errors/{key}", json={"action": "reopen"})
        assert answer.status_code == 404, answer.text


def test_who_may_do_what(tmp_path: Path) -> None:
    """A viewer sees groups and changes none; a share link shows records only."""
    (tmp_path / "a").mkdir()
    with contextlib.closing(make_client(tmp_path / "a", Anybody(("view",)))) as viewer:
        key = keys(viewer)[0]
        assert viewer.get(f"/errors/{key}").status_code == 200
        assert viewer.request("POST", f"/errors/{key}", json={"action": "resolve"}).status_code == 403
    (tmp_path / "b").mkdir()
    with contextlib.closing(make_client(tmp_path / "b", Anybody(("view",), bounds("level>=ERROR")))) as shared:
        paths = ("/errors", "/errors/services", f"/errors/{key}")
        assert [shared.get(path).status_code for path in paths] == [403] * 3


def test_a_record_leads_to_its_group(tmp_path: Path) -> None:
    """To that of its place if this was split off; other records, and errors that no group counts, lead nowhere."""
    settings = make_settings(tmp_path)
    counted = [failed(1), failed(2), failed(3).replace(b"line 17", b"line 18")]
    with opened(settings.errors) as store:
        store.write([block(0, counted)], never)
    seed(settings, [*counted, line(NOW, levelno=20), failed(5).replace(b"in add", b"in charge")])
    with contextlib.closing(Client(make_page(settings))) as client:
        (group,) = client.get("/errors").json()["groups"]
        answers = [client.get(f"/records/{JOURNAL}-{number}/group") for number in range(6)]
        assert [one.status_code for one in answers] == [200, 200, 200, 404, 404, 404]
        assert {one.json()["id"] for one in answers[:3]} == {group["id"]}
        assert "is not an error" in answers[3].json()["error"]["message"]
        assert "no group counts record" in answers[4].json()["error"]["message"]
        places = [one["name"] for one in client.get(f"/errors/{group['id']}").json()["variants"]]
        assert len(places) == 2
        split = client.request("POST", f"/errors/{group['id']}", json={"action": "split", "text": places[1]}).json()[
            "id"
        ]
        ids = [client.get(f"/records/{JOURNAL}-{number}/group").json()["id"] for number in range(3)]
        assert sorted(ids) == sorted([group["id"], group["id"], split])


def test_without_groups(tmp_path: Path) -> None:
    """The answer says what makes them."""
    with contextlib.closing(Client(make_page(make_settings(tmp_path)))) as client:
        answer = client.get("/errors")
    assert answer.status_code == 503
    assert "they are made by a collector with [errors]" in answer.json()["error"]["message"]
