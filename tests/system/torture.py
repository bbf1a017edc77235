"""Torture: services log through our handler while everything around them is killed, stopped, filled and renamed.

At the end each record is stored exactly once, and each session's records are in order, whatever happened.

    python -m tests.system.torture --seed 1 --seconds 60 --iterations 10

The same seed gives the same row of faults; where they hit is up to the scheduler.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.system.harness import Collector, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

HANDLERS = Path(__file__).resolve().parents[2] / "prefork_logd" / "handlers.py"
SERVICE = Path(__file__).parent / "services" / "numbered.py"
_MESSAGE = re.compile(rb'"message":"([a-z0-9]+)-(\d{7})"')


class Service:
    """One process that logs."""

    def __init__(self, python: str, address: str, name: str, pause_s: float) -> None:
        self.name = name
        self._process = subprocess.Popen(
            [python, str(SERVICE), str(HANDLERS), address, name, str(pause_s)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def finish(self) -> int:
        """Let it stop logging and wait until all is acknowledged; return how many records it has logged."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("stop\n")
        self._process.stdin.flush()
        done = json.loads(self._process.stdout.readline())
        counters = done["counters"]
        assert counters["dropped"] == 0, counters
        assert counters["held"] == 0, f"{self.name} was not acknowledged: {counters}"
        return int(done["count"])

    def close(self) -> None:
        """End it, whatever it does."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._process.kill()
        self._process.wait()


class Torture:
    """One run."""

    def __init__(self, directory: Path, seed: int, pythons: Sequence[str], log: Callable[[str], None]) -> None:
        self._random = random.Random(seed)
        self._log = log
        self.collector = Collector(directory / "state", "", "--workers", "2").start()
        address = self.collector.bind[0]
        self.collector._flags = ("--workers", "2", "--bind", address)
        self._renamed = 0
        self._services = [
            Service(python, address, f"s{index}", self._random.choice((0.0005, 0.002, 0.01)))
            for index, python in enumerate(pythons)
        ]
        self.faults: dict[str, Callable[[], None]] = {
            "kill -9 of a worker": self._kill_worker,
            "kill -9 of the writer": self._kill_writer,
            "kill -9 of the master": self._kill_master,
            "kill -9 of all": self._kill_all,
            "SIGSTOP for a while": self._stop_a_while,
            "rotation": self._rename_and_reload,
            "worker count change": self._change_workers,
            "stop and start": self._restart,
        }

    def run(self, seconds: float) -> None:
        """Do harm for a while, then see that none was done."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.harm(self._random.choice(sorted(self.faults)))
        self.finish()

    def harm(self, name: str) -> None:
        """Let the services log for a moment, then do one kind of harm."""
        time.sleep(self._random.uniform(0.05, 0.4))
        self._log(name)
        self.faults[name]()

    def finish(self) -> None:
        """End the harm, let everyone come to rest, and count."""
        wait_for(self._is_whole, "every child at work again", 40)
        counts = {service.name: service.finish() for service in self._services}
        assert self.collector.stop() == 0, self.collector.log
        self.check(counts)

    def check(self, counts: dict[str, int]) -> None:
        """Compare what is stored with what was logged: each record once, in order per service."""
        found: dict[str, list[int]] = {name: [] for name in counts}
        paths = [*(self.collector.state_dir / f"records.jsonl.{number}" for number in range(self._renamed))]
        for path in [*paths, self.collector.state_dir / "records.jsonl"]:
            data = path.read_bytes() if path.exists() else b""
            assert not data or data.endswith(b"\n"), f"{path.name} ends in a torn line"
            for name, number in _MESSAGE.findall(data):
                found[name.decode()].append(int(number))
            assert data.count(b"\n") == len(_MESSAGE.findall(data)), f"{path.name} has lines that are no records"
        for name, count in counts.items():
            numbers = found[name]
            missing = sorted(set(range(count)) - set(numbers))
            assert not missing, f"{name}: {len(missing)} of {count} lost, from {missing[0]} on\n{self.collector.log}"
            assert len(numbers) == count, f"{name}: {len(numbers) - count} came twice\n{self.collector.log}"
            assert numbers == sorted(numbers), f"{name}: out of order"
        self._log(f"{sum(counts.values())} records of {len(counts)} services, each once and in order")

    def close(self) -> None:
        """Leave nothing behind."""
        for service in self._services:
            service.close()
        self.collector.clean_up()

    # Faults

    def _pid(self, kind: str) -> int:
        children = [child for child in self.collector.status()["children"] if child["kind"] == kind and child["pid"]]
        return int(self._random.choice(children)["pid"]) if children else 0

    def _kill(self, pid: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            if pid:
                os.kill(pid, signal.SIGKILL)

    def _kill_worker(self) -> None:
        self._kill(self._pid("worker"))

    def _kill_writer(self) -> None:
        self._kill(self._pid("writer"))

    def _kill_master(self) -> None:
        assert self.collector.process is not None
        self._kill(self.collector.process.pid)
        self.collector.process.wait()
        self.collector.start()

    def _kill_all(self) -> None:
        assert self.collector.process is not None
        for child in self.collector.status()["children"]:
            self._kill(child["pid"])
        self._kill_master()

    def _stop_a_while(self) -> None:
        pid = self._pid(self._random.choice(("worker", "writer")))
        if not pid:
            # kill(2): 0 would be this very process and its children.
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
            time.sleep(self._random.uniform(0.05, 0.3))
            os.kill(pid, signal.SIGCONT)

    def _rename_and_reload(self) -> None:
        path = self.collector.state_dir / "records.jsonl"
        if path.exists():
            path.rename(self.collector.state_dir / f"records.jsonl.{self._renamed}")
            self._renamed += 1
        self.collector.send_signal(signal.SIGHUP)

    def _change_workers(self) -> None:
        self.collector.send_signal(self._random.choice((signal.SIGTTIN, signal.SIGTTOU)))

    def _restart(self) -> None:
        # 1 if a child that was killed a moment ago had not been missed yet.
        assert self.collector.stop() in (0, 1), self.collector.log
        self.collector.start()

    def _is_whole(self) -> bool:
        return all(child["state"] in ("running", "retiring") for child in self.collector.status()["children"])


def main() -> int:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, default=1, help="of the first iteration; each next one has the next")
    parser.add_argument("--seconds", type=float, default=10, help="of faults in each iteration")
    parser.add_argument("--iterations", type=int, default=1)
    parser.add_argument("--services", type=int, default=3)
    options = parser.parse_args()
    for seed in range(options.seed, options.seed + options.iterations):
        with tempfile.TemporaryDirectory() as directory:
            torture = Torture(Path(directory), seed, [sys.executable] * options.services, lambda text: None)
            try:
                torture.run(options.seconds)
            except AssertionError as error:
                print(f"seed {seed}: {error}", file=sys.stderr)
                return 1
            finally:
                torture.close()
        print(f"seed {seed}: every record once and in order", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
