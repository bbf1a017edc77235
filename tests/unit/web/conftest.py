"""Gives tests of the page a store with a few records, and a client of its application."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from tests.support.page import Client, make_page, make_settings, seed
from tests.support.stores import NOW, line

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from prefork_logd.config.settings import Settings

RECORDS = 120


def lines() -> list[bytes]:
    """Return the records of the store: one a second, of two loggers, each tenth an error."""
    return [
        line(
            NOW + number,
            name="shop.cart" if number % 3 else "shop.orders",
            levelno=40 if number % 10 == 0 else 20,
            msg=f"record {number} took {number} ms",
            process=7 + number % 2,
            status=500 if number % 10 == 0 else 200,
        )
        for number in range(RECORDS)
    ]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Return the settings of a collector with a store of `lines`."""
    made = make_settings(tmp_path)
    seed(made, lines())
    return made


@pytest.fixture
def client(settings: Settings) -> Iterator[Client]:
    """Return a client that may do everything."""
    with contextlib.closing(Client(make_page(settings))) as made:
        yield made
