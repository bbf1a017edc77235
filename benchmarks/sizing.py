"""What a fleet needs: edges, servers, central collectors, bandwidth and disks, by the figures that were measured here.

python benchmarks/sizing.py --hosts 10000 --rate 20 --bytes 600

Each line of the answer has its formula; the figures in it are medians of kept results (benchmarks/results/). Two inputs
are nobody's measurement but yours: how well your records pack, and how much more a peak is than the mean. What was
measured on two cores that load, edges, servers and centre had to share counts as the rate of one machine, and only a
part of it (--use) is planned with.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

RESULTS = Path(__file__).resolve().parent / "results"
DAY_S = 86_400
SYNC_WAIT_S = 300
"""How long a NATS store keeps in its journal what was acknowledged, unless `sync_wait` says otherwise."""
CONNECTIONS = 10_000
"""What an edge takes, unless `limits.max_connections` says otherwise."""
MOST_USE = 0.9
BATCH_RECORDS = 2048
"""Most records of a message."""
WAYS = {1: ("R1, one server", "R1, one record a message"), 3: ("R3, three servers", "R3, one record a message")}
"""Replicas to what was measured with full messages, and with the least ones."""


class Figures(NamedTuple):
    """What was measured: medians of the kept runs."""

    ingest: float
    """Records/s that one edge takes while it publishes."""
    to_stream: float
    """Records/s that one stream takes from one edge."""
    to_file: float
    """Records/s that one central collector reads into a file."""
    edge_cpu_s: float
    """CPU seconds of a million records: an edge's worker, writer and shipper."""
    servers_cpu_s: float
    """Of all servers together, publishing."""
    reading_cpu_s: float
    """Of all servers together, for each group that reads."""
    central_cpu_s: float
    """A central collector's source and writer."""
    messages_in: float
    """Messages/s of one record each that one stream takes from one edge."""
    messages_out: float
    """The same, that one central collector reads."""
    messages_of_many: float
    """The same, from as many edges as were measured, when it meets them."""
    message_cpu_s: float
    """CPU seconds of all servers for a million of them, publishing and reading."""
    parquet: float
    postgresql: float
    """Records/s of one store."""
    parquet_bytes: float
    """Bytes of one record in Parquet files."""
    nats_from: str
    edges_from: str
    parquet_from: str
    postgresql_from: str


@dataclass(frozen=True)
class Fleet:
    """What is asked."""

    hosts: int
    rate: float
    """Records/s of one host, on average."""
    nbytes: float
    """Of a record as a JSON line."""
    edges: str = "shared"
    """Or one a host."""
    batch_s: float = 0.1
    """The store's batch_time."""
    peak: float = 3.0
    packing: float = 0.2
    processes: int = 8
    replicas: int = 3
    days: float = 7.0
    outage_h: float = 4.0
    groups: int = 1
    store: str = "file"
    use: float = 0.5

    @property
    def mean(self) -> float:
        """Records/s of all."""
        return self.hosts * self.rate


class Line(NamedTuple):
    """One figure of the answer."""

    key: str
    value: float
    unit: str
    formula: str


def newest(kind: str, part: str, as_of: str = "") -> tuple[dict[str, Any], str]:
    """Return the newest kept result of its kind, up to a time that begins its name, and its name.

    Of one that measured only a part (`--only`) there may be no `part` in it: then an older one counts. Raises
    FileNotFoundError.
    """
    for path in sorted(RESULTS.glob(f"*-{kind}.json"), reverse=True):
        if not as_of or path.name[: len(as_of)] <= as_of:
            found = json.loads(path.read_text())
            if part in found["results"]:
                return found, path.name
    raise FileNotFoundError(f"benchmarks/results has no *-{kind}.json with {part!r}: run benchmarks/bench_{kind}.py")


def figures(replicas: int, as_of: str = "") -> Figures:
    """Return what the kept results say."""
    measured, nats_from = newest("nats", "publishing", as_of)
    postgresql, postgresql_from = newest("postgresql", "records/s", as_of)
    edges, edges_from = newest("edges", "journals", as_of)
    parquet, parquet_from = newest("parquet", "fill", as_of)
    turns, single = (measured["results"]["publishing"][way] for way in WAYS[replicas])

    def median(key: str) -> float:
        return statistics.median(turn[key] for turn in turns)

    def cpu_s(of: str, *names: str) -> float:
        return statistics.median(sum(turn[of][name] for name in names) for turn in turns)

    fill = parquet["results"]["fill"]
    return Figures(
        ingest=median("ingest"),
        to_stream=median("to the stream"),
        to_file=median("stream to file"),
        edge_cpu_s=cpu_s("cpu", "edge worker", "edge writer", "edge shipper"),
        servers_cpu_s=cpu_s("cpu", "servers"),
        reading_cpu_s=cpu_s("cpu of reading", "servers"),
        central_cpu_s=cpu_s("cpu of reading", "centre source", "centre writer"),
        messages_in=statistics.median(turn["to the stream"] for turn in single),
        messages_out=statistics.median(turn["stream to file"] for turn in single),
        messages_of_many=_messages_of_many(edges),
        message_cpu_s=statistics.median(
            turn["cpu"]["servers"] + turn["cpu of reading"]["servers"] for turn in single
        ),
        parquet=1e6 / (fill["write_us"] + fill["merge_us"]),
        postgresql=statistics.median(
            postgresql["results"]["records/s"]["Store.write (COPY, 20,000 a transaction)"]
        ),
        parquet_bytes=fill["bytes_per_record"],
        nats_from=nats_from, edges_from=edges_from, parquet_from=parquet_from, postgresql_from=postgresql_from,
    )  # fmt: skip


def _messages_of_many(edges: dict[str, Any]) -> float:
    journals = edges["results"]["journals"]
    return statistics.median(turn["meeting them"] for turn in journals[max(journals, key=int)])


def size(fleet: Fleet, it: Figures) -> list[Line]:
    """Return what a fleet needs."""
    mean, peak = fleet.mean, fleet.mean * fleet.peak
    packed = fleet.nbytes * fleet.packing
    kept_s = SYNC_WAIT_S + fleet.outage_h * 3600
    lines = [Line("records/s, mean", mean, "", "hosts x rate"), Line("records/s, peak", peak, "", "mean x peak")]
    if fleet.edges == "host":
        edges = fleet.hosts
        lines += [Line("edges, one a host", edges, "", "hosts")]
    else:
        slower = min(it.ingest, it.to_stream)
        by_rate = math.ceil(peak / (fleet.use * slower))
        by_connections = math.ceil(fleet.hosts * fleet.processes / (fleet.use * CONNECTIONS))
        edges = max(by_rate, by_connections) + 1
        lines += [
            Line("edges, shared", edges, "", "larger of the next two, and 1 to spare"),
            Line("  for the peak", by_rate, "", f"peak / (use x {slower:,.0f}/s)"),
            Line("  for connections", by_connections, "", f"hosts x processes / (use x {CONNECTIONS:,})"),
        ]
    messages = max(mean / BATCH_RECORDS, edges * min(mean / edges, 1 / fleet.batch_s))
    by_rate = math.ceil(peak / (fleet.use * it.to_stream))
    by_messages = math.ceil(messages / (fleet.use * it.messages_in))
    streams = max(by_rate, by_messages)
    into = peak / streams * packed / 1e6
    kept_gb = mean * DAY_S * packed / 1e9
    lines += [
        Line("  CPU of each, peak", peak / edges * it.edge_cpu_s / 1e4, "% of a core",
             f"peak / edges x {it.edge_cpu_s:.2f} s a million"),
        Line("  journal of each", mean / edges * fleet.nbytes * kept_s / 1e9, "GB",
             "mean / edges x bytes x (sync_wait + outage)"),
        Line("messages/s", messages, "", f"edges / batch_time; no fewer than mean / {BATCH_RECORDS:,}"),
        Line("streams", streams, "", "larger of the next two"),
        Line("  for the peak", by_rate, "", f"peak / (use x {it.to_stream:,.0f}/s)"),
        Line("  for messages", by_messages, "", f"messages / (use x {it.messages_in:,.0f}/s)"),
        Line("  into one, peak", into, "MB/s", "peak / streams x bytes x packing"),
        Line("  out of its leader", into * (fleet.replicas - 1 + fleet.groups), "MB/s",
             "that x (replicas - 1 + groups)"),
        Line("cores of all servers, peak",
             peak * (it.servers_cpu_s + fleet.groups * it.reading_cpu_s) / 1e6 + messages * it.message_cpu_s / 1e6, "",
             f"peak x ({it.servers_cpu_s:.2f} + groups x {it.reading_cpu_s:.2f} s a million) "
             f"+ messages x {it.message_cpu_s:.0f} s a million"),
        Line("disk of a replica, a day", kept_gb, "GB", "mean x day x bytes x packing"),
        Line("  of all, while kept", kept_gb * fleet.days * fleet.replicas, "GB", "that x days x replicas"),
    ]  # fmt: skip
    return lines + _centre(fleet, it, messages)


def _centre(fleet: Fleet, it: Figures, messages: float) -> list[Line]:
    """Return what has to be there to read the streams."""
    mean, peak = fleet.mean, fleet.mean * fleet.peak
    rate = min(it.to_file, {"file": it.to_file, "parquet": it.parquet, "postgresql": it.postgresql}[fleet.store])
    by_rate = math.ceil(mean / (fleet.use * rate))
    messages_out = min(it.messages_out, it.messages_of_many) if fleet.edges == "host" else it.messages_out
    by_messages = math.ceil(messages / (fleet.use * messages_out))
    working = max(by_rate, by_messages)
    capacity = working * rate
    behind = max(0.0, peak - capacity) * 3600
    at_rest = it.parquet_bytes if fleet.store == "parquet" else fleet.nbytes
    return [
        Line(f"central collectors, {fleet.store}", working + 1, "", "larger of the next two, and 1 to spare"),
        Line("  for the mean", by_rate, "", f"mean / (use x {rate:,.0f}/s)"),
        Line("  for messages", by_messages, "", f"messages / (use x {messages_out:,.0f}/s)"),
        Line("  cores of all, mean", mean * it.central_cpu_s / 1e6, "",
             f"mean x {it.central_cpu_s:.2f} s a million, without a store's own"),
        Line("  disk of all, a day", mean * DAY_S * at_rest / 1e9, "GB", f"mean x day x {at_rest:,.0f} bytes"),
        Line("  behind after a peak hour", behind / 1e6, "million records", "(peak - rate of all but 1) x an hour"),
        Line("  and back after", behind / (capacity - mean) / 3600, "h", "that / (rate of all but 1 - mean)"),
    ]  # fmt: skip


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return what the command line asks."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--hosts", type=int, required=True)
    parser.add_argument("--rate", type=float, required=True, help="records/s of one host, on average")
    parser.add_argument("--bytes", type=float, required=True, dest="nbytes", help="of a record as a JSON line")
    parser.add_argument("--edges", default=Fleet.edges, choices=("shared", "host"), help="one for many hosts, or each")
    parser.add_argument("--batch-time", type=float, default=Fleet.batch_s, dest="batch_s", help="in s (default: 0.1)")
    parser.add_argument("--peak", type=float, default=Fleet.peak, help="a peak's rate over the mean (default: 3)")
    parser.add_argument(
        "--packing", type=float, default=Fleet.packing,
        help="bytes in the stream over bytes of the lines (default: 0.2, an assumption: see docs/scaling.md)",
    )  # fmt: skip
    parser.add_argument("--processes", type=int, default=Fleet.processes, help="that log, on one host (default: 8)")
    parser.add_argument("--replicas", type=int, default=Fleet.replicas, choices=sorted(WAYS))
    parser.add_argument("--days", type=float, default=Fleet.days, help="the stream's retain (default: 7)")
    parser.add_argument("--outage", type=float, default=Fleet.outage_h, dest="outage_h",
                        help="hours without the servers that edges are to bridge (default: 4)")  # fmt: skip
    parser.add_argument("--groups", type=int, default=Fleet.groups, help="of central collectors (default: 1)")
    parser.add_argument("--store", default=Fleet.store, choices=("file", "parquet", "postgresql"), help="at the centre")
    parser.add_argument("--use", type=float, default=Fleet.use, help="part of a measured rate to plan with (0.5)")
    parser.add_argument(
        "--as-of", default="", metavar="TIME", help="results up to then, as in their names (default: all)"
    )
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    for name in ("hosts", "rate", "nbytes", "peak", "packing", "processes", "days", "groups", "use", "batch_s"):
        if getattr(options, name) <= 0:
            parser.error(f"{name} must be above 0")
    if options.use > MOST_USE:
        parser.error(f"use must be {MOST_USE} or less: nothing would be left to catch up with")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Answer the command line."""
    options = vars(parse(argv))
    as_of, as_json = options.pop("as_of"), options.pop("json")
    fleet = Fleet(**options)
    try:
        it = figures(fleet.replicas, as_of)
    except FileNotFoundError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    lines = size(fleet, it)
    if as_json:
        print(json.dumps([line._asdict() for line in lines], indent=1))
        return 0
    for line in lines:
        value = f"{line.value:,.0f}" if line.value >= 100 or line.value == int(line.value) else f"{line.value:,.2g}"
        print(f"{line.key:<27} {value:>9} {line.unit:<15} {line.formula}")
    print(f"\nmeasured: {it.nats_from}, {it.edges_from}, {it.parquet_from}, {it.postgresql_from}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
