"""JSON lines from the real libraries, over real sockets, to a real collector."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import time
from typing import TYPE_CHECKING, Any

import loguru
import pytest
import structlog
from pythonjsonlogger.json import JsonFormatter

from tests.support.harness import frame, messages, wait_for
from tests.support.session_client import Client
from tests.support.session_client import records as batch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.harness import Collector

    Maker = Callable[..., Collector]


class Lines:
    """Writes lines to a socket: a stream, as logging and structlog want one."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def write(self, text: str) -> None:
        self._sock.sendall(text.encode())

    def flush(self) -> None:
        pass


def fail() -> None:
    raise ZeroDivisionError("division by nothing")


def _log(stream: Lines, formatter: logging.Formatter) -> None:
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    logger = logging.getLogger("shop.checkout")
    logger.addHandler(handler)
    try:
        logger.warning("order %s accepted", "A-1", extra={"customer": 7})
        try:
            fail()
        except ZeroDivisionError:
            logger.exception("order failed")
    finally:
        logger.removeHandler(handler)


def with_python_json_logger(stream: Lines) -> None:
    _log(stream, JsonFormatter("{asctime}{levelname}{name}{message}{lineno}{funcName}{process}", style="{"))


def with_python_json_logger_by_default(stream: Lines) -> None:
    _log(stream, JsonFormatter(timestamp=True))


def with_structlog(stream: Lines, stamp: str | None = "iso") -> None:
    logger = structlog.wrap_logger(
        structlog.PrintLogger(stream),  # type: ignore[arg-type] # all it does is write and flush
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt=stamp, utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.CallsiteParameterAdder(
                [structlog.processors.CallsiteParameter.FUNC_NAME, structlog.processors.CallsiteParameter.PROCESS]
            ),
            structlog.processors.JSONRenderer(),
        ],
    ).bind(logger="shop.checkout")
    logger.warning("order A-1 accepted", customer=7)
    try:
        fail()
    except ZeroDivisionError:
        logger.exception("order failed")


def with_structlog_in_seconds(stream: Lines) -> None:
    with_structlog(stream, None)


def with_loguru(stream: Lines) -> None:
    number = loguru.logger.add(stream.write, serialize=True)
    try:
        named = loguru.logger.patch(lambda record: record.update(name="shop.checkout"))
        named.bind(customer=7).warning("order {} accepted", "A-1")
        try:
            fail()
        except ZeroDivisionError:
            named.exception("order failed")
    finally:
        loguru.logger.remove(number)


FULL = {"name", "levelno", "funcName", "process"}


@pytest.mark.parametrize(
    ("send", "fields"),
    [
        (with_python_json_logger, FULL),
        (with_python_json_logger_by_default, set()),
        (with_structlog, FULL),
        (with_structlog_in_seconds, FULL),
        (with_loguru, FULL),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_records_of_each_library_arrive_with_their_fields(
    make_collector: Maker, tmp_path: Path, send: Callable[[Lines], None], fields: set[str]
) -> None:
    """Message, time, level, logger, traceback and bound values, over TCP and over a Unix socket."""
    bind = f"unix:{tmp_path}/json.sock"
    toml = f'[[listener]]\naddress = "{bind}"\nprotocol = "json"\n'
    collector = make_collector(toml, "--workers", "2").start()
    begun = time.time()
    for address in (0, collector.bind.index(bind)):
        with collector.connect(address) as sock:
            send(Lines(sock))
    records = collector.wait_for_records(4)
    accepted = [record for record in records if record["message"] == "order A-1 accepted"]
    failed = [record for record in records if record["message"] == "order failed"]
    assert (len(accepted), len(failed)) == (2, 2)
    wanted: dict[str, Any] = {"name": "shop.checkout", "levelno": 30, "process": os.getpid()}
    aliases = {"with_python_json_logger": "_log", "with_structlog_in_seconds": "with_structlog"}
    wanted["funcName"] = aliases.get(send.__name__, send.__name__)
    for record in accepted:
        # Local time with milliseconds, where a library writes no more.
        assert begun - 0.001 <= record["created"] <= time.time()
        assert record["extra"]["customer"] == 7
        assert {field: record.get(field) for field in fields} == {field: wanted[field] for field in fields}
    for record in failed:
        assert record["exc_text"].startswith("Traceback (most recent call last)")
        assert record["exc_text"].rstrip().endswith("ZeroDivisionError: division by nothing")
        assert record.get("levelno") == (40 if fields else None)
    assert {record["peer"].partition(":")[0] for record in records} >= {"127.0.0.1"}
    assert collector.rejected() == []
    assert collector.status()["rejected"] == 0


def test_all_protocols_share_a_port(collector: Collector) -> None:
    """Each connection is known by its first byte."""
    with collector.connect() as plain, collector.connect() as lines:
        plain.sendall(frame("a frame"))
        lines.sendall(b'{"message":"a line","level":"info"}\n')
        client = Client(collector)
        assert client.welcome(b"s" * 16) == 0
        client.send(batch(1, ["a session"]))
        assert client.acknowledged(1) == 1
        records = collector.wait_for_records(3)
        client.close()
    assert sorted(messages(records)) == ["a frame", "a line", "a session"]


def test_bad_lines_cost_only_themselves(make_collector: Maker) -> None:
    """They are rejected and counted; the next line is taken, and a last one without its end."""
    collector = make_collector("[limits]\nmax_record_bytes = 2000\n", "--workers", "1").start()
    with collector.connect() as sock:
        sock.sendall(b'{"message":"one"}\r\nnonsense\n\n{"no":"message"}\n{"no":"' + b"x" * 3000 + b'"}\n')
        sock.sendall(b'{"message":"tw')
        collector.wait_for_records(1)
        sock.sendall(b'o"}\n{"message":"three"}')
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(1) == b""
    records = collector.wait_for_records(3)
    assert messages(records) == ["one", "two", "three"]
    wait_for(lambda: len(collector.rejected()) == 3, "three entries")
    assert [entry["reason"] for entry in collector.rejected()] == ["not-json", "not-a-record", "too-large"]
    status = collector.status()
    assert (status["records"], status["rejected"], status["dropped"]) == (3, 3, 0)


def test_a_line_that_is_too_large_is_stored_cut(make_collector: Maker) -> None:
    """Even the first one; of JSON in its message the secret stays hidden, and the connection goes on."""
    collector = make_collector("[limits]\nmax_record_bytes = 2000\n", "--workers", "1").start()
    with collector.connect() as sock:
        logger = structlog.wrap_logger(
            structlog.PrintLogger(Lines(sock)),  # type: ignore[arg-type] # all it does is write and flush
            processors=[structlog.processors.add_log_level, structlog.processors.JSONRenderer()],
        )
        logger.error("sync failed", ids=list(range(5000)))
        long_text = "x" * 5000 + "the end"
        logger.warning(long_text, order=17)
        logger.info(json.dumps({"password": "hunter2", "body": "y" * 5000}))
        logger.info("next")
        many, long, secret, after = collector.wait_for_records(4)
    assert (many["message"], many["levelname"], many["extra"]["ids"][:3]) == ("sync failed", "error", [0, 1, 2])
    assert many["truncated"] == ["extra.ids", "extra"]
    assert (long["message"][:3], long["message"][-7:], long["extra"]) == ("xxx", "the end", {"order": 17})
    assert (long["truncated"], long["levelname"], after["message"]) == (["message"], "warning", "next")
    assert secret["message"].startswith('{"password": "<redacted>", "body": "yyy')
    assert (collector.rejected(), collector.log.count("cut a line of ")) == ([], 1)
    status = collector.status()
    assert (status["records"], status["rejected"], status["redacted"]) == (4, 0, 1)


@pytest.mark.parametrize("protocol", ["any", "json"])
def test_a_stranger_is_closed_at_its_first_line(make_collector: Maker, protocol: str) -> None:
    """A browser, say, that was made to post lines here: none of them is taken."""
    toml = f'[[listener]]\naddress = "127.0.0.1:0"\nprotocol = "{protocol}"\n[server]\nbind = []\n'
    collector = make_collector(toml, "--workers", "1").start()
    forged = b'{"message":"forged"}\n'
    strangers = [b"POST / HTTP/1.1\r\nHost: x\r\n\r\n", b"{}\n", b"{not json}\n", b"\x16\x03\x01\x02\x00\x01\x00"]
    for begin in strangers:
        with collector.connect() as sock:
            sock.sendall(begin + forged)
            with contextlib.suppress(ConnectionResetError):
                assert sock.recv(1) == b""
    wait_for(lambda: len(collector.rejected()) == len(strangers), "an entry for each")
    assert collector.records() == []
    assert collector.status()["rejected"] == len(strangers)


def test_other_protocols_are_refused_where_one_is_named(make_collector: Maker) -> None:
    """Frames where lines are wanted, lines where frames or sessions are."""
    listeners = [("frames", "any"), ("json", "any"), ("session", "any"), ("any", "session")]
    tables = "".join(
        f'[[listener]]\naddress = "127.0.0.{index}:0"\nprotocol = "{protocol}"\naccept = "{accept}"\n'
        for index, (protocol, accept) in enumerate(listeners, 1)
    )
    collector = make_collector(f"[server]\nbind = []\n{tables}", "--workers", "1").start()
    line, plain = b'{"message":"x"}\n', frame("x")
    for index, data in ((0, line), (1, plain), (2, line), (2, plain), (3, line), (3, plain)):
        with collector.connect(index) as sock:
            sock.sendall(data)
            with contextlib.suppress(ConnectionResetError):
                assert sock.recv(1) == b"", (index, data)
    assert collector.records() == []
    wait_for(lambda: len(collector.rejected()) == 6, "an entry for each")
    for index, data in ((0, plain), (1, line)):
        with collector.connect(index) as sock:
            sock.sendall(data)
    collector.wait_for_records(2)


def test_a_line_that_does_not_end_is_waited_for_as_long_as_a_record(make_collector: Maker) -> None:
    """limits.record_timeout ends its connection, whether it is held or passed over."""
    limits = '[limits]\nrecord_timeout = "1s"\nmax_record_bytes = 2000\n'
    collector = make_collector(limits, "--workers", "1").start()
    with collector.connect() as held, collector.connect() as passed, collector.connect() as idle:
        for sock in (held, passed, idle):
            sock.sendall(b'{"message":"whole"}\n')
        collector.wait_for_records(3)
        held.sendall(b'{"message":"')
        passed.sendall(b'{"message":"' + b"x" * 5000)
        assert held.recv(1) == b""
        assert passed.recv(1) == b""
        idle.sendall(b'{"message":"idle"}\n')
        collector.wait_for_records(4)
    assert collector.status()["dropped"] == 2


def test_half_a_line_moves_with_its_connection(make_collector: Maker) -> None:
    """A worker that is replaced hands it over, and the line goes on where it was."""
    collector = make_collector("", "--workers", "1").start()
    with collector.connect() as sock:
        sock.sendall(b'{"message":"before"}\n{"message":"half ')
        collector.wait_for_records(1)
        worker = collector.child("worker")
        done = collector.cli("workers", "2")
        assert done.returncode == 0, done.stderr
        collector.child("worker", 2)
        done = collector.cli("upgrade")
        assert done.returncode == 0, done.stderr
        assert worker not in collector.worker_pids().values()
        sock.sendall(b'and half"}\n')
        records = collector.wait_for_records(2)
    assert [json.dumps(message) for message in messages(records)] == ['"before"', '"half and half"']
