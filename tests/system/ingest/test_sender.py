"""Who sent a record: said once for a session, and in each of its records, wherever the session goes."""

from __future__ import annotations

import json
import logging
import logging.handlers
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from prefork_logd.handlers import SocketHandler
from tests.support import interpreters
from tests.support.handler_service import CLIENT
from tests.support.harness import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.harness import Collector

SHOP: dict[str, Any] = {"service": "shop", "environment": "prod", "version": "2.4", "fields": {"region": "eu", "n": 1}}


@pytest.fixture
def log() -> Iterator[logging.Logger]:
    """Return a logger without handlers, and without them afterwards."""
    logger = logging.getLogger(__name__)
    logger.setLevel(logging.DEBUG)
    yield logger
    for handler in [*logger.handlers]:
        logger.removeHandler(handler)
        handler.close()


def sender_of(record: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(record.get(name) for name in ("host", "service", "environment", "version"))


def test_a_session_is_signed_also_after_it_has_moved(
    make_collector: Callable[..., Collector], log: logging.Logger
) -> None:
    """To another worker, and to another program: the fields and those of `fields` stay, and a record's own count."""
    toml = '[server]\nworkers = 2\n[[output]]\n[[output]]\nname = "text"\npath = "t.log"\nformat = "text"\n'
    collector = make_collector(toml + 'template = "%(service)s %(region)s %(host)s %(message)s"\n').start()
    handler = SocketHandler(*collector.address(), **SHOP)
    log.addHandler(handler)
    log.info("one")
    assert handler.flush(20)
    old = collector.child("worker")
    collector.configure(toml.replace("workers = 2", "workers = 1") + 'template = "%(service)s %(message)s"\n')
    assert collector.cli("reload").returncode == 0
    log.info("two", extra={"region": "us"})
    assert handler.flush(20)
    assert collector.cli("upgrade").returncode == 0
    log.info("three", extra={"ids": [1, {"a": None}], "service": "own"})
    assert handler.flush(20)
    assert collector.child("worker") != old
    records = collector.wait_for_records(3)
    host = socket.gethostname()
    assert [sender_of(record) for record in records] == [(host, "shop", "prod", "2.4")] * 3
    assert [record["extra"] for record in records] == [
        {"n": 1, "region": "eu"},
        {"region": "us", "n": 1},
        {"ids": [1, {"a": None}], "service": "own", "n": 1, "region": "eu"},
    ]
    assert handler.counters()["connections"] == 1
    assert collector.lines("t.log") == [f"shop eu {host} one\n".encode(), b"shop two\n", b"shop three\n"]
    assert collector.stop() == 0


def test_other_clients_have_a_host_alone(
    make_collector: Callable[..., Collector], log: logging.Logger, tmp_path: Path
) -> None:
    """It is the peer's address, or this host for a Unix socket; an attribute `service` of theirs stays in `extra`."""
    path = tmp_path / "s"
    toml = f'[server]\nbind = ["127.0.0.1:0", "unix:{path}"]\n[[output]]\n[[output]]\nname = "text"\nformat = "text"\n'
    collector = make_collector(f'{toml}path = "t.log"\ntemplate = "%(host)s %(service)s"\n').start()
    for address in (collector.address(), (str(path), None)):
        handler = logging.handlers.SocketHandler(*address)
        log.addHandler(handler)
        log.info("m", extra={"service": "own"})
        log.removeHandler(handler)
        handler.close()
    with collector.connect() as sock:
        sock.sendall(
            b'{"message":"m","service":"cart","version":"7","environment":5}\n{"message":"m","host":"web-9"}\n'
        )
    records = collector.wait_for_records(4)
    hosts = sorted(["127.0.0.1", "127.0.0.1", socket.gethostname(), "web-9"])
    assert sorted(record["host"] for record in records) == hosts
    by_peer = [record for record in records if record["host"] in ("127.0.0.1", socket.gethostname())]
    assert [
        sender_of(record)[1:] for record in by_peer if "extra" not in record or "environment" not in record["extra"]
    ]
    assert [record["extra"] for record in records if record.get("service")] == [{"environment": 5}]
    assert [record["extra"] for record in records if record.get("extra", {}).get("service")] == [{"service": "own"}] * 2
    # A template's name is looked up in `extra` where the field is missing.
    assert sorted(line.split()[1] for line in collector.lines("t.log")) == [b"-", b"cart", b"own", b"own"]
    assert collector.stop() == 0


def test_outputs_and_queries_of_one_service(make_collector: Callable[..., Collector]) -> None:
    """Records of a session, of JSON lines and of other clients are filtered by the fields that they are stored with."""
    output = '[[output]]\nname = "o"\npath = "o.jsonl"\nservices = ["shop"]\nenvironments = ["prod"]\n'
    store = '[[store]]\ntype = "parquet"\nservices = ["shop", "cart"]\n'
    collector = make_collector(f"{output}{store}[[output]]\n").start()
    for service, environment in (("shop", "prod"), ("shop", "test"), ("cart", "prod"), (None, None)):
        handler = SocketHandler(*collector.address(), service=service, environment=environment)
        handler.handle(logging.makeLogRecord({"msg": "%s %s", "args": (service, environment)}))
        assert handler.flush(20)
        handler.close()
    with collector.connect() as sock:
        sock.sendall(b'{"message":"json","service":"shop","environment":"prod"}\n{"message":"none"}\n')
    collector.wait_for_records(6)
    assert [record["message"] for record in collector.records("o.jsonl")] == ["shop prod", "json"]
    wait_for(lambda: collector.cli("query", "--count").stdout == "4\n", "the records in the store")
    found = collector.cli("query", "--service", "shop", "--environment", "prod", "--format", "json").stdout
    assert sorted(json.loads(line)["message"] for line in found.splitlines()) == ["json", "shop prod"]
    found = collector.cli("query", "--host", "127.0.0.1", "--format", "json").stdout
    assert [json.loads(line)["message"] for line in found.splitlines()] == ["json"]
    assert collector.stop() == 0


@pytest.mark.parametrize("version", interpreters.WANTED)
def test_a_spool_keeps_the_sender_of_its_process(
    version: str, make_collector: Callable[..., Collector], tmp_path: Path
) -> None:
    """Another service that adopts it later sends it under the name of the one that logged it."""
    collector = make_collector().start()
    host, port = collector.address()
    assert collector.stop() == 0
    spool = {"overflow": "spool", "spool_dir": str(tmp_path / "spool"), "close_timeout": 0.1}
    python = interpreters.require(version)

    def run(count: int, how: str, **arguments: Any) -> None:
        given = json.dumps({**spool, "count": count, "how": how, **arguments})
        environ = {**os.environ, "OTEL_RESOURCE_ATTRIBUTES": "service.version=9%2E1,host.name=h%20" + how}
        subprocess.run(
            [python, str(CLIENT), "ends", host, str(port), given], env=environ, timeout=60, check=False,
            capture_output=True,
        )  # fmt: skip

    run(3, "kill", service="first", fields={"n": 1})
    collector.configure(f'[server]\nbind = ["{host}:{port}"]\n')
    collector.start()
    command = [sys.executable, str(CLIENT), "some", host, str(port)]
    second = json.dumps({**spool, "close_timeout": 20, "count": 1, "service": "second"})
    subprocess.run([*command, second], timeout=60, check=True, capture_output=True)
    wait_for(lambda: len(collector.lines()) >= 4, "the adopted records, too")
    found = sorted(
        (record["service"], record["host"], record.get("version"), record.get("extra"))
        for record in collector.records()
    )
    mine = ("second", socket.gethostname(), None, None)
    assert found == [("first", "h kill", "9.1", {"n": 1})] * 3 + [mine]
    assert collector.stop() == 0


@pytest.mark.parametrize("version", interpreters.WANTED)
def test_templates_and_exceptions_are_stored_as_data(version: str, collector: Collector) -> None:
    """From each Python; 2.7 knows no chain of exceptions."""
    host, port = collector.address()
    command = [interpreters.require(version), str(CLIENT), "raises", host, str(port), "{}"]
    subprocess.run(command, timeout=60, check=True, capture_output=True)
    failed, plain = collector.wait_for_records(2)
    assert (failed["msg"], failed["message"]) == ("order %s failed", "order 17 failed")
    assert "msg" not in plain
    assert "exception" not in plain
    assert "extra" not in failed
    last = failed["exception"][-1]
    assert last["type"] == "KeyError"
    assert [(frame["module"], frame["function"]) for frame in last["frames"]] == [(CLIENT.stem, "raises")]
    if version != "2.7":
        root = failed["exception"][0]
        assert root["type"] in ("JSONDecodeError", "ValueError")
        assert [frame["in_app"] for frame in root["frames"]][:2] == [True, False]
    assert collector.stop() == 0
