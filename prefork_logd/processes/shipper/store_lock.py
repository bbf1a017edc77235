"""Locks a store, so that it has one shipper: one of a dead master may be about to end.

Owns the lock file. Knows no stores and no journal.
"""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING

from prefork_logd.errors import StoreError

if TYPE_CHECKING:
    from pathlib import Path


class StoreLock:
    """The lock of one store. The kernel lets go of it when the process ends."""

    def __init__(self, path: Path) -> None:
        self.fd = -1
        self._path = path
        self._is_taken = False

    def acquire(self) -> bool:
        """Tell whether the lock is ours, and take it if no other process has it. Raises StoreError."""
        if self._is_taken:
            return True
        try:
            if self.fd < 0:
                self.fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            raise StoreError(f"{self._path}: cannot lock it: {error.strerror}") from error
        self._is_taken = True
        return True
