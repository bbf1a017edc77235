"""Every benchmark in short form, one after the other, with all targets at the end: what `make bench` runs.

Exit status 1 if a benchmark could not run, or if the collector lost, doubled or damaged a record. A figure that is
missed is said so, and is no failure: machines differ, and so do their minutes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

_HERE = Path(__file__).resolve().parent
_BENCHMARKS = (
    "startup",
    "throughput",
    "tls",
    "connections",
    "latency",
    "handler",
    "handover",
    "stores",
    "postgresql",
    "parquet",
    "page",
    "acknowledged",
    "cost",
    "nats",
    "edges",
)


def _run(name: str, flags: list[str], directory: Path) -> list[str]:
    """Run one benchmark in a process of its own, so that none inherits another's memory; return its lines."""
    summary = directory / f"{name}.json"
    command = [sys.executable, str(_HERE / f"bench_{name}.py"), "--summary", str(summary), *flags]
    status = subprocess.run(command, check=False).returncode
    if not summary.exists():
        return [f"  FAILED  {name}: ended with {status} before its figures were complete"]
    found = json.loads(summary.read_text())
    lines: list[str] = found["targets"] or [f"  FAILED  {name}: nothing was measured"]
    if not found["whole"]:
        lines.append(f"  DAMAGE  {name}: records were lost, doubled or damaged, or the collector did not run")
    return lines


def main() -> int:
    """Run what the command line asks for; return the exit status."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__.partition("\n")[0])
    parser.add_argument("--long", action="store_true", help="full length; half an hour instead of four minutes")
    parser.add_argument("--no-save", action="store_true", help="write no files in benchmarks/results/")
    parser.add_argument("--only", nargs="+", choices=_BENCHMARKS, default=_BENCHMARKS)
    options = parser.parse_args()
    flags = ([] if options.long else ["--short"]) + (["--no-save"] if options.no_save else [])
    begin, lines = time.monotonic(), []
    with tempfile.TemporaryDirectory(prefix="prefork-logd-bench-") as directory:
        for name in options.only:
            print(f"\n=== {name}", flush=True)
            lines += _run(name, flags, Path(directory))
    print(f"\n=== all targets ({time.monotonic() - begin:.0f} s)")
    print("\n".join(lines))
    return 1 if any(line.startswith(("  FAILED", "  DAMAGE")) for line in lines) else 0


if __name__ == "__main__":
    sys.exit(main())
