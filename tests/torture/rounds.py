"""Runs short torture: iterations of about a second, ten thousand of them in a row.

An iteration is a few kinds of harm while services log, then a pause in which everything comes to rest and is counted:
every logged record is acknowledged, and once in each output. Forty iterations share a collector and its services (a
chapter). At the end of a chapter the services are killed while they log: their stored records have no hole, and include
the acknowledged ones.

Owns chapters, jobs, the log and its summary. Does not know the kinds of harm (harm.py).
"""

from __future__ import annotations

import collections
import contextlib
import io
import json
import multiprocessing
import os
import random
import shutil
import subprocess
import tempfile
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.disks import Disk, build_shim
from tests.support.fenced import Fenced
from tests.support.harm import OUTPUT, SPARES_PLAIN, Harm
from tests.support.harness import Collector
from tests.support.stored import Stored
from tests.torture.processes import PlainService, Service, check_log

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

CHAPTER = 40
"""Iterations with the same collector, on an empty disk at first."""
DISK_BYTES = 64 << 20
MOST_STORED_BYTES = DISK_BYTES // 2
"""A chapter with more ends early: its disk must be full only if that is the harm."""
PLAIN_PATIENCE_S = 20.0
_OWN = "own.jsonl"
"""A second output of the same records, which rotates by itself."""
_TOML = """
[limits]
drain_timeout = "5s"
min_free_bytes = 0
[[output]]
name = "all"
path = "{directory}/records.jsonl"
[[output]]
name = "own"
path = "{directory}/own.jsonl"
rotate_bytes = 60_000
keep = 0
"""
_PASSING = """
[[output]]
name = "passing"
path = "{directory}/passing.jsonl"
loggers = ["s0", "p0"]
"""
"""An output that comes and goes."""


class Chapter:
    """A collector, its services, and a series of iterations."""

    def __init__(self, directory: Path, disk: Disk, seed: int, pythons: Sequence[str], shim: Path) -> None:
        chance = random.Random(-seed)
        self._fault_file = directory / "fault"
        toml = _TOML.format(directory=disk.path)
        self.collector = Collector(
            disk.path,
            toml,
            "--workers",
            "2",
            env={"LD_PRELOAD": str(shim), "FAULT_FILE": str(self._fault_file), "SYNC_US": "6000"},
        )
        self.collector.log_path.unlink(missing_ok=True)
        self.collector.start()
        address = self.collector.bind[0]
        self.collector._flags = ("--workers", "2", "--bind", address)
        configurations = (toml, toml + _PASSING.format(directory=disk.path))
        self._harm = Harm(self.collector, chance, disk, self._fault_file, self._cut, configurations)
        chosen = chance.sample(list(pythons), min(4, len(pythons)))
        self.services: list[Service | Fenced] = [
            Service(python, address, f"s{index}", chance.choice((0.001, 0.002, 0.005)))
            for index, python in enumerate(chosen[:3])
        ]
        self._fenced = Fenced(self.collector, "f0", seed)
        self.services.append(self._fenced)
        self._plain = PlainService(chosen[-1], address, "p0", chance.choice((0.001, 0.002, 0.005)))
        self._stored = [Stored(self.collector.state_dir, name) for name in (OUTPUT, _OWN)]
        self._counts = dict.fromkeys((service.name for service in self.services), 0)
        self._is_lossy = False

    def _cut(self) -> None:
        for service in self.services:
            service.cut()

    @property
    def stored_bytes(self) -> int:
        """The part of the disk that is in use."""
        return shutil.disk_usage(self.collector.state_dir).used

    def iterate(self, seed: int, events: list[str]) -> int:
        """Do some harm, named in `events` as it is done; return how many records were logged meanwhile, and stored."""
        chance = random.Random(seed)
        self._harm._random = chance
        kinds = sorted(self._harm.kinds)
        for _ in range(chance.choice((1, 1, 2, 3))):
            time.sleep(chance.uniform(0.01, 0.12))
            events.append(chance.choice(kinds))
            self._is_lossy |= events[-1] not in SPARES_PLAIN
            self._harm.kinds[events[-1]]()
        before = sum(self._counts.values())
        everyone = (self._plain, *self.services)
        for service in everyone:
            service.pause()
        plain = self._plain.report()
        self._counts = {service.name: service.report() for service in self.services}
        self._check()
        self._check_plain(plain)
        for service in everyone:
            service.go_on()
        self._is_lossy = False
        return sum(self._counts.values()) - before + plain

    def _check(self, *, ended: bool = False) -> None:
        for stored in self._stored:
            stored.read_on(at_rest=ended)
            for name, count in self._counts.items():
                stored.check(name, count, at_least=ended)
            self._fenced.check(stored.connections[self._fenced.name])

    def _check_plain(self, count: int) -> None:
        """Check that the plain service's records are stored once; wait, as they are not acknowledged."""
        for stored in self._stored:
            end_s = time.monotonic() + PLAIN_PATIENCE_S
            while not self._is_lossy and len(stored.plain(self._plain.name)) < count and time.monotonic() < end_s:
                time.sleep(0.01)
                stored.read_on()
            stored.check_plain(self._plain.name, count, lossy=self._is_lossy)

    def end(self, events: list[str]) -> int:
        """Kill the services while they log, and stop the collector; return how many records were stored meanwhile."""
        time.sleep(0.1)
        events.append("kill -9 of the services")
        self._plain.pause()
        plain = self._plain.report()
        for service in (*self.services, self._plain):
            service.close()
        # The status is 1 if the master has not noticed a killed child yet.
        assert self.collector.stop() in (0, 1), "the collector does not stop"
        before = sum(self._counts.values())
        self._counts[self._fenced.name] = self._fenced.committed
        self._check(ended=True)
        self._is_lossy = True
        self._check_plain(plain)
        check_log(self.collector.log)
        found = [[len(stored.numbers[name]) for name in self._counts] for stored in self._stored]
        assert found[0] == found[1], f"the outputs differ: {found}"
        return sum(found[0]) - before

    def close(self) -> None:
        """Remove everything."""
        for service in (*self.services, self._plain):
            service.close()
        self.collector.clean_up()


def _iterations(job: int, options: argparse.Namespace) -> Iterator[int]:
    """Yield the seeds of a job, until it is time to stop."""
    for seed in range(options.seed + job, options.seed + options.iterations, options.jobs):
        is_late = options.until and time.strftime("%H:%M") >= options.until
        if is_late or (options.stop_file is not None and options.stop_file.exists()):
            return
        yield seed


def _run_job(job: int, options: argparse.Namespace, pythons: Sequence[str]) -> None:
    """Run every iteration of one job."""
    with options.log.open("ab", buffering=0) as log, tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        shim = build_shim(directory)
        seeds = _iterations(job, options)
        is_over = False
        while not is_over:
            disk = Disk(directory / "state")
            disk.mount(f"size={DISK_BYTES}")
            chapter = None
            try:
                for place in range(CHAPTER):
                    seed = next(seeds, None)
                    is_over = seed is None
                    if seed is None:
                        break
                    chapter = chapter or Chapter(directory, disk, seed, pythons, shim)
                    is_last = place == CHAPTER - 1 or chapter.stored_bytes > MOST_STORED_BYTES
                    if not _try(log, seed, chapter, "end" if is_last else "iterate", options.log) or is_last:
                        break
            finally:
                if chapter is not None:
                    with contextlib.suppress(Exception):
                        chapter.close()
                disk.unmount()
                disk.path.rmdir()


def _try(log: io.FileIO, seed: int, chapter: Chapter, what: str, log_path: Path) -> bool:
    """Run one iteration, and write its line; keep its files if it fails."""
    began_s = time.monotonic()
    events: list[str] = []
    failure = ""
    records = 0
    try:
        records = chapter.iterate(seed, events) if what == "iterate" else chapter.end(events)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is kept, and the next chapter begins
        failure = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        kept = log_path.with_suffix(".failures") / str(seed)
        with contextlib.suppress(OSError, shutil.Error):
            unwanted = shutil.ignore_patterns("*.sock", "filler")
            shutil.copytree(chapter.collector.state_dir, kept, ignore=unwanted, dirs_exist_ok=True)
            (kept / "why").write_text(f"{events}\n{traceback.format_exc()}")
            shutil.copy(chapter.collector.log_path, kept)
    line = {"seed": seed, "events": events, "records": records, "s": round(time.monotonic() - began_s, 2)}
    log.write((json.dumps(line | ({"failure": failure} if failure else {})) + "\n").encode())
    return not failure


def run(options: argparse.Namespace, pythons: Sequence[str]) -> int:
    """Run the iterations, write the summary; return how many failed, at most 1."""
    options.log.parent.mkdir(parents=True, exist_ok=True)
    options.log.write_bytes(b"")
    began_s = time.monotonic()
    context = multiprocessing.get_context("fork")
    jobs = [context.Process(target=_run_job, args=(job, options, pythons)) for job in range(options.jobs)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    summary = summarise(options.log, time.monotonic() - began_s)
    options.log.with_suffix(".summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    print(json.dumps(summary, indent=1))
    return int(bool(summary["failures"]) or any(job.exitcode for job in jobs))


def summarise(log: Path, duration_s: float) -> dict[str, object]:
    """Return the summary of a log of iterations."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    events = collections.Counter(event for line in lines for event in line["events"])
    root = Path(__file__).parents[2]
    commit = subprocess.run(
        ["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    return {
        "commit": commit,
        "cpus": os.cpu_count(),
        "duration_s": round(duration_s),
        "iterations": len(lines),
        "seeds": [min((line["seed"] for line in lines), default=0), max((line["seed"] for line in lines), default=0)],
        "records": sum(line["records"] for line in lines),
        "events": dict(sorted(events.items())),
        "failures": [line for line in lines if "failure" in line],
    }
