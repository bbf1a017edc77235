"""A link over TLS, with its other end in the same thread: handshake, session, refusals, time limit."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from prefork_logd.handlers import _link
from prefork_logd.handlers._tls import TlsSocket
from prefork_logd.inputs.base import Bye, Records
from tests.support.authority import LOCAL, Authority
from tests.support.handler_receiver import TlsReceiver

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.authority import Certificate

pytestmark = pytest.mark.slow  # openssl(1) makes the certificates


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("link") / "authority")


@pytest.fixture(scope="module")
def certificate(authority: Authority) -> Certificate:
    return authority.issue("server", *LOCAL)


@pytest.fixture
def make(authority: Authority, certificate: Certificate) -> Iterator[Callable[..., TlsReceiver]]:
    made: list[TlsReceiver] = []

    def new(**arguments: Any) -> TlsReceiver:
        made.append(TlsReceiver(certificate, **{"tls_ca": authority.path, **arguments}))
        return made[-1]

    yield new
    for receiver in made:
        receiver.close()


@pytest.fixture
def peer(make: Callable[..., TlsReceiver]) -> TlsReceiver:
    peer = make()
    peer.add(b"one", b"two")
    return peer


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    time = [100.0]
    monkeypatch.setattr(_link, "monotonic", lambda: time[0])
    return time


def test_a_session_over_tls(peer: TlsReceiver) -> None:
    peer.connect()
    assert peer.link.is_connecting()
    assert not peer.link.wants_to_write()
    assert peer.counts["connections"] == 0
    peer.greet()
    assert peer.link.state == _link.GREETING
    peer.read()
    peer.answer(peer.server.welcome(0))
    (records,) = peer.read()
    assert isinstance(records, Records)
    assert [bytes(body) for body in records.bodies] == [b"one", b"two"]
    peer.answer(peer.server.ack(2))
    assert peer.queue.is_empty()
    peer.link.say_bye()
    assert isinstance(peer.read()[-1], Bye)
    assert peer.sock.recv(1) == b""  # close_notify


def test_nothing_of_a_session_is_sent_before_the_handshake(peer: TlsReceiver) -> None:
    peer.connect()
    hello = peer.sock.recv(1 << 16)
    assert hello[0] == 0x16
    peer.link.pump()
    with pytest.raises(BlockingIOError):
        peer.sock.recv(1)
    assert isinstance(peer.link.sock, TlsSocket)


def test_an_answer_in_small_tls_records_is_read_at_once(peer: TlsReceiver) -> None:
    peer.connect()
    peer.greet()
    peer.read()
    for byte in peer.server.welcome(0):
        peer.sock.send(bytes([byte]))
    peer.link.pump()
    assert peer.link.is_ready()


def test_a_handshake_has_a_time_limit(peer: TlsReceiver, now: list[float]) -> None:
    peer.connect()
    now[0] += 2.9
    peer.link.pump()
    assert peer.link.is_connecting()
    now[0] += 0.2
    peer.link.pump()
    assert peer.link.sock is None
    assert peer.notices.trouble == "does not answer the TLS handshake within 3 s"
    assert peer.connector.retry_at == pytest.approx(now[0] + 0.05)


def test_a_certificate_that_is_not_trusted_is_said_once_and_tried_again_later(
    make: Callable[..., TlsReceiver], now: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    peer = make(tls_server_name="logs.example.com")
    peer.add(b"one")
    for _ in range(3):
        peer.connect()
        peer.greet()
        assert peer.link.state == _link.IDLE
        assert peer.connector.retry_at == pytest.approx(now[0] + 5.0)
    said = capsys.readouterr().err
    assert said == (
        "prefork_logd.handlers: 127.0.0.1:1 is not trusted: Hostname mismatch, certificate is not valid for "
        "'logs.example.com'; records are kept (tls_ca names the certificates to trust, tls_server_name the name to "
        "look for)\n"
    )
    assert peer.notices.trouble.startswith("is not trusted: ")
    assert not peer.queue.is_empty()
    assert peer.counts["connections"] == 0


def test_handshakes_that_end_without_an_answer_become_rare(peer: TlsReceiver, now: list[float]) -> None:
    """As connections without an acknowledgement do."""
    pauses = []
    for _ in range(23):
        peer.connect()
        peer.sock.close()
        peer.link.pump()
        pauses.append(round(peer.connector.retry_at - now[0], 2))
    assert pauses == [0.05] * 21 + [1.0] * 2


def test_a_receiver_of_plain_frames_behind_tls_gets_them(
    make: Callable[..., TlsReceiver], now: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    peer = make(fallback=True)
    peer.add(b"one", b"two")
    peer.connect()
    peer.greet()
    now[0] += 2.1
    peer.link.pump()
    assert "as plain SocketHandler frames" in capsys.readouterr().err
    peer.connect()
    peer.greet()
    assert peer.read_bytes() == b"\0\0\0\x03one\0\0\0\x03two"
    assert (peer.counts["handed_over"], peer.queue.is_empty()) == (2, True)
    peer.link.say_bye()
    assert peer.sock.recv(1) == b""  # close_notify


def test_tls_that_fails_is_no_reason_for_plain_frames(make: Callable[..., TlsReceiver], now: list[float]) -> None:
    peer = make(fallback=True, tls_server_name="logs.example.com")
    peer.add(b"one")
    for _ in range(5):
        peer.connect()
        peer.greet()
        now[0] += 6
    assert not peer.fallback.is_plain


def test_bytes_that_are_not_tls_end_a_session(
    peer: TlsReceiver, now: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    peer.connect()
    peer.greet()
    peer.read()
    peer.answer(peer.server.welcome(0))
    assert peer.link.is_ready()
    os.write(peer.sock.fileno(), b"HTTP/1.1 400 Bad Request\r\n")
    peer.link.pump()
    assert peer.link.sock is None
    assert "records are kept" in capsys.readouterr().err
    assert peer.connector.retry_at == pytest.approx(now[0] + 5.0)
    assert peer.queue.unsent
