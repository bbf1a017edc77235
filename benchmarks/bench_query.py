"""How long a question takes: `prefork-logd query` over ten million records in the SQLite store."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import _report
import _servers
from _lines import blocks
from _report import Report, Spread, Target

from prefork_logd.stores.sqlite.store import SqliteStore, day_files

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

START = dt.datetime(2026, 11, 23, tzinfo=dt.UTC).timestamp()
_DAY_S = 86_400.0
_BATCH = 20_000
_BYTES_PER_RECORD = 450

_HOUR = ("--since", "2026-11-23T14:00:00Z", "--until", "2026-11-23T15:00:00Z")
QUESTIONS: tuple[tuple[str, float, tuple[str, ...]], ...] = (
    ("an hour, errors, the first 100", 1.0, (*_HOUR, "--level", "ERROR", "--limit", "100")),
    ("an hour, warnings, counted", 1.0, (*_HOUR, "--level", "WARNING", "--count")),
    ("the whole day, errors, the last 100", 1.0, ("--level", "ERROR", "--order", "newest", "--limit", "100")),
    ("the whole day, warnings, counted", 1.0, ("--level", "WARNING", "--count")),
    ("a logger, an hour, the last 100", 1.0, (*_HOUR, "--logger", "shop.db", "--order", "newest", "--limit", "100")),
    ("a word that one record has", 2.0, ("--grep", "{rare}")),
    ("words that 1 in 8 has, the last 100", 2.0, ("--grep", "paid by card", "--order", "newest", "--limit", "100")),
    ("a word that 1 in 8 has, counted", 2.0, ("--grep", "customer", "--count")),
    ("a word and a level, an hour, 100 of them", 2.0, (*_HOUR, "--grep", "gateway", "--level", "30", "--limit", "100")),
    ("a phrase in tracebacks, the first 100", 2.0, ("--grep", '"no space left"', "--limit", "100")),
    ("everything, as bars over time by level", 0.0, ("--histogram",)),
    ("a value in extra, ten minutes", 0.0, ("--since", "2026-11-23T14:00:00Z", "--until", "2026-11-23T14:10:00Z",
                                            "--where", "extra.shard=3", "--count")),
)  # fmt: skip
"""What is asked, in how many seconds it is to be answered (0: as it comes), and the flags."""


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options."""
    parser = _report.options(__doc__.partition("\n")[0])
    parser.add_argument("--records", type=int, help="default: 10,000,000 (some 4 GB on disk); short: 200,000")
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args(argv)
    options.records = options.records or (200_000 if options.short else 10_000_000)
    return options


def fill(path: Path, records: int) -> dict[str, float]:
    """Make the store; return what that took. Raises RuntimeError when the disk has not the room."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(path.parent).free < 2 * records * _BYTES_PER_RECORD:
        raise RuntimeError("not enough room on disk; --records or --scratch")
    store = SqliteStore(path)
    store.open("b" * 32)
    written = indexed = 0.0
    for first in range(0, records, _BATCH):
        batch = list(blocks(first, min(_BATCH, records - first), START, _DAY_S / records))
        begin = time.process_time()
        store.write(batch, _unexpected)
        written += time.process_time() - begin
        # As a collector has it that is not busy all the time.
        begin = time.process_time()
        store.maintain()
        indexed += time.process_time() - begin
    begin = time.process_time()
    for name, _ in day_files(path):
        day = store._day(name)  # noqa: SLF001 - the end of a day, without waiting for it
        while day.index(1 << 20, everything=True):
            pass
    indexed += time.process_time() - begin
    store.close()
    return {"write_cpu_s": round(written, 2), "index_cpu_s": round(indexed, 2)}


def _unexpected(number: int, line: bytes, reason: str) -> None:
    raise AssertionError(f"record {number} was refused: {reason}: {line[:200]!r}")


def ask(config: Path, flags: Sequence[str]) -> tuple[float, float, bytes]:
    """Return how long the command takes from its start to its end, its CPU time, and what it prints."""
    used, begin = _cpu_s(), time.monotonic()
    command = [sys.executable, "-m", "prefork_logd", "query", "--config", str(config), *flags]
    environment = {**os.environ, **_servers.environment()}
    done = subprocess.run(command, check=True, capture_output=True, env=environment, timeout=600)
    return time.monotonic() - begin, _cpu_s() - used, done.stdout


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main(argv: Sequence[str] | None = None) -> Report:
    """Run it and return what was found."""
    options = parse(argv)
    report = Report("query", _report.settings(options))
    print(f"query: {_report.headline()}")
    with contextlib.ExitStack() as stack:
        directory = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="prefork-logd-bench-", dir=options.scratch))
        )
        config = directory / "query.toml"
        config.write_text(f'[server]\nstate_dir = "{directory}"\n[[store]]\ntype = "sqlite"\nretain = ""\n')
        report.results["fill"] = fill(directory / "records.db", options.records)
        size = sum(file.stat().st_size for _, file in day_files(directory / "records.db"))
        report.results["bytes_per_record"] = round(size / options.records, 1)
        print(f"{options.records:,} records, {size / 1e9:.2f} GB, {report.results['fill']}")
        rare = f"{options.records * 2 // 3:09d}"
        times: dict[str, list[float]] = {what: [] for what, _, _ in QUESTIONS}
        cpu: dict[str, list[float]] = {what: [] for what, _, _ in QUESTIONS}
        answers: dict[str, int] = {}
        for _ in range(options.runs):
            for what, _, flags in QUESTIONS:
                seconds, used, printed = ask(config, [flag.format(rare=rare) for flag in flags])
                times[what].append(seconds)
                cpu[what].append(used)
                found = sum(not line.startswith(b"\t") for line in printed.splitlines())
                answers[what] = int(printed) if "--count" in flags else found
    report.results["seconds"] = {what: [round(one, 3) for one in seconds] for what, seconds in times.items()}
    report.results["cpu_seconds"] = {what: [round(one, 3) for one in seconds] for what, seconds in cpu.items()}
    report.results["answers"] = answers
    report.whole = answers["a word that one record has"] == 1
    rows = []
    for what, wanted, _ in QUESTIONS:
        spread = Spread.of(times[what])
        rows.append([what, f"{answers[what]:,}", spread.text(".2f"), Spread.of(cpu[what]).text(".2f")])
        if wanted:
            measured = f"{spread.text('.2f')} s"
            report.targets.append(Target(what, f"below {wanted:g} s", measured, spread.median < wanted))
    report.table(
        f"seconds from the command to its end, median (least-most) of {options.runs} runs",
        ("question", "answer", "s", "of it CPU"),
        rows,
    )
    return report.finish(options.save, options.summary)


if __name__ == "__main__":
    sys.exit(0 if main().whole else 1)
