"""How many records a second, end to end: from 1 to 1,000 connections into a file, beside the rivals and the limit.

Every server gets the same records, ready-made: stdlib frames, or for the syslog daemons lines of JSON that carry the
same fields. Runs are interleaved, so that a slow minute of the machine hits all of them; ratios are taken inside one
round. What is stored is counted by record number.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import _report
import _servers
import _trial
from _records import Buffer
from _report import Report, Spread, Target

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from prefork_logd.ingest import core

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from _records import Mix, Wire
    from _servers import Server
    from _trial import Trial

NATIVE_RATE = 1_000_000
NATIVE_CPU_S = 1.2
LEAST_FLEET_RATIO = 0.8
"""Rate of the fleet mix over that of the uniform one."""
MOST_MIB = 150
"""With the compiled core: records a second, CPU of the whole tree for a million, and its memory under that load."""
_CALIBRATION_RECORDS = 20_000
_GENERATOR_RECORDS = 300_000

Rounds = dict[str, list["Trial"]]


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options."""
    parser = _report.options(__doc__.partition("\n")[0])
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 8, 100, 1000])
    parser.add_argument("--runs", type=int, default=5, help="interleaved runs of each server (default: 5)")
    parser.add_argument("--seconds", type=float, help="length of a run, about (default: 2; short: 1)")
    parser.add_argument("--max-records", type=int, help="in one run (default: 1,000,000; short: 500,000)")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="servers whose name begins so")
    parser.add_argument(
        "--beside", metavar="PYTHON", help="measure the collector of another installation, too, by its interpreter"
    )
    parser.add_argument("--fleet", action="store_true", help="send prefork-logd the records of a mixed fleet, too")
    parser.add_argument("--text", action="store_true", help="measure prefork-logd's text format too")
    options = parser.parse_args(argv)
    options.seconds = options.seconds or (1.0 if options.short else 2.0)
    options.max_records = options.max_records or (500_000 if options.short else 1_000_000)
    # Both wire formats of every record stay in memory, and the output as page cache.
    options.max_records = min(options.max_records, _report.available_bytes() // 6 // 750)
    return options


def servers(options: argparse.Namespace) -> list[Server]:
    """Return the servers to compare, ours first."""
    ours = [_servers.prefork_logd(options.workers, options.durability)]
    ours += [_servers.prefork_logd(options.workers, kind, acknowledged=True) for kind in ("synced", "written")]
    if options.text:
        ours.append(_servers.prefork_logd(options.workers, options.durability, text=True))
    if options.fleet:
        ours.append(_servers.prefork_logd(options.workers, options.durability, mix="fleet"))
    if core.NATIVE and not options.short:
        ours.append(_servers.prefork_logd(options.workers, options.durability, native=False))
    if options.beside:
        other = {"python": options.beside, "version": "beside"}
        ours.append(_servers.prefork_logd(options.workers, options.durability, **other))
        ours.append(_servers.prefork_logd(options.workers, "synced", acknowledged=True, **other))
    chosen = ours + _servers.rivals()
    if options.only:
        chosen = [server for server in chosen if server.name.startswith(tuple(options.only))]
    return chosen


def _takes_part(server: Server, connections: int, short: bool) -> bool:
    """Tell whether a server runs with so many connections: in short form most run only with the most."""
    return (
        not short
        or connections >= 100
        or (server.name.startswith(("prefork", "cookbook", "recv")) and not server.acknowledged)
    )


class Bench:
    """Buffers that live through all runs, and the records that each server gets, after its own speed."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.buffers: dict[tuple[Wire, Mix], Buffer] = {
            ("stdlib", "uniform"): Buffer("stdlib"),
            ("stdlib", "fleet"): Buffer("stdlib", mix="fleet"),
            ("syslog", "uniform"): Buffer("syslog"),
        }
        self.records: dict[str, int] = {}

    def run(self, server: Server, connections: int) -> Trial:
        """Run once, with the number of records that this server needs for a run of the wished length."""
        if server.name not in self.records:
            rate = self._once(server, _CALIBRATION_RECORDS, 100).records_per_s
            wanted = int(rate * self.options.seconds) // 1000 * 1000
            self.records[server.name] = max(_CALIBRATION_RECORDS, min(wanted, self.options.max_records))
        return self._once(server, self.records[server.name], connections)

    def _once(self, server: Server, records: int, connections: int) -> Trial:
        return _trial.run(server, self.buffers[server.wire, server.mix], records, connections, self.options.scratch)


def rounds(bench: Bench, chosen: list[Server], connections: int) -> Rounds:
    """Run every server once a round, in turn; one that cannot run is said so and left out."""
    found: Rounds = {}
    failed: set[str] = set()
    for _ in range(bench.options.runs):
        for server in chosen:
            if server.name in failed:
                continue
            try:
                found.setdefault(server.name, []).append(bench.run(server, connections))
            except RuntimeError as error:
                print(f"*** {server.name} left out: {error}", file=sys.stderr)
                failed.add(server.name)
                found.pop(server.name, None)
        print(".", end="", flush=True)
    return found


def ratios(found: Rounds, server: str, base: str) -> Spread | None:
    """Return the server's rate over the base's, round by round."""
    if server not in found or base not in found:
        return None
    pairs = zip(found[server], found[base], strict=True)
    return Spread.of(ours.records_per_s / max(theirs.records_per_s, 1) for ours, theirs in pairs)


def _row(name: str, what: str, trials: list[Trial], found: Rounds) -> list[str]:
    against = ratios(found, name, "cookbook")
    lost = sum(trial.count.lost for trial in trials) / sum(trial.count.sent for trial in trials)
    wrong = sum(trial.count.doubled + trial.count.unknown + trial.count.bad_samples for trial in trials)
    return [
        name,
        what,
        Spread.of(trial.records_per_s for trial in trials).text(),
        Spread.of(trial.cpu_s_per_million for trial in trials).text(".1f"),
        f"{max(trial.peak_memory_bytes for trial in trials) / 2**20:.0f}",
        f"{lost:.2%}" if lost else "0",
        str(wrong),
        f"{Spread.of(trial.others_cores for trial in trials).median:.2f}",
        f"{against.median:.1f}" if against else "",
    ]


def _targets(report: Report, found: Rounds, connections: int, name: str) -> None:
    if name not in found:
        return
    memory = max(trial.peak_memory_bytes for trial in found[name]) / 2**20
    report.targets.append(
        Target(f"peak MiB, {connections} connections", f"{MOST_MIB}", f"{memory:.0f}", memory <= MOST_MIB)
    )
    if connections == 100:
        rate = Spread.of(trial.records_per_s for trial in found[name])
        met = rate.median >= NATIVE_RATE
        report.targets.append(Target("records/s, 100 connections", f"{NATIVE_RATE:,}", rate.text(), met))
        cpu = Spread.of(trial.cpu_s_per_million for trial in found[name])
        met = cpu.median <= NATIVE_CPU_S
        report.targets.append(Target("CPU s/million, 100 connections", f"{NATIVE_CPU_S}", cpu.text(".2f"), met))
        if against := ratios(found, name, "cookbook"):
            met = against.median >= 4
            report.targets.append(Target("against the cookbook, 100 connections", "4 times", against.text(".1f"), met))
    for other in found:
        if other.startswith(name) and "synced" in other and connections == 100 and (kept := ratios(found, other, name)):
            report.targets.append(
                Target("acknowledged and synced, of plain frames", "at least 0.9", kept.text(".2f"), kept.median >= 0.9)
            )
    fleet = f"{name}, fleet mix"
    if ratio := ratios(found, fleet, name):
        met = ratio.median >= LEAST_FLEET_RATIO
        what = f"fleet mix, of the uniform mix, {connections} connections"
        report.targets.append(Target(what, f"at least {LEAST_FLEET_RATIO}", ratio.text(".2f"), met))
        report.whole &= all(trial.count.whole for trial in found[fleet])
    counts = [trial.count for trial in found[name]]
    whole = all(one.whole for one in counts)
    report.whole &= whole
    wrong = f"{sum(one.lost for one in counts)} lost, {sum(one.doubled for one in counts)} doubled"
    report.targets.append(Target(f"nothing lost or doubled, {connections} connections", "0, 0", wrong, whole))


def _beside(report: Report, found: Rounds, connections: int) -> None:
    """Print the ratio to the other installation's collector, round by round."""
    for other in [name for name in found if " beside" in name]:
        name = other.replace(" beside", "", 1)
        if (rate := ratios(found, name, other)) is None:
            continue
        pairs = list(zip(found[name], found[other], strict=True))
        cpu = Spread.of(one.cpu_s_per_million / two.cpu_s_per_million for one, two in pairs)
        memory = Spread.of(one.peak_memory_bytes / two.peak_memory_bytes for one, two in pairs)
        text = f"rate {rate.text('.2f')}, CPU {cpu.text('.2f')}, memory {memory.text('.2f')}"
        print(f"{name} over {other}, {connections} connections: {text}")
        report.results[f"{name} over {other}, {connections} connections"] = text


def _generator(report: Report, bench: Bench, scratch: Path) -> None:
    """Measure the generator alone: nothing slower than this by far is limited by it."""
    rates = {
        count: _trial.generator_rate(bench.buffers["stdlib", "uniform"], _GENERATOR_RECORDS, count, scratch)
        for count in bench.options.connections
    }
    report.results["generator_records_per_s"] = {str(count): rate and round(rate) for count, rate in rates.items()}
    if all(rates.values()):
        rates_text = ", ".join(f"{rate:,.0f} from {count}" for count, rate in rates.items())
        print(f"the generator alone, into a program that only receives: {rates_text} connections")


def main(argv: Sequence[str] | None = None) -> Report:
    """Run it and return the results."""
    options = parse(argv)
    bench, chosen = Bench(options), servers(options)
    ours = _servers.prefork_logd(options.workers).name
    report = Report("throughput", _report.settings(options))
    print(f"throughput: {_report.headline()}")
    with tempfile.TemporaryDirectory(prefix="prefork-logd-bench-", dir=options.scratch) as scratch:
        _generator(report, bench, Path(scratch))
    for connections in options.connections:
        taking_part = [server for server in chosen if _takes_part(server, connections, options.short)]
        found = rounds(bench, taking_part, connections)
        what = {server.name: server.what for server in chosen}
        report.table(
            f"{connections} connection{'s' if connections > 1 else ''}: median (least-most) of {options.runs} runs",
            ("server", "does", "records/s", "CPU s/million", "peak MiB", "lost", "wrong", "noise", "x cookbook"),
            [_row(name, what[name], trials, found) for name, trials in found.items()],
        )
        report.results[f"{connections} connections"] = {
            name: [trial.as_dict() for trial in trials] for name, trials in found.items()
        }
        _targets(report, found, connections, ours)
        _beside(report, found, connections)
    report.results["mean_frame_bytes"] = round(bench.buffers["stdlib", "uniform"].mean_bytes, 1)
    report.results["mean_line_bytes"] = round(bench.buffers["syslog", "uniform"].mean_bytes, 1)
    return report.finish(options.save, options.summary)


if __name__ == "__main__":
    sys.exit(0 if main().whole else 1)
