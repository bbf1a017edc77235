"""Runs long statements on the server while rows go on coming.

Owns a separate connection, and the statements that run on it one after another; no call waits for them. Does not know
rows.
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
        """Do one kind of work, named by `what`; different kinds may run at the same time."""
        self.failure = ""
        """Why the last series ended early; empty if it did not."""
        self._dsn = dsn
        self._schema = schema
        self._what = what
        self._connection: Connection | None = None
        self._waiting: list[bytes] = []

    def is_busy(self) -> bool:
        """Start the next statement if the last one has ended; return whether one runs. An error ends the series."""
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
        """Start a series; return False if another collector does this kind of work at the moment."""
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
        """Close the connection; the server may finish its statement. Never raises."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self._waiting.clear()
