"""PostgreSQL fails under a whole collector, with Parquet beside it (rows 42 to 44 of the plan of faults).

Services log all the while. Outputs and the other store notice nothing, what comes meanwhile grows the journal on disk
and no process, and afterwards each record is in each store once.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from tests.support.harness import frames, wait_for
from tests.support.postgresql import Cutter, Server, find_programs
from tests.support.procfs import rss_bytes
from tests.torture.stores import StoresTorture

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAMS = find_programs()
pytestmark = pytest.mark.skipif(PROGRAMS is None, reason="NO POSTGRESQL: its server's programs are nowhere to be found")
SCHEMA = "torture_1"
GROWTH_BYTES = 32 << 20


@pytest.fixture
def server() -> Iterator[Server]:
    """Return a server for this test, which may do with it what it likes."""
    assert PROGRAMS is not None
    server = Server(PROGRAMS).start()
    yield server
    server.remove()


@contextlib.contextmanager
def logging_services(directory: Path, server: Server, dsn: str = "") -> Iterator[StoresTorture]:
    """Run a collector with both stores and two services, until each store has had some of their records."""
    torture = StoresTorture(directory, 1, [sys.executable] * 2, server, dsn)
    try:
        wait_for(lambda: all(store["records"] > 10 for store in stores(torture)), "records in each store")
        yield torture
    finally:
        torture.close()


def stores(torture: StoresTorture) -> list[dict[str, Any]]:
    """Return what status says of Parquet and of PostgreSQL."""
    return list(torture.collector.status()["stores"])


def is_only_slow(torture: StoresTorture, *, waiting: int) -> bool:
    """Tell whether PostgreSQL lacks so many records, and Parquet none to speak of."""
    parquet, postgresql = stores(torture)
    return bool(postgresql["lag_records"] >= waiting and not parquet["failing"] and parquet["lag_s"] < 1)


def memory(torture: StoresTorture) -> dict[int, int]:
    """Return the bytes of memory of each process of the collector."""
    assert torture.collector.process is not None
    pids = [child["pid"] for child in torture.collector.status()["children"]] + [torture.collector.process.pid]
    return {pid: rss_bytes(pid) for pid in pids}


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT], ids=["stopped", "crashed"])
def test_a_server_that_is_down(tmp_path: Path, server: Server, how: signal.Signals) -> None:
    """Down: the journal grows, no process does, and Parquet goes on. Up again: every row, once."""
    with logging_services(tmp_path, server) as torture:
        before = memory(torture)
        server.stop(how)
        wait_for(lambda: stores(torture)[1]["failing"], "the store fails")
        begun = torture.collector.status()["journal"]["bytes"]
        with torture.collector.connect() as sock:
            sock.sendall(frames([f"plain-{number:07}" for number in range(20_000)]))
        wait_for(lambda: is_only_slow(torture, waiting=20_000), "Parquet has what PostgreSQL waits for")
        assert torture.collector.status()["journal"]["bytes"] > begun + 20_000 * 100
        assert all(now < before[pid] + GROWTH_BYTES for pid, now in memory(torture).items())
        server.start()
        torture.expect("plain", 20_000)
        torture.finish()
        assert torture.collector.log.count("tried again until it works") == 1


def test_backends_that_are_terminated(tmp_path: Path, server: Server) -> None:
    """Again and again, whatever they do just then."""
    with logging_services(tmp_path, server) as torture, psycopg.connect(server.dsn, autocommit=True) as other:
        killed: set[int] = set()

        def kill() -> int:
            """End the shipper's backend, and return how many it has lost so far."""
            found = other.execute(
                "SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'prefork-logd'"
            )
            killed.update(pid for pid, _ in found)
            return len(killed)

        wait_for(lambda: kill() >= 5, "five backends killed")
        torture.finish()


def test_a_table_that_is_locked(tmp_path: Path, server: Server) -> None:
    """By somebody's LOCK TABLE: nobody but the PostgreSQL store waits for them."""
    with logging_services(tmp_path, server) as torture:
        with psycopg.connect(server.dsn) as other:
            other.execute(f"LOCK TABLE {SCHEMA}.records IN ACCESS EXCLUSIVE MODE")
            wait_for(lambda: is_only_slow(torture, waiting=300), "Parquet has what PostgreSQL waits for")
        torture.finish()


def test_commits_whose_answers_are_lost(tmp_path: Path, server: Server) -> None:
    """The connection is cut between COMMIT and its answer, three times: every row is there once."""
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        cutter = Cutter(server.socket, Path(directory))
        try:
            with logging_services(tmp_path, server, cutter.dsn) as torture:
                for cuts in (1, 2, 3):
                    cutter.wanted_cuts = cuts
                    wait_for(lambda cuts=cuts: cutter.cuts == cuts, "a commit is cut off")
                    wait_for(lambda: not stores(torture)[1]["failing"], "the store works again")
                torture.finish()
        finally:
            cutter.close()


def test_a_poison_row_in_a_batch(tmp_path: Path, server: Server) -> None:
    """What the server refuses is a dead letter; the 499 around it, and what follows, are stored."""
    with logging_services(tmp_path, server) as torture:
        with psycopg.connect(server.dsn, autocommit=True) as other:
            other.execute(f"ALTER TABLE {SCHEMA}.records ADD CHECK (message <> 'plain-0000137')")
        with torture.collector.connect() as sock:
            sock.sendall(frames([f"plain-{number:07}" for number in range(500)]))
        wait_for(lambda: stores(torture)[1]["refused"] == 1, "one is refused")
        torture.expect("plain", 500, refused={"postgresql": {137}})
        torture.finish()
        (letter,) = torture.collector.records("dead-letters-postgresql.jsonl")
        assert letter["record"]["message"] == "plain-0000137"
        assert "23514" in letter["reason"]
