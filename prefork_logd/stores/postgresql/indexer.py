"""Builds indexes of closed partitions on the server, while rows go on coming.

Owns the kinds of indexes, and the statements that build them. Does not know rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import sql

from prefork_logd.stores.postgresql.background import Background
from prefork_logd.stores.postgresql.fulltext import EXPRESSION

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prefork_logd.stores.postgresql.partitions import Partition

NAMES, WORDS, VALUES = "names", "words", "values"
"""Kinds of indexes; an index is named after its partition and its kind."""
_INDEXED = {
    NAMES: "btree (name, time)",
    WORDS: f"gin (({EXPRESSION})) WITH (fastupdate = off)",
    # Of paths with their values, hashed: half the size of the default operator class, and enough for `@>`.
    VALUES: "gin (extra jsonb_path_ops) WITH (fastupdate = off)",
}


class Indexer(Background):
    """Builds the indexes of one partition at a time."""

    def __init__(self, dsn: str, schema: str) -> None:
        super().__init__(dsn, schema, "indexes")

    def begin(self, partition: Partition, table: sql.Identifier, kinds: Sequence[str]) -> None:
        """Start to build indexes of a partition's table, unless another collector is building one."""
        statements: list[sql.Composable] = [sql.SQL("SET maintenance_work_mem = '256MB'")]
        for kind in kinds:
            name = f"{partition.table}_{kind}"
            statements += (
                # An index that a crash left half built is invalid.
                sql.SQL("DROP INDEX CONCURRENTLY IF EXISTS {}").format(sql.Identifier(self._schema, name)),
                sql.SQL("CREATE INDEX CONCURRENTLY {} ON {} USING ").format(sql.Identifier(name), table)
                + sql.SQL(_INDEXED[kind]),
            )
        self.start(statements)
