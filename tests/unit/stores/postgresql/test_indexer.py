"""Indexes of a closed partition: built beside the rows that come, and again after a crash."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from psycopg import sql

from prefork_logd.stores.postgresql.indexer import NAMES, VALUES, WORDS, Indexer
from prefork_logd.stores.postgresql.partitions import Partition

if TYPE_CHECKING:
    from collections.abc import Sequence

PARTITION = Partition(20_800, 3)
TABLE = sql.Identifier("logs", PARTITION.table)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the statements that are given to the server."""
    statements: list[str] = []

    def start(_self: Indexer, given: Sequence[sql.Composable]) -> bool:
        statements.extend(one.as_string() for one in given)
        return True

    monkeypatch.setattr(Indexer, "start", start)
    return statements


@pytest.mark.parametrize("kind", [NAMES, WORDS, VALUES])
def test_an_index_is_built_without_a_lock_that_writers_wait_for(kind: str, started: list[str]) -> None:
    """One that a crash has left half built is removed first, under the same name."""
    Indexer("", "logs").begin(PARTITION, TABLE, [kind])
    _memory, dropped, created = started
    name = f"{PARTITION.table}_{kind}"
    assert dropped == f'DROP INDEX CONCURRENTLY IF EXISTS "logs"."{name}"'
    assert created.startswith(f'CREATE INDEX CONCURRENTLY "{name}" ON "logs"."{PARTITION.table}" USING ')


def test_each_kind_serves_its_conditions(started: list[str]) -> None:
    """Loggers in order of time, words, and values of `extra`; in the order given, with the memory for all of them."""
    Indexer("", "logs").begin(PARTITION, TABLE, [NAMES, WORDS, VALUES])
    assert started[0] == "SET maintenance_work_mem = '256MB'"
    methods = [statement.partition(" USING ")[2] for statement in started if " USING " in statement]
    assert methods[0] == "btree (name, time)"
    assert methods[1].startswith("gin ((")
    assert methods[2] == "gin (extra jsonb_path_ops) WITH (fastupdate = off)"
