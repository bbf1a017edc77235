"""Lines of the collector's own log are passed without waiting, and never too many."""

from __future__ import annotations

import json
import logging
import time
from typing import TYPE_CHECKING, Any

import pytest

from prefork_logd.system import own_records
from prefork_logd.system.log import LOGGER, RateLimitedLog

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[logging.Logger]:
    """Return the collector's logger, in a process whose lines are passed."""
    monkeypatch.setattr(own_records, "_wire", own_records._Wire())
    handlers, level = LOGGER.handlers[:], LOGGER.level
    LOGGER.handlers[:] = [own_records.RecordHandler("worker 3")]
    LOGGER.setLevel(logging.INFO)
    own_records.open_wire()
    yield LOGGER
    own_records.close_wire()
    LOGGER.handlers[:] = handlers
    LOGGER.setLevel(level)


def _passed() -> list[dict[str, Any]]:
    sock = own_records.receiver()
    assert sock is not None
    found = []
    while True:
        try:
            found.append(json.loads(sock.recv(own_records.MOST_BYTES)))
        except BlockingIOError:
            return found


def test_a_line_has_its_process_level_and_fields(log: logging.Logger) -> None:
    """A text that is not UTF-8 is passed with escapes."""
    RateLimitedLog().warning("%s has gone", "a \udcff", fields={"client": "b \udcff", "dropped": 7})
    log.error("second")
    first, second = _passed()
    assert (first["msg"], first["levelname"], first["processName"]) == ("a \\udcff has gone", "WARNING", "worker 3")
    assert (first["client"], first["dropped"], first["name"]) == ("b \\udcff", 7, "prefork_logd")
    assert (second["msg"], second["levelno"]) == ("second", 40)


def test_lines_are_bounded_in_number(log: logging.Logger, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next line says how many were left out."""
    clock = [time.monotonic()]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    for _ in range(300):
        log.error("x")
    assert len(_passed()) == own_records.BURST
    clock[0] += 1 / own_records.PER_S + 0.001
    log.error("later")
    (later,) = _passed()
    assert later["left_out"] == 200
    log.error("at the same time")
    assert not _passed()


def test_the_longest_line_fits_its_bound(log: logging.Logger) -> None:
    """Also if each of its characters is escaped."""
    odd = "\x01" * 100_000
    RateLimitedLog().warning("%s", odd, fields=dict.fromkeys(("client", "limit", "reason"), odd))
    (found,) = _passed()
    assert found["msg"] == odd[: own_records.MOST_CHARS]


def test_a_full_socket_costs_lines_and_no_time(log: logging.Logger) -> None:
    """Nobody reads here."""
    own_records._wire.tokens = 1e9
    own_records.BURST, burst = 1e9, own_records.BURST
    try:
        for _ in range(2000):
            log.error("x" * 1000)
    finally:
        own_records.BURST = burst
    assert own_records._wire.left_out > 0
    assert len(_passed()) == 2000 - own_records._wire.left_out


def test_nothing_is_passed_while_lines_are_stored(log: logging.Logger) -> None:
    """And nothing where it is not configured."""
    with own_records.muted():
        log.error("about a failure of storing")
    assert _passed() == []
    own_records.close_wire()
    log.error("nobody takes this")
    assert own_records.receiver() is None
