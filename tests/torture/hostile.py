"""Tortures a collector with hostile clients beside honest ones, while it is killed, stopped and its disk filled.

    python -m tests.torture.hostile --seed 1 --rounds 20 --seconds 6

Each round mounts some attacks of hostile.py: at first alone, while the acknowledgements of honest sessions are timed,
then together with harm (harm.py), and steps of the collector's clock. At its end the attackers leave, everything comes
to rest, and is counted: each acknowledged record is stored once and in order, plain ones as guarantees.md promises, no
process has ended except those killed here, and none has grown beyond a limit.

One line a round, then a summary as JSON. The same seed gives the same attacks and harm, but the scheduler
decides where they hit. The host's clock is not changed: a library shifts the times that the collector reads.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support import clocks, disks, interpreters, procfs, wire
from tests.support.fenced import Fenced
from tests.support.harm import KILLED, OUTPUT, SPARES_PLAIN, Harm, wait_until_whole
from tests.support.harness import Collector, frame, session_of
from tests.support.hostile import KINDS
from tests.support.session_client import Client
from tests.support.stored import Stored
from tests.torture.processes import PlainService, Service

if TYPE_CHECKING:
    from collections.abc import Sequence

DISK_BYTES = 192 << 20
LOG_BYTES = 10_000
"""Characters of the collector's log that are printed after a failure."""
MOST_BYTES = 300 << 20
MOST_P99_MS = 1000.0
"""A generous limit, as the machine does other things as well. The goal is WANTED_P99_MS."""
WANTED_P99_MS = 50.0
ATTACKS_AT_ONCE = (1, 2, 3, 4)
ROUNDS_A_COLLECTOR = 20
"""Afterwards another collector begins on an empty disk, as the output of honest records would fill it."""
CLOCK_STEPS_S = (-86_400 * 400, -3600, -5, 0, 5, 3600, 86_400 * 40)
PLAIN_PATIENCE_S = 20.0
TOML = """
store = []
[limits]
max_connections = 60
min_free_bytes = 0
drain_timeout = "5s"
[[output]]
name = "honest"
path = "{directory}/records.jsonl"
level = "INFO"
[[output]]
name = "everything"
path = "{directory}/everything.jsonl"
rotate_bytes = 4_000_000
keep = 2
"""
PASSING = '[[output]]\nname = "passing"\npath = "{directory}/passing.jsonl"\nloggers = ["s0"]\n'
_ENDED = re.compile(
    r"ERROR master: (?P<child>.+) \(pid (?P<pid>\d+)\) (?P<how>ended with status \d+|was ended by \S+)"
    r"(?P<was_to_end> after it was asked to end)?"
)
_TELLING = re.compile(r" master: | ERROR | CRITICAL |Error: ")


class Probe:
    """An honest session that times its acknowledgements, one record at a time."""

    def __init__(self, collector: Collector, name: str) -> None:
        self.name = name
        self._collector = collector
        self._session = name.encode().rjust(16, b"-")
        self._client: Client | None = None
        self.acknowledged = 0
        self._sent = 0

    def log(self, deadline_s: float) -> float | None:
        """Log one record; return the time (ms) of its acknowledgement, None if the connection changed meanwhile."""
        self._sent += 1
        began = time.monotonic()
        is_first = True
        while self.acknowledged < self._sent:
            assert time.monotonic() - began < deadline_s, f"{self.name}: record {self._sent} is not acknowledged"
            try:
                if self._client is None:
                    self._connect()
                if self.acknowledged < self._sent:
                    assert self._client is not None
                    body = frame(f"{self.name}-{self._sent - 1:07d}", name=self.name)[4:]
                    self._client.send(wire.batch(self._sent, body))
                    self.acknowledged = self._client.acknowledged(self._sent)
            except (OSError, AssertionError):  # an ERROR for a WELCOME is an AssertionError of the client's
                process = self._collector.process
                assert process is not None
                assert process.poll() is None, f"the master has ended:\n{self._collector.log[-3000:]}"
                is_first = False
                self.close()
                time.sleep(0.05)
        return (time.monotonic() - began) * 1000 if is_first else None

    def _connect(self) -> None:
        client = Client(self._collector)
        self._client = client
        client.sock.settimeout(10)
        self.acknowledged = client.welcome(self._session, self.acknowledged + 1)

    def close(self) -> None:
        """Close the connection."""
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(OSError):
                client.close()


class MemoryWatch:
    """The largest private memory of a collector's processes, by the first word of their titles.

    Shared memory does not count: the memory for lines between workers and the writer has a fixed size.
    """

    def __init__(self, collector: Collector) -> None:
        self._collector = collector
        self.most: Counter[str] = Counter()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._is_over.wait(0.1):
            process = self._collector.process
            for entry in Path("/proc").glob("[0-9]*") if process is not None else ():
                if process is not None and session_of(entry) == process.pid:
                    with contextlib.suppress(OSError, IndexError, ValueError):
                        title = (entry / "cmdline").read_bytes().rstrip(b"\0").decode().split()
                        kind = title[1] if title[0] == "prefork-logd:" else "starting"
                        self.most[kind] = max(self.most[kind], procfs.own_bytes(int(entry.name)))

    def close(self) -> None:
        """Stop measuring."""
        self._is_over.set()
        self._thread.join(10)


class Attackers:
    """A process of hostile clients."""

    def __init__(self, collector: Collector, seed: int, kinds: Sequence[str]) -> None:
        command = [
            sys.executable,
            "-m",
            "tests.support.hostile",
            collector.bind[0],
            str(collector.state_dir),
            str(seed),
        ]
        self._process = subprocess.Popen([*command, *kinds], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def leave(self) -> dict[str, int]:
        """End them; return their counters."""
        out, _ = self._process.communicate(timeout=60)
        done: dict[str, int] = json.loads(out)
        return done

    def close(self) -> None:
        """End them by force."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate(timeout=10)


class HostileTorture:
    """A collector, honest clients, and a series of rounds."""

    def __init__(self, directory: Path, disk: disks.Disk, seed: int, pythons: Sequence[str]) -> None:
        self._seed = seed
        self._clock_file = directory / "clock"
        self._fault_file = directory / "fault"
        shims = f"{disks.build_shim(directory)}:{clocks.build_shim(directory)}"
        toml = TOML.format(directory=disk.path)
        env = {"LD_PRELOAD": shims, "FAULT_FILE": str(self._fault_file), "CLOCK_FILE": str(self._clock_file)}
        self.collector = Collector(disk.path, toml, "--workers", "2", env=env).start()
        address = self.collector.bind[0]
        self.collector._flags = ("--workers", "2", "--bind", address)
        configurations = (toml, toml + PASSING.format(directory=disk.path))
        self.harm = Harm(self.collector, random.Random(seed), disk, self._fault_file, self._cut, configurations)
        self.harm.kinds["clock step"] = self._step_clock
        self._memory = MemoryWatch(self.collector)
        self._honest: list[Service | Fenced] = [
            Service(python, address, f"s{index}", 0.005) for index, python in enumerate(pythons[:2])
        ]
        self._fenced = Fenced(self.collector, "f0", seed)
        self._honest.append(self._fenced)
        self._plain = PlainService(pythons[-1], address, "p0", 0.005)
        self._probes = [Probe(self.collector, f"s9{index}") for index in range(4)]
        self._stored = Stored(self.collector.state_dir, OUTPUT)
        self._attackers: Attackers | None = None
        self._log_read = 0
        self._counted = 0

    def _cut(self) -> None:
        for service in self._honest:
            service.cut()

    def _step_clock(self) -> None:
        fresh = self._clock_file.with_suffix(".new")
        fresh.write_text(str(self.harm._random.choice(CLOCK_STEPS_S)))
        fresh.replace(self._clock_file)

    def round(
        self, number: int, seconds: float, most_p99_ms: float = MOST_P99_MS, kinds: Sequence[str] = ()
    ) -> dict[str, Any]:
        """Attack, harm, come to rest and count; return the results. Raises AssertionError.

        The attacks are `kinds`, or chosen at random.
        """
        chance = self.harm._random = random.Random(f"{self._seed} {number}")
        kinds = kinds or chance.sample(sorted(KINDS), chance.choice(ATTACKS_AT_ONCE))
        found: dict[str, Any] = {"round": number, "seed": self._seed, "attacks": kinds, "harm": []}
        self._attackers = Attackers(self.collector, self._seed * 1000 + number, kinds)
        delays = self._time_acknowledgements(seconds / 2)
        found |= {"p50_ms": _quantile(delays, 0.5), "p99_ms": _quantile(delays, 0.99), "timed": len(delays)}
        end = time.monotonic() + seconds / 2
        while time.monotonic() < end:
            name = chance.choice(sorted(self.harm.kinds))
            found["harm"].append(name)
            self.harm.kinds[name]()
            time.sleep(chance.uniform(0.05, 0.3))
        found["hostile"] = self._attackers.leave()
        found["records"] = self._rest_and_count(is_lossy=not SPARES_PLAIN.issuperset({*found["harm"]} - {"clock step"}))
        found["forced"] = self._check_ends()
        found["memory_mb"] = {kind: size >> 20 for kind, size in sorted(self._memory.most.items())}
        for kind, size in self._memory.most.items():
            assert size < MOST_BYTES, f"{kind} took {size >> 20} MB beside {kinds} and {found['harm']}"
        assert found["p99_ms"] < most_p99_ms, f"acknowledgements took {found['p99_ms']} ms (p99) beside {kinds}"
        return found

    def _time_acknowledgements(self, seconds: float) -> list[float]:
        delays = []
        end = time.monotonic() + seconds
        turn = 0
        while time.monotonic() < end:
            delay = self._probes[turn % len(self._probes)].log(60.0)
            if delay is not None:
                delays.append(delay)
            turn += 1
            time.sleep(0.003)
        return delays

    def _rest_and_count(self, *, is_lossy: bool) -> int:
        """Wait until all is acknowledged, and check that it is stored; return the number of logged records."""
        wait_until_whole(self.collector)
        everyone = (self._plain, *self._honest)
        for service in everyone:
            service.pause()
        plain = self._plain.report()
        counts = {service.name: service.report() for service in self._honest}
        counts |= {probe.name: probe.acknowledged for probe in self._probes}
        self._stored.read_on()
        for name, count in counts.items():
            self._stored.check(name, count)
        self._fenced.check(self._stored.connections[self._fenced.name])
        end = time.monotonic() + PLAIN_PATIENCE_S
        while not is_lossy and len(self._stored.plain(self._plain.name)) < plain and time.monotonic() < end:
            time.sleep(0.01)
            self._stored.read_on()
        self._stored.check_plain(self._plain.name, plain, lossy=is_lossy)
        for service in everyone:
            service.go_on()
        before, self._counted = self._counted, sum(counts.values())
        return self._counted - before + plain

    def _check_ends(self) -> int:
        """Check that no process has ended by itself; return how many the master has killed."""
        log = self.collector.log
        added, self._log_read = log[self._log_read :], len(log)
        told = "\n".join([line for line in added.splitlines() if _TELLING.search(line)][-40:])
        for sign in ("Traceback", "CRITICAL", "this is a bug"):
            assert sign not in added, f"the log has {sign!r}:\n{told}"
        forced = 0
        is_stopping = False
        for line in added.splitlines():
            is_stopping = (is_stopping or " master: stopping" in line) and " master: listening on" not in line
            ended = _ENDED.search(line)
            if ended is None or (ended["how"].endswith("SIGKILL") and int(ended["pid"]) in KILLED):
                continue
            if ended["was_to_end"] and ended["how"].endswith("SIGKILL"):
                forced += 1
            else:
                # At a fast stop in the middle of an upgrade the earlier program's children end in good order.
                is_in_order = is_stopping and ended["how"] == "ended with status 0"
                assert is_in_order, f"{ended['child']} (pid {ended['pid']}) {ended['how']} by itself:\n{told}"
        assert self.collector.process is not None
        assert self.collector.process.poll() is None, f"the master has ended:\n{told}"
        return forced

    def close(self) -> None:
        """Remove everything."""
        if self._attackers is not None:
            self._attackers.close()
        for probe in self._probes:
            probe.close()
        for service in (*self._honest, self._plain):
            service.close()
        self._memory.close()
        self.collector.clean_up()


def _quantile(delays: Sequence[float], share: float) -> float:
    ordered = sorted(delays)
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * share))], 1) if ordered else -1.0


def line_of(found: dict[str, Any]) -> str:
    """Return a round in one line."""
    memory = ", ".join(f"{kind} {size} MB" for kind, size in found["memory_mb"].items())
    return (
        f"round {found['round']}: {', '.join(found['attacks'])} | {', '.join(found['harm'])} | "
        f"{found['records']} records once; acknowledged p50 {found['p50_ms']} p99 {found['p99_ms']} ms; {memory}; "
        f"{found['hostile'].get('bytes', 0)} hostile bytes; {found['forced']} ended by force"
    )


def run(options: argparse.Namespace, pythons: Sequence[str]) -> dict[str, Any]:
    """Run rounds until one fails; return the summary."""
    rounds: list[dict[str, Any]] = []
    failure = ""
    end = options.first + options.rounds
    while not failure and (first := options.first + len(rounds)) < end:
        with tempfile.TemporaryDirectory() as name, disks.mounted(Path(name) / "state", f"size={DISK_BYTES}") as disk:
            torture = HostileTorture(Path(name), disk, options.seed, pythons)
            try:
                for number in range(first, min(first + ROUNDS_A_COLLECTOR, end)):
                    rounds.append(torture.round(number, options.seconds, options.most_p99_ms))
                    print(line_of(rounds[-1]), flush=True)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is what was found
                failure = f"round {options.first + len(rounds)}: {type(error).__name__}: {error}"
                print(torture.collector.log[-LOG_BYTES:], file=sys.stderr)
            finally:
                torture.close()
    return {
        "seed": options.seed,
        "rounds": len(rounds),
        "records": sum(found["records"] for found in rounds),
        "attacks": dict(Counter(kind for found in rounds for kind in found["attacks"])),
        "harm": dict(Counter(kind for found in rounds for kind in found["harm"])),
        "p99_ms": {"median": _quantile([found["p99_ms"] for found in rounds], 0.5),
                   "most": max((found["p99_ms"] for found in rounds), default=-1.0), "wanted": WANTED_P99_MS},
        "memory_mb": rounds[-1]["memory_mb"] if rounds else {},
        "ended_by_force": sum(found["forced"] for found in rounds),
        "failure": failure,
    }  # fmt: skip


def main() -> int:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6), help="to repeat a run")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--first", type=int, default=1, help="number of the first round: to repeat that one")
    parser.add_argument("--seconds", type=float, default=6, help="of each round, half of them without harm")
    parser.add_argument("--most-p99-ms", type=float, default=MOST_P99_MS, help="slower acknowledgements fail")
    options = parser.parse_args()
    found = sorted(interpreters.found().items())
    pythons = [path for version, path in found if version in interpreters.WANTED] or [sys.executable]
    print(f"seed {options.seed}", flush=True)
    summary = run(options, [pythons[0], pythons[-1], pythons[len(pythons) // 2]])
    print(json.dumps(summary, indent=1))
    return int(bool(summary["failure"]))


if __name__ == "__main__":
    sys.exit(main())
