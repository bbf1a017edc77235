"""The filter of a store as a tree means what the collector's routing means."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from prefork_logd.config.stores.base import StoreSettings
from prefork_logd.ingest.routing import Router
from prefork_logd.query.evaluate import matches
from prefork_logd.query.store_filter import describe, tree_of
from prefork_logd.query.tree import EVERYTHING

FILTERS = [
    StoreSettings(),
    StoreSettings(level="WARNING"),
    StoreSettings(level=35, loggers=("shop", "mail.queue")),
    StoreSettings(services=("shop", "35")),
    StoreSettings(level="ERROR", loggers=("shop",), services=("shop",), environments=("production", "test")),
]


@pytest.mark.parametrize("settings", FILTERS, ids=describe)
def test_it_chooses_what_routing_chooses(settings: StoreSettings) -> None:
    """For levels, loggers and senders of every kind, also missing ones."""
    router, tree = Router([settings]), tree_of(settings)
    for levelno, name, service, environment in itertools.product(
        (-5, 0, 30, 35, 40), ("shop", "shop.cart", "shopping", "mail.queue", "mail"), ("", "shop", "35"), ("", "test")
    ):
        record: dict[str, Any] = {"levelno": levelno, "name": name, "service": service, "environment": environment}
        stored = {key: value for key, value in record.items() if value != ""}
        assert matches(tree, stored) == bool(router.route(name, levelno, service, environment)), stored


def test_a_store_without_a_filter_has_everything() -> None:
    assert tree_of(FILTERS[0]) == EVERYTHING
    assert describe(FILTERS[0]) == ""


def test_the_filter_is_described() -> None:
    assert describe(FILTERS[4]) == ("level ERROR or above, logger shop, service shop, environment production or test")
