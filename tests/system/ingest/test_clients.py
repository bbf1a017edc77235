"""Real services on real Pythons: what each says that it has logged is what is stored."""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import interpreters

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.harness import Collector

SERVICE = Path(__file__).parents[2] / "support" / "services" / "service.py"


def _run(python: str, *arguments: str) -> list[dict[str, Any]]:
    """Run a service to its end, and return what it says that it has logged."""
    done = subprocess.run(
        [python, str(SERVICE), *arguments],
        capture_output=True, timeout=60, check=False, env={"PYTHONIOENCODING": "utf-8"},
    )  # fmt: skip
    assert done.stderr == b"", done.stderr.decode()
    assert done.returncode == 0
    expected: list[dict[str, Any]] = json.loads(done.stdout)
    return expected


def _without_empty(record: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if value is not None and value not in ("", {})}


def _assert_stored(stored: list[dict[str, Any]], expected: list[dict[str, Any]], before_s: float) -> None:
    for got, wanted in zip(stored, expected, strict=True):
        moment = dt.datetime.fromisoformat(got.pop("time"))
        assert abs(moment.timestamp() - got["created"]) < 1e-6
        assert before_s <= got.pop("received") <= time.time()
        assert got.pop("peer")
        assert got.pop("host")
        assert got == _without_empty(wanted)


@pytest.mark.parametrize("version", interpreters.WANTED)
@pytest.mark.parametrize("how", ["plain", "dictConfig"])
def test_everything_a_service_logs_is_stored(version: str, how: str, collector: Collector) -> None:
    """Text, tracebacks, stacks and every kind of extra value arrive as sent, from each Python, however configured."""
    before_s = time.time()
    host, port = collector.address()
    expected = _run(interpreters.require(version), host, str(port), how)
    stored = collector.wait_for_records(len(expected))
    assert collector.rejected() == []
    _assert_stored(stored, expected, before_s)
    assert collector.stop() == 0


def test_service_uses_a_unix_socket(make_collector: Callable[..., Collector], tmp_path: Path) -> None:
    """SocketHandler with a path and no port reaches a Unix socket; what is stored is the same."""
    before_s = time.time()
    path = tmp_path / "logd.sock"
    collector = make_collector(f'[server]\nbind = ["unix:{path}"]\n').start()
    expected = _run(interpreters.require("3.11"), str(path), "unix", "plain")
    stored = collector.wait_for_records(len(expected))
    assert all(record["peer"].startswith("unix:pid=") for record in stored)
    _assert_stored(stored, expected, before_s)
