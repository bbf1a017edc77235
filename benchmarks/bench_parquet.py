"""What the Parquet store costs and how soon it answers: a day of a mixed fleet with ids of its own in each record."""

from __future__ import annotations

import contextlib
import datetime as dt
import gzip
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import _fleet_lines
import _report
import _servers
from _report import Report, Spread, Target

from prefork_logd.config.stores.parquet import ParquetStoreSettings
from prefork_logd.stores.parquet import merging, segments
from prefork_logd.stores.parquet.store import ParquetStore

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

START = dt.datetime(2026, 11, 23, tzinfo=dt.UTC).timestamp()
_DAY_S = 86_400.0
JOURNAL = "b" * 32
_TEN_MINUTES = ("--since", "2026-11-23T14:00:00Z", "--until", "2026-11-23T14:10:00Z")

QUESTIONS: tuple[tuple[str, float, tuple[str, ...]], ...] = (
    ("a value in extra, which one record has", 0.9, ("request_id={id}",)),
    ("extra.status>=500, counted", 0.9, ("status>=500", "--count")),
    ("bars by level over the day", 0.1, ("--histogram",)),
    ("facets of six fields", 0.5, ("--facet", "level", "--facet", "logger", "--facet", "funcName", "--facet", "host",
                                   "--facet", "process", "--facet", "threadName")),
    ("the newest 50 errors", 0.15, ("level>=ERROR", "--order", "newest", "--limit", "50")),
    ("the newest 50 with a rare word", 0.5, ("{word}", "--order", "newest", "--limit", "50")),
    ("a part of a message, counted", 0.8, ('message~"sequential scan"', "--count")),
    ("a regular expression, counted", 1.0, (r"message=~'took 4\d{{3}} ms'", "--count")),
    ("an id in extra, ten minutes", 0.05, (*_TEN_MINUTES, "request_id={id}")),
    ("the first line of everything", 0.3, ("--limit", "1")),
    ("an error's mean and p95 by status", 0.0, ("--stats", "count, avg(duration_ms), p95(duration_ms) by status")),
)  # fmt: skip
"""Each question with its longest time in seconds (0: no target) and its flags."""


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options."""
    parser = _report.options(__doc__.partition("\n")[0])
    parser.add_argument("--records", type=int, help="default: 10,000,000; short: 200,000")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--fill", type=Path, help="only make the store in this directory, and print what that took")
    options = parser.parse_args(argv)
    options.records = options.records or (200_000 if options.short else 10_000_000)
    return options


def fill(directory: Path, records: int) -> dict[str, Any]:
    """Make the store; return CPU seconds, and the memory that it took beside that of the lines."""
    settings = ParquetStoreSettings(path=str(directory / "records"), retain="")
    store = ParquetStore(settings)
    store.open(JOURNAL)
    batch = settings.batch_records
    list(_fleet_lines.blocks(0, 1, START, 1.0))
    written = 0.0
    resident = _resident_bytes()
    for first in range(0, records, batch):
        blocks = list(_fleet_lines.blocks(first, min(batch, records - first), START, _DAY_S / records))
        begin = time.process_time()
        store.write(blocks, _unexpected)
        written += time.process_time() - begin
    del blocks
    peak_written = _peak_bytes()
    directory_of = segments.Directory(directory / "records")
    merger = merging.Merger(directory_of, settings.memory_bytes)
    begin = time.process_time()
    count = 0
    while parts := merging.choose_parts(segments.find_segments(directory / "records"), time.time()):
        count += len(parts)
        merger.merge(parts)
    merged = time.process_time() - begin
    return {
        "write_us": written / records * 1e6,
        "merge_us": merged / records * 1e6,
        "segments_merged": count,
        "memory_written_mb": (peak_written - resident) / 1e6,
        "memory_merged_mb": (_peak_bytes() - resident) / 1e6,
    }


def _unexpected(number: int, line: bytes, reason: str) -> None:
    raise AssertionError(f"record {number} was refused: {reason}: {line[:200]!r}")


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def ask(config: Path, flags: Sequence[str]) -> tuple[float, bytes]:
    """Return how long the command takes from its start to its end, and what it prints."""
    begin = time.monotonic()
    command = [sys.executable, "-m", "prefork_logd", "query", "--config", str(config), *flags]
    environment = {**os.environ, **_servers.environment()}
    done = subprocess.run(command, check=True, capture_output=True, env=environment, timeout=600)
    return time.monotonic() - begin, done.stdout


def main(argv: Sequence[str] | None = None) -> Report:
    """Run the benchmark and return its report."""
    options = parse(argv)
    if options.fill:
        print(json.dumps(fill(options.fill, options.records)))
        sys.exit(0)
    report = Report("parquet", _report.settings(options))
    print(f"parquet: {_report.headline()}")
    with contextlib.ExitStack() as stack:
        directory = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="prefork-logd-bench-", dir=options.scratch))
        )
        config = directory / "query.toml"
        config.write_text(f'[server]\nstate_dir = "{directory}"\n[[store]]\ntype = "parquet"\nretain = ""\n')
        command = [sys.executable, __file__, "--fill", str(directory), "--records", str(options.records)]
        filled = json.loads(subprocess.run(command, check=True, capture_output=True).stdout.splitlines()[-1])
        size = sum(one.nbytes for one in segments.find_segments(directory / "records"))
        sample = b"".join(_fleet_lines.lines(0, 20_000, START, _DAY_S / options.records))
        filled["bytes_per_record"] = size / options.records
        filled["gzip_bytes_per_record"] = len(gzip.compress(sample, 6)) / 20_000
        report.results["fill"] = {name: round(value, 2) for name, value in filled.items()}
        print(f"{options.records:,} records, {size / 1e9:.2f} GB, {report.results['fill']}")
        found = _answers(config, options.runs)
    report.results["seconds"] = {what: [round(one, 3) for one in seconds] for what, (seconds, _) in found.items()}
    report.whole = found["a value in extra, which one record has"][1] == 1
    for name, wanted, unit in (
        ("bytes_per_record", 70, "bytes"), ("memory_written_mb", 350, "MB"), ("memory_merged_mb", 350, "MB"),
    ):  # fmt: skip
        report.targets.append(Target(name, f"at most {wanted}", f"{filled[name]:.1f} {unit}", filled[name] <= wanted))
    cpu = filled["write_us"] + filled["merge_us"]
    report.targets.append(Target("CPU of a record, merged", "at most 8 us", f"{cpu:.2f} us", cpu <= 8))
    rows = []
    for what, wanted, _ in QUESTIONS:
        seconds, lines = found[what]
        spread = Spread.of(seconds)
        rows.append([what, f"{lines:,}", spread.text(".2f")])
        if wanted:
            measured = f"{spread.text('.2f')} s"
            report.targets.append(Target(what, f"at most {wanted:g} s", measured, spread.median <= wanted))
    report.table(
        f"seconds from the command to its end, median (least-most) of {options.runs} runs",
        ("question", "lines", "s"),
        rows,
    )
    return report.finish(options.save, options.summary)


def _answers(config: Path, runs: int) -> dict[str, tuple[list[float], int]]:
    """Ask each question so many times; return the seconds and the number of printed lines of each."""
    one = ask(config, (*_TEN_MINUTES, "request_id:*", "--limit", "1", "--format", "json"))[1]
    record = json.loads(one)
    names = {"id": record["extra"]["request_id"], "word": record["extra"]["request_id"][:12]}
    names["word"] = json.loads(ask(config, ("level>=ERROR", "--limit", "1", "--format", "json"))[1])["message"].split()[
        6
    ]
    found: dict[str, tuple[list[float], int]] = {what: ([], 0) for what, _, _ in QUESTIONS}
    for _ in range(runs):
        for what, _, flags in QUESTIONS:
            seconds, printed = ask(config, [flag.format(**names) for flag in flags])
            found[what] = ([*found[what][0], seconds], len(printed.splitlines()))
    return found


if __name__ == "__main__":
    sys.exit(0 if main().whole else 1)
