"""How soon a record is acknowledged, at 1,000 a second over 100 sessions, and how long a restart keeps a client.

One process holds all sessions, speaks the protocol itself (ClientProtocol) and waits with epoll. A record's time runs
from before its batch is handed to the kernel until the acknowledgement of its number has been read: "synced" beside
"written". The gap of a restart runs from the end of a connection to the next WELCOME of the same session, which tries
to connect every 2 ms, while `restart` stops one collector and starts the next.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import subprocess
import sys
import tempfile
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

import _report
import _servers
from _records import frame
from _report import Report, Spread, Target

from prefork_logd.handlers import ClientProtocol
from prefork_logd.ipc.command_socket import send_command

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

WANTED_P99_S = 0.020
WANTED_GAP_S = 1.0
_LONGEST_S = 30.0
_FRAME_HEAD = 4


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options."""
    parser = _report.options(__doc__.partition("\n")[0])
    parser.add_argument("--sessions", type=int, default=100)
    parser.add_argument("--rate", type=int, default=1000, help="records a second over all sessions (default: 1000)")
    parser.add_argument("--seconds", type=float, help="of each run (default: 5; short: 2)")
    parser.add_argument("--runs", type=int, help="of each durability, and restarts (default: 5; short: 2)")
    options = parser.parse_args(argv)
    options.runs = options.runs or (2 if options.short else 5)
    options.seconds = options.seconds or (2.0 if options.short else 5.0)
    return options


class _Client:
    """One session on one connection."""

    def __init__(self, address: tuple[str, int], session: bytes = b"", first: int = 1) -> None:
        self.session = session or os.urandom(16)
        self.sock = socket.create_connection(address, timeout=_LONGEST_S)
        self._protocol = ClientProtocol(self.session)
        self._sent: deque[tuple[int, float]] = deque()
        self._next = first
        self.sock.sendall(self._protocol.hello(first))
        while self._protocol.state != "ready":
            data = self.sock.recv(65536)
            if not data:
                raise ConnectionError("closed before its welcome")
            self._protocol.feed(data)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, body: bytes) -> None:
        self._sent.append((self._next, time.monotonic()))
        self.sock.sendall(self._protocol.one(self._next, body))
        self._next += 1

    def receive(self) -> list[float]:
        """Return the seconds of each record that what is there acknowledges."""
        data = self.sock.recv(65536)
        now = time.monotonic()
        if not data:
            raise ConnectionError("closed")
        taken = []
        for kind, number in self._protocol.feed(data):
            assert kind == "ack"
            while self._sent and self._sent[0][0] <= number:
                taken.append(now - self._sent.popleft()[1])
        return taken


def latency(address: tuple[str, int], options: argparse.Namespace) -> dict[str, float]:
    """Return the quantiles of one run, in seconds."""
    bodies = [frame(number, "stdlib")[_FRAME_HEAD:] for number in range(256)]
    clients = [_Client(address) for _ in range(options.sessions)]
    by_fd = {client.sock.fileno(): client for client in clients}
    taken: list[float] = []
    total = int(options.rate * options.seconds)
    with select.epoll() as poll:
        for fd in by_fd:
            poll.register(fd, select.EPOLLIN)
        begin, sent = time.monotonic(), 0
        deadline = begin + options.seconds + _LONGEST_S
        while len(taken) < total and time.monotonic() < deadline:
            due = min(total, int((time.monotonic() - begin) * options.rate) + 1)
            for number in range(sent, due):
                clients[number % len(clients)].send(bodies[number % len(bodies)])
            sent = due
            left_s = begin + sent / options.rate - time.monotonic() if sent < total else 0.1
            for fd, _ in poll.poll(max(0.0, left_s)):
                taken += by_fd[fd].receive()
    for client in clients:
        client.sock.close()
    ordered = sorted(taken)
    return {
        "records": total,
        "lost": total - len(ordered),
        "p50_s": ordered[len(ordered) // 2],
        "p99_s": ordered[int(len(ordered) * 0.99)],
        "max_s": ordered[-1],
    }


@contextlib.contextmanager
def _daemon(options: argparse.Namespace) -> Iterator[tuple[tuple[str, int], list[str], Path]]:
    """Give the address of a collector in the background, the command line that restarts it, and its directory."""
    with tempfile.TemporaryDirectory(prefix="prefork-logd-bench-", dir=options.scratch) as name:
        address = (_servers.HOST, _servers.free_port())
        config = Path(name, "prefork-logd.toml")
        config.write_text(f'[server]\nbind = ["{address[0]}:{address[1]}"]\n')
        flags = ["--config", str(config), "--state-dir", name]
        program = [sys.executable, "-m", "prefork_logd"]
        subprocess.run([*program, "start", *flags], check=True, env=_servers.environment(), stdout=subprocess.DEVNULL)
        try:
            yield address, [*program, "restart", *flags], Path(name)
        finally:
            subprocess.run(
                [*program, "stop", *flags], check=True, env=_servers.environment(), stdout=subprocess.DEVNULL
            )


def gap(address: tuple[str, int], restart: list[str], state_dir: Path) -> float:
    """Return how long one restart kept a client from its welcome, in seconds.

    Raises RuntimeError if it was not another collector that welcomed it.
    """
    before = send_command(state_dir, "status", 10)["pid"]
    client = _Client(address)
    client.send(frame(1, "stdlib")[_FRAME_HEAD:])
    client.receive()
    with subprocess.Popen(restart, env=_servers.environment(), stdout=subprocess.DEVNULL) as process:
        while client.sock.recv(65536):
            pass
        closed = time.monotonic()
        client.sock.close()
        while True:
            try:
                again = _Client(address, client.session, 2)
            except OSError:
                if time.monotonic() > closed + _LONGEST_S:
                    raise
                time.sleep(0.002)
                continue
            found = time.monotonic() - closed
            again.sock.close()
            break
        if send_command(state_dir, "status", 10)["pid"] == before:
            raise RuntimeError("the collector that was to stop still welcomes")
        if process.wait(_LONGEST_S):
            raise RuntimeError("the restart failed")
    return found


def main(argv: Sequence[str] | None = None) -> Report:
    """Run it and return the results."""
    options = parse(argv)
    report = Report("acknowledged", _report.settings(options))
    print(f"acknowledged: {_report.headline()}")
    found: dict[str, list[dict[str, float]]] = {"synced": [], "written": []}
    for _ in range(options.runs):
        for durability, runs in found.items():
            server = _servers.prefork_logd(options.workers, durability)
            with _servers.serving(server, options.scratch) as live:
                runs.append(latency(live.address, options))
    with _daemon(options) as (address, restart, state_dir):
        gaps = [gap(address, restart, state_dir) for _ in range(options.runs)]
    results: dict[str, Any] = {**found, "restart_gap_s": gaps}
    report.results |= results
    report.table(
        f"milliseconds to the acknowledgement, {options.rate:,} records/s over {options.sessions} sessions, "
        f"median (least-most) of {options.runs} runs",
        ("durability", "p50", "p99", "max"),
        [
            [name, *(Spread.of(run[key] for run in runs).text(".2f", 1000) for key in ("p50_s", "p99_s", "max_s"))]
            for name, runs in found.items()
        ],
    )
    for name, runs in found.items():
        p99 = Spread.of(run["p99_s"] for run in runs)
        text = f"{p99.text('.2f', 1000)} ms"
        report.targets.append(Target(f"acknowledged p99, {name}", "below 20 ms", text, p99.median < WANTED_P99_S))
        report.whole &= not any(run["lost"] for run in runs)
    spread = Spread.of(gaps)
    text = f"{spread.text('.3f')} s"
    report.targets.append(Target("restart, closed to welcomed", "below 1 s", text, spread.median < WANTED_GAP_S))
    return report.finish(options.save, options.summary)


if __name__ == "__main__":
    sys.exit(0 if main().whole else 1)
