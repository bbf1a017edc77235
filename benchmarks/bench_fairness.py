"""How soon honest records are acknowledged beside one noisy client, which sends ordinary records as fast as it is read.

The honest ones are those of `bench_acknowledged`: one process holds their sessions and sends at a steady rate. The
noisy client is a process of its own. In turn, in short runs: without it ("quiet"); with it at another collector, where
it takes nothing but processor time ("elsewhere"); with it at the same collector without a limit ("no limit"), with a
`[[limit]]` that makes it wait ("wait"), and with one that drops its records ("drop"). So a machine that is busy with
other things shows in all of them.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import _report
import _servers
from _report import Report, Spread, Target
from bench_acknowledged import latency
from bench_hostile import ORDINARY, QUIET, beside

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

LIMIT = '[[limit]]\nper = "connection"\nrecords_per_second = 5000\nburst = "1s"\naction = "{action}"\n'
KINDS = {
    QUIET: "",
    "elsewhere": "",
    "no limit": "",
    "wait": LIMIT.format(action="wait"),
    "drop": LIMIT.format(action="drop"),
}
WANTED = 2.0
"""Times the p99 without a noisy client."""


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options."""
    parser = _report.options(__doc__.partition("\n")[0])
    parser.add_argument("--sessions", type=int, default=50)
    parser.add_argument("--rate", type=int, default=500, help="honest records a second (default: 500)")
    parser.add_argument("--seconds", type=float, help="of each run (default: 2)", default=2.0)
    parser.add_argument("--runs", type=int, help="of each kind (default: 5; short: 1)")
    options = parser.parse_args(argv)
    options.runs = options.runs or (1 if options.short else 5)
    return options


def _in_turn(options: argparse.Namespace) -> dict[str, list[dict[str, float]]]:
    """Return the runs of each kind; each turn begins with another one."""
    found: dict[str, list[dict[str, float]]] = {kind: [] for kind in KINDS}
    with contextlib.ExitStack() as stack:
        live = {
            more: stack.enter_context(
                _servers.serving(_servers.prefork_logd(options.workers, options.durability, more=more), options.scratch)
            ).address
            for more in dict.fromkeys([*KINDS.values(), "# elsewhere\n"])
        }
        kinds = list(KINDS)
        for turn in range(options.runs):
            for index in range(len(kinds)):
                kind = kinds[(turn + index) % len(kinds)]
                noisy = live["# elsewhere\n" if kind == "elsewhere" else KINDS[kind]]
                with beside(noisy, QUIET if kind == QUIET else ORDINARY, 0):
                    found[kind].append(latency(live[KINDS[kind]], options))
    return found


def main(argv: Sequence[str] | None = None) -> Report:
    """Run it and return the results."""
    options = parse(argv)
    report = Report("fairness", _report.settings(options))
    print(f"fairness: {_report.headline()}")
    found = _in_turn(options)
    report.results["fairness"] = found
    report.whole = not any(run["lost"] for runs in found.values() for run in runs)
    rows = []
    for kind, runs in found.items():
        times = Spread.of(run["p99_s"] / quiet["p99_s"] for run, quiet in zip(runs, found[QUIET], strict=True))
        spreads = [Spread.of(run[key] for run in runs).text(".2f", 1000) for key in ("p50_s", "p99_s", "max_s")]
        rows.append([kind, *spreads, times.text(".2f")])
        if kind not in (QUIET, "elsewhere"):
            goal = f"at most {WANTED:g} times as long as without a noisy client"
            report.targets.append(Target(f"acknowledged p99, {kind}", goal, times.text(".2f"), times.median <= WANTED))
    report.table(
        f"milliseconds to the acknowledgement, {options.rate:,} records/s over {options.sessions} sessions, beside one "
        f"client that sends as fast as it is read, median (least-most) of {options.runs} runs",
        ("beside", "p50", "p99", "max", "p99, times that of quiet"),
        rows,
    )
    return report.finish(options.save, options.summary)


if __name__ == "__main__":
    sys.exit(0 if main().whole else 1)
