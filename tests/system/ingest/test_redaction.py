"""Secrets are in no file of the collector, whichever way a record came."""

from __future__ import annotations

import json
import logging
import socket
from typing import TYPE_CHECKING

from prefork_logd.handlers import SocketHandler
from tests.support.harness import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.harness import Collector

TOML = """
store = []
[redact]
allow = ["csrf-token"]
values = ["card", "key-value", "private-key", "provider-token", "url-password"]
[[output]]
name = "json"
path = "all.jsonl"
[[output]]
name = "text"
path = "all.log"
format = "text"
template = "%(message)s %(password)s %(csrf_token)s"
"""


def test_no_secret_is_written(make_collector: Callable[..., Collector]) -> None:
    """By our handler, the standard library's and JSON lines; and a reload applies other rules."""
    collector = make_collector(TOML).start()
    host, port = collector.bind[0].rsplit(":", 1)
    secrets = {"password": "geheim-1", "csrf_token": "open", "deep": [{"Set-Cookie": "geheim-2", "user": 17}]}
    secrets["headers"] = [["cookie", "geheim-4"], ["host", "shop"]]
    text = "geheim: postgresql://u:geheim-3@db/x, 4111 1111 1111 1111 12/27, /a?b=1&token=geheim-5"
    key = f"-----BEGIN PRIVATE KEY-----\n{'geheim-6' * 16}\n-----END PRIVATE KEY-----"
    text += f" {key} glpat-geheim-7-{'a1' * 10}"
    logger = logging.getLogger("test_redaction.redis://u:geheim-8@h")
    handlers: list[logging.Handler] = [SocketHandler(host, int(port)), logging.handlers.SocketHandler(host, int(port))]
    for handler in handlers:
        logger.addHandler(handler)
    logger.warning(text, extra=secrets)
    logger.warning("plain", extra=secrets)
    for handler in handlers:
        handler.close()
    with socket.create_connection((host, int(port))) as sock:
        sock.sendall(json.dumps({"message": text, "timestamp": 1.0, **secrets}).encode() + b"\n")
    wait_for(lambda: collector.status()["records"] == 5, "all are stored")
    wait_for(lambda: collector.status()["redacted"] == 5, "all are counted")
    lines = [json.loads(line) for line in (collector.state_dir / "all.jsonl").read_text().splitlines()]
    shown = {"password": "<redacted>", "csrf_token": "open", "deep": [{"Set-Cookie": "<redacted>", "user": 17}]}
    shown["headers"] = [["cookie", "<redacted>"], ["host", "shop"]]
    assert [line["extra"] for line in lines] == [shown] * 5
    for path in collector.state_dir.rglob("*"):
        if path.is_file() and path.suffix != ".sock":
            assert b"geheim-" not in path.read_bytes(), path
            assert b"4111 1111" not in path.read_bytes(), path
    assert "plain <redacted> open" in (collector.state_dir / "all.log").read_text().splitlines()
    collector.config.write_text(TOML.replace("[redact]", "[redact]\nkeys = []"))
    assert collector.cli("reload").returncode == 0
    handler = SocketHandler(host, int(port))
    handler.handle(logging.makeLogRecord({"msg": "after", "password": "shown"}))
    handler.close()
    wait_for(lambda: b'"password":"shown"' in (collector.state_dir / "all.jsonl").read_bytes(), "the new rules hold")
    assert collector.stop() == 0
