"""TLS on a socket that does not block: handshake, pieces, what was decrypted, alerts, ends."""

from __future__ import annotations

import contextlib
import errno
import select
import signal
import socket
import ssl
from typing import TYPE_CHECKING, Any

import pytest

from prefork_logd.handlers._sockets import would_block
from prefork_logd.handlers._tls import MemoryTlsSocket, TlsError, TlsSocket, WrappedTlsSocket, begin_tls
from prefork_logd.handlers._tls_context import TlsContext
from tests.support.authority import LOCAL, Authority

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.authority import Certificate

pytestmark = pytest.mark.slow  # openssl(1) makes the certificates


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls") / "authority")


@pytest.fixture(scope="module")
def certificate(authority: Authority) -> Certificate:
    return authority.issue("server", *LOCAL)


class Pair:
    """A TLS socket of ours, and a server's end of the standard library, in one thread."""

    def __init__(self, context: TlsContext, certificate: Certificate, **settings: Any) -> None:
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(*certificate)
        server.num_tickets = 0
        for name, value in settings.items():
            setattr(server, name, value)
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        self.ours = begin_tls(ours, context)
        self.theirs = server.wrap_socket(theirs, server_side=True, do_handshake_on_connect=False)

    def greet(self) -> None:
        """Complete the handshake on both sides. Raises what our side raises."""
        for _ in range(6):
            is_complete = self.ours.handshake()
            with contextlib.suppress(ssl.SSLWantReadError):
                self.theirs.do_handshake()
                if is_complete:
                    return
        raise AssertionError("the handshake does not end")

    def read(self, most: int = 1 << 20) -> bytes:
        """Return what the server can decrypt now."""
        found = b""
        with contextlib.suppress(ssl.SSLWantReadError):
            while len(found) < most and (data := self.theirs.recv(1 << 16)):
                found += data
        return found

    def close(self) -> None:
        self.ours.close()
        self.theirs.close()


@pytest.fixture
def make(authority: Authority, certificate: Certificate) -> Iterator[Callable[..., Pair]]:
    made: list[Pair] = []

    def new(
        name: str = "localhost",
        ca: str = authority.path,
        shown: Certificate = certificate,
        own: tuple[str, ...] = (),
        **settings: Any,
    ) -> Pair:
        made.append(Pair(TlsContext(name, ca, *own), shown, **settings))
        return made[-1]

    yield new
    for pair in made:
        pair.close()


@pytest.fixture
def pair(make: Callable[..., Pair]) -> Pair:
    pair = make()
    pair.greet()
    return pair


def test_a_handshake_waits_for_nothing(make: Callable[..., Pair]) -> None:
    pair = make()
    assert pair.ours.handshake() is False
    assert pair.ours.handshake() is False
    assert not pair.ours.wants_write
    pair.greet()
    assert pair.ours.handshake() is True
    assert pair.ours.send(b"one") == 3
    assert pair.read() == b"one"


def test_many_small_records_go_as_few_tls_records_of_full_size(pair: Pair) -> None:
    """The peer pays for each TLS record."""
    message = b"record " * 9000
    assert pair.ours.send(message) == len(message)
    raw = socket.socket(fileno=socket.dup(pair.theirs.fileno()))
    with raw:
        bytes_ = raw.recv(1 << 20)
    sizes = []
    while bytes_:
        size = 5 + int.from_bytes(bytes_[3:5], "big")
        sizes.append(size)
        bytes_ = bytes_[size:]
    assert len(sizes) == 4
    assert min(sizes[:3]) > 1 << 14


def test_a_send_that_blocks_goes_on_with_the_same_data(pair: Pair) -> None:
    message = bytes(range(256)) * (1 << 13)
    left, sent, blocked, got = message, 0, 0, b""
    while left:
        try:
            count = pair.ours.send(left)
        except BlockingIOError:
            blocked += 1
            got += pair.read()
            continue
        left, sent = left[count:], sent + count
    got += pair.read()
    assert blocked > 2
    assert (sent, got) == (len(message), message)


def test_one_read_returns_everything_that_was_decrypted(pair: Pair) -> None:
    """Nothing stays where poll() cannot see it."""
    for number in range(50):
        pair.theirs.send(b"%03d" % number)
    assert pair.ours.recv(1 << 14) == b"".join(b"%03d" % number for number in range(50))
    assert select.select([pair.ours], [], [], 0)[0] == []
    with pytest.raises(BlockingIOError) as raised:
        pair.ours.recv(1 << 14)
    assert would_block(raised.value)


def test_session_tickets_are_read_and_mean_nothing(make: Callable[..., Pair]) -> None:
    """A service that ends with unread bytes resets its connection, and what the kernel has not sent yet is lost."""
    pair = make(num_tickets=2)
    pair.greet()
    assert select.select([pair.ours], [], [], 10)[0]
    with pytest.raises(BlockingIOError):
        pair.ours.recv(1 << 14)
    assert select.select([pair.ours], [], [], 0)[0] == []


def test_a_record_in_pieces_is_read_when_it_is_whole(pair: Pair) -> None:
    pair.theirs.send(b"x" * 1000)
    with pytest.raises(BlockingIOError):
        pair.ours.recv(500)
    assert pair.ours.recv(5000) == b"x" * 1000


def test_bytes_that_come_with_the_end_of_the_handshake_are_read(make: Callable[..., Pair]) -> None:
    """In TLS 1.2 the server's side of the handshake ends last, and its first bytes follow at once."""
    pair = make(maximum_version=ssl.TLSVersion.TLSv1_2)
    for _ in range(4):
        pair.ours.handshake()
        with contextlib.suppress(ssl.SSLWantReadError):
            pair.theirs.do_handshake()
            pair.theirs.send(b"first")
            break
    assert pair.ours.handshake()
    assert pair.ours.recv(1 << 14) == b"first"


def test_closing_sends_nothing(pair: Pair) -> None:
    """A forked process closes its copy of the connection, which its parent goes on with."""
    raw = socket.socket(fileno=socket.dup(pair.theirs.fileno()))
    with raw:
        pair.ours.close()
        assert raw.recv(1 << 14) == b""


def test_an_end_in_order_is_told(pair: Pair) -> None:
    pair.ours.send(b"last")
    pair.ours.end()
    pair.ours.close()
    assert pair.theirs.recv(100) == b"last"
    assert pair.theirs.recv(100) == b""


def test_the_ends_of_the_peer(pair: Pair, make: Callable[..., Pair]) -> None:
    pair.theirs.send(b"last")
    with contextlib.suppress(ssl.SSLWantReadError):
        pair.theirs.unwrap()
    assert [pair.ours.recv(1 << 14) for _ in range(3)] == [b"last", b"", b""]
    other = make()
    other.greet()
    other.theirs.close()
    assert other.ours.recv(1 << 14) == b""


def test_damaged_bytes_fail_after_what_came_before_them(pair: Pair) -> None:
    pair.theirs.send(b"good")
    with socket.socket(fileno=socket.dup(pair.theirs.fileno())) as raw:
        raw.send(b"\x17\x03\x03\x00\x20" + bytes(32))
    assert pair.ours.recv(1 << 14) == b"good"
    for _ in range(2):
        with pytest.raises(TlsError) as raised:
            pair.ours.recv(1 << 14)
        assert "breaks TLS: " in raised.value.text
        assert not would_block(raised.value)


def test_a_certificate_of_somebody_else_is_not_trusted(
    make: Callable[..., Pair], tmp_path: Path, authority: Authority
) -> None:
    other = Authority(tmp_path / "other", "other")
    for arguments, text, remedy in (
        ({"shown": other.issue("server", *LOCAL)}, "is not trusted: unable to get local issuer certificate", "tls_ca"),
        ({"name": "logs.example.com"}, "is not trusted: Hostname mismatch, certificate is not", "tls_server_name"),
        ({"name": "127.0.0.2"}, "is not trusted: IP address mismatch, certificate is not valid", "tls_server_name"),
        ({"shown": authority.issue("old", *LOCAL, days=-1)}, "is not trusted: certificate has expired", "renew"),
    ):
        with pytest.raises(TlsError) as raised:
            make(**arguments).greet()
        assert raised.value.text.startswith(text)
        assert raised.value.is_final
        assert remedy in raised.value.remedy


def test_the_peer_learns_why_it_is_not_trusted(make: Callable[..., Pair], tmp_path: Path) -> None:
    pair = make(shown=Authority(tmp_path / "other", "other").issue("server", *LOCAL))
    with pytest.raises(TlsError):
        pair.greet()
    with pytest.raises(ssl.SSLError, match="TLSV1_ALERT_UNKNOWN_CA"):
        pair.theirs.do_handshake()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_server_that_wants_a_certificate(version: ssl.TLSVersion, make: Callable[..., Pair]) -> None:
    """TLS 1.3 ends the handshake of the client before the server has checked it."""
    pair = make(verify_mode=ssl.CERT_REQUIRED, maximum_version=version)

    def greet() -> None:
        for _ in range(6):
            if pair.ours.handshake():
                with contextlib.suppress(BlockingIOError):
                    pair.ours.recv(1 << 14)
            with contextlib.suppress(ssl.SSLError):
                pair.theirs.do_handshake()

    with pytest.raises(TlsError) as raised:
        greet()
    assert raised.value.text.startswith("refuses the TLS connection: ")
    assert "certificate" in raised.value.remedy


def test_an_own_certificate_that_has_expired_has_to_be_renewed(make: Callable[..., Pair], authority: Authority) -> None:
    """No other remedy helps: the collector trusts its issuer."""
    old = authority.issue("old-client", days=-1)
    pair = make(own=old, verify_mode=ssl.CERT_REQUIRED, maximum_version=ssl.TLSVersion.TLSv1_2)
    pair.theirs.context.load_verify_locations(authority.path)

    def greet() -> None:
        for _ in range(6):
            pair.ours.handshake()
            with contextlib.suppress(ssl.SSLError):
                pair.theirs.do_handshake()

    with pytest.raises(TlsError, match="certificate expired") as raised:
        greet()
    assert raised.value.remedy == "renew tls_cert"


def refused(make: Callable[..., Pair]) -> Pair:
    """Return a pair whose server has refused our side for want of a certificate, and has closed the connection."""
    pair = make(verify_mode=ssl.CERT_REQUIRED)
    for _ in range(6):
        with contextlib.suppress(ssl.SSLError):
            pair.theirs.do_handshake()
        if pair.ours.handshake():
            break
    with contextlib.suppress(ssl.SSLError):
        pair.theirs.do_handshake()
    pair.theirs.close()
    return pair


@pytest.mark.parametrize("kind", [MemoryTlsSocket, WrappedTlsSocket])
def test_the_reason_of_a_peer_that_has_refused_and_gone(
    kind: type[TlsSocket], make: Callable[..., Pair], monkeypatch: pytest.MonkeyPatch
) -> None:
    """We send before we have read its alert; the error says the reason, and not that a pipe is broken."""
    monkeypatch.setattr("prefork_logd.handlers._tls.MemoryTlsSocket", kind)
    pair = refused(make)
    with pytest.raises(TlsError, match=r"refuses the TLS connection: .*certificate required"):
        pair.ours.send(b"x")
    with pytest.raises(TlsError, match=r"refuses the TLS connection: .*certificate required"):
        pair.ours.recv(1 << 14)


@pytest.mark.parametrize("kind", [MemoryTlsSocket, WrappedTlsSocket])
def test_the_reason_of_a_peer_that_is_gone_when_we_read(
    kind: type[TlsSocket], make: Callable[..., Pair], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prefork_logd.handlers._tls.MemoryTlsSocket", kind)
    pair = refused(make)
    with pytest.raises(TlsError, match=r"refuses the TLS connection: .*certificate required"):
        pair.ours.recv(1 << 14)


def test_a_peer_without_tls(make: Callable[..., Pair]) -> None:
    pair = make()
    pair.ours.handshake()
    with socket.socket(fileno=socket.dup(pair.theirs.fileno())) as raw:
        raw.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    with pytest.raises(TlsError, match="answers something else than TLS"):
        pair.ours.handshake()


@pytest.mark.parametrize("has_read", [True, False])
def test_a_peer_that_closes_in_the_handshake_may_be_there_later(has_read: bool, make: Callable[..., Pair]) -> None:
    """Whether it ends the connection or resets it."""
    pair = make()
    pair.ours.handshake()
    if has_read:
        raw = socket.socket(fileno=socket.dup(pair.theirs.fileno()))
        with raw:
            raw.recv(1 << 16)
    pair.theirs.close()
    with pytest.raises(TlsError, match="closes the connection during the TLS handshake") as raised:
        pair.ours.handshake()
    assert not raised.value.is_final


def test_errors_of_the_network_are_not_errors_of_tls(pair: Pair) -> None:
    pair.theirs.close()
    with pytest.raises(BrokenPipeError) as raised:
        pair.ours.send(b"x")
    assert raised.value.errno == errno.EPIPE


def test_a_write_to_a_closed_connection_sends_no_signal(pair: Pair) -> None:
    """SIGPIPE kills a service that has set it to its default action; a write by OpenSSL itself would send it."""
    caught: list[int] = []
    before = signal.signal(signal.SIGPIPE, lambda number, _: caught.append(number))
    try:
        pair.theirs.close()
        with pytest.raises(BrokenPipeError):
            pair.ours.send(b"x")
    finally:
        signal.signal(signal.SIGPIPE, before)
    assert caught == []


def test_versions_before_1_2_are_not_spoken(make: Callable[..., Pair]) -> None:
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        pair = make(minimum_version=ssl.TLSVersion.TLSv1, maximum_version=ssl.TLSVersion.TLSv1_1)
    pair.ours.handshake()
    with pytest.raises(ssl.SSLError):
        pair.theirs.do_handshake()
    with pytest.raises(TlsError, match="refuses the TLS connection"):
        pair.ours.handshake()
