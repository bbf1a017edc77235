"""Torture of the stores: databases and shippers are killed with all the rest, and each record is counted in each store.

    python -m tests.system.stores_torture --seed 1 --seconds 20 --iterations 10

The stores are SQLite and, where its server's programs are, PostgreSQL. Owns what is done to stores, and what is found
in them; other harm is harm.py's, and services are torture.py's.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import re
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from prefork_logd.errors import StoreError
from prefork_logd.query.filters import Filters
from prefork_logd.stores.postgresql.search import PostgresqlSearch
from prefork_logd.stores.sqlite.search import SqliteSearch
from tests.postgresql import Server, find_programs
from tests.system.harm import Harm, wait_until_whole
from tests.system.harness import Collector, wait_for
from tests.system.torture import Service, run_seeds

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from prefork_logd.stores.searching import Search

PATIENCE_S = 60.0
_MESSAGE = re.compile(rb'"message":"([a-z0-9]+)-(\d{7})"')


class StoresTorture:
    """A collector with every store there can be, and services that log through it."""

    def __init__(
        self, directory: Path, seed: int, pythons: Sequence[str], server: Server | None, dsn: str = ""
    ) -> None:
        """`dsn` is the way to `server` that the collector takes, if it is another than the server's own."""
        self._random = random.Random(seed)
        self._server = server
        self._schema = f"torture_{seed}"
        toml = '[[store]]\ntype = "sqlite"\n'
        if server is not None:
            toml += f'[[store]]\ntype = "postgresql"\ndsn = "{dsn or server.dsn}"\nschema = "{self._schema}"\n'
        self.collector = Collector(directory / "state", toml, "--workers", "2").start()
        address = self.collector.bind[0]
        self.collector._flags = ("--workers", "2", "--bind", address)
        self._others: dict[str, int] = {}
        self._refused: dict[str, set[int]] = {}
        self._services = [
            Service(python, address, f"s{index}", self._random.choice((0.0005, 0.002, 0.01)))
            for index, python in enumerate(pythons)
        ]
        harm = Harm(self.collector, self._random, cut=self._cut)
        self.kinds = harm.kinds | {"kill -9 of a shipper": lambda: harm._kill_one("shipper")}
        if server is not None:
            self.kinds["crash of the database server"] = self._crash_server

    def _cut(self) -> None:
        for service in self._services:
            service.cut()

    def _crash_server(self) -> None:
        assert self._server is not None
        self._server.stop(signal.SIGQUIT)
        time.sleep(self._random.uniform(0, 0.2))
        self._server.start()

    def harm(self, name: str) -> None:
        """Let the services log for a moment, then do one kind of harm."""
        time.sleep(self._random.uniform(0.05, 0.4))
        self.kinds[name]()

    def run(self, seconds: float) -> int:
        """Do harm for a while, each kind that concerns stores at least once; return how many records are stored."""
        for name in ("kill -9 of a shipper", "crash of the database server", "kill -9 of the writer"):
            if name in self.kinds:
                self.harm(name)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.harm(self._random.choice(sorted(self.kinds)))
        return self.finish()

    def expect(self, name: str, count: int, refused: dict[str, set[int]] | None = None) -> None:
        """Expect the records NAME-0000000 and so on of somebody else, too, but for those that a store has refused."""
        self._others[name] = count
        self._refused = refused or {}

    def finish(self) -> int:
        """End the harm, and see that each store has each record once; return how many there are."""
        wait_until_whole(self.collector)
        counts = {service.name: service.finish() for service in self._services} | self._others
        for store in self._searches():
            wanted = sum(counts.values()) - len(self._refused.get(store, ()))
            wait_for(
                lambda store=store, wanted=wanted: self._holds(store, wanted), f"all records in {store}", PATIENCE_S
            )
        # 1 if a child that was killed a moment ago had not been missed yet.
        assert self.collector.stop() in (0, 1), self.collector.log
        for store in self._searches():
            self._check(store, counts)
        return sum(counts.values())

    def _searches(self) -> list[str]:
        return ["sqlite"] if self._server is None else ["sqlite", "postgresql"]

    def _open(self, store: str) -> Search:
        if store == "sqlite":
            return SqliteSearch(self.collector.state_dir / "records.db")
        assert self._server is not None
        return PostgresqlSearch(self._server.dsn, self._schema)

    def _holds(self, store: str, count: int) -> bool:
        """Tell whether a store has so many records; what the collector says of itself is not asked."""
        try:
            with contextlib.closing(self._open(store)) as search:
                return search.count(Filters()) >= count
        except StoreError:
            return False

    def _check(self, name: str, counts: dict[str, int]) -> None:
        """See that a store holds each service's records 0 to count - 1 once, and nothing else."""
        log = self.collector.log
        found: dict[str, list[int]] = {service: [] for service in counts}
        with contextlib.closing(self._open(name)) as search:
            for line in search.lines(Filters()):
                ((service, number),) = _MESSAGE.findall(line)
                found[service.decode()].append(int(number))
        for service, count in counts.items():
            wanted = set(range(count))
            if service in self._others:
                wanted -= self._refused.get(name, set())
            missing = sorted(wanted - set(found[service]))
            assert not missing, f"{name}: {service}: {len(missing)} of {count} lost, from {missing[0]} on\n{log}"
            twice = len(found[service]) - len(wanted)
            assert not twice, f"{name}: {service}: {twice} came twice, or were refused\n{log}"

    def close(self) -> None:
        """Leave nothing behind."""
        for service in self._services:
            service.close()
        self.collector.clean_up()


@contextlib.contextmanager
def database() -> Iterator[Server | None]:
    """Run a PostgreSQL server; None, and a word, where its programs are nowhere to be found."""
    programs = find_programs()
    if programs is None:
        print("NO POSTGRESQL: only SQLite is tortured", file=sys.stderr)
        yield None
        return
    server = Server(programs).start()
    try:
        yield server
    finally:
        server.remove()


def main() -> int:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, default=1, help="of the first iteration; each next one has the next")
    parser.add_argument("--seconds", type=float, default=10, help="of harm in each iteration")
    parser.add_argument("--iterations", type=int, default=1)
    options = parser.parse_args()
    with database() as server:
        return run_seeds(
            options,
            lambda directory, seed: StoresTorture(directory, seed, [sys.executable] * 3, server),
            lambda records: f"{records} records, each once in each store",
        )


if __name__ == "__main__":
    sys.exit(main())
