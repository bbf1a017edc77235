"""What docs/guarantees.md promises to services that use our handler, cell by cell."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.disks import TO_THE_LAST_BYTE, mounted
from tests.support.handler_service import Service as Client
from tests.support.harness import messages, wait_for
from tests.support.load import Load
from tests.torture.processes import HANDLERS, SERVICE, SPARING_S, Service, Torture

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.harness import Collector


@pytest.mark.parametrize(
    "fault",
    [
        "kill -9 of a worker",
        "kill -9 of the writer",
        "kill -9 of the master",
        "kill -9 of all",
        "kill -9 of all in a drain",
        "connections cut while a worker is stopped",
        "reload",
        "SIGSTOP for a while",
        "rotation",
        "worker count change",
        "upgrade",
        "stop and start",
    ],
)
def test_nothing_is_lost_and_nothing_comes_twice(fault: str, tmp_path: Path) -> None:
    """Four times the same harm under load: each record is stored once, and each service's are in order."""
    torture = Torture(tmp_path, 7, [sys.executable] * 2, lambda _: None, SPARING_S)
    try:
        for _ in range(4):
            torture.harm(fault)
        torture.finish()
    finally:
        torture.close()


def test_services_wait_while_the_collector_is_away_and_lose_nothing(tmp_path: Path) -> None:
    """However long it takes: what is logged meanwhile is stored once it is back, in order."""
    torture = Torture(tmp_path, 1, [sys.executable], lambda _: None)
    try:
        assert torture.collector.stop() == 0
        before = len(torture.collector.lines())
        # The service logs on; how much it has logged is only known at its end, so it is given time by the clock.
        away = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1.5)"])
        away.wait()
        torture.collector.start()
        torture.may_lose_plain_records = True
        torture.finish()
        assert len(torture.collector.lines()) > before + 10
    finally:
        torture.close()


def test_services_that_come_while_the_writer_is_stopped_wait_for_it(make_collector: Callable[..., Collector]) -> None:
    """Whether the workers read on or have paused: no plain frame is spoken, and each record is stored once."""
    collector = make_collector("[limits]\nqueue_bytes = 262144\n", "--workers", "2").start()
    writer = collector.child("writer")
    os.kill(writer, signal.SIGSTOP)
    try:
        services = [_waiting_service(collector, version) for version in ("2.7", "3.13")]
        wait_for(lambda: collector.status()["connections"] == 2, "the services to connect")
        with Load(collector, 12) as load:  # so many that each worker has some
            wait_for(lambda: all(child["paused"] for child in _workers(collector)), "every worker to pause")
            services += [_waiting_service(collector, version) for version in ("2.7", "3.13")]
            end_s = time.monotonic() + 3.1
            wait_for(lambda: time.monotonic() > end_s, "more than the 2 s after which a plain receiver is one")
            assert collector.lines() == []
            os.kill(writer, signal.SIGCONT)
            for service in services:
                found = service.end()
                assert found["flushed"]
                counters = found["counters"]
                assert (counters["acknowledged"], counters["handed_over"], counters["plain"]) == (20, 0, False)
            load.stop()
    finally:
        os.kill(writer, signal.SIGCONT)
    assert collector.stop() == 0
    by_service: dict[tuple[str, int], list[str]] = {}
    for record in collector.records():
        if record["name"] == "shop":
            by_service.setdefault((record["peer"], record["process"]), []).append(record["message"])
    assert list(by_service.values()) == [[f"record {number}" for number in range(20)]] * 4


def _waiting_service(collector: Collector, version: str) -> Client:
    client = Client(version, "until_told", collector.address(), burst=20)
    assert client.line()["emitted"] == 20
    return client


def _workers(collector: Collector) -> list[dict[str, Any]]:
    return [child for child in collector.status()["children"] if child["kind"] == "worker"]


def test_a_full_disk_holds_services_up_and_loses_nothing(
    make_collector: Callable[..., Collector], tmp_path: Path
) -> None:
    """While there is no room nothing is acknowledged; when there is, everything is stored once."""
    with mounted(tmp_path / "disk", "size=2m") as disk:
        path = disk.path / "all.jsonl"
        collector = make_collector(f'{TO_THE_LAST_BYTE}[[output]]\npath = "{path}"\n', "--workers", "2").start()
        service = Service(sys.executable, collector.bind[0], "s0", 0.001)
        try:
            wait_for(lambda: path.read_bytes().count(b"\n") > 50, "some records")
            disk.fill()
            wait_for(lambda: "No space left" in collector.log, "the collector to notice")
            disk.free()
            count = service.finish()
        finally:
            service.close()
        assert collector.stop() == 0
        assert messages(json.loads(line) for line in path.read_bytes().splitlines()) == [
            f"s0-{number:07d}" for number in range(count)
        ]


def test_a_nearly_full_disk_holds_services_up_and_loses_nothing(
    make_collector: Callable[..., Collector], tmp_path: Path
) -> None:
    """Clients wait while there is still some room; when there is enough, everything is stored once."""
    with mounted(tmp_path / "disk", "size=128m") as disk:
        path = disk.path / "all.jsonl"
        collector = make_collector(f'[[output]]\npath = "{path}"\n', "--workers", "2").start()
        service = Service(sys.executable, collector.bind[0], "s0", 0.001)
        try:
            wait_for(lambda: path.read_bytes().count(b"\n") > 50, "some records")
            disk.fill(leave_bytes=2_000_000)
            wait_for(lambda: collector.status()["low_space"], "the collector to notice")
            disk.free()
            wait_for(lambda: not collector.status()["low_space"], "it goes on")
            count = service.finish()
        finally:
            service.close()
        assert collector.stop() == 0
        assert "No space left" not in collector.log
        assert messages(json.loads(line) for line in path.read_bytes().splitlines()) == [
            f"s0-{number:07d}" for number in range(count)
        ]


@pytest.mark.parametrize("kind", ["acknowledged", "plain"])
def test_what_a_killed_service_had_handed_over_is_kept(kind: str, collector: Collector) -> None:
    """When a service is killed, what is stored is all up to some record, each once, and nothing half."""
    host, port = collector.address()
    process = subprocess.Popen(
        [sys.executable, str(SERVICE), str(HANDLERS), f"{host}:{port}", "s0", "0.0005", *["plain"][: kind == "plain"]],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_for(lambda: len(collector.lines()) > 200, "some records")
        seen = len(collector.lines())
        os.kill(process.pid, signal.SIGKILL)
    finally:
        process.wait()
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            pipe.close()
    wait_for(lambda: collector.status()["connections"] == 0, "the connection's end")
    assert collector.stop() == 0
    stored = messages(collector.records())
    name = "s0x0" if kind == "plain" else "s0"
    assert len(stored) >= seen
    assert stored == [f"{name}-{number:07d}" for number in range(len(stored))]
