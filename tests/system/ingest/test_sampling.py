"""A real collector keeps some records of a flood, acknowledges all of them, and its marks add up."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from prefork_logd.handlers import SocketHandler
from tests.support.harness import frames, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.harness import Collector

TOML = """
[[store]]
type = "parquet"
batch_time = "1ms"
[[sample]]
services = ["shop"]
keep_one_of = 10
[[sample]]
services = ["json"]
keep_per_second = 5
"""


def test_a_flood_is_sampled(make_collector: Callable[..., Collector]) -> None:
    """In the order in which it was sent; errors and other services are whole; the store has the same records."""
    collector = make_collector(TOML, "--workers", "1").start()
    host, port = collector.address()
    handler = SocketHandler(host, port, service="shop")
    for number in range(2000):
        level = logging.ERROR if number % 100 == 7 else logging.INFO
        handler.handle(logging.makeLogRecord({"name": "n", "msg": str(number), "levelno": level}))
    assert handler.flush(20)
    assert handler.counters()["acknowledged"] == 2000
    handler.close()
    with collector.connect() as sock:
        sock.sendall(frames(f"other {number}" for number in range(50)))
    with collector.connect() as sock:
        sock.sendall(b"".join(b'{"message": "%d", "service": "json"}\n' % number for number in range(500)))
    wait_for(lambda: collector.status()["records"] == 2550, "all were read")
    wait_for(lambda: collector.status()["stores"][0]["lag_records"] == 0, "all are stored")
    found = collector.records()
    shop = [record for record in found if record.get("service") == "shop"]
    errors = [record for record in shop if record["levelno"] == logging.ERROR]
    sampled = [record for record in shop if record["levelno"] == logging.INFO]
    assert len(errors) == 20
    assert not any("extra" in record for record in errors)
    assert len(sampled) == 198
    assert {record["extra"]["sample_rate"] for record in sampled} == {10}
    numbers = [int(record["message"]) for record in shop]
    assert numbers == sorted(numbers)
    assert sum(record["message"].startswith("other") for record in found) == 50
    of_json = [record for record in found if record.get("service") == "json"]
    assert 5 <= len(of_json) < 50
    dropped = 1980 - 198 + 500 - len(of_json)
    assert collector.status()["sampled"] == dropped
    stored = collector.cli("query", "--format", "json", "--limit", "5000")
    assert stored.returncode == 0, stored.stderr
    assert sorted(stored.stdout.encode().splitlines(keepends=True)) == sorted(collector.lines())
    assert collector.stop() == 0
