"""A short torture of the stores in every run; `python -m tests.system.stores_torture` has a long one."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from tests.system.stores_torture import StoresTorture, database

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.slow
def test_every_record_is_in_each_store_once_whatever_happens(tmp_path: Path) -> None:
    """Killed shippers, writers, workers and masters, servers that crash, and what their owners do to them."""
    with database() as server:
        torture = StoresTorture(tmp_path, 1, [sys.executable] * 2, server, with_nats=True)
        try:
            assert torture.run(3) > 0
        finally:
            torture.close()
