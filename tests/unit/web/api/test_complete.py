"""Ways to go on with a query at the caret."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from prefork_logd.web.api import complete
from tests.support.page import Anybody, Client, bounds, make_page, make_settings, seed
from tests.support.stores import NOW, line

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from prefork_logd.config.settings import Settings


@pytest.fixture
def mixed(tmp_path: Path) -> Settings:
    """Return a store with fields and values that need quotes."""
    settings = make_settings(tmp_path)
    given: list[dict[str, Any]] = [
        {"tenant": "north", "name": "shop.cart", "levelname": "AUDIT", "levelno": 35},
        {"tenant": "north", "name": "shop.cart.item"},
        {"tenant": 'south "new"', "name": "web", "http": {"status": 500}},
        {"tenant": None, "a key": [1], "service": "mine"},
    ]
    seed(settings, [line(NOW + number, **values) for number, values in enumerate(given)])
    return settings


@pytest.fixture
def client(mixed: Settings) -> Iterator[Client]:
    """Return a client of it."""
    with contextlib.closing(Client(make_page(mixed))) as made:
        yield made


def items(client: Client, q: str, **params: Any) -> list[str]:
    """Return the texts that are offered."""
    return [one["text"] for one in client.get("/complete", q=q, **params).json()["items"]]


def test_fields_are_offered(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fields have an operator behind them and the number of their records; `extra.` is left out."""
    answer = client.get("/complete", q="ten").json()
    assert answer == {"from": 0, "to": 3, "items": [{"text": "tenant:", "kind": "field", "count": 3}]}
    assert items(client, "le") == ["level:", "levelname:", "levelno:"]
    assert items(client, "stat") == ["http.status:"]
    assert items(client, "a k") == ["stack:", 'extra."a key":']
    assert items(client, "tenant:north AN")[-1] == "AND"
    assert items(client, "te=x", position=2) == ["tenant", "created"]
    monkeypatch.setattr(complete, "MOST_ITEMS", 7)
    assert items(client, "") == ["level:", "logger:", "exc:", "stack:", "time:", "created:", "levelname:"]


def test_values_are_offered(client: Client) -> None:
    """Values come with their counts, in quotes where the language needs them."""
    answer = client.get("/complete", q="a tenant:").json()
    assert (answer["from"], answer["to"]) == (9, 9)
    assert answer["items"] == [
        {"text": "north", "kind": "value", "count": 2},
        {"text": r'"south \"new\""', "kind": "value", "count": 1},
    ]
    assert items(client, "tenant:SOU") == [r'"south \"new\""']
    assert items(client, "tenant:(north OR s") == [r'"south \"new\""']
    assert items(client, "http.status>=") == ["500"]
    assert items(client, "nothing:x") == []
    assert items(client, "Message:x") == []


def test_levels_and_loggers_have_names(client: Client) -> None:
    """Levels of records come first; a logger has parents."""
    names = items(client, "level>=")
    assert names[:2] == ["INFO", "AUDIT"]
    assert "CRITICAL" in names
    found = client.get("/complete", q="logger:sho").json()["items"]
    assert [(one["text"], one["count"]) for one in found] == [
        ("shop", 3), ("shop.cart", 2), ("shop.cart.item", 1), ("shop.orders", 1)
    ]  # fmt: skip


def test_every_offer_is_a_query(client: Client) -> None:
    """Each value that is offered finds as many records as it says."""
    for field in ("tenant", "levelname", "http.status", "logger"):
        found = client.get("/complete", q=f"{field}:").json()["items"]
        assert found
        for one in found:
            assert client.get("/count", q=f"{field}:{one['text']}").json()["count"] == one["count"]


def test_answers_are_remembered_for_a_moment(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store is not searched for each letter; a little later it is."""
    first = items(client, "tenant:n")
    monkeypatch.setattr(complete, "_facet", lambda *_: iter([complete._Candidate("new", "new")]))
    assert items(client, "tenant:n") == first
    assert items(client, "tenant:n", since="@0") == ["new"]
    monkeypatch.setattr(complete, "REMEMBERED_S", 0.0)
    assert items(client, "tenant:n") == ["new"]


def test_rare_values_are_found_by_their_beginning(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """If there are more values than are remembered, the store is asked for those that begin so."""
    monkeypatch.setattr(complete, "TOP", 1)
    assert items(client, "tenant:") == ["north"]
    assert items(client, "tenant:so") == [r'"south \"new\""']


def test_a_share_may_name_a_level_of_services(mixed: Settings) -> None:
    """Its query is read with the levels that records carry."""
    with contextlib.closing(Client(make_page(mixed, Anybody(("view",), bounds("level>=AUDIT"))))) as client:
        assert items(client, "tenant:") == ["north"]
        assert "tenant:" in items(client, "ten")


def test_a_share_offers_its_own_values(mixed: Settings) -> None:
    """Values of other records are not told."""
    with contextlib.closing(Client(make_page(mixed, Anybody(("view",), bounds("name=web"))))) as client:
        assert items(client, "tenant:") == [r'"south \"new\""']
        assert items(client, "a key") == []
        assert "http.status:" in items(client, "http")
