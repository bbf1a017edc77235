"""Tortures the stores: kills databases, shippers and all other processes, and counts each record in each store.

    python -m tests.torture.stores --seed 1 --seconds 20 --iterations 10

The stores are Parquet files, NATS and, if its server's programs are installed, PostgreSQL. Owns the harm to stores, by
accidents and by their owners, and the count of their records; harm.py has other harm, and processes.py the services.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import re
import shutil
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
from nats.js.api import AckPolicy, ConsumerConfig

from prefork_logd.config.stores.parquet import ParquetStoreSettings
from prefork_logd.errors import StoreError
from prefork_logd.query.filters import Filters
from prefork_logd.stores.nats import wire
from prefork_logd.stores.parquet.search import ParquetSearch
from prefork_logd.stores.postgresql.search import PostgresqlSearch
from tests.support.harm import Harm, wait_until_whole
from tests.support.harness import Collector, wait_for
from tests.support.nats_servers import Server as NatsServer
from tests.support.nats_servers import ask, free_ports
from tests.support.postgresql import Server, find_programs
from tests.torture.processes import PAUSES_S, Service, run_seeds

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from prefork_logd.query.search import Search

PATIENCE_S = 240.0
_TABLES = (
    "SELECT relname, coalesce(pg_get_expr(relpartbound, oid), 'no partition') FROM pg_class"
    " WHERE relnamespace = to_regnamespace('{}') AND relkind IN ('r', 'p') ORDER BY oid"
)
_MESSAGE = re.compile(rb'"message":"([a-z0-9]+)-(\d{7})"')


class StoresTorture:
    """A collector with every possible store, and services that log through it."""

    def __init__(
        self, directory: Path, seed: int, pythons: Sequence[str], server: Server | None, dsn: str = "",
        *, with_nats: bool = False, pauses_s: Sequence[float] = PAUSES_S,
    ) -> None:  # fmt: skip
        """`dsn` is the collector's connection string for `server`, if it differs from the server's own."""
        self._random = random.Random(seed)
        self._server = server
        self._schema = f"torture_{seed}"
        toml = '[[store]]\ntype = "parquet"\nbatch_time = "50ms"\nbatch_records = 2000\n'
        if server is not None:
            toml += f'[[store]]\ntype = "postgresql"\ndsn = "{dsn or server.dsn}"\nschema = "{self._schema}"\n'
        self._nats: NatsServer | None = None
        self._copy = directory / "nats-copy"
        if with_nats:
            self._nats = NatsServer(directory, "nats", free_ports(1)[0]).start()
            form = self._random.choice(("json", "batch"))
            toml += f'[[store]]\ntype = "nats"\nservers = ["{self._nats.url}"]\nformat = "{form}"\ntimeout = "3s"\n'
        self.collector = Collector(directory / "state", toml, "--workers", "2").start()
        address = self.collector.bind[0]
        self.collector._flags = ("--workers", "2", "--bind", address)
        self._others: dict[str, int] = {}
        self._refused: dict[str, set[int]] = {}
        self._services = [
            Service(python, address, f"s{index}", self._random.choice(pauses_s)) for index, python in enumerate(pythons)
        ]
        harm = Harm(self.collector, self._random, cut=self._cut)
        self.kinds = harm.kinds | {"kill -9 of a shipper": lambda: harm._kill_one("shipper")}
        if server is not None:
            self.kinds["crash of the database server"] = self._crash_server
            self.kinds["a partition that is detached for a while"] = self._detach
            self.kinds["a partition that is renamed"] = self._rename
            self.kinds["a table that takes no row for a while"] = self._close_table
            self.kinds["a column that must be given, for a while"] = self._add_column
        if self._nats is not None:
            self.kinds["crash of the NATS server"] = self._crash_nats
            self.kinds["a stream that is set back"] = self._set_back
            self.kinds["a stream that would throw records away, for a while"] = self._limit
            self.kinds["a message of somebody else"] = self._publish_foreign

    def _cut(self) -> None:
        for service in self._services:
            service.cut()

    def _crash_server(self) -> None:
        assert self._server is not None
        self._server.stop(signal.SIGQUIT)
        time.sleep(self._random.uniform(0, 0.2))
        self._server.start()

    # What owners of databases do

    def _sql(self, *statements: str) -> list[Any]:
        """Run statements, or none of them if a table is busy or missing."""
        assert self._server is not None
        try:
            with psycopg.connect(self._server.dsn) as connection:
                connection.execute("SET lock_timeout = '2s'")
                for statement in statements:
                    found = connection.execute(statement.replace("{}", self._schema))
                return found.fetchall() if found.description else []
        except psycopg.Error:
            return []

    def _partition(self) -> tuple[str, str]:
        """Return the name of the newest partition, and its bounds; empty if there is none."""
        found = self._sql(
            "SELECT c.relname, pg_get_expr(relpartbound, c.oid) FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid"
            " WHERE inhparent = to_regclass('{}.records') ORDER BY c.oid DESC LIMIT 1"
        )
        return (found[0][0], found[0][1]) if found else ("", "")

    def _while_it_lasts(self, undo: str) -> None:
        time.sleep(self._random.uniform(0.1, 1.0))
        for _ in range(20):
            self._sql(undo)

    def _detach(self) -> None:
        name, bounds = self._partition()
        if name:
            self._sql(f"ALTER TABLE {{}}.records DETACH PARTITION {{}}.{name}")
            self._while_it_lasts(f"ALTER TABLE {{}}.records ATTACH PARTITION {{}}.{name} {bounds}")
            # A partition that was renamed before leaves no trace: the store has made another of these bounds meanwhile,
            # and the owner has to move the rows.
            attached = f"SELECT 1 FROM pg_inherits WHERE inhrelid = to_regclass('{{}}.{name}')"
            moved = (f"INSERT INTO {{}}.records SELECT * FROM {{}}.{name}", f"DROP TABLE {{}}.{name}")
            wait_for(
                lambda: self._sql(attached) or self._sql(*moved, f"SELECT 1 WHERE to_regclass('{{}}.{name}') IS NULL"),
                f"the rows of {name} in the table again",
            )

    def _rename(self) -> None:
        name, _ = self._partition()
        if name:
            self._sql(f"ALTER TABLE {{}}.{name} RENAME TO part_{self._random.randrange(1 << 30)}")

    def _close_table(self) -> None:
        self._sql("ALTER TABLE {}.records ADD CONSTRAINT closed CHECK (levelno < -5) NOT VALID")
        self._while_it_lasts("ALTER TABLE {}.records DROP CONSTRAINT IF EXISTS closed")

    def _add_column(self) -> None:
        self._sql(
            "ALTER TABLE {}.records ADD site text NOT NULL DEFAULT 'x'",
            "ALTER TABLE {}.records ALTER site DROP DEFAULT",
        )
        self._while_it_lasts("ALTER TABLE {}.records DROP COLUMN IF EXISTS site")

    # What happens to streams

    def _crash_nats(self) -> None:
        assert self._nats is not None
        self._nats.kill()
        time.sleep(self._random.uniform(0, 0.3))
        self._nats.start()

    def _set_back(self) -> None:
        assert self._nats is not None
        self._nats.kill(signal.SIGTERM)
        shutil.rmtree(self._copy, ignore_errors=True)
        shutil.copytree(self._nats.store, self._copy)
        self._nats.start()
        time.sleep(self._random.uniform(0.2, 1.5))
        self._nats.kill()
        self._nats.set_back_to(self._copy)
        self._nats.start()
        self._publish_foreign()

    def _limit(self) -> None:
        for most in (1_000_000, -1):
            self._ask(lambda stream, most=most: _edit(stream, most))
            time.sleep(self._random.uniform(0.1, 0.5))

    def _publish_foreign(self) -> None:
        journal = "ab" * 16
        header = {wire.HEADER: f"1 {journal} 0 {1 << 62} 0 none"}
        for _ in range(self._random.randrange(1, 50)):
            self._ask(lambda stream: stream.publish(f"{wire.subject_of('logs', journal, 16)}.x", b"", headers=header))

    def _ask(self, question: Any) -> None:
        assert self._nats is not None
        with contextlib.suppress(Exception):
            ask([self._nats.url], question)

    def harm(self, name: str) -> None:
        """Let the services log for a moment, then do one kind of harm."""
        time.sleep(self._random.uniform(0.05, 0.4))
        self.kinds[name]()

    def run(self, seconds: float) -> int:
        """Do harm for a while, each kind that concerns stores at least once; return how many records are stored."""
        first = (
            "kill -9 of a shipper", "crash of the database server", "kill -9 of the writer",
            "a partition that is detached for a while", "a partition that is renamed",
            "a table that takes no row for a while", "a stream that is set back", "a message of somebody else",
        )  # fmt: skip
        for name in first:
            if name in self.kinds:
                self.harm(name)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.harm(self._random.choice(sorted(self.kinds)))
        return self.finish()

    def expect(self, name: str, count: int, refused: dict[str, set[int]] | None = None) -> None:
        """Expect the records NAME-0000000 and so on of another program, too, except those that a store has refused."""
        self._others[name] = count
        self._refused = refused or {}

    def finish(self) -> int:
        """End the harm, and check that each store has each record once; return their number."""
        wait_until_whole(self.collector)
        counts = {service.name: service.finish() for service in self._services} | self._others
        for store in self._searches():
            wanted = sum(counts.values()) - len(self._refused.get(store, ()))
            self._wait_for(store, wanted)
        # The status is 1 if the master has not noticed a killed child yet.
        assert self.collector.stop() in (0, 1), self.collector.log
        for store in self._searches():
            self._check(store, counts)
        return sum(counts.values())

    def _wait_for(self, store: str, count: int) -> None:
        """Wait until a store has so many records; the error has the missing ones, and the collector's status of it."""
        try:
            wait_for(lambda: self._holds(store, count), f"all {count} records in {store}", PATIENCE_S)
        except AssertionError as error:
            told = [f"{error}", *map(str, self.collector.status()["stores"])]
            try:
                with contextlib.closing(self._open(store)) as search:
                    told.append(f"it has {search.count(Filters())}")
            except StoreError as unreadable:
                told.append(f"it cannot be read: {unreadable}")
            if self._server is not None:
                told += [f"{name} {bounds}" for name, bounds in self._sql(_TABLES)]
            raise AssertionError("\n".join([*told, self.collector.log])) from None

    def _searches(self) -> list[str]:
        return [
            "parquet",
            *(["postgresql"] if self._server is not None else []),
            *(["nats"] if self._nats is not None else []),
        ]

    def _open(self, store: str) -> Search | StreamSearch:
        if store == "parquet":
            return ParquetSearch(ParquetStoreSettings(path=str(self.collector.state_dir / "records")))
        if store == "nats":
            assert self._nats is not None
            return StreamSearch(self._nats.url)
        assert self._server is not None
        return PostgresqlSearch(self._server.dsn, self._schema)

    def _holds(self, store: str, count: int) -> bool:
        """Tell whether a store has so many records, without asking the collector."""
        search = self._try_to_open(store)
        if search is None:
            return False
        with contextlib.closing(search):
            return search.count(Filters()) >= count

    def _try_to_open(self, store: str) -> Search | StreamSearch | None:
        """Open a store; return None if it does not answer just now, as a server does that has just been started."""
        try:
            return self._open(store)
        except StoreError:
            return None

    def _check(self, name: str, counts: dict[str, int]) -> None:
        """Check that a store has exactly each service's records 0 to count - 1, once."""
        refused = self._refused.get(name, set())
        wanted = {
            service: set(range(count)) - (refused if service in self._others else set())
            for service, count in counts.items()
        }
        search: Search | StreamSearch = wait_for(lambda: self._try_to_open(name), f"{name} can be read")
        with contextlib.closing(search):
            fault = find_fault(search.lines(Filters()), wanted)
        assert not fault, f"{name}: {fault}\n{self.collector.log}"

    def close(self) -> None:
        """Remove everything."""
        for service in self._services:
            service.close()
        self.collector.clean_up()
        if self._nats is not None:
            self._nats.close()


async def _edit(stream: Any, most: int) -> None:
    config = (await stream.stream_info("LOGS")).config
    await stream.update_stream(config, max_msgs=most)


def find_fault(lines: Iterable[bytes], wanted: dict[str, set[int]]) -> str:
    """Return the fault of a store that should have each service's wanted records once; "" for none."""
    found: dict[str, Counter[int]] = {service: Counter() for service in wanted}
    for line in lines:
        ((service, number),) = _MESSAGE.findall(line)
        found[service.decode()][int(number)] += 1
    for service, numbers in wanted.items():
        missing = sorted(numbers - found[service].keys())
        if missing:
            return f"{service}: {len(missing)} of {len(numbers)} lost, from {missing[0]} on"
        refused = sorted(found[service].keys() - numbers)
        if refused:
            return f"{service}: {len(refused)} that it has refused, or that nobody has logged, from {refused[0]} on"
        twice = sorted(number for number, times in found[service].items() if times > 1)
        if twice:
            return f"{service}: {len(twice)} of {len(numbers)} came more than once, from {twice[0]} on"
    return ""


class StreamSearch:
    """The records in a stream, message by message: one that is in two messages counts twice.

    docs/nats.md allows that a range comes again. But within `duplicate_window` the servers store no id twice, and a
    torture is shorter: a duplicate means that ranges were cut or named differently.
    """

    def __init__(self, url: str) -> None:
        """Read all of it. Raises StoreError."""
        try:
            self._lines = list(ask([url], self._read))
        except Exception as error:
            raise StoreError(str(error)) from error

    async def _read(self, stream: Any) -> list[bytes]:
        # By the stream's sequence: a message that is delivered again is one message.
        found: dict[int, list[bytes]] = {}
        # The server forgets a consumer after 5 s without a request, which a busy machine needs for less.
        config = ConsumerConfig(ack_policy=AckPolicy.NONE, inactive_threshold=300)
        subscription = await stream.pull_subscribe("logs.>", stream="LOGS", config=config)
        pending = (await subscription.consumer_info()).num_pending
        while pending:
            for message in await subscription.fetch(min(pending, 500), timeout=5):
                pending = message.metadata.num_pending
                with contextlib.suppress(wire.FormError):
                    it = wire.read_header(message.headers)
                    lines = wire.unpack(message.data, it.encoding).splitlines(keepends=True)
                    wire.read_numbers(message.headers, it, len(lines))
                    found[message.metadata.sequence.stream] = lines
        return [line for lines in found.values() for line in lines]

    def count(self, _filters: Filters) -> int:
        """Return how many records there are."""
        return len(self._lines)

    def lines(self, _filters: Filters) -> Iterator[bytes]:
        """Yield all of them."""
        return iter(self._lines)

    def close(self) -> None:
        """Release nothing."""


@contextlib.contextmanager
def database() -> Iterator[Server | None]:
    """Run a PostgreSQL server; None, and a message, if its programs are not found."""
    programs = find_programs()
    if programs is None:
        print("NO POSTGRESQL: only Parquet files and NATS are tortured", file=sys.stderr)
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
            lambda directory, seed: StoresTorture(directory, seed, [sys.executable] * 3, server, with_nats=True),
            lambda records: f"{records} records, each once in each store",
        )


if __name__ == "__main__":
    sys.exit(main())
