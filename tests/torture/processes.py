"""Tortures a collector while services log: kills, stops, full disks, renames, reloads and upgrades.

At the end each record of our handler must be stored exactly once and in order. One service uses the stdlib's handler:
none of its records may be stored twice, and none missing unless the harm may lose plain records.

    python -m tests.torture.processes --seed 1 --seconds 60 --iterations 10
    python -m tests.torture.processes --short --seed 1 --iterations 10000 --jobs 4 --log torture.log

The same seed gives the same harm, but the scheduler decides where it hits. A long iteration has a collector and
services of its own, and is checked at its end; of the short ones (rounds.py) many share them, and each is checked. With
`--until` and `--stop-file` a long run ends early; the log's last lines are its summary.
"""

from __future__ import annotations

import argparse
import json
import random
import select
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support import interpreters
from tests.support.fenced import Fenced
from tests.support.harm import OUTPUT, SPARES_PLAIN, Harm, wait_until_whole
from tests.support.harness import Collector
from tests.support.stored import MESSAGE, Stored

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

HANDLERS = Path(__file__).resolve().parents[2] / "prefork_logd" / "handlers"
SERVICE = Path(__file__).parents[1] / "support" / "services" / "numbered.py"
PATIENCE_S = 60.0
PAUSES_S = (0.0005, 0.002, 0.01)
"""Times between two records of a service."""
SPARING_S = (0.002, 0.004, 0.01)
"""Such times where many tortures run at once: records are always on their way, and a third as many are checked."""


class Service:
    """One process that logs."""

    def __init__(self, python: str, address: str, name: str, pause_s: float, *more: str) -> None:
        self.name = name
        self._process = subprocess.Popen(
            [python, str(SERVICE), str(HANDLERS), address, name, str(pause_s), *more],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def pause(self) -> None:
        """Ask it to stop logging, and do not wait for it."""
        self._say("stop\n")

    def go_on(self) -> None:
        """Let it log again."""
        self._say("go\n")

    def cut(self) -> None:
        """Cut its connection; bytes already sent stay readable."""
        self._say("cut\n")

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line)
        self._process.stdin.flush()

    def report(self) -> int:
        """Wait until every record logged before a pause is acknowledged; return their number."""
        done = self._answer()
        counters = done["counters"]
        assert counters["dropped"] == 0, f"{self.name} dropped: {counters}"
        assert counters["held"] == 0, f"{self.name} was not acknowledged: {counters}"
        return int(done["count"])

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        assert select.select([self._process.stdout], [], [], PATIENCE_S)[0], f"{self.name} does not answer"
        done: dict[str, Any] = json.loads(self._process.stdout.readline())
        return done

    def finish(self) -> int:
        """Stop logging, and wait until all is acknowledged; return the number of logged records."""
        self.pause()
        return self.report()

    def close(self) -> None:
        """End it in any state."""
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._process.wait()


class PlainService(Service):
    """One process that logs through the stdlib's handler; after each pause it has another name, and counts from 0."""

    def __init__(self, python: str, address: str, name: str, pause_s: float) -> None:
        super().__init__(python, address, name, pause_s, "plain")

    def report(self) -> int:
        """Pause it; return the number of records logged under its present name."""
        done = self._answer()
        self.name = done["name"]
        return int(done["count"])


class Torture:
    """One long iteration."""

    def __init__(
        self,
        directory: Path,
        seed: int,
        pythons: Sequence[str],
        log: Callable[[str], None],
        pauses_s: Sequence[float] = PAUSES_S,
    ) -> None:
        self._random = random.Random(seed)
        self._log = log
        self.collector = Collector(directory / "state", TOML, "--workers", "2").start()
        address = self.collector.bind[0]
        self.collector._flags = ("--workers", "2", "--bind", address)
        self._services: list[Service | Fenced] = [
            Service(python, address, f"s{index}", self._random.choice(pauses_s)) for index, python in enumerate(pythons)
        ]
        self._fenced = Fenced(self.collector, "f0", seed)
        self._services.append(self._fenced)
        self._plain = PlainService(pythons[seed % len(pythons)], address, "p0", 0.002)
        harm = Harm(self.collector, self._random, cut=self._cut, configurations=(TOML, f"{TOML}{PASSING}"))
        self.faults = harm.kinds
        self.may_lose_plain_records = False

    def run(self, seconds: float, at_least: int = 0) -> None:
        """Do harm for so many seconds and so many times, then check that no record was lost or doubled."""
        end = time.monotonic() + seconds
        done = 0
        while time.monotonic() < end or done < at_least:
            self.harm(self._random.choice(sorted(self.faults)))
            done += 1
        self.finish()

    def _cut(self) -> None:
        for service in self._services:
            service.cut()

    def harm(self, name: str) -> None:
        """Let the services log for a moment, then do one kind of harm."""
        time.sleep(self._random.uniform(0.05, 0.4))
        self._log(name)
        self.may_lose_plain_records |= name not in SPARES_PLAIN
        self.faults[name]()

    def finish(self) -> None:
        """End the harm, let all processes come to rest, and count."""
        wait_until_whole(self.collector)
        plain = self._plain.finish()
        counts = {service.name: service.finish() for service in self._services}
        # The status is 1 if the master has not noticed a killed child yet.
        assert self.collector.stop() in (0, 1), self.collector.log
        self.check(counts, plain)

    def check(self, counts: dict[str, int], plain: int) -> None:
        """Compare what is stored with what was logged: each record once, in order per service."""
        log = self.collector.log
        stored = Stored(self.collector.state_dir, OUTPUT)
        try:
            stored.read_on(at_rest=True)
            for name, count in counts.items():
                stored.check(name, count)
            check_spread(self.collector.state_dir / "spread", {name: stored.numbers[name] for name in counts})
            stored.check_plain(self._plain.name, plain, lossy=self.may_lose_plain_records)
            self._fenced.check(stored.connections[self._fenced.name])
        except AssertionError as error:
            raise AssertionError(f"{error}\n{log}") from error
        check_log(log)
        self._log(f"{sum(counts.values())} records of {len(counts)} services, each once and in order")

    def close(self) -> None:
        """Remove everything."""
        for service in (*self._services, self._plain):
            service.close()
        self.collector.clean_up()


TOML = """
[[output]]
name = "all"
path = "records.jsonl"
[[output]]
name = "spread"
path = "spread/{logger}.jsonl"
max_open_files = 4
"""
PASSING = '[[output]]\nname = "passing"\npath = "passing.jsonl"\nlevel = "INFO"\n'
"""An output that comes and goes."""


def check_spread(directory: Path, numbers: dict[str, list[int]]) -> None:
    """Check that the files of the loggers have each acknowledged record once, in order within a file."""
    found: dict[str, list[int]] = {name: [] for name in numbers}
    for path in directory.iterdir():
        data = path.read_bytes()
        assert not data or data.endswith(b"\n"), f"{path.name} ends in a torn line"
        inside: dict[str, list[int]] = {}
        for name, number in MESSAGE.findall(data):
            inside.setdefault(name.decode(), []).append(int(number))
        for name in inside.keys() & numbers.keys():
            assert inside[name] == sorted(inside[name]), f"{path.name}: {name} out of order"
            found[name] += inside[name]
    for name, expected in numbers.items():
        assert sorted(found[name]) == sorted(expected), f"{name}: {len(found[name])} of {len(expected)} in {directory}"


def check_log(log: str) -> None:
    """Check that a collector's log has no sign of a bug."""
    for sign in ("Traceback", "CRITICAL", "unexpected "):
        assert sign not in log, f"the log has {sign!r}:\n{log}"


def run_seeds(options: argparse.Namespace, make: Callable[[Path, int], Any], say: Callable[[Any], str]) -> int:
    """Run iterations, each with the next seed, until one fails; return the exit status."""
    for seed in range(options.seed, options.seed + options.iterations):
        with tempfile.TemporaryDirectory() as directory:
            torture = make(Path(directory), seed)
            try:
                told = torture.run(options.seconds)
            except AssertionError as error:
                print(f"seed {seed}: {error}", file=sys.stderr)
                return 1
            finally:
                torture.close()
        print(f"seed {seed}: {say(told)}", flush=True)
    return 0


def main() -> int:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, default=1, help="of the first iteration; each next one has the next")
    parser.add_argument("--seconds", type=float, default=10, help="of harm in each long iteration")
    parser.add_argument("--iterations", type=int, default=1)
    parser.add_argument("--services", type=int, default=3)
    parser.add_argument("--short", action="store_true", help="short iterations, a collector for many of them")
    parser.add_argument("--jobs", type=int, default=1, help="of short iterations at the same time")
    parser.add_argument("--log", type=Path, default=Path("torture.log"), help="of short iterations: a line for each")
    parser.add_argument("--stop-file", type=Path, help="no short iteration begins once this exists")
    parser.add_argument("--until", default="", help="no short iteration begins after this time of day: HH:MM")
    options = parser.parse_args()
    found = sorted(interpreters.found().items())
    pythons = [path for version, path in found if version in interpreters.WANTED] or [sys.executable]
    if options.short:
        from tests.torture import rounds

        return rounds.run(options, pythons)

    def make(directory: Path, seed: int) -> Torture:
        chosen = [pythons[(seed + index) % len(pythons)] for index in range(options.services)]
        return Torture(directory, seed, chosen, lambda text: None)

    return run_seeds(options, make, lambda _: "every record once and in order")


if __name__ == "__main__":
    sys.exit(main())
