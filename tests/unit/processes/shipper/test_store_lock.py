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


def test_a_journal_that_was_moved_is_missed(tmp_path: Path) -> None:
    """Also by the owner of the lock; it is found again."""
    (tmp_path / "journal").mkdir()
    lock = StoreLock(tmp_path / "journal" / "lock")
    assert lock.acquire()
    lock.require_place()
    (tmp_path / "journal").rename(tmp_path / "moved")
    with pytest.raises(
        StoreError, match=f"{tmp_path}/journal: is missing; if it or the state directory was moved, put"
    ):
        lock.require_place()
    (tmp_path / "moved").rename(tmp_path / "journal")
    lock.require_place()
    os.close(lock.fd)


def test_a_lock_that_cannot_be_made(tmp_path: Path) -> None:
    """The path and the reason are named."""
    with pytest.raises(StoreError, match="gone/lock: cannot lock it: No such file"):
        StoreLock(tmp_path / "gone" / "lock").acquire()
