"""Edges, servers of NATS and central collectors on this one machine, and what each of them costs.

Owns their configurations, their start and end, and the clocks of their processes. Knows no targets and prints nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _processes import Running, started, wait_until

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from prefork_logd.errors import ProcessError
from prefork_logd.ipc.command_socket import send_command
from tests.support.nats_servers import Cluster, Server, free_ports
from tests.support.nats_servers import ask as ask_servers

if TYPE_CHECKING:
    from collections.abc import Iterator

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
PATIENCE_S = 60.0


class Collector:
    """A collector that runs."""

    def __init__(self, running: Running, state_dir: Path) -> None:
        self.running = running
        self.output = state_dir / "records.jsonl"
        self._state_dir = state_dir

    def status(self) -> dict[str, Any]:
        """Return `status --json`; {} while it does not answer yet."""
        self.running.check()
        try:
            return send_command(self._state_dir, "status", 10)
        except (OSError, ProcessError):
            return {}

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        host, _, port = self.status()["bind"][0].rpartition(":")
        return host, int(port)

    @property
    def nbytes(self) -> int:
        """Bytes of its output."""
        return self.output.stat().st_size if self.output.exists() else 0

    @property
    def stored(self) -> int:
        """Records in its output, as it counts them itself."""
        return int(self.status()["outputs"][0]["records"])

    @property
    def lag(self) -> int:
        """Records that are not in its store yet."""
        known = self.status()["stores"][0]["lag_records"]
        return sys.maxsize if known is None else int(known)

    def cpu_s(self) -> dict[str, float]:
        """Return the CPU seconds so far of each kind of process."""
        used = {"master": _cpu_s(self.running.pid)}
        for child in self.status()["children"]:
            if child["pid"]:
                used[child["kind"]] = used.get(child["kind"], 0.0) + _cpu_s(child["pid"])
        return used


def _cpu_s(pid: int) -> float:
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:13])) * _TICK_S
    return 0.0


@contextlib.contextmanager
def collector(directory: Path, name: str, toml: str) -> Iterator[Collector]:
    """Run a collector for the length of the block."""
    state_dir = directory / name
    state_dir.mkdir(parents=True)
    config = directory / f"{name}.toml"
    config.write_text(toml)
    flags = ["--config", str(config), "--state-dir", str(state_dir), "--bind", "127.0.0.1:0"]
    with started([sys.executable, "-m", "prefork_logd", "run", *flags], state_dir) as running:
        found = Collector(running, state_dir)
        if not wait_until(lambda: found.status().get("bind"), PATIENCE_S):
            raise TimeoutError(f"{name} does not start:\n{running.log.read_text()[-2000:]}")
        yield found


class Servers:
    """Servers of NATS that run."""

    def __init__(self, servers: list[Server]) -> None:
        self._servers = servers

    @property
    def urls(self) -> tuple[str, ...]:
        """Where clients find them."""
        return tuple(server.url for server in self._servers)

    def cpu_s(self) -> float:
        """Return the CPU seconds of all so far."""
        return sum(_cpu_s(server.process.pid) for server in self._servers if server.process is not None)

    def stream(self) -> tuple[int, int]:
        """Return how many messages the stream has, and their bytes as one server keeps them."""
        state = ask_servers(self.urls, lambda stream: stream.stream_info("LOGS")).state
        return state.messages, state.bytes

    @contextlib.contextmanager
    def slowed(self) -> Iterator[None]:
        """Stop the servers for nine tenths of the time, so that they do a tenth of what they can."""
        pids = [server.process.pid for server in self._servers if server.process is not None]
        over = threading.Event()

        def hinder() -> None:
            while not over.is_set():
                for number, wait_s in ((signal.SIGSTOP, 0.045), (signal.SIGCONT, 0.005)):
                    for pid in pids:
                        os.kill(pid, number)
                    over.wait(wait_s)
            for pid in pids:
                os.kill(pid, signal.SIGCONT)

        thread = threading.Thread(target=hinder)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


@contextlib.contextmanager
def servers(directory: Path, count: int) -> Iterator[Servers]:
    """Run one server, or a cluster, for the length of the block."""
    directory.mkdir(parents=True)
    if count == 1:
        one = Server(directory, "n1", free_ports(1)[0]).start()
        try:
            yield Servers([one])
        finally:
            one.close()
        return
    cluster = Cluster(directory, count).start()
    try:
        yield Servers(cluster.servers)
    finally:
        cluster.close()


def edge_toml(urls: tuple[str, ...], replicas: int, *, workers: str = "auto", store: str = "") -> str:
    """Return the configuration of a collector that publishes."""
    count = workers if workers.isdigit() else f'"{workers}"'
    return (
        f'[server]\nworkers = {count}\n[[store]]\ntype = "nats"\nservers = {json.dumps(urls)}\n'
        f"replicas = {replicas}\n{store}"
    )


def central_toml(urls: tuple[str, ...]) -> str:
    """Return the configuration of a collector that reads the stream into a file."""
    return f"store = []\n[server]\nworkers = 1\n[[source]]\nservers = {json.dumps(urls)}\n"


def wait_growth(found: Collector, wanted: int, deadline_s: float) -> float:
    """Return when the output of a collector had its last growth, once it has so many records."""
    nbytes, last_s, end_s = -1, time.monotonic(), time.monotonic() + deadline_s
    while time.monotonic() < end_s:
        size = found.nbytes
        now_s = time.monotonic()
        if size != nbytes:
            nbytes, last_s = size, now_s
        elif now_s - last_s > 0.15 and found.stored >= wanted:
            return last_s
        time.sleep(0.004)
    raise TimeoutError(f"{found.stored} of {wanted} records after {deadline_s:g} s")
