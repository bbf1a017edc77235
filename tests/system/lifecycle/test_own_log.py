"""The collector's own log lines, and the gaps that clients report, are records in the stream."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from typing import TYPE_CHECKING, Any

import pytest

from prefork_logd.errors import ProcessError
from tests.support import wire
from tests.support.harness import frame, wait_for
from tests.support.session_client import Client

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.harness import Collector


def test_own_lines_and_gaps_are_records(make_collector: Callable[..., Collector]) -> None:
    """Of every process, over a killed worker and an upgrade; the log has the same lines."""
    collector = make_collector('[server]\nown_log = "records"\n', "--workers", "2").start()

    def find(words: str, count: int = 1) -> list[dict[str, Any]]:
        def found() -> list[dict[str, Any]]:
            return [record for record in collector.records() if words in record["message"]]

        wait_for(lambda: len(found()) >= count, words)
        return found()

    (listening,) = find("listening on")
    assert (listening["service"], listening["processName"], listening["levelname"]) == (
        "prefork-logd",
        "master",
        "INFO",
    )
    client = Client(collector)
    client.welcome(wire.SESSION)
    client.send(wire.gap(1, 12, reason=b"queue full"))
    client.acknowledged(12)
    (gap,) = find("dropped 12 records")
    assert gap["extra"]["dropped"] == 12
    assert "test" in gap["extra"]["client"]
    assert gap["processName"].startswith("worker")
    client.close()
    os.kill(collector.child("worker"), signal.SIGKILL)
    (killed,) = find("was ended by SIGKILL")
    assert killed["levelname"] == "ERROR"
    assert collector.cli("upgrade").returncode == 0
    collector.send_signal(signal.SIGHUP)
    before = len(collector.records())
    os.kill(collector.child("worker"), signal.SIGKILL)
    find("was ended by SIGKILL", 2)
    assert len(collector.records()) > before
    for record in collector.records():
        assert record["message"] in collector.log
    assert collector.stop() == 0


@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_a_log_that_is_not_read_holds_up_nothing(make_collector: Callable[..., Collector], kind: str) -> None:
    """Records are stored and processes are replaced; once it is read again, the log has the number of lost lines."""
    if kind == "pipe":
        reading, writing = os.pipe()
    else:
        reading, writing = (end.detach() for end in socket.socketpair())
    os.set_blocking(writing, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writing, b"f" * 999 + b"\n")
    os.set_blocking(writing, True)
    collector = make_collector("", "--workers", "2")
    try:
        collector.launch(stderr=writing)

        def bound() -> list[str]:
            with contextlib.suppress(ProcessError, OSError):
                return list(collector.status()["bind"])
            return []

        collector.bind = wait_for(bound, "listening")
        for number in range(20):
            client = collector.connect()
            client.sendall(b"\0\0\0\4junk" + frame(f"record {number}"))
            client.close()
        collector.wait_for_records(20)
        old = collector.worker_pids()[1]
        os.kill(old, signal.SIGKILL)
        wait_for(lambda: collector.worker_pids()[1] not in {0, old}, "another worker")
        with os.fdopen(os.dup(reading), "rb", buffering=0) as log:
            os.set_blocking(reading, False)
            while log.read(65536):
                pass
            collector.send_signal(signal.SIGHUP)
            seen = b""

            def counted() -> bool:
                nonlocal seen
                seen += log.read(65536) or b""
                return b"lines of this log, which could not be written" in seen

            wait_for(counted, "the number of lines that were left out")
        assert collector.stop() == 0
    finally:
        os.close(reading)
        os.close(writing)
