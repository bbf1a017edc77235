"""Confines an unexpected error to the one connection that it belongs to.

Owns the decision which errors these are, and the log line about them. Knows nothing of what a connection does.

A bug that one client can reach must cost that client its connection, and no other client anything. An error that is the
process's own keeps its meaning: MemoryError, and what is no Exception (SystemExit, KeyboardInterrupt).
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
        """Let `close` close a connection; it must not raise."""
        self._close = close
        self._warnings = RateLimitedLog()

    def of(self, connection: Connection) -> Confined:
        """Return a context in which an unexpected error closes `connection`, and ends there."""
        return Confined(self, connection)

    def report(self, connection: Connection, error: Exception) -> None:
        """Log an unexpected error, and nothing else."""
        self._warnings.warning("%s: closed after an unexpected error: %s", connection.peer, describe_bug(error))

    def failed(self, connection: Connection, error: Exception) -> None:
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
        """Take an unexpected error; leave those of the process itself alone."""
        if not isinstance(error, Exception) or isinstance(error, MemoryError):
            return False
        self._guard.failed(self._connection, error)
        return True
