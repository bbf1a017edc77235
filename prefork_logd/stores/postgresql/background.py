"""Runs long statements on the server while rows go on coming.

Owns a connection of its own and what runs on it, one statement after another; nothing here waits for it. Knows no rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, LiteralString

import psycopg
from psycopg import sql

from prefork_logd.errors import StoreError
from prefork_logd.stores.postgresql.connection import Connection, connect, store_error

if TYPE_CHECKING:
    from collections.abc import Sequence

_FAILED = (psycopg.pq.ExecStatus.FATAL_ERROR, psycopg.pq.ExecStatus.BAD_RESPONSE)
_ALONE: LiteralString = "SELECT pg_try_advisory_lock(hashtextextended('prefork-logd ' || %s || ' ' || %s, 0))"


class Background:
    """One series of statements at a time, for all the collectors of a schema together."""

    def __init__(self, dsn: str, schema: str, what: str) -> None:
        """Do one kind of work, named by `what`: two kinds may be done at once."""
        self.failure = ""
        """Why the last series ended early; empty: it did not."""
        self._dsn = dsn
        self._schema = schema
        self._what = what
        self._connection: Connection | None = None
        self._waiting: list[bytes] = []

    def is_busy(self) -> bool:
        """Tell whether the server is at work; see to the next statement. An error ends the series."""
        if self._connection is None:
            return False
        server = self._connection.pgconn
        try:
            server.consume_input()
            while not server.is_busy():
                result = server.get_result()
                if result is None:
                    if not self._waiting:
                        self.close()
                        return False
                    server.send_query(self._waiting.pop(0))
                    return True
                if result.status in _FAILED:
                    self.failure = " ".join(result.error_message.decode("utf-8", "replace").split())
                    self.close()
                    return False
        except psycopg.Error as error:
            self.failure = str(store_error(error))
            self.close()
            return False
        return True

    def start(self, statements: Sequence[sql.Composable]) -> bool:
        """Begin a series, unless another collector is at this kind of work; tell whether it was begun."""
        self.failure = ""
        try:
            self._connection = connect(self._dsn)
            alone = self._connection.execute(_ALONE, (self._what, self._schema)).fetchone()
            if alone is None or not alone[0]:
                self.close()
                return False
            without_limits = [sql.SQL("SET statement_timeout = 0"), sql.SQL("SET lock_timeout = 0")]
            self._waiting = [it.as_bytes(self._connection) for it in (*without_limits, *statements)]
            self._connection.pgconn.send_query(self._waiting.pop(0))
        except (psycopg.Error, StoreError) as error:
            self.failure = str(store_error(error) if isinstance(error, psycopg.Error) else error)
            self.close()
            return False
        return True

    def close(self) -> None:
        """Let go of the connection; what the server is at it may finish. Never raises."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self._waiting.clear()
