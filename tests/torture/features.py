"""Tortures a collector that has every feature on: TLS, limits, sampling, stores, groups of errors, alerts, its own log.

    python -m tests.torture.features --seed 1 --seconds 12 --iterations 10

Services over TLS and plain ones share a listener. A limit makes some of them wait, and one service is sampled; reloads
turn both on and off. At the end every record of an honest service is stored once and in order in the output, and once
in each store. Of the sampled service each kept record is stored once. The count of each group of errors is that of its
records. No incident was told under two ids, and no process has ended by itself.

Owns the configuration and these counts; harm.py has the harm.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import re
import sys
import time
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

from prefork_logd.config.stores.parquet import ParquetStoreSettings
from prefork_logd.query.filters import Filters
from prefork_logd.stores.parquet.search import ParquetSearch
from prefork_logd.stores.postgresql.search import PostgresqlSearch
from tests.support import interpreters
from tests.support.alerting import Hook
from tests.support.authority import LOCAL, Authority
from tests.support.fenced import Fenced
from tests.support.harm import KILLED, OUTPUT, SPARES_PLAIN, Harm, wait_until_whole
from tests.support.harness import Collector, wait_for
from tests.support.nats_servers import free_ports
from tests.support.stored import Stored
from tests.torture.processes import PlainService, Service, check_log, run_seeds
from tests.torture.stores import database, find_fault

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from prefork_logd.query.search import Search
    from tests.support.postgresql import Server

PATIENCE_S = 120.0
PLAIN_PATIENCE_S = 60.0
OWN = b'"name":"prefork_logd"'
"""In each line of the collector's own log."""
SAMPLED = "s9"
OF_READERS = frozenset({"kill -9 of a shipper", "kill -9 of the alerts"})
"""Kinds of harm to processes through which no record passes to the output."""
TOML = """
[server]
bind = []
own_log = "records"
[limits]
drain_timeout = "5s"
min_free_bytes = 0
[errors]
batch_time = "10ms"
[[listener]]
address = "127.0.0.1:{port}"
tls = "accept"
tls_cert = "{certificate.path}"
tls_key = "{certificate.key}"
[[store]]
type = "parquet"
batch_time = "50ms"
batch_records = 500
[[output]]
name = "all"
path = "records.jsonl"
[[receiver]]
name = "hook"
type = "webhook"
url = "{hook}"
[[alert]]
name = "errors"
query = "level>=ERROR"
every = "1s"
window = "10s"
above = 3
send = ["hook"]
[[alert]]
name = "groups"
on = "new-group"
every = "1s"
send = ["hook"]
"""
POSTGRESQL = '[[store]]\ntype = "postgresql"\ndsn = "{dsn}"\nschema = "{schema}"\nbatch_time = "50ms"\n'
LIMIT = '[[limit]]\nname = "wait"\nper = "connection"\nrecords_per_second = {}\nburst = "1s"\n'
SAMPLE = f'[[sample]]\nservices = ["{SAMPLED}"]\nkeep_one_of = 5\n'
SILENT = """
[[alert]]
name = "silent"
on = "absence"
query = "logger=nobody"
every = "1s"
window = "2s"
send = ["hook"]
"""
_ENDED = re.compile(r"ERROR master: (?P<child>.+) \(pid (?P<pid>\d+)\) (?P<how>ended with status \d+|was ended by \S+)")


class FeaturesTorture:
    """A collector with every feature on, and its clients."""

    def __init__(self, directory: Path, seed: int, pythons: Sequence[str], server: Server | None) -> None:
        self._random = random.Random(seed)
        self._server = server
        self._schema = f"features_{seed}"
        self._hook = Hook()
        authority = Authority(directory / "authority")
        address = f"127.0.0.1:{free_ports(1)[0]}"
        configurations = self._configurations(address, authority)
        self.collector = Collector(directory / "state", configurations[0], "--workers", "2").start()
        ca = f"tls_ca={authority.path}"
        self._services: list[Service | Fenced] = [
            Service(pythons[0], address, "s0", 0.002, "errors", "service=s0"),
            Service(pythons[-1], address, "s1", 0.002, "errors", "service=s1", ca),
            Service(sys.executable, address, "s2", 0.002, "service=s2", ca),
            Fenced(self.collector, "f0", seed),
        ]
        self._sampled = Service(sys.executable, address, SAMPLED, 0.002, f"service={SAMPLED}", ca)
        self._plain = PlainService(pythons[seed % len(pythons)], address, "p0", 0.005)
        harm = Harm(self.collector, self._random, cut=self._cut, configurations=configurations)
        self.kinds = harm.kinds | {
            f"kill -9 of {what}": lambda kind=kind: harm._kill_one(kind)
            for kind, what in (("shipper", "a shipper"), ("alerts", "the alerts"))
        }
        self._is_lossy = False

    def _configurations(self, address: str, authority: Authority) -> list[str]:
        certificate = authority.issue("collector", *LOCAL)
        port = address.rpartition(":")[2]
        toml = TOML.format(port=port, certificate=certificate, hook=self._hook.url)
        if self._server is not None:
            toml += POSTGRESQL.format(dsn=self._server.dsn, schema=self._schema)
        toml += "[web]\nbind = []\n"
        return [toml + LIMIT.format(400) + SAMPLE, toml + LIMIT.format(250), toml + SAMPLE + SILENT, toml + SILENT]

    def _everyone(self) -> list[Service | Fenced]:
        return [*self._services, self._sampled, self._plain]

    def _cut(self) -> None:
        for service in (*self._services, self._sampled):
            service.cut()

    def run(self, seconds: float) -> int:
        """Do harm for so many seconds, then check; return how many records were logged."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.harm(self._random.choice(sorted(self.kinds)))
        return self.finish()

    def harm(self, name: str) -> None:
        """Let the services log for a moment, then do one kind of harm."""
        time.sleep(self._random.uniform(0.05, 0.4))
        self._is_lossy |= name not in SPARES_PLAIN | OF_READERS
        self.kinds[name]()

    def finish(self) -> int:
        """End the harm, let everything come to rest, and count; return the number of records that were logged."""
        wait_until_whole(self.collector)
        for service in self._everyone():
            service.pause()
        plain = self._plain.report()
        counts = {service.name: service.report() for service in self._services}
        sampled = self._sampled.report()
        stored = Stored(self.collector.state_dir, OUTPUT, OWN)
        try:
            self._check_output(stored, counts, plain)
            kept = stored.numbers[SAMPLED]
            assert kept == sorted(set(kept)), f"{SAMPLED}: a kept record came twice or out of order"
            assert kept, f"{SAMPLED}: no record was kept"
            assert kept[-1] < sampled
            wait_for(self._is_shipped, "no lag of stores and groups", PATIENCE_S)
            wanted = {name: set(range(count)) for name, count in counts.items()} | {SAMPLED: set(kept)}
            wanted[self._plain.name] = set(stored.plain(self._plain.name))
            self._check_groups()
            # The status is 1 if the master has not noticed a killed child yet.
            assert self.collector.stop() in (0, 1), "the collector does not stop"
            self._check_stores(wanted)
            self._check_notices()
            self._check_log()
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.collector.log}") from error
        return sum(counts.values()) + sampled + plain

    def _check_output(self, stored: Stored, counts: dict[str, int], plain: int) -> None:
        stored.read_on()
        for name, count in counts.items():
            stored.check(name, count)
        fenced = self._services[-1]
        assert isinstance(fenced, Fenced)
        fenced.check(stored.connections[fenced.name])

        def is_read() -> bool:
            stored.read_on()
            return len(stored.plain(self._plain.name)) >= plain

        # A plain client's records may still wait: for a limit.
        with contextlib.suppress(AssertionError):
            wait_for(is_read, "plain records", 5.0 if self._is_lossy else PLAIN_PATIENCE_S)
        stored.check_plain(self._plain.name, plain, lossy=self._is_lossy)

    def _is_shipped(self) -> bool:
        status = self.collector.status()
        return all(store["lag_records"] == 0 for store in (*status["stores"], status["errors"] or {"lag_records": 1}))

    def _check_groups(self) -> None:
        """Compare the count of each group with its records, in the first store."""
        done = self.collector.cli("errors", "--format", "json", "--limit", "10000")
        assert done.returncode == 0, done.stderr
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        assert rows, "no group of errors"
        for row in rows:
            counted = self.collector.cli("query", f"fingerprint={row['id']}", "--count")
            assert counted.returncode == 0, counted.stderr
            assert int(counted.stdout) == row["count"], f"{row} has {counted.stdout.strip()} records"

    def _searches(self) -> Iterator[tuple[str, Search]]:
        yield "parquet", ParquetSearch(ParquetStoreSettings(path=str(self.collector.state_dir / "records")))
        if self._server is not None:
            yield "postgresql", PostgresqlSearch(self._server.dsn, self._schema)

    def _check_stores(self, wanted: dict[str, set[int]]) -> None:
        """Check that each store has each wanted record once, and no other."""
        for name, search in self._searches():
            with contextlib.closing(search):
                lines = [line for line in search.lines(Filters()) if OWN not in line]
            fault = find_fault(lines, wanted)
            assert not fault, f"{name}: {fault}"

    def _check_notices(self) -> None:
        """Check that what people were told of an incident has one id for each kind of notice."""
        ids: dict[tuple[Any, ...], Counter[str]] = defaultdict(Counter)
        for request in list(self._hook.requests):
            notice = json.loads(request.body)
            ids[notice["alert"], notice["incident"], notice["kind"]][request.id] += 1
        assert ids, "nobody was told of anything"
        for key, told in ids.items():
            assert len(told) == 1, f"{key} was told under {dict(told)}"

    def _check_log(self) -> None:
        log = self.collector.log
        check_log(log)
        for ended in _ENDED.finditer(log):
            is_killed = ended["how"].endswith("SIGKILL") and int(ended["pid"]) in KILLED
            assert is_killed, f"{ended[0]}: by itself"

    def close(self) -> None:
        """Remove everything."""
        for service in self._everyone():
            service.close()
        self.collector.clean_up()
        self._hook.close()


def main() -> int:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, default=1, help="of the first iteration; each next one has the next")
    parser.add_argument("--seconds", type=float, default=12, help="of harm in each iteration")
    parser.add_argument("--iterations", type=int, default=1)
    options = parser.parse_args()
    found = sorted(interpreters.found().items())
    pythons = [path for version, path in found if version in interpreters.WANTED] or [sys.executable]
    with database() as server:
        return run_seeds(
            options,
            lambda directory, seed: FeaturesTorture(directory, seed, pythons, server),
            lambda records: f"{records} records, each as promised",
        )


if __name__ == "__main__":
    sys.exit(main())
