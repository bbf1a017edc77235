"""TLS on the port of plain clients: nothing is lost by it, and nobody is held up by a client that does it badly."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from prefork_logd.handlers import SocketHandler
from tests.support.authority import Authority
from tests.support.harness import DEADLINE_S, NO_ERRORS, frame, frames, record, wait_for
from tests.support.session_client import Faithful, all_logging
from tests.support.tls import TlsCollector, client_context, serial_of

if TYPE_CHECKING:
    from collections.abc import Iterator

WRITERS, WRITER_BYTES = 8, int(os.environ.get("TEST_TLS_MIB", "40")) << 17
"""Clients that only write, and the bytes of each: 40 MiB together, or TEST_TLS_MIB."""
SESSIONS = int(os.environ.get("TEST_TLS_SESSIONS", "150"))
"""Sessions that an upgrade meets."""


class Site:
    """A collector with a TLS listener, and the authority of its clients."""

    def __init__(self, directory: Path) -> None:
        self.authority = Authority(directory / "authority")
        self.issued = self.authority.issue("collector", "DNS:localhost", file="current")
        self.collector = TlsCollector(directory / "state", self._toml())
        self.named = self.authority.issue("web-7", "DNS:web-7.example")
        self.context = client_context(self.authority, self.named)
        self.collector.context = self.context

    def _toml(self) -> str:
        listener = (
            '[[listener]]\naddress = "127.0.0.1:0"\ntls_cert = "{0[0]}"\ntls_key = "{0[1]}"\ntls = "{1}"\n'
            'tls_client_ca = "{2}"\n'
        )
        return (
            '[server]\nbind = []\nworkers = 2\n[limits]\nrecord_timeout = "1s"\ndrain_timeout = "2s"\n'
            + listener.format(self.issued, "accept", self.authority.path)
            + NO_ERRORS
        )

    def plain(self) -> socket.socket:
        return socket.create_connection(self.collector.address(), timeout=DEADLINE_S)

    def failures(self) -> dict[str, int]:
        return {reason: count for reason, count in self.collector.status()["tls_handshake_failures"].items() if count}

    def count(self, text: str) -> int:
        """Return the number of stored records whose message has a text."""
        return sum(text.encode() in line for line in self.collector.lines())


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = Site(tmp_path_factory.mktemp("tls"))
    site.collector.start()
    yield site
    site.collector.clean_up()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2])
def test_clients_that_only_write_lose_nothing(site: Site, version: ssl.TLSVersion) -> None:
    """They never read, and close when they have written: no answer of ours must make their system send a reset."""
    context = client_context(site.authority, site.named)
    context.maximum_version = version
    name = f"writer-{version.name}"
    one = frame(f"{name} {'x' * 500}")
    chunk = one * (32_768 // len(one))
    chunks = WRITER_BYTES // len(chunk) // (1 if version is ssl.TLSVersion.TLSv1_3 else 8)

    def write(_: int) -> None:
        with context.wrap_socket(site.plain()) as sock:
            for _ in range(chunks):
                sock.sendall(chunk)

    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(write, range(WRITERS)))
    expected = WRITERS * chunks * (32_768 // len(one))
    with contextlib.suppress(AssertionError):
        wait_for(lambda: site.count(name) >= expected, "every record", 30)
    missing = (expected - site.count(name)) * len(one)
    assert missing == 0, f"{missing} bytes are missing"
    assert not site.failures()


def test_plain_clients_share_the_port(site: Site) -> None:
    """They have no name, whatever they send; a TLS client has that of its certificate, in frames and in a session."""
    with site.plain() as sock:
        sock.sendall(frames((f"plain-{number}" for number in range(10)), peer_name="admin"))
    with site.collector.connect() as sock:
        sock.sendall(frames(["named-1"], peer_name="admin") + frames(["named-2"]))
    session = Faithful(site.collector, "named")
    session.log(1)
    session.close()
    wait_for(lambda: (site.count("plain-"), site.count("named-")) == (10, 3), "the records")
    stored = site.collector.records()
    found = [one for one in stored if one["message"].startswith(("plain-", "named-"))]
    for one in found:
        is_named = one["message"].startswith("named-")
        assert one.get("peer_name") == ("web-7.example" if is_named else None)
        assert one.get("extra", {}).get("peer_name") in ("admin", None)


def test_bad_handshakes_are_refused_and_others_go_on(site: Site) -> None:
    """A strange or expired certificate, or none; a client that trusts others; garbage; and one that stops half-way."""
    before = site.failures()
    stranger = Authority(site.authority.directory / "strangers")
    bad = {
        "certificate": [
            client_context(site.authority, stranger.issue("web-8")),
            client_context(site.authority, site.authority.issue("late", days=-1)),
            client_context(site.authority),
        ],
        "alert": [client_context(stranger)],
    }
    slow = [site.plain() for _ in range(3)]
    began_s = time.monotonic()
    for number, sock in enumerate(slow):
        sock.sendall(b"\x16\x03\x01\x02\x00\x01"[: 6 - 2 * number])
    honest = Faithful(site.collector, "honest")
    for contexts in bad.values():
        for context in contexts:
            with contextlib.suppress(OSError), context.wrap_socket(site.plain()) as sock:
                sock.sendall(frame("smuggled"))
                while sock.recv(1000):
                    continue
            honest.log(5)
    with site.plain() as sock:
        sock.sendall(b"\x16garbage")
        assert sock.recv(1000)[:1] in (b"\x15", b""), "an alert, or the end"
    for sock in slow:
        with sock:
            assert not sock.recv(1000)
        honest.log(5)
    assert time.monotonic() - began_s < 10
    honest.close()
    wanted = {"certificate": 3, "alert": 1, "protocol": 1, "timeout": 3}
    assert {reason: count - before.get(reason, 0) for reason, count in site.failures().items()} == wanted
    assert site.count("honest-") == 35
    assert site.count("smuggled") == 0


def test_a_certificate_is_replaced_under_load(site: Site) -> None:
    """No client notices; new connections see the new one, and a bad pair changes nothing."""
    clients = [Faithful(site.collector, f"load-{number}") for number in range(4)]
    with all_logging(clients):
        with site.collector.connect() as sock:
            old = serial_of(sock)
        key = Path(site.issued[1]).read_bytes()
        site.authority.issue("collector", "DNS:localhost", file="next")
        Path(site.issued[1]).write_bytes((site.authority.directory / "next.key").read_bytes())
        half = site.collector.cli("reload")
        assert half.returncode == 1
        assert "key values mismatch; name a pair; the old certificate stays" in half.stderr
        with site.collector.connect() as sock:
            assert serial_of(sock) == old
        Path(site.issued[0]).write_bytes((site.authority.directory / "next.pem").read_bytes())
        assert site.collector.cli("reload").returncode == 0
        (row,) = site.collector.status()["certificates"]
        assert row["serial"] != old
        for _ in range(8):
            with site.collector.connect() as sock:
                assert serial_of(sock) == row["serial"]
    assert key
    for client in clients:
        assert site.count(f"{client.name}-") == client.sent


def test_an_upgrade_asks_tls_sessions_to_connect_again(site: Site) -> None:
    """Each record is stored once. Plain connections stay open, those over TLS without a session for drain_timeout."""
    sessions = [Faithful(site.collector, f"s{number:05d}") for number in range(SESSIONS)]
    for session in sessions:
        session.log(2)
    with site.plain() as plain, site.collector.connect() as mute:
        plain.sendall(frame("stays-1"))
        mute.sendall(frame("mute-1"))
        wait_for(lambda: site.count("stays-") == site.count("mute-") == 1, "the first records")
        handler = SocketHandler(
            *site.collector.address(),
            tls_ca=site.authority.path,
            tls_cert=site.named[0],
            tls_key=site.named[1],
            tls_server_name="localhost",
        )
        logged = 0
        result: list[Any] = []
        upgrade = threading.Thread(target=lambda: result.append(site.collector.cli("upgrade")))
        upgrade.start()
        with ThreadPoolExecutor(16) as pool:
            while upgrade.is_alive():
                list(pool.map(lambda session: session.log(1), sessions[:: max(1, SESSIONS // 64)]))
                handler.handle(record(f"handler-{logged}"))
                logged += 1
            list(pool.map(lambda session: session.log(3), sessions))
        upgrade.join()
        assert result[0].returncode == 0, result[0].stderr
        plain.sendall(frame("stays-2"))
        wait_for(lambda: site.count("stays-") == 2, "the record of the plain connection")
        assert not mute.recv(1000), "closed at the end of its time"
        assert handler.flush(DEADLINE_S)
        handler.close()
        by_handler = [line["message"] for line in site.collector.records() if line["message"].startswith("handler-")]
        assert sorted(by_handler) == sorted(f"handler-{number}" for number in range(logged))
    for session in sessions:
        session.close()
    stored = [line for line in site.collector.lines() if b'"message":"s0' in line]
    assert len(stored) == len(set(map(_message, stored))) == sum(session.sent for session in sessions)


def _message(line: bytes) -> bytes:
    return line.partition(b'"message":"')[2].partition(b'"')[0]


def test_a_stop_reads_what_tls_clients_have_sent(site: Site) -> None:
    """As with plain ones. The last test of this file: it stops the collector."""
    with site.collector.connect() as sock:
        sock.sendall(frames(f"last-{number}" for number in range(1000)))
        assert site.collector.stop() == 0
    assert site.count("last-") == 1000
