"""How fast a store takes records: `Store.write` on one core, from JSON lines to synced rows, and what indexing adds."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import _report
from _lines import blocks
from _report import Report, Spread, Target

from prefork_logd.stores.sqlite.store import SqliteStore

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

_BATCH = 20_000
_WANTED = 150_000


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options."""
    parser = _report.options(__doc__.partition("\n")[0])
    parser.add_argument("--records", type=int, help="default: 2,000,000; short: 400,000")
    parser.add_argument("--runs", type=int, help="default: 5; short: 3")
    options = parser.parse_args(argv)
    options.records = options.records or (400_000 if options.short else 2_000_000)
    options.runs = options.runs or (3 if options.short else 5)
    return options


def run(options: argparse.Namespace, *, full_text: bool) -> dict[str, float]:
    """Write all records as fast as they are taken, then index; return records a second."""
    with tempfile.TemporaryDirectory(prefix="prefork-logd-bench-", dir=options.scratch) as directory:
        store = SqliteStore(Path(directory) / "records.db", full_text=full_text)
        store.open("b" * 32)
        start = time.time() // 86_400 * 86_400
        wall = cpu = 0.0
        for first in range(0, options.records, _BATCH):
            count = min(_BATCH, options.records - first)
            batch = list(blocks(first, count, start, 86_000 / options.records))
            begin, used = time.monotonic(), time.process_time()
            store.write(batch, _unexpected)
            wall += time.monotonic() - begin
            cpu += time.process_time() - used
        used = time.process_time()
        while store.maintain() <= 0:
            pass
        indexing = time.process_time() - used
        store.close()
        size = sum(file.stat().st_size for file in Path(directory).iterdir())
    return {
        "per_second": options.records / wall,
        "per_cpu_second": options.records / cpu,
        "indexing_us_per_record": indexing / options.records * 1e6,
        "bytes_per_record": size / options.records,
    }


def _unexpected(number: int, line: bytes, reason: str) -> None:
    raise AssertionError(f"record {number} was refused: {reason}: {line[:200]!r}")


def main(argv: Sequence[str] | None = None) -> Report:
    """Run it and return what was found."""
    options = parse(argv)
    report = Report("stores", _report.settings(options))
    print(f"stores: {_report.headline()}")
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    found: dict[str, list[dict[str, float]]] = {"SQLite": [], "SQLite, no full text": []}
    # Interleaved, so that a machine that is slower for a while is so for all.
    for _ in range(options.runs):
        for name, runs in found.items():
            runs.append(run(options, full_text=name == "SQLite"))
    report.results["runs"] = found
    rows = []
    for name, runs in found.items():
        values = {key: Spread.of(one[key] for one in runs) for key in runs[0]}
        rows.append(
            [
                name,
                values["per_second"].text(),
                values["per_cpu_second"].text(),
                values["indexing_us_per_record"].text(".1f"),
                values["bytes_per_record"].text(),
            ]
        )
        if name == "SQLite":
            measured = f"{values['per_second'].text()} (per second of CPU {values['per_cpu_second'].text()})"
            met = values["per_second"].median >= _WANTED
            report.targets.append(Target("Store.write, SQLite, records/s", f"{_WANTED:,} or more", measured, met))
    report.table(
        f"records a second through Store.write on one core, median (least-most) of {options.runs} runs",
        ("store", "records/s", "per CPU s", "indexing afterwards, us", "bytes a record"),
        rows,
    )
    return report.finish(options.save, options.summary)


if __name__ == "__main__":
    sys.exit(0 if main().whole else 1)
