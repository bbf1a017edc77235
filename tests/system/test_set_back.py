"""A state directory is set back to an older copy: stores, which are not, get every record that comes afterwards.

PostgreSQL and NATS have records of numbers that the older copy is about to give again.
"""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from prefork_logd.config.paths import JOURNAL_DIRECTORY
from prefork_logd.journal import identity
from prefork_logd.query.filters import Filters
from prefork_logd.stores.postgresql.search import PostgresqlSearch
from tests.support.harness import frames, wait_for
from tests.support.nats_servers import Server as NatsServer
from tests.support.nats_servers import free_ports
from tests.support.postgresql import Server, find_programs
from tests.torture.stores import StreamSearch, find_fault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.harness import Collector

PROGRAMS = find_programs()
pytestmark = pytest.mark.skipif(PROGRAMS is None, reason="NO POSTGRESQL: its server's programs are nowhere to be found")


@pytest.fixture(scope="module")
def database() -> Iterator[Server]:
    """Return a server that no test stops."""
    assert PROGRAMS is not None
    server = Server(PROGRAMS).start()
    yield server
    server.remove()


class House:
    """A collector with both stores, whose state directory is copied and put back."""

    def __init__(self, collector: Collector, database: Server, schema: str, url: str) -> None:
        self.collector = collector
        self.backup = collector.state_dir.with_name("backup")
        self._database = database
        self._schema = schema
        self._url = url
        self.wanted: dict[str, set[int]] = {}

    def lines(self) -> dict[str, list[bytes]]:
        """Return what is in each store."""
        search = PostgresqlSearch(self._database.dsn, self._schema)
        try:
            rows = list(search.lines(Filters()))
        finally:
            search.close()
        return {"postgresql": rows, "nats": list(StreamSearch(self._url).lines(Filters()))}

    def log(self, name: str, count: int) -> None:
        """Log NAME-0000000 and so on."""
        with self.collector.connect() as sock:
            sock.sendall(frames([f"{name}-{number:07}" for number in range(count)]))
        self.wanted[name] = set(range(count))

    def is_shipped(self) -> bool:
        """Tell whether no store waits for a record that has been logged."""
        status = self.collector.status()
        return all(store["lag_records"] == 0 and not store["problem"] for store in status["stores"])

    def collect(self, name: str, count: int) -> None:
        """Log, and wait until each store has had its chance."""
        before = len(self.collector.lines())
        self.log(name, count)
        self.collector.wait_for_records(before + count)
        wait_for(self.is_shipped, f"{name} shipped")

    def check(self) -> None:
        """See that each store has all that is wanted, once."""
        for store, lines in self.lines().items():
            assert not (fault := find_fault(lines, self.wanted)), f"{store}: {fault}\n{self.collector.log}"

    def copy(self) -> None:
        """Keep a copy of the state directory."""
        subprocess.run(["cp", "-a", str(self.collector.state_dir), str(self.backup)], check=True)

    def set_back(self) -> None:
        """Put the copy where the state directory was."""
        shutil.rmtree(self.collector.state_dir)
        subprocess.run(["cp", "-a", str(self.backup), str(self.collector.state_dir)], check=True)

    def lost(self) -> dict[str, int]:
        """Return how many records each store counts as lost."""
        return {store["name"]: store["lost"] for store in self.collector.status()["stores"]}


@pytest.fixture
def make_house(
    make_collector: Callable[..., Collector], database: Server, tmp_path: Path
) -> Iterator[Callable[[str], House]]:
    """Return a function that makes one, whose stream is of a format, and starts it."""
    server = NatsServer(tmp_path, "n1", free_ports(1)[0]).start()

    def make(form: str) -> House:
        schema = f"s{tmp_path.parent.name}_{tmp_path.name}".replace("-", "_").lower()[-40:]
        collector = make_collector(
            f'[[store]]\ntype = "postgresql"\ndsn = "{database.dsn}"\nschema = "{schema}"\n'
            f'[[store]]\ntype = "nats"\nservers = ["{server.url}"]\nformat = "{form}"\n',
            "--workers", "1",
        )  # fmt: skip
        collector.start()
        return House(collector, database, schema, server.url)

    yield make
    server.close()


NONE = {"postgresql": 0, "nats": 0}


@pytest.mark.parametrize(("form", "is_running"), [("batch", False), ("json", True)], ids=["stopped", "running"])
def test_a_copy_that_is_put_back_costs_no_record(
    make_house: Callable[[str], House], form: str, *, is_running: bool
) -> None:
    """Copied while the collector is stopped, or runs: the numbers that followed the copy are not given again."""
    house = make_house(form)
    house.collect("before", 30)
    if is_running:
        house.copy()
    assert house.collector.stop() == 0
    if not is_running:
        house.copy()
    house.collector.start()
    house.collect("between", 40)
    assert house.collector.stop() == 0
    house.set_back()
    house.collector.start()
    house.collect("after", 60)
    assert house.lost() == NONE
    assert house.collector.log.count("is a copy, or was set back") == 1
    house.check()
    assert house.collector.stop() == 0
    # Once more: what was published after the copy was put back is looked for in the stream.
    house.collector.start()
    house.collect("last", 10)
    house.check()
    assert house.lost() == NONE
    assert house.collector.log.count("is a copy, or was set back") == 1


@pytest.mark.parametrize("form", ["batch", "json"])
def test_a_snapshot_that_the_writer_cannot_tell_is_told_by_stores(
    make_house: Callable[[str], House], form: str
) -> None:
    """A file system that was set back in place: what stores refuse is counted, also if it came before they opened.

    Then what the log says to do is done, and nothing more is refused.
    """
    house = make_house(form)
    house.collect("before", 30)
    assert house.collector.stop() == 0
    house.copy()
    house.collector.start()
    house.collect("between", 40)
    assert house.collector.stop() == 0
    house.set_back()
    journal = house.collector.state_dir / JOURNAL_DIRECTORY
    (journal / identity.SEAL_FILE).write_bytes(identity._mark_of_identity(journal))
    house.collector.start()
    house.collect("after", 60)
    house.wanted["after"] = set(range(40, 60))
    house.check()
    assert house.lost() == {"postgresql": 40, "nats": 40}
    for store in NONE:
        said = (
            f"store {store}: has records up to number 70 of this journal, which has only 30: the journal was set back"
        )
        assert house.collector.log.count(said) == 1
    assert house.collector.stop() == 0
    path = journal / identity.IDENTITY_FILE
    assert f"remove {path} and start" in house.collector.log
    path.unlink()
    house.collector.start()
    house.collect("last", 10)
    house.check()
    assert house.lost() == NONE


def test_an_original_that_is_put_back_is_told_by_stores(make_house: Callable[[str], House]) -> None:
    """It was moved away, and its copy went on, whose numbers are far beyond: what the log says to do mends that."""
    house = make_house("batch")
    house.collect("before", 30)
    assert house.collector.stop() == 0
    state_dir, away = house.collector.state_dir, house.collector.state_dir.with_name("away")
    state_dir.rename(away)
    subprocess.run(["cp", "-a", str(away), str(state_dir)], check=True)
    house.collector.start()
    house.collect("between", 40)
    assert house.collector.stop() == 0
    state_dir.rename(house.backup)
    away.rename(state_dir)
    house.collector.start()
    house.collect("after", 60)
    del house.wanted["after"]
    house.check()
    assert house.lost() == {"postgresql": 60, "nats": 60}
    assert house.collector.log.count("which has only 30: the journal was set back") == 2
    assert house.collector.stop() == 0
    (state_dir / JOURNAL_DIRECTORY / identity.IDENTITY_FILE).unlink()
    house.collector.start()
    house.collect("last", 10)
    house.check()
    assert house.lost() == NONE
