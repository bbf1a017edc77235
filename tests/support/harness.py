"""Runs a real collector for a test, with real clients, and checks that nothing is left of it afterwards."""

from __future__ import annotations

import contextlib
import json
import logging
import logging.handlers
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

DEADLINE_S = 20.0
DEFAULT_STORE = os.environ.get("TEST_DEFAULT_STORE") == "1"
"""Whether every collector has the default store. Tests are quicker without it; TEST_DEFAULT_STORE=1 runs all of them
with it."""
NO_ERRORS = "\n[errors]\nenabled = false\n"
"""Likewise with the groups of errors, which are a process more."""
NO_PAGE = "\n[web]\nbind = []\n"
"""Collectors of tests have a page only if the test configures one: there are many at once, and one default address."""
UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
"""Characters that our files never hold: a terminal, an editor or a line reader would interpret them."""


def wait_for(condition: Callable[[], Any], what: str, deadline_s: float = DEADLINE_S) -> Any:
    """Return the first true value of `condition`; fail with `what` if none comes in time."""
    end = time.monotonic() + deadline_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"after {deadline_s:g} s still not: {what}")
        time.sleep(0.01)


class Collector:
    """One collector in the foreground, in a process group of its own."""

    def __init__(
        self,
        state_dir: Path,
        toml: str = "",
        *flags: str,
        env: dict[str, str] | None = None,
        default_store: bool = DEFAULT_STORE,
    ) -> None:
        """Configure it; without a store in `toml` there is none, unless the default one is wanted; nor a page."""
        self.state_dir = state_dir
        self.config = state_dir.parent / f"{state_dir.name}.toml"
        self._default_store = default_store
        self.configure(toml)
        self._flags = flags
        self._env = {**os.environ, **(env or {})}
        self.log_path = state_dir.parent / f"{state_dir.name}.stderr"
        self.cwd: Path | None = None
        """Working directory of commands; None: the present one."""
        self.process: subprocess.Popen[bytes] | None = None
        self.bind: list[str] = []
        self._seen: set[int] = set()

    def configure(self, toml: str) -> None:
        """Write the configuration file."""
        toml = toml if self._default_store or "store" in toml else f"store = []\n{toml}"
        toml = toml if self._default_store or "[errors" in toml else f"{toml}{NO_ERRORS}"
        self.config.write_text(toml if "[web" in toml else f"{toml}{NO_PAGE}")

    def command(self, verb: str, *rest: str) -> list[str]:
        """Return the command line of a verb for this collector."""
        return [
            sys.executable, "-m", "prefork_logd", verb,
            "--config", str(self.config), "--state-dir", str(self.state_dir), *rest,
        ]  # fmt: skip

    def cli(self, verb: str, *rest: str, input: str | None = None) -> subprocess.CompletedProcess[str]:  # noqa: A002
        """Run a verb to its end."""
        command = self.command(verb, *rest)
        return subprocess.run(
            command, input=input, capture_output=True, text=True, timeout=60, env=self._env, check=False, cwd=self.cwd
        )

    def launch(self, *prefix: str, **popen: Any) -> None:
        """Start it, without waiting for anything."""
        is_bound = "--bind" in self._flags or "bind" in self.config.read_text().replace(NO_PAGE, "")
        flags = self._flags if is_bound else (*self._flags, "--bind", "127.0.0.1:0")
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [*prefix, *self.command("run", *flags)], stdin=subprocess.DEVNULL, stdout=log,
                env=self._env, cwd=self.cwd, start_new_session=True, **{"stderr": log, **popen},
            )  # fmt: skip

    def start(self, *prefix: str, **popen: Any) -> Collector:
        """Start it, and wait until it accepts connections."""
        already = self.log.count("listening on")
        self.launch(*prefix, **popen)

        def listening() -> bool:
            assert self.process is not None
            if self.process.poll() is not None:
                raise AssertionError(f"the collector ended with {self.process.returncode}:\n{self.log}")
            return self.log.count("listening on") > already

        wait_for(listening, "listening")
        self.bind = self.status()["bind"]
        return self

    @property
    def log(self) -> str:
        """The log of the collector."""
        return self.log_path.read_text() if self.log_path.exists() else ""

    def status(self) -> dict[str, Any]:
        """Return `status --json`, asked directly, which is quicker than a process."""
        from prefork_logd.ipc.command_socket import send_command

        document = send_command(self.state_dir, "status", 10)
        self._seen.update(child["pid"] for child in document["children"] if child["pid"])
        return document

    def child(self, kind: str, index: int = 1) -> int:
        """Return the pid of a child once it is running."""

        def pid() -> int:
            for child in self.status()["children"]:
                is_meant = child["kind"] == kind and (kind == "writer" or child["index"] == index)
                if is_meant and child["state"] == "running":
                    return int(child["pid"] or 0)
            return 0

        return int(wait_for(pid, f"{kind} {index} running"))

    def worker_pids(self) -> dict[int, int]:
        """Return index and pid of each worker."""
        return {child["index"]: child["pid"] for child in self.status()["children"] if child["kind"] == "worker"}

    def held(self) -> list[int]:
        """Return how many connections each worker holds."""
        return [child["connections"] for child in self.status()["children"] if child["kind"] == "worker"]

    def address(self, index: int = 0) -> tuple[str, int]:
        """Return host and port of a TCP address it listens on."""
        host, _, port = self.bind[index].rpartition(":")
        return host.strip("[]"), int(port)

    def connect(self, index: int = 0) -> socket.socket:
        """Return a connected socket."""
        bound = self.bind[index]
        if bound.startswith("unix:"):
            sock = socket.socket(socket.AF_UNIX)
            sock.settimeout(DEADLINE_S)
            sock.connect(bound[5:])
            return sock
        return socket.create_connection(self.address(index), timeout=DEADLINE_S)

    def lines(self, name: str = "records.jsonl") -> list[bytes]:
        """Return the lines of a file in state_dir; none if there is no file."""
        path = self.state_dir / name
        return path.read_bytes().splitlines(keepends=True) if path.exists() else []

    def records(self, name: str = "records.jsonl") -> list[dict[str, Any]]:
        """Return the records of an output; fail for a torn line."""
        return [json.loads(line) for line in self.lines(name)]

    def rejected(self) -> list[dict[str, Any]]:
        """Return the entries of rejected.jsonl."""
        return self.records("rejected.jsonl")

    def wait_for_records(
        self, count: int, name: str = "records.jsonl", deadline_s: float = DEADLINE_S
    ) -> list[dict[str, Any]]:
        """Wait until an output holds so many lines, and return them."""
        wait_for(lambda: len(self.lines(name)) >= count, f"{count} lines in {name}", deadline_s)
        return self.records(name)

    def send_signal(self, number: int) -> None:
        """Send a signal to the master."""
        assert self.process is not None
        os.kill(self.process.pid, number)

    def stop(self, number: int = signal.SIGTERM, deadline_s: float = 40.0) -> int:
        """Stop it, and return its exit status."""
        assert self.process is not None
        with contextlib.suppress(Exception):
            self.status()
        if self.process.poll() is None:
            self.send_signal(number)
        return self.process.wait(deadline_s)

    def clean_up(self) -> None:
        """End every process left of it, and fail if one survives."""
        if self.process is None:
            return
        with contextlib.suppress(Exception):
            self.status()
        for pid in self._seen:
            with contextlib.suppress(ProcessLookupError):
                if _is_ours(pid):
                    os.kill(pid, signal.SIGCONT)
        if self.process.poll() is None:
            self.send_signal(signal.SIGCONT)
            self.send_signal(signal.SIGTERM)
            try:
                self.process.wait(40)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                raise
        wait_for(lambda: not list(self.survivors()), f"every process gone, but {list(self.survivors())} live", 10)

    def survivors(self) -> Iterator[int]:
        """Yield the pids of its live processes: those seen before, and all others in its session."""
        session = self.process.pid if self.process is not None else 0
        for entry in Path("/proc").glob("[0-9]*"):
            if _is_ours(int(entry.name)) and (int(entry.name) in self._seen or session_of(entry) == session):
                yield int(entry.name)


def session_of(entry: Path) -> int:
    """Return the session of a process, which is its directory in /proc; -1 if it is gone."""
    try:
        return int((entry / "stat").read_text().rpartition(")")[2].split()[3])
    except OSError:
        return -1


def _is_ours(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"prefork-logd: ")
    except OSError:
        return False


def record(message: str, name: str = "shop.checkout", level: int = logging.INFO, **extra: Any) -> logging.LogRecord:
    """Return a record as a service's logger makes it."""
    return logging.getLogger(name).makeRecord(name, level, "/srv/shop/views.py", 42, message, (), None, extra=extra)


_PICKLER = logging.handlers.SocketHandler("", None)


def frame(message: str, **rest: Any) -> bytes:
    """Return a record as the stdlib handler sends it: length and pickle."""
    return _PICKLER.makePickle(record(message, **rest))


def frames(messages: Iterable[str], **rest: Any) -> bytes:
    """Return many records as the stdlib handler sends them."""
    return b"".join(frame(message, **rest) for message in messages)


def messages(records: Iterable[dict[str, Any]]) -> list[str]:
    """Return the messages of records read back."""
    return [record["message"] for record in records]


def is_closed(sock: socket.socket) -> bool:
    """Tell whether the collector has closed a connection."""
    sock.setblocking(False)
    try:
        return not sock.recv(1)
    except BlockingIOError:
        return False
    finally:
        sock.settimeout(DEADLINE_S)
