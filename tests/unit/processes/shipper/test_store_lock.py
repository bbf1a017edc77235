"""A store has one shipper: the second one waits for the first."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from prefork_logd.errors import StoreError
from prefork_logd.processes.shipper.store_lock import StoreLock

if TYPE_CHECKING:
    from pathlib import Path


def test_a_lock_has_one_owner(tmp_path: Path) -> None:
    """Until the owner has ended."""
    first, second = StoreLock(tmp_path / "lock"), StoreLock(tmp_path / "lock")
    assert first.acquire()
    assert first.acquire()
    assert not second.acquire()
    os.close(first.fd)
    assert second.acquire()
    os.close(second.fd)


def test_a_lock_that_cannot_be_made(tmp_path: Path) -> None:
    """The path and the reason are named."""
    with pytest.raises(StoreError, match="gone/lock: cannot lock it: No such file"):
        StoreLock(tmp_path / "gone" / "lock").acquire()
