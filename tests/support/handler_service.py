"""Runs handler_client.py, a service with our handler, under an interpreter of any version, or on a simulated system."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import interpreters
from tests.support.fake_collector import FakeCollector

if TYPE_CHECKING:
    from collections.abc import Iterator

CLIENT = Path(__file__).with_name("handler_client.py")
_CRIPPLED = Path(__file__).with_name("crippled.py")


class Service:
    """The client script, running."""

    def __init__(
        self,
        version: str,
        scenario: str,
        where: FakeCollector | tuple[str, int | str],
        *,
        warnings: str = "error",
        **arguments: Any,
    ) -> None:
        host, port = ("127.0.0.1", where.port) if isinstance(where, FakeCollector) else where
        python = version if os.sep in version else interpreters.require(version)
        command = [python, "-W", warnings, str(CLIENT), scenario, host, str(port)]
        self.process = subprocess.Popen(
            [*command, json.dumps(arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def line(self) -> Any:
        """Return the next line of its standard output."""
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def go_on(self) -> None:
        """Let it go on where it waits."""
        assert self.process.stdin is not None
        self.process.stdin.write("more\n")
        self.process.stdin.flush()

    def end(self, *, stderr: str = "", status: int = 0, times: int | None = None) -> Any:
        """Let it end; return its last line. `stderr` occurs in its standard error, so many times."""
        out, err = self.process.communicate(timeout=60)
        assert self.process.returncode == status, err
        assert stderr in err if stderr else not err, err
        assert times is None or err.count(stderr) == times, err
        return json.loads(out.splitlines()[-1]) if out else None

    @contextlib.contextmanager
    def running(self) -> Iterator[Service]:
        """Kill it in the end."""
        try:
            yield self
        finally:
            self.process.kill()
            self.process.communicate(timeout=60)


def run(version: str, scenario: str, where: FakeCollector | tuple[str, int | str], **arguments: Any) -> Any:
    """Return the last line of a scenario that ends with status 0 and writes nothing on its standard error."""
    return Service(version, scenario, where, **arguments).end()


def run_crippled(system: str, scenario: str, port: int, **arguments: Any) -> tuple[Any, str, int]:
    """Return the last line, standard error and status of a scenario on a simulated system ("windows", "macos")."""
    python = interpreters.require("3.13")
    command = [python, "-W", "error", str(_CRIPPLED), system, scenario, "127.0.0.1", str(port), json.dumps(arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    lines = done.stdout.splitlines()
    return json.loads(lines[-1]) if lines else None, done.stderr, done.returncode


def python_with(module: str) -> str:
    """Return an interpreter that has a module; skip the test if there is none."""
    for python in (sys.executable, *interpreters.found().values()):
        program = [python, "-W", "ignore", "-c", f"import {module}"]
        if subprocess.run(program, capture_output=True, check=False).returncode == 0:
            return python
    pytest.skip(f"no interpreter has {module}")


def messages(collector: FakeCollector) -> list[str]:
    """Return the messages that the collector has."""
    return [str(record["msg"]) for record in collector.dicts]


def numbered(count: int) -> list[str]:
    """Return the messages of so many records of the client."""
    return [f"record {number}" for number in range(count)]


def assert_whole(collector: FakeCollector) -> None:
    """Every session's numbers are there once and in order."""
    for stored in collector.sessions.values():
        numbers = [number for number, _ in stored.items]
        numbers += [number for gap in stored.gaps for number in range(gap.first, gap.last + 1)]
        assert sorted(numbers) == list(range(1, len(numbers) + 1))
        assert [number for number, _ in stored.items] == sorted(number for number, _ in stored.items)


def wait_for(condition: Any, seconds: float = 20.0) -> None:
    """Wait until the condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)
