"""Indexes of closed partitions, built by the server while rows go on coming.

Owns one connection of its own and the statement that runs on it; nothing here waits for it. Knows no rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from prefork_logd.errors import StoreError
from prefork_logd.stores.postgresql.link import Connection, connect
from prefork_logd.stores.postgresql.words import EXPRESSION

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prefork_logd.stores.postgresql.partitions import Partition

_ALONE = "SELECT pg_try_advisory_lock(hashtextextended('prefork-logd indexes ' || %s, 0))"
_FAILED = (psycopg.pq.ExecStatus.FATAL_ERROR, psycopg.pq.ExecStatus.BAD_RESPONSE)


NAMES, WORDS = "names", "words"
"""Kinds of index; one is called after its partition and its kind."""
_INDEXED = {NAMES: "btree (name, time)", WORDS: f"gin (({EXPRESSION})) WITH (fastupdate = off)"}


class Indexer:
    """Builds one index at a time, for all the collectors of a database together."""

    def __init__(self, dsn: str, schema: str) -> None:
        self._dsn = dsn
        self._schema = schema
        self._connection: Connection | None = None
        self._waiting: list[bytes] = []

    def is_busy(self) -> bool:
        """Tell whether an index is being built; see to its next statement. Errors end it, to be begun anew later."""
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
                    self.close()
                    return False
        except psycopg.Error:
            self.close()
            return False
        return True

    def begin(self, partition: Partition, table: sql.Identifier, kinds: Sequence[str]) -> None:
        """Begin to build indexes of a partition's table, unless another collector is building one."""
        statements: list[sql.Composable] = [
            sql.SQL("SET statement_timeout = 0"),
            sql.SQL("SET maintenance_work_mem = '256MB'"),
        ]
        for kind in kinds:
            name = f"{partition.table}_{kind}"
            statements += (
                # What a crash left half built is of no use.
                sql.SQL("DROP INDEX CONCURRENTLY IF EXISTS {}").format(sql.Identifier(self._schema, name)),
                sql.SQL("CREATE INDEX CONCURRENTLY {} ON {} USING ").format(sql.Identifier(name), table)
                + sql.SQL(_INDEXED[kind]),
            )
        try:
            self._connection = connect(self._dsn)
            alone = self._connection.execute(_ALONE, (self._schema,)).fetchone()
            if alone is None or not alone[0]:
                self.close()
                return
            self._waiting = [statement.as_bytes(self._connection) for statement in statements]
            self._connection.pgconn.send_query(self._waiting.pop(0))
        except (psycopg.Error, StoreError):
            self.close()

    def close(self) -> None:
        """Let go of the connection; what the server is building it may finish. Never raises."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self._waiting.clear()
