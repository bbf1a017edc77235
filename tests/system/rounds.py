"""Short torture: iterations of about a second, ten thousand of them in a row.

An iteration is a few kinds of harm while services log, then a pause in which everything comes to rest and is counted:
what every service has logged is acknowledged, and in each output once. Forty iterations share a collector and its
services (a chapter). At the end of one, services are killed in the middle of what they do: what is stored of them
ends somewhere after what was acknowledged, without a hole.

Owns chapters, jobs, the log and its summary. What harm is, harm.py knows.
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

from tests.system.disks import Disk, build_shim
from tests.system.harm import OUTPUT, Harm
from tests.system.harness import Collector
from tests.system.torture import MESSAGE, Service

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

CHAPTER = 40
"""Iterations with the same collector, on an empty disk at first."""
DISK_BYTES = 64 << 20
MOST_STORED_BYTES = DISK_BYTES // 2
"""A chapter ends early with more: its disk is to be full when that is the harm, and at no other time."""
_OWN = "own.jsonl"
"""A second output of the same records, which rotates by itself."""
_TOML = """
[limits]
drain_timeout = "5s"
[[output]]
name = "all"
path = "{directory}/records.jsonl"
[[output]]
name = "own"
path = "{directory}/own.jsonl"
rotate_bytes = 60_000
keep = 0
"""


class Stored:
    """What the files of one output hold, read once."""

    def __init__(self, directory: Path, name: str) -> None:
        self._directory = directory
        self._name = name
        self._read: dict[int, int] = {}
        """Inode to how much of the file was read."""
        self.numbers: dict[str, list[int]] = collections.defaultdict(list)

    def read_on(self) -> None:
        """Take in what was added since; what was there must still be."""
        for _ in range(100):
            with contextlib.suppress(FileNotFoundError):
                files = self._files()
                read, added = self._read_added(files)
                if self._files() == files:
                    break
            # An output that could not rotate a moment ago does so now.
        else:
            raise AssertionError(f"{self._name}: its files do not come to rest")
        self._read |= read
        for name, runs in added.items():
            # Files in the order of their first records: in their names there is none.
            self.numbers[name] += [number for run in sorted(runs) for number in run]

    def _files(self) -> dict[int, Path]:
        return {path.stat().st_ino: path for path in self._directory.glob(f"{self._name}*")}

    def _read_added(self, files: dict[int, Path]) -> tuple[dict[int, int], dict[str, list[list[int]]]]:
        read: dict[int, int] = {}
        added: dict[str, list[list[int]]] = collections.defaultdict(list)
        for inode, path in files.items():
            before = self._read.get(inode, 0)
            with path.open("rb") as file:
                status = os.fstat(file.fileno())
                if status.st_ino != inode:
                    raise FileNotFoundError(path)
                size = status.st_size
                assert size >= before, f"{path.name}: cut to {size}, but {before} were acknowledged"
                if size == before:
                    continue
                file.seek(before)
                data = file.read()
            assert data.endswith(b"\n"), f"{path.name} ends in a torn line"
            read[inode] = before + len(data)
            found: dict[str, list[int]] = collections.defaultdict(list)
            for name, number in MESSAGE.findall(data):
                found[name.decode()].append(int(number))
            assert data.count(b"\n") == sum(map(len, found.values())), f"{path.name} has lines that are no records"
            for name, numbers in found.items():
                added[name].append(numbers)
        return read, added

    def check(self, name: str, count: int, *, at_least: bool = False) -> int:
        """See that a service's records 0 to count - 1 are there, once and in order; return how many there are."""
        numbers = self.numbers[name]
        if numbers != list(range(count)) and not (
            at_least and len(numbers) >= count and numbers == list(range(len(numbers)))
        ):
            seen = set(numbers)
            missing = sorted(set(range(count)) - seen)
            what = f"{len(missing)} of {count} missing {missing[:3]}..., {len(numbers) - len(seen)} twice"
            order = "in order" if numbers == sorted(numbers) else "out of order"
            raise AssertionError(f"{self._name}: {name}: {what}, {order}")
        return len(numbers)


class Chapter:
    """A collector, its services, and a row of iterations."""

    def __init__(self, directory: Path, disk: Disk, seed: int, pythons: Sequence[str], shim: Path) -> None:
        chance = random.Random(-seed)
        self._fault_file = directory / "fault"
        self.collector = Collector(
            disk.path,
            _TOML.format(directory=disk.path),
            "--workers",
            "2",
            env={"LD_PRELOAD": str(shim), "FAULT_FILE": str(self._fault_file), "SYNC_US": "6000"},
        )
        self.collector.log_path.unlink(missing_ok=True)
        self.collector.start()
        address = self.collector.bind[0]
        self.collector._flags = ("--workers", "2", "--bind", address)
        self._harm = Harm(self.collector, chance, disk, self._fault_file, self._cut)
        self.services = [
            Service(python, address, f"s{index}", chance.choice((0.001, 0.002, 0.005)))
            for index, python in enumerate(chance.sample(list(pythons), min(3, len(pythons))))
        ]
        self._stored = [Stored(self.collector.state_dir, name) for name in (OUTPUT, _OWN)]
        self._counts = dict.fromkeys((service.name for service in self.services), 0)

    def _cut(self) -> None:
        for service in self.services:
            service.cut()

    @property
    def stored_bytes(self) -> int:
        """How much of the disk is in use."""
        return shutil.disk_usage(self.collector.state_dir).used

    def iterate(self, seed: int, events: list[str]) -> int:
        """Do some harm, named in `events` as it is done; return how many records were logged meanwhile, and stored."""
        chance = random.Random(seed)
        self._harm._random = chance
        kinds = sorted(self._harm.kinds)
        for _ in range(chance.choice((1, 1, 2, 3))):
            time.sleep(chance.uniform(0.01, 0.12))
            events.append(chance.choice(kinds))
            self._harm.kinds[events[-1]]()
        before = sum(self._counts.values())
        for service in self.services:
            service.pause()
        self._counts = {service.name: service.report() for service in self.services}
        self._check()
        for service in self.services:
            service.go_on()
        return sum(self._counts.values()) - before

    def _check(self, *, at_least: bool = False) -> None:
        for stored in self._stored:
            stored.read_on()
            for name, count in self._counts.items():
                stored.check(name, count, at_least=at_least)

    def end(self, events: list[str]) -> int:
        """Kill the services while they log, and stop the collector; return how many records were stored meanwhile."""
        time.sleep(0.1)
        events.append("kill -9 of the services")
        for service in self.services:
            service.close()
        # 1 if a child that was killed a moment ago had not been missed yet.
        assert self.collector.stop() in (0, 1), "the collector does not stop"
        before = sum(self._counts.values())
        self._check(at_least=True)
        found = [[len(stored.numbers[name]) for name in self._counts] for stored in self._stored]
        assert found[0] == found[1], f"the outputs differ: {found}"
        return sum(found[0]) - before

    def close(self) -> None:
        """Leave nothing behind."""
        for service in self.services:
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
    """Run one iteration, and write its line; keep what there is if it fails."""
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
    """Return what a log of iterations says, in short."""
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
