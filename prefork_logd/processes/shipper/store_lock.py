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

    @property
    def missed(self) -> str:
        """The problem if the journal has gone from its path; empty if it is there.

        A store whose files went with it fails, too, with a remedy that would not help, such as to create them.
        """
        try:
            self._path.parent.stat()
        except (FileNotFoundError, NotADirectoryError):
            what = "is missing; if it or the state directory was moved, put it back; records wait in it meanwhile"
            return f"{self._path.parent}: {what}"
        except OSError:
            pass  # Whatever is done there fails in the same way.
        return ""

    def require_place(self) -> None:
        """Raise StoreError if the journal has gone: a store that is opened would make another state directory."""
        if missed := self.missed:
            raise StoreError(missed)

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
