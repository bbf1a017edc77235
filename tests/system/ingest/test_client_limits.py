"""A real collector keeps its limits with clients of both kinds; what waits is stored, what is dropped is counted."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from prefork_logd.handlers import SocketHandler
from tests.support.harness import frames, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.harness import Collector

TOML = """
[[limit]]
name = "rate"
services = ["noisy"]
per = "service"
records_per_second = 400
burst = "1s"

[[limit]]
name = "cut"
services = ["cut"]
per = "service"
records_per_second = 100
burst = "1s"
action = "drop"
"""


def _handler(collector: Collector, service: str) -> SocketHandler:
    host, port = collector.address()
    return SocketHandler(host, port, service=service)


def _log(handler: SocketHandler, count: int) -> None:
    for number in range(count):
        handler.handle(logging.makeLogRecord({"name": "n", "msg": str(number), "levelno": 20}))


def test_a_noisy_service_waits_and_loses_nothing(make_collector: Callable[..., Collector]) -> None:
    """Two processes' worth of connections, on two workers, get the rate together; others are stored at once."""
    collector = make_collector(TOML, "--workers", "2").start()
    noisy = [_handler(collector, "noisy") for _ in range(2)]
    began_s = time.monotonic()
    for handler in noisy:
        _log(handler, 500)
    with collector.connect() as sock:
        sock.sendall(frames(str(number) for number in range(1000)))
        wait_for(lambda: sum(b'"noisy"' not in line for line in collector.lines()) == 1000, "the others")
    assert sum(b'"noisy"' in line for line in collector.lines()) < 1000
    for handler in noisy:
        assert handler.flush(20)
        handler.close()
    took_s = time.monotonic() - began_s
    # 400 at once, 600 at 400 a second: 1.5 s; each further worker may allow a rate's 20 ms at once.
    assert took_s >= 1.2, took_s
    assert sum(b'"noisy"' in line for line in collector.lines()) == 1000
    assert "limit rate: 'noisy' sends more than 400 records a second; it waits" in collector.log
    assert collector.status()["dropped"] == 0
    assert collector.stop() == 0


def test_a_plain_client_waits_and_loses_nothing(make_collector: Callable[..., Collector], tmp_path: Path) -> None:
    """Although it closes at once; what it has sent before a stop is written whatever the limit says."""
    limit = '[[limit]]\npeers = ["unix"]\nrecords_per_second = 200\nburst = "1s"\n'
    bind = f'[server]\nbind = ["127.0.0.1:0", "unix:{tmp_path}/logd.sock"]\n'
    collector = make_collector(bind + limit, "--workers", "2").start()
    began_s = time.monotonic()
    with collector.connect(1) as sock:
        sock.sendall(frames(str(number) for number in range(300)))
    found = collector.wait_for_records(300)
    assert time.monotonic() - began_s >= 0.4
    assert [record["message"] for record in found] == [str(number) for number in range(300)]
    with collector.connect(1) as sock:
        # Few enough for the buffers of the socket.
        sock.sendall(frames(str(number) for number in range(800)))
        wait_for(lambda: len(collector.lines()) > 301, "the beginning")
        assert collector.stop() == 0
    assert len(collector.lines()) == 1100


def test_dropped_records_are_counted_on_both_sides(make_collector: Callable[..., Collector]) -> None:
    """And named in rejected.jsonl, at the latest at the end."""
    collector = make_collector(TOML, "--workers", "1").start()
    handler = _handler(collector, "cut")
    _log(handler, 3000)
    assert handler.flush(20)
    handler.close()
    stored, status = len(collector.lines()), collector.status()
    assert 100 <= stored < 3000
    assert status["limit_dropped"] == status["dropped"] == 3000 - stored
    assert handler.counters()["rejected"] == 3000 - stored
    assert collector.stop() == 0
    (entry,) = collector.rejected()
    assert (entry["reason"], entry["client"], entry["count"]) == ("gap", "cut", 3000 - stored), entry


def test_memory_holds_where_workers_become_fewer_and_over_an_upgrade(make_collector: Callable[..., Collector]) -> None:
    """Half-received records of all workers come to one, without a byte of their clients; the counters go on."""
    limits = "[limits]\nmax_record_bytes = 65536\n[[limit]]\nname = 'held'\nmemory = 200_000\n"
    collector = make_collector(limits, "--workers", "3").start()
    clients = [collector.connect() for _ in range(12)]
    for client in clients:
        client.sendall((65_000).to_bytes(4, "big") + bytes(20_000))

    def closed() -> int:
        (row,) = collector.status()["limits"]
        return int(row["closed"])

    wait_for(lambda: sum(collector.held()) == 12, "the clients")
    assert closed() == 0
    assert collector.cli("workers", "1").returncode == 0
    wait_for(lambda: closed() == 3, "room in the last worker")
    assert collector.cli("upgrade").returncode == 0
    wait_for(lambda: collector.held() == [9], "the clients that are left")
    assert (closed(), collector.status()["dropped"]) == (3, 3)
    for client in clients:
        client.close()
    assert collector.stop() == 0
