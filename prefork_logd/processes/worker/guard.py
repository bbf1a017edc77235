"""Confines an unexpected error to the connection that caused it.

Owns which errors these are, and their log line. Does not know what a connection does.

A bug that one client can reach costs that client its connection, and has no effect on other clients. Errors of the
process itself pass: MemoryError, and those outside Exception (SystemExit, KeyboardInterrupt).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefork_logd.system.log import RateLimitedLog, describe_bug

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from prefork_logd.processes.worker.connection import Connection


class Guard:
    """Closes connections after unexpected errors."""

    def __init__(self, close: Callable[[Connection], None]) -> None:
        """Close connections through `close`, which must not raise."""
        self._close = close
        self._warnings = RateLimitedLog()

    def of(self, connection: Connection) -> Confined:
        """Return a context in which an unexpected error closes `connection`, and ends there."""
        return Confined(self, connection)

    def report(self, connection: Connection, error: Exception) -> None:
        """Log an unexpected error, without closing the connection."""
        self._warnings.warning("%s: closed after an unexpected error: %s", connection.peer, describe_bug(error))

    def close_failed(self, connection: Connection, error: Exception) -> None:
        """Log an unexpected error, and close the connection."""
        self.report(connection, error)
        self._close(connection)


class Confined:
    """Confines errors to a connection."""

    __slots__ = ("_connection", "_guard")

    def __init__(self, guard: Guard, connection: Connection) -> None:
        self._guard = guard
        self._connection = connection

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        """Suppress an unexpected error, and close the connection; errors of the process itself pass."""
        if not isinstance(error, Exception) or isinstance(error, MemoryError):
            return False
        self._guard.close_failed(self._connection, error)
        return True
