"""Every benchmark in short form, one after the other, with all targets at the end: what `make bench` runs.

Exit status 1 if a benchmark could not run, or if the collector lost, doubled or damaged a record. A figure that is
missed is said so, and is no failure: machines differ, and so do their minutes.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from typing import TYPE_CHECKING

import bench_connections
import bench_latency
import bench_startup
import bench_throughput

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from _report import Report

_BENCHMARKS: dict[str, Callable[[Sequence[str]], Report]] = {
    "startup": bench_startup.main,
    "throughput": bench_throughput.main,
    "connections": bench_connections.main,
    "latency": bench_latency.main,
}


def main() -> int:
    """Run what the command line asks for; return the exit status."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__.partition("\n")[0])
    parser.add_argument("--long", action="store_true", help="full length; half an hour instead of four minutes")
    parser.add_argument("--no-save", action="store_true", help="write no files in benchmarks/results/")
    parser.add_argument("--only", nargs="+", choices=tuple(_BENCHMARKS), default=tuple(_BENCHMARKS))
    options = parser.parse_args()
    flags = ([] if options.long else ["--short"]) + (["--no-save"] if options.no_save else [])
    reports: list[Report] = []
    failed: list[str] = []
    begin = time.monotonic()
    for name in options.only:
        print(f"\n=== {name}", flush=True)
        try:
            reports.append(_BENCHMARKS[name](flags))
        except Exception:  # noqa: BLE001 - one benchmark that cannot run does not take the others with it
            traceback.print_exc()
            failed.append(name)
    print(f"\n=== all targets ({time.monotonic() - begin:.0f} s)")
    for report in reports:
        print("\n".join(target.line() for target in report.targets) or f"  NOTHING MEASURED in {report.benchmark}")
    for name in failed:
        print(f"  FAILED  {name}: could not run")
    damaged = [report.benchmark for report in reports if not report.whole]
    for name in damaged:
        print(f"  DAMAGE  {name}: records were lost, doubled or damaged, or the collector did not run")
    return 1 if failed or damaged else 0


if __name__ == "__main__":
    sys.exit(main())
