"""The collector's own log lines, and the gaps that clients report, are records in the stream."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

from tests.support import wire
from tests.support.harness import wait_for
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
