"""What the Parquet store costs and how soon it answers: a day of a mixed fleet with ids of its own in each record.

Each question is asked twice: by the command, from its start to its end, and by the same command in a process that has
started already, as the page does. Modules are compiled before, as in an installation.
"""

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
from typing import TYPE_CHECKING, Any, NamedTuple

import _fleet_lines
import _report
import _servers
from _report import Report, Spread, Target

from prefork_logd.cli import main as command_line
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

STARTING = "the first line of everything"
"""The question whose time is that of the command; the other times are those in a process that runs."""
QUESTIONS: tuple[tuple[str, float, tuple[str, ...]], ...] = (
    ("a value in extra, which one record has", 0.9, ("request_id={id}",)),
    ("extra.status>=500, counted", 0.9, ("status>=500", "--count")),
    ("bars by level over the day", 0.1, ("--histogram",)),
    ("facets of six fields", 0.5, ("--facet", "level", "--facet", "logger", "--facet", "funcName", "--facet", "host",
                                   "--facet", "process", "--facet", "threadName")),
    ("the newest 50 errors", 0.15, ("level>=ERROR", "--order", "newest", "--limit", "50")),
    ("the newest 50 with a rare word", 0.5, ("{word}", "--order", "newest", "--limit", "50")),
    ("a part of a message, counted", 0.8, ('message~"sequential scan"', "--count")),
    ("a regular expression, counted", 1.0, (r'message=~"took 4\d{{3}} ms"', "--count")),
    ("an id in extra, ten minutes", 0.05, (*_TEN_MINUTES, "request_id={id}")),
    (STARTING, 0.3, ("--limit", "1")),
    ("an error's mean and p95 by status", 0.0, ("--stats", "count, avg(duration_ms), p95(duration_ms) by status")),
)  # fmt: skip
"""Each question with its longest time in seconds (0: no target) and its flags."""


PARTS = ("fill", "questions", "everything", "others")
"""The parts of the benchmark: making a day, asking questions about it, printing it, and stores of other forms."""


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options."""
    parser = _report.options(__doc__.partition("\n")[0])
    parser.add_argument("--records", type=int, help="default: 10,000,000; short: 200,000")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--fill", type=Path, help="only make the store in this directory, and print what that took")
    parser.add_argument("--days", type=int, default=1, help="with --fill: days over which the records are spread")
    parser.add_argument("--batch", type=int, default=0, help="with --fill: records of a segment; they are not merged")
    parser.add_argument("--stores", type=Path, help="make the stores in this directory, or use those that are there")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="parts of the benchmark (default: all)")
    parser.add_argument("--calls", type=Path, help="only answer the questions in this file, in this process")
    options = parser.parse_args(argv)
    options.records = options.records or (200_000 if options.short else 10_000_000)
    return options


def fill(directory: Path, records: int, days: int = 1, unmerged: int = 0, start: float = START) -> dict[str, Any]:
    """Make the store; return CPU seconds, and the memory that it took beside that of the lines.

    `unmerged` is the number of records of each segment, which then stays as it is. `start` is the time of the first
    record, in seconds since 1970.
    """
    settings = ParquetStoreSettings(path=str(directory / "records"), retain="")
    store = ParquetStore(settings)
    store.open(JOURNAL)
    batch = unmerged or settings.batch_records
    list(_fleet_lines.blocks(0, 1, start, 1.0))
    written = 0.0
    resident = _resident_bytes()
    for first in range(0, records, batch):
        blocks = list(_fleet_lines.blocks(first, min(batch, records - first), start, days * _DAY_S / records))
        begin = time.process_time()
        store.write(blocks, _unexpected)
        written += time.process_time() - begin
    del blocks
    peak_written = _peak_bytes()
    directory_of = segments.Directory(directory / "records")
    merger = merging.Merger(directory_of, settings.memory_bytes)
    begin = time.process_time()
    count = 0
    while not unmerged and (parts := merging.choose_parts(segments.find_segments(directory / "records"), time.time())):
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


class Asked(NamedTuple):
    """What a question took."""

    seconds: float
    printed: bytes
    memory_mb: float
    """Most memory of the process."""


def _environment(config: Path) -> dict[str, str]:
    """Return the environment of a command whose modules are compiled once, beside the store."""
    given = {**_servers.environment(), "PYTHONPYCACHEPREFIX": str(config.parent / "compiled")}
    return {key: value for key, value in given.items() if key != "PYTHONDONTWRITEBYTECODE"}


def _run(config: Path, command: Sequence[str], *, keeps: bool = True) -> Asked:
    with tempfile.TemporaryFile() if keeps else Path(os.devnull).open("w+b") as printed:
        begin = time.monotonic()
        process = subprocess.Popen(command, stdout=printed, env=_environment(config))
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.monotonic() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command)
        printed.seek(0)
        return Asked(seconds, printed.read(), used.ru_maxrss / 1e3)


def ask(config: Path, flags: Sequence[str], *, keeps: bool = True) -> Asked:
    """Return how long the command takes from its start to its end, and if `keeps` what it prints."""
    command = [sys.executable, "-m", "prefork_logd", "query", "--config", str(config), *flags]
    return _run(config, command, keeps=keeps)


def ask_inside(config: Path, questions: Sequence[Sequence[str]]) -> list[tuple[float, float]]:
    """Return the seconds and the CPU seconds of each question in one process that has started already."""
    file = config.parent / "questions.json"
    file.write_text(json.dumps([["query", "--config", str(config), *flags] for flags in questions]))
    found = json.loads(_run(config, [sys.executable, __file__, "--calls", str(file)]).printed)
    return [(seconds, cpu) for seconds, cpu in found]


def answer_calls(file: Path) -> list[tuple[float, float]]:
    """Run each command of a file in this process; return the seconds and CPU seconds of each.

    They are without the imports of the first one.
    """
    questions = json.loads(file.read_text())
    seconds = []
    for command in [questions[0], *questions]:
        sys.argv = ["prefork-logd", *command]
        begin, used = time.monotonic(), time.process_time()
        with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
            command_line.cli.main(prog_name="prefork-logd", standalone_mode=False)
        seconds.append((time.monotonic() - begin, time.process_time() - used))
    return seconds[1:]


def main(argv: Sequence[str] | None = None) -> Report:
    """Run the benchmark and return its report."""
    options = parse(argv)
    if options.fill:
        print(json.dumps(fill(options.fill, options.records, options.days, options.batch)))
        sys.exit(0)
    if options.calls:
        print(json.dumps(answer_calls(options.calls)))
        sys.exit(0)
    report = Report("parquet", _report.settings(options))
    print(f"parquet: {_report.headline()}")
    with contextlib.ExitStack() as stack:
        directory = options.stores or Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="prefork-logd-bench-", dir=options.scratch))
        )
        config, filled = _filled(directory / "day", options.records)
        if "fill" in options.only:
            _report_fill(report, directory / "day", options.records, filled)
        if "questions" in options.only:
            _report_questions(report, config, options.runs)
        if "everything" in options.only:
            memory = ask(config, ("--format", "json"), keeps=False).memory_mb
            report.results["memory_of_everything_mb"] = round(memory, 1)
            report.targets.append(
                Target("a query that prints everything", "at most 256 MB", f"{memory:.0f} MB", memory <= 256)
            )
        if "others" in options.only:
            _report_others(report, directory, options)
    return report.finish(options.save, options.summary)


def _report_fill(report: Report, day: Path, records: int, filled: dict[str, Any]) -> None:
    size = sum(one.nbytes for one in segments.find_segments(day / "records"))
    sample = b"".join(_fleet_lines.lines(0, 20_000, START, _DAY_S / records))
    filled["bytes_per_record"] = size / records
    filled["gzip_bytes_per_record"] = len(gzip.compress(sample, 6)) / 20_000
    report.results["fill"] = {name: round(value, 2) for name, value in filled.items()}
    print(f"{records:,} records, {size / 1e9:.2f} GB, {report.results['fill']}")
    for name, wanted, unit in (
        ("bytes_per_record", 70, "bytes"), ("memory_written_mb", 350, "MB"), ("memory_merged_mb", 350, "MB"),
    ):  # fmt: skip
        report.targets.append(Target(name, f"at most {wanted}", f"{filled[name]:.1f} {unit}", filled[name] <= wanted))
    cpu = filled["write_us"] + filled["merge_us"]
    report.targets.append(Target("CPU of a record, merged", "at most 8 us", f"{cpu:.2f} us", cpu <= 8))


def _report_questions(report: Report, config: Path, runs: int) -> None:
    found = _answers(config, runs)
    for name in ("seconds", "seconds_inside", "cpu_inside"):
        report.results[name] = {
            what: [round(one, 3) for one in getattr(answers, name)] for what, answers in found.items()
        }
    report.whole = found["a value in extra, which one record has"].lines == 1
    rows = []
    for what, wanted, _ in QUESTIONS:
        answers = found[what]
        spread, inside = Spread.of(answers.seconds), Spread.of(answers.seconds_inside)
        cpu = f"{min(answers.cpu_inside):.2f}"
        rows.append([what, f"{answers.lines:,}", spread.text(".2f"), inside.text(".2f"), cpu])
        if wanted:
            # The start of a process is a figure of its own, and no part of a question that the page asks.
            best = spread if what == STARTING else inside
            report.targets.append(Target(what, f"at most {wanted:g} s", f"{best.text('.2f')} s", best.median <= wanted))
    report.table(
        f"seconds, median (least-most) of {runs} runs",
        ("question", "lines", "command", "in a process that runs", "its CPU, the least"),
        rows,
    )


def _report_others(report: Report, directory: Path, options: argparse.Namespace) -> None:
    others = _other_stores(directory, options)
    report.results["other_stores"] = others
    print(others)
    for what, ratio in others["times"].items():
        report.targets.append(Target(what, "at most 2 times", f"{ratio:.2f} times", ratio <= 2))


class Answers(NamedTuple):
    """What a question took in each run, and the number of lines of the answer."""

    seconds: list[float]
    seconds_inside: list[float]
    cpu_inside: list[float]
    lines: int


def _filled(directory: Path, records: int, days: int = 1, batch: int = 0) -> tuple[Path, dict[str, Any]]:
    """Make a store in a directory; return the configuration of its queries, and what filling it took."""
    config, kept = directory / "query.toml", directory / "filled.json"
    if kept.exists():
        return config, json.loads(kept.read_bytes())
    directory.mkdir(parents=True)
    config.write_text(f'[server]\nstate_dir = "{directory}"\n[[store]]\ntype = "parquet"\nretain = ""\n')
    command = [sys.executable, __file__, "--fill", str(directory), "--records", str(records)]
    command += ["--days", str(days), "--batch", str(batch)]
    kept.write_bytes(subprocess.run(command, check=True, capture_output=True).stdout.splitlines()[-1])
    return config, json.loads(kept.read_bytes())


def _questions(config: Path) -> dict[str, list[str]]:
    """Return the flags of each question, with an id and a word of this store."""
    one = ask(config, (*_TEN_MINUTES, "request_id:*", "--limit", "1", "--format", "json")).printed
    error = ask(config, ("level>=ERROR", "--limit", "1", "--format", "json")).printed
    names = {"id": json.loads(one)["extra"]["request_id"], "word": json.loads(error)["message"].split()[6]}
    return {what: [flag.format(**names) for flag in flags] for what, _, flags in QUESTIONS}


def _answers(config: Path, runs: int) -> dict[str, Answers]:
    """Ask each question so many times, by a command and in a process that runs."""
    questions = _questions(config)
    found = {what: Answers([], [], [], 0) for what in questions}
    for _ in range(runs):
        inside = ask_inside(config, [*questions.values()])
        for (what, flags), (seconds, cpu) in zip(questions.items(), inside, strict=True):
            asked = ask(config, flags)
            if asked.printed.strip() in (b"", b"0"):
                raise SystemExit(f"{what}: nothing was found; the question is wrong")
            before = found[what]
            found[what] = Answers(
                [*before.seconds, asked.seconds],
                [*before.seconds_inside, seconds],
                [*before.cpu_inside, cpu],
                asked.printed.count(b"\n"),
            )
    return found


def _other_stores(directory: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Ask all questions together of a day in 144 segments and merged, and of one day among 30 and alone."""
    segment = options.records // 1400
    merged, _ = _filled(directory / "merged", 144 * segment)
    parts, _ = _filled(directory / "parts", 144 * segment, batch=segment)
    alone, _ = _filled(directory / "alone", options.records // 10)
    among, _ = _filled(directory / "among", 30 * (options.records // 10), days=30)
    day = ("--since", "2026-11-23T00:00:00Z", "--until", "2026-11-24T00:00:00Z")
    seconds: dict[str, float] = {}
    for name, config, added in (
        ("merged", merged, ()), ("144 segments", parts, ()), ("alone", alone, day), ("one of 30 days", among, day),
    ):  # fmt: skip
        asked = [[*flags, *(added if "--since" not in flags else ())] for flags in _questions(config).values()]
        seconds[name] = min(sum(taken for taken, _ in ask_inside(config, asked)) for _ in range(options.runs))
    return {
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
        "times": {
            "144 segments to a merged day": round(seconds["144 segments"] / seconds["merged"], 2),
            "one of 30 days to a day alone": round(seconds["one of 30 days"] / seconds["alone"], 2),
        },
    }


if __name__ == "__main__":
    sys.exit(0 if main().whole else 1)
