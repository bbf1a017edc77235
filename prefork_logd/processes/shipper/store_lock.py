"""Locks a store, so that it has one shipper even while the shipper of a dead master still ends.

Owns the lock file. Does not know stores or the journal.
"""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING

from prefork_logd.errors import StoreError, describe_refusal

if TYPE_CHECKING:
    from pathlib import Path


class StoreLock:
    """The lock of one store. The kernel releases it at the end of the process."""

    def __init__(self, path: Path) -> None:
        self.fd = -1
        self._path = path
        self._is_taken = False

    def require_place(self) -> None:
        """Raise StoreError if the journal has gone: a store that is opened would make another state directory."""
        if not self._path.parent.is_dir():
            what = "is missing; if it or the state directory was moved, put it back; records wait in it meanwhile"
            raise StoreError(f"{self._path.parent}: {what}")

    def acquire(self) -> bool:
        """Acquire the lock, unless this process has it; return False if another process does. Raises StoreError."""
        if self._is_taken:
            return True
        try:
            if self.fd < 0:
                self.fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            raise StoreError(f"{self._path}: cannot lock it: {describe_refusal(error)}") from error
        self._is_taken = True
        return True
