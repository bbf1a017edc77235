"""The handler where parts of a system are missing, as on Windows and macOS: simulated, in real interpreters."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.support.fake_collector import FakeCollector
from tests.support.handler_service import assert_whole, messages, numbered, run_crippled


@pytest.mark.parametrize("system", ["windows", "macos"])
def test_records_arrive_once_and_in_order(system: str) -> None:
    with FakeCollector() as collector:
        found, err, status = run_crippled(system, "some", collector.port, count=500)
        assert (found["flushed"], err, status) == (True, "", 0)
        assert messages(collector) == numbered(500)
        assert_whole(collector)


@pytest.mark.parametrize("system", ["windows", "macos"])
def test_a_collector_that_refuses_is_reported(system: str) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        found, err, status = run_crippled(system, "some", bound.getsockname()[1], count=5, wait=0.3, close_timeout=0.1)
    assert (found["flushed"], found["counters"]["held"], status) == (False, 5, 0)
    assert "did not acknowledge 5 records before the handler was closed (cannot be reached: Connection refused)" in err


def test_windows_has_no_spool_and_no_unix_sockets(tmp_path: Path) -> None:
    _, err, status = run_crippled("windows", "some", 1, overflow="spool", spool_dir=str(tmp_path))
    assert status == 1
    assert "overflow='spool' needs spool_dir, and a system with file locks" in err


def test_macos_has_a_spool(tmp_path: Path) -> None:
    with FakeCollector() as collector:
        found, err, _ = run_crippled(
            "macos", "some", collector.port, count=50, overflow="spool", spool_dir=str(tmp_path)
        )
        assert (found["flushed"], err) == (True, "")
        assert messages(collector) == numbered(50)
    assert not list(tmp_path.iterdir())
