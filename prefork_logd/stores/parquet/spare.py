"""Keeps a connection to an empty database of DuckDB at hand, since opening one takes longer than many a query.

Owns the connection that nobody has used yet. Does not know what is asked of it.

Each search has a database of its own: DuckDB remembers the footers of files by their paths, and the path of a file that
a search has opened is soon that of another one. So no connection is used twice; the next one is opened in a thread,
while the search runs. Only a process that opens several searches has a spare, of 4 MB: the page, and that of alerts.
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

from prefork_logd.errors import StoreError
from prefork_logd.stores.parquet import engine

if TYPE_CHECKING:
    from pathlib import Path

    import duckdb

    Parameters = tuple[int, int, Path | None]
    """Those of engine.connect."""


class Spare:
    """A connection that is opened before it is needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._has_given = False
        self._opening: threading.Thread | None = None
        self._ready: tuple[Parameters, duckdb.DuckDBPyConnection] | None = None

    def take(self, *parameters: *Parameters) -> duckdb.DuckDBPyConnection:
        """Return a connection as engine.connect does, which nobody else has. Raises StoreError."""
        with self._lock:
            ready, self._ready = self._ready, None
            if self._has_given and self._opening is None:
                self._opening = threading.Thread(target=self._open, args=(parameters,), name="spare connection")
                try:
                    self._opening.start()
                except RuntimeError:
                    # There is no room for the stack of a thread: this search, too, does without a spare.
                    self._opening = None
            self._has_given = True
        if ready is not None:
            if ready[0] == parameters:
                return ready[1]
            ready[1].close()
        return engine.connect(*parameters)

    def _open(self, parameters: Parameters) -> None:
        """Open the next one; without success the search that wants it tries itself, and says why it cannot."""
        opened = None
        with contextlib.suppress(StoreError):
            opened = parameters, engine.connect(*parameters)
        with self._lock:
            self._ready, self._opening = opened, None
