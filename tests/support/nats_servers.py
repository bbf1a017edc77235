"""Runs real NATS servers for tests and benchmarks: one, or a cluster; killed, stopped, set back and started again."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Iterable

BINARY = Path(sys.executable).parent / "nats-server"


def free_ports(count: int) -> list[int]:
    """Return ports that were free a moment ago."""
    sockets = [socket.socket() for _ in range(count)]
    for sock in sockets:
        sock.bind(("127.0.0.1", 0))
    ports = [sock.getsockname()[1] for sock in sockets]
    for sock in sockets:
        sock.close()
    return ports


class Server:
    """One server."""

    def __init__(
        self, directory: Path, name: str, port: int, extra: str = "", *, host: str = "127.0.0.1",
        store: Path | None = None,
    ) -> None:  # fmt: skip
        self.directory = directory
        self.name = name
        self.host = host
        self.port = port
        self.store = store or directory / name
        self.config = directory / f"{name}.conf"
        self.log_path = directory / f"{name}.log"
        self.config.write_text(
            f'server_name: {name}\nlisten: "{host}:{port}"\npid_file: "{directory}/{name}.pid"\n'
            f'jetstream {{ store_dir: "{self.store}", max_file: 8GB, max_mem: 256MB }}\n{extra}'
        )
        self.prefix: tuple[str, ...] = ()
        """The beginning of the command line."""
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where clients find it."""
        return f"nats://{self.host}:{self.port}"

    def start(self, *, wait: bool = True) -> Self:
        """Start it, and wait until it takes connections."""
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.prefix, str(BINARY), "-c", str(self.config)], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        if wait:
            self.wait()
        return self

    def wait(self) -> None:
        """Wait until it takes connections."""
        end = time.monotonic() + 20
        while True:
            assert self.process is not None
            assert self.process.poll() is None, self.log_path.read_text()[-2000:]
            with contextlib.suppress(OSError), socket.create_connection((self.host, self.port), 1) as sock:
                if sock.recv(4) == b"INFO":
                    return
            assert time.monotonic() < end, f"{self.name} takes no connection"
            time.sleep(0.02)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """End it by a signal."""
        assert self.process is not None
        if self.process.poll() is None:
            os.kill(self.process.pid, number)
        self.process.wait(20)

    def set_back_to(self, copy: Path) -> None:
        """Replace the data of a stopped server by an older copy."""
        shutil.rmtree(self.store)
        shutil.copytree(copy, self.store)

    def close(self) -> None:
        """End it."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGCONT)
            self.kill()


class Cluster:
    """Servers that are one cluster."""

    def __init__(self, directory: Path, count: int = 3, extra: str = "") -> None:
        ports = free_ports(2 * count)
        routes = ", ".join(f'"nats://127.0.0.1:{port}"' for port in ports[count:])
        self.servers = [
            Server(
                directory, f"n{index + 1}", ports[index],
                f'cluster {{ name: C, listen: "127.0.0.1:{ports[count + index]}", routes: [{routes}] }}\n{extra}',
            )
            for index in range(count)
        ]  # fmt: skip

    @property
    def urls(self) -> tuple[str, ...]:
        """Where clients find it."""
        return tuple(server.url for server in self.servers)

    def start(self) -> Self:
        """Start all of it, and wait until JetStream has a leader."""
        for server in self.servers:
            server.start(wait=False)
        for server in self.servers:
            server.wait()
        end = time.monotonic() + 30
        while True:
            with contextlib.suppress(Exception):
                ask(self.urls, lambda stream: stream.account_info())
                return self
            assert time.monotonic() < end, "the cluster has no leader"

    def leader(self, stream: str) -> Server:
        """Return the server that leads a stream."""
        info = ask(self.urls, lambda js: js.stream_info(stream))
        return next(server for server in self.servers if server.name == info.cluster.leader)

    def close(self) -> None:
        """End it."""
        for server in self.servers:
            server.close()


def ask(urls: Iterable[str], question: Any) -> Any:
    """Return the answer of JetStream to a question, which is a function of nats-py's JetStreamContext."""
    import asyncio

    import nats

    async def connected() -> Any:
        client = await nats.connect(list(urls), allow_reconnect=False, connect_timeout=2, error_cb=_ignore)
        try:
            return await question(client.jetstream(timeout=3))
        finally:
            await client.close()

    return asyncio.run(connected())


async def _ignore(error: Exception) -> None:
    """Ignore the error: the answer contains it."""
