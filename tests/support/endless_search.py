"""Provides a search that ends only when it is cancelled."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from prefork_logd.errors import QueryCancelledError
from prefork_logd.query.search import Limits

if TYPE_CHECKING:
    from prefork_logd.query.filters import Filters


class Endless:
    """A search whose calls end when they are cancelled."""

    def __init__(self) -> None:
        self.limits = Limits()
        self.began = threading.Event()
        self.is_closed = False
        self._cancelled = threading.Event()

    def count(self, _: Filters) -> int:
        """Wait until it is cancelled; raise QueryCancelledError."""
        self.began.set()
        if not self._cancelled.wait(30):
            raise AssertionError("it was not cancelled")
        raise QueryCancelledError

    def cancel(self) -> None:
        """End the call that waits."""
        self._cancelled.set()

    def close(self) -> None:
        """Note that it is closed."""
        self.is_closed = True
