"""The call that says why a query may have found nothing."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from tests.support import shop
from tests.support.page import Anybody, Client, bounds, make_page, make_settings, seed
from tests.support.stores import NOW

if TYPE_CHECKING:
    from pathlib import Path

    from prefork_logd.config.settings import Settings


@pytest.fixture
def mixed(tmp_path: Path) -> Settings:
    """Return a store with records of two services."""
    settings = make_settings(tmp_path)
    kinds = [shop.Kind(0, service, service, "INFO", "", 1, "run") for service in ("billing", "stock")]
    records = [shop.record_of(kind, NOW + number, "done") for number, kind in enumerate(kinds)]
    records[0]["extra"], records[1]["extra"] = {"tenant": "north"}, {"secret": "yes"}
    seed(settings, [*map(shop.render, records)])
    return settings


def test_hints_have_the_query_that_may_be_meant(mixed: Settings) -> None:
    """In the order of the query, about records of the range of time."""
    with contextlib.closing(Client(make_page(mixed))) as client:
        answer = client.get("/hints", q="srevice:stock tenant:NORTH").json()
        assert [(one["column"], one["query"]) for one in answer["hints"]] == [
            (1, "service:stock tenant:NORTH"),
            (15, "srevice:stock tenant:north"),
        ]
        assert "`srevice`" in answer["hints"][0]["message"]
        assert client.get("/hints", q="srevice:stock", until=f"@{NOW - 9}").json() == {"hints": []}
        assert client.get("/hints", q="(").json() == {"hints": []}


def test_hints_of_a_share_link_are_about_its_records(mixed: Settings) -> None:
    """Its reader learns no field or value of other records."""
    seen = Anybody(("view",), bounds(q="service:billing"))
    with contextlib.closing(Client(make_page(mixed, seen))) as client:
        assert client.get("/hints", q="tenants:north").json()["hints"][0]["query"] == "tenant:north"
        for query in ("secrets:yes", "service:stok"):
            assert all(one["query"] == "" for one in client.get("/hints", q=query).json()["hints"])
