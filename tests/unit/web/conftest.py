"""Gives tests of the page a store with a few records, and a client of its application."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from tests.support.page import Client, make_page, make_settings, seed
from tests.support.page_records import lines

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from prefork_logd.config.settings import Settings


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
