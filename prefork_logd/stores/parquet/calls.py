"""Ends the calls of a search that take too long or are cancelled.

Owns the deadline. Does not know queries: it interrupts whatever runs.
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING

from prefork_logd.errors import QueryCancelledError, QueryTimeoutError, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Calls:
    """The calls of one search, one at a time; another thread may cancel the running one."""

    def __init__(self, interrupt: Callable[[], object]) -> None:
        """Call `interrupt` to make the running statement fail."""
        self._interrupt = interrupt
        self._deadline_s = 0.0
        self._ends_s = 0.0
        self._is_cancelled = False

    def begin(self, deadline_s: float) -> None:
        """Begin a call that may take so many seconds."""
        self._deadline_s = deadline_s
        self._ends_s = time.monotonic() + deadline_s
        self._is_cancelled = False

    def cancel(self) -> None:
        """End the running call."""
        self._is_cancelled = True
        self._interrupt()

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Interrupt the call in this block at the deadline.

        Raises QueryTimeoutError or QueryCancelledError for the StoreError that follows.
        """
        self._check()
        timer = threading.Timer(max(0.0, self._ends_s - time.monotonic()), self._interrupt)
        timer.daemon = True
        timer.start()
        try:
            yield
        except StoreError:
            self._check()
            raise
        finally:
            timer.cancel()

    def _check(self) -> None:
        if self._is_cancelled:
            raise QueryCancelledError
        if time.monotonic() >= self._ends_s:
            raise QueryTimeoutError(self._deadline_s)
