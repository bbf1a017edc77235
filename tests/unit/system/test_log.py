"""The collector's own log: whole lines, bounded, and never an obstacle."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

import pytest

from prefork_logd.system import log

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    handlers = log.LOGGER.handlers[:]
    propagate = log.LOGGER.propagate
    yield
    log.LOGGER.handlers[:] = handlers
    log.LOGGER.propagate = propagate


def test_a_message_is_one_line_with_its_process(capfd: pytest.CaptureFixture[str]) -> None:
    """No message can look like two, and each says which process it comes from."""
    log.set_up("worker 3")
    log.LOGGER.warning("odd\nthing \udcff")
    line = capfd.readouterr().err
    assert line.endswith("Z WARNING worker 3: odd thing \\udcff\n")
    assert line.count("\n") == 1


def test_a_log_that_cannot_be_written_ends_nothing(tmp_path: Path) -> None:
    """A full disk must not end a process that is busy surviving it; the log has the number of the missing lines."""
    log.set_up("master")
    saved = os.dup(2)
    full = os.open("/dev/full", os.O_WRONLY)
    path = tmp_path / "log"
    writable = os.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        os.dup2(full, 2)
        log.LOGGER.error("nobody reads this")
        log.LOGGER.error("nor this")
        os.dup2(writable, 2)
        log.LOGGER.info("again")
        log.LOGGER.info("and again")
    finally:
        os.dup2(saved, 2)
        for fd in (saved, full, writable):
            os.close(fd)
    assert [line.partition("Z ")[2] for line in path.read_text().splitlines()] == [
        "WARNING master: left out 2 lines of this log, which could not be written",
        "INFO master: again",
        "INFO master: and again",
    ]


def test_a_daemons_log_is_reopened_where_its_path_leads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After logrotate's rename, lines go to a new file."""
    path = tmp_path / "log"
    monkeypatch.setenv(log.FILE_VARIABLE, str(path))
    saved = os.dup(2)
    try:
        log.set_up("master")
        log.reopen_own()
        log.LOGGER.error("first")
        path.rename(tmp_path / "log.1")
        log.reopen_own()
        log.LOGGER.error("second")
    finally:
        os.dup2(saved, 2)
        os.close(saved)
    assert "first" in (tmp_path / "log.1").read_text()
    assert "second" in path.read_text()


@pytest.mark.slow
def test_strangers_cannot_flood_the_log(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """So many warnings at once, then one in a few seconds, with a count of the rest; a day of it fits on any disk."""
    now_s = 1000.0
    monkeypatch.setattr(log.time, "monotonic", lambda: now_s)
    log.LOGGER.handlers[:] = []
    log.LOGGER.propagate = True
    limited = log.RateLimitedLog()
    with caplog.at_level(logging.WARNING, "prefork_logd"):
        for number in range(1000):
            limited.warning("peer %d", number)
        assert len(caplog.records) == limited.BURST
        now_s += 5
        limited.warning("peer again")
    assert [record.getMessage() for record in caplog.records[limited.BURST :]] == [
        "left out 980 warnings of this kind",
        "peer again",
    ]
    caplog.clear()
    for _ in range(86_400 // 4):
        now_s += 4
        limited.warning("%s", "x" * 500)
    assert sum(len(record.getMessage()) for record in caplog.records) < 12_000_000


def test_a_bug_is_described_in_one_line() -> None:
    """What happened and where, without a traceback."""
    with pytest.raises(KeyError) as caught:
        {}["key"]
    assert "KeyError: 'key' at test_log.py:" in log.describe_bug(caught.value)
