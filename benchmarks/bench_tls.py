"""How many records a second reach the file by TLS, beside plain connections: in large writes, and a record a write.

The records are encrypted before the clock starts, so the cost of TLS is the collector's alone. Runs are interleaved,
and ratios are taken inside one round.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import _report
import _servers
import _trial
from _records import Buffer
from _report import Report, Spread, Target

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from _trial import Trial

WRITE_BYTES = 32_768
"""What our handler writes at once when records wait."""
RECORD_BYTES = 700
"""About one record: what a handler writes that sends each at once."""
LEAST_RATIO = 0.5


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options."""
    parser = _report.options(__doc__.partition("\n")[0])
    parser.add_argument("--connections", type=int, default=100)
    parser.add_argument("--runs", type=int, help="interleaved runs of each kind (default: 5; short: 3)")
    parser.add_argument("--records", type=int, help="in one run (default: 1,000,000; short: 300,000)")
    options = parser.parse_args(argv)
    options.runs = options.runs or (3 if options.short else 5)
    options.records = options.records or (300_000 if options.short else 1_000_000)
    # The records are in memory as they are and encrypted, and the output as page cache.
    options.records = min(options.records, _report.available_bytes() // 8 // 750)
    return options


def main(argv: Sequence[str] | None = None) -> Report:
    """Run it and return the results."""
    options = parse(argv)
    report = Report("tls", _report.settings(options))
    print(f"tls: {_report.headline()}")
    servers = [
        _servers.prefork_logd(options.workers, options.durability, tls_bytes=size)
        for size in (0, WRITE_BYTES, RECORD_BYTES)
    ]
    buffer = Buffer("stdlib")
    found: dict[str, list[Trial]] = {server.name: [] for server in servers}
    for _ in range(options.runs):
        for server in servers:
            found[server.name].append(_trial.run(server, buffer, options.records, options.connections, options.scratch))
        print(".", end="", flush=True)
    plain, large, single = (found[server.name] for server in servers)
    report.table(
        f"{options.connections} connections: median (least-most) of {options.runs} runs",
        ("server", "records/s", "of plain", "CPU s/million", "peak MiB", "lost", "noise"),
        [
            [
                name,
                Spread.of(trial.records_per_s for trial in trials).text(),
                _ratio(trials, plain).text(".2f"),
                Spread.of(trial.cpu_s_per_million for trial in trials).text(".2f"),
                f"{max(trial.peak_memory_bytes for trial in trials) / 2**20:.0f}",
                str(sum(trial.count.lost for trial in trials)),
                f"{Spread.of(trial.others_cores for trial in trials).median:.2f}",
            ]
            for name, trials in found.items()
        ],
    )
    ratio = _ratio(large, plain)
    what = f"TLS in writes of {WRITE_BYTES:,} bytes, of the plain rate"
    report.targets.append(Target(what, f"at least {LEAST_RATIO}", ratio.text(".2f"), ratio.median >= LEAST_RATIO))
    report.whole = all(trial.count.whole for trials in (plain, large, single) for trial in trials)
    report.results[f"{options.connections} connections"] = {
        name: [trial.as_dict() for trial in trials] for name, trials in found.items()
    }
    return report.finish(options.save, options.summary)


def _ratio(trials: list[Trial], plain: list[Trial]) -> Spread:
    """Return the rate over that of plain connections, round by round."""
    return Spread.of(one.records_per_s / max(two.records_per_s, 1) for one, two in zip(trials, plain, strict=True))


if __name__ == "__main__":
    sys.exit(0 if main().whole else 1)
