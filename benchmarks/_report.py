"""What a benchmark says: machine facts, medians with their spread, tables, targets, and a dated result file.

Owns everything that is printed or saved. Knows no server and measures nothing but the machine it stands on.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import mmap
import os
import platform
import statistics
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import _servers

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_PROCESSES_BYTES = 128 << 20
RESULTS = Path(__file__).resolve().parent / "results"


@dataclass(frozen=True)
class Spread:
    """The median of several runs, and how far they lay apart."""

    median: float
    least: float
    most: float
    runs: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Return the spread of at least one value."""
        ordered = sorted(values)
        return cls(statistics.median(ordered), ordered[0], ordered[-1], len(ordered))

    def text(self, form: str = ",.0f", scale: float = 1.0) -> str:
        """Return "median (least-most)" in one format."""
        median, least, most = (format(value * scale, form) for value in (self.median, self.least, self.most))
        return median if self.runs == 1 or least == most else f"{median} ({least}-{most})"


@dataclass(frozen=True)
class Target:
    """One figure that is aimed at, and what came out."""

    what: str
    wanted: str
    measured: str
    met: bool

    def line(self) -> str:
        """Return it as a line of a summary."""
        return f"  {'met   ' if self.met else 'MISSED'}  {self.what}: {self.measured} (wanted: {self.wanted})"


@dataclass
class Report:
    """What one benchmark found."""

    benchmark: str
    settings: dict[str, Any]
    results: dict[str, Any] = field(default_factory=dict)
    targets: list[Target] = field(default_factory=list)
    tables: list[str] = field(default_factory=list)
    skipped: str = ""
    """Why nothing was measured."""
    whole: bool = True
    """False when the collector under test lost, doubled or damaged a record: no noise excuses that."""

    def table(self, title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Add a table and print it."""
        widths = [max(len(str(row[column])) for row in (head, *rows)) for column in range(len(head))]
        lines = [title, ""]
        for row in (head, ["-" * width for width in widths], *rows):
            first, *rest = zip(row, widths, strict=True)
            cells = [f"{first[0]:<{first[1]}}", *(f"{cell:>{width}}" for cell, width in rest)]
            lines.append("  " + "  ".join(cells).rstrip())
        self.tables.append("\n".join(lines))
        print(f"\n{self.tables[-1]}", flush=True)

    def skip(self, why: str) -> None:
        """Say aloud that nothing is measured, and why."""
        self.skipped = why
        print(f"SKIPPED: {why}", flush=True)

    def finish(self, save: bool, file: Path | None) -> Report:
        """Print the targets and keep everything as benchmarks/results/DATE-TIME-BENCHMARK.json if asked to.

        `file` gets the targets as lines of text, for who runs several benchmarks.
        """
        if self.targets:
            print(f"\nTargets, {self.benchmark}:")
            print("\n".join(target.line() for target in self.targets))
        if save:
            now = dt.datetime.now(dt.UTC)
            path = RESULTS / f"{now:%Y-%m-%d-%H%M}-{self.benchmark}.json"
            RESULTS.mkdir(exist_ok=True)
            document = {
                "benchmark": self.benchmark,
                "time": f"{now:%Y-%m-%dT%H:%M:%SZ}",
                "machine": machine(),
                "versions": _servers.versions(),
                **{key: value for key, value in asdict(self).items() if key not in {"benchmark", "tables"}},
            }
            path.write_text(json.dumps(document, indent=1, sort_keys=False) + "\n")
            print(f"\nraw results: benchmarks/results/{path.name}", flush=True)
        if file is not None:
            lines = [target.line() for target in self.targets]
            if self.skipped:
                lines.append(f"  SKIPPED  {self.benchmark}: {self.skipped}")
            summary = {"targets": lines, "whole": self.whole}
            file.write_text(json.dumps(summary))
        return self


def machine() -> dict[str, Any]:
    """Return what the figures depend on; no host name and no path."""
    cpu = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "?"
    )
    memory = next((int(line.split()[1]) // 1024 for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), 0)
    return {
        "cores": len(os.sched_getaffinity(0)),
        "cpu": cpu,
        "memory_mib": memory,
        "kernel": platform.release(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "load_at_end": round(os.getloadavg()[0], 2),
    }


def headline() -> str:
    """Return the machine in one line."""
    facts = machine()
    return f"{facts['cores']} cores ({facts['cpu']}), Linux {facts['kernel']}, {facts['python']}, " + ", ".join(
        f"{name} {version}" for name, version in _servers.versions().items() if name != "python"
    )


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()


def available_bytes() -> int:
    """Return how much memory can be used without swapping."""
    return next(int(line.split()[1]) * 1024 for line in _lines("/proc/meminfo") if line.startswith("MemAvailable"))


def warm_memory(size: int, scratch: Path | None = None) -> None:
    """Touch this much page cache, and some memory for the processes, and give both back.

    On a virtual machine the first touch of a page costs four to five times a later one, which would be charged to
    whichever server is the first to need it; and pages that lie idle for a while go back to the host, so this is done
    before every run.
    """
    size = min(size, available_bytes() // 3)
    anonymous = min(size, _PROCESSES_BYTES)
    with mmap.mmap(-1, anonymous) as memory:
        memory[:: mmap.PAGESIZE] = bytes(len(range(0, anonymous, mmap.PAGESIZE)))
    block = bytes(1 << 20)
    with tempfile.TemporaryFile(dir=scratch) as file:
        for _ in range(size // len(block)):
            file.write(block)


def options(description: str) -> argparse.ArgumentParser:
    """Return a parser with the flags that every benchmark has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--short", action="store_true", help="less of everything: what `make bench` runs")
    parser.add_argument("--no-save", dest="save", action="store_false", help="write no file in benchmarks/results/")
    parser.add_argument("--summary", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--scratch", type=Path, help="directory for output files (default: the temporary directory)")
    parser.add_argument("--workers", default="auto", help="prefork-logd's workers (default: auto)")
    parser.add_argument("--durability", default="synced", choices=("synced", "written"))
    return parser


def settings(options: argparse.Namespace) -> dict[str, str]:
    """Return the options that a result depends on; no path among them."""
    left_out = {"scratch", "summary", "save", "beside", "stores"}
    return {key: str(value) for key, value in vars(options).items() if key not in left_out}
