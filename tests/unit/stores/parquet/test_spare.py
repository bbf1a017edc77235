"""A connection of DuckDB that is opened before it is needed."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from prefork_logd.errors import StoreError
from prefork_logd.stores.parquet import engine
from prefork_logd.stores.parquet.spare import Spare

if TYPE_CHECKING:
    from pathlib import Path

    import duckdb

MEMORY_BYTES = 64 << 20


class Opened:
    """What engine.connect opens, with the name of the thread."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.by: list[str] = []
        self.fails = False
        self._connect = engine.connect
        monkeypatch.setattr(engine, "connect", self)

    def __call__(self, memory_bytes: int, threads: int, temporary: Path | None = None) -> duckdb.DuckDBPyConnection:
        self.by.append(threading.current_thread().name)
        if self.fails:
            raise StoreError("no room")
        return self._connect(memory_bytes, threads, temporary)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Opened:
    """Return a record of what is opened."""
    return Opened(monkeypatch)


def _settle(spare: Spare) -> None:
    """Wait until the spare connection is there, or could not be opened."""
    if (thread := spare._opening) is not None:
        thread.join(30)
        assert not thread.is_alive()


def test_a_process_that_searches_again_has_a_spare(opened: Opened) -> None:
    """The first search opens its own, and makes none; each further one gets another connection with the bounds."""
    spare = Spare()
    given = []
    for _ in range(4):
        given.append(spare.take(MEMORY_BYTES, 1, None))
        _settle(spare)
    assert sorted(opened.by) == ["MainThread"] * 2 + ["spare connection"] * 3
    assert len({id(one) for one in given}) == 4
    given[2].execute("CREATE TABLE seen (a INTEGER)")
    assert given[3].execute("SELECT count(*) FROM duckdb_tables()").fetchall() == [(0,)]
    limits = given[3].execute("SELECT current_setting('memory_limit'), current_setting('threads')").fetchall()
    assert limits == [("64.0 MiB", 1)]


def test_a_spare_with_other_bounds_is_not_used(opened: Opened) -> None:
    """A search gets what it asks for."""
    spare = Spare()
    for memory_bytes in (MEMORY_BYTES, MEMORY_BYTES, 2 * MEMORY_BYTES):
        connection = spare.take(memory_bytes, 1, None)
        _settle(spare)
    assert connection.execute("SELECT current_setting('memory_limit')").fetchall() == [("128.0 MiB",)]
    assert opened.by.count("MainThread") == 3


def test_a_spare_that_cannot_be_opened_is_missed_by_nobody(opened: Opened) -> None:
    """The search that wants it opens its own, or says why it cannot."""
    spare = Spare()
    spare.take(MEMORY_BYTES, 1, None)
    opened.fails = True
    with pytest.raises(StoreError, match="no room"):
        spare.take(MEMORY_BYTES, 1, None)
    _settle(spare)
    opened.fails = False
    assert spare.take(MEMORY_BYTES, 1, None).execute("SELECT 1").fetchall() == [(1,)]
    _settle(spare)


def test_no_search_waits_for_a_thread(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where none can be started there is no spare."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    spare = Spare()
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        for _ in range(3):
            assert spare.take(MEMORY_BYTES, 1, None).execute("SELECT 1").fetchall() == [(1,)]
    assert opened.by == ["MainThread"] * 3
