"""A TLS connection gives back what was sent, holds little, and names the reason of a failed handshake."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import ssl
import struct
import sys
import termios
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from prefork_logd.errors import RemoteProtocolError
from prefork_logd.net import tls
from prefork_logd.net.certificates import ListenerTls, Pair, make_context
from prefork_logd.net.tls import FEWEST_RECEIVED, HandshakeError, SharedBuffers, TlsStream, name_of
from tests.support.authority import Authority
from tests.support.tls import StepClient, client_context

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def pair(authority: Authority) -> Pair:
    certificate, key = authority.issue("localhost", "DNS:localhost")
    return Pair(Path(certificate).read_bytes(), Path(key).read_bytes())


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    for sock in (ours, theirs):
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    with ours, theirs:
        yield ours, theirs


class Link:
    """A stream and its client."""

    def __init__(
        self, ends: tuple[socket.socket, socket.socket], pair: Pair, authority: Authority, version: str = "1.2"
    ) -> None:
        self.ours, self.theirs = ends
        self.shared = SharedBuffers()
        self.context = make_context(ListenerTls("localhost:1", True, version, (pair,)))
        self.stream = TlsStream(self.context, self.shared)
        self.client = StepClient(self.theirs, client_context(authority))

    def shake(self, stream: TlsStream | None = None, client: StepClient | None = None) -> None:
        stream, client = stream or self.stream, client or self.client
        for _ in range(4):
            client.step()
            if stream.handshake(self.ours.fileno()):
                break
            self.ours.sendall(stream.take_output())
        else:
            raise AssertionError("no handshake")
        self.ours.sendall(stream.take_output())
        client.step()

    def read(self, size: int = 1 << 18) -> bytes:
        buffer = memoryview(bytearray(size))
        return bytes(buffer[: self.stream.read_into(self.ours.fileno(), buffer)])


@pytest.fixture
def link(ends: tuple[socket.socket, socket.socket], pair: Pair, authority: Authority) -> Link:
    made = Link(ends, pair, authority)
    made.shake()
    return made


def test_bytes_come_back_however_small_the_buffer(link: Link) -> None:
    """In order, and none of them stays behind: nothing wakes a reader for decrypted bytes."""
    sent = bytes(range(256)) * 400
    link.client.send(sent)
    got = b""
    while len(got) < len(sent):
        got += link.read(1000)
        assert not link.shared.incoming.pending, "the next connection would get these bytes"
    assert got == sent
    with pytest.raises(BlockingIOError):
        link.read()


def test_a_reader_of_few_bytes_leaves_the_others_in_the_socket(link: Link) -> None:
    """A client that has to wait costs the memory of one TLS record, whatever it has sent."""
    sent = bytes(range(256)) * 800
    link.client.send(sent)
    assert link.stream.peek(link.ours.fileno()) == sent[:1]
    got = link.read(4096)
    assert len(link.stream._held) <= FEWEST_RECEIVED
    assert _unread(link.ours) > len(sent) - (1 << 14) - 3 * FEWEST_RECEIVED
    while len(got) < len(sent):
        got += link.read()
    assert got == sent


def test_a_handshake_leaves_what_follows_it_in_the_socket(
    ends: tuple[socket.socket, socket.socket], pair: Pair, authority: Authority
) -> None:
    """A client may send much at once with its last message of the handshake."""
    link = Link(ends, pair, authority)
    link.client.step()
    assert not link.stream.handshake(link.ours.fileno())
    link.ours.sendall(link.stream.take_output())
    sent = bytes(range(256)) * 800
    link.client._incoming.write(link.theirs.recv(1 << 16))
    link.client.tls.do_handshake()
    link.theirs.sendall(link.client.encrypt(sent))
    while not link.stream.handshake(link.ours.fileno()):
        assert not link.stream.is_emptied
    assert len(link.stream._held) <= FEWEST_RECEIVED
    assert _unread(link.ours) > len(sent) - 2 * FEWEST_RECEIVED
    got = b""
    while len(got) < len(sent):
        got += link.read()
    assert got == sent


def _unread(sock: socket.socket) -> int:
    """Return how many bytes wait in a socket (FIONREAD, tcp(7))."""
    count = bytearray(4)
    fcntl.ioctl(sock.fileno(), termios.FIONREAD, count)
    return int.from_bytes(count, sys.byteorder)


def test_a_record_that_comes_in_parts_is_waited_for(link: Link) -> None:
    """A part of it is not at hand, and not lost."""
    data = link.client.encrypt(b"x" * 5000)
    link.theirs.sendall(data[:3000])
    with pytest.raises(BlockingIOError):
        link.read()
    link.theirs.sendall(data[3000:])
    assert link.read() == b"x" * 5000
    assert link.stream.is_emptied


def test_two_connections_share_a_buffer(link: Link, pair: Pair, authority: Authority) -> None:
    """A part of a record of one of them, and a reader with too small a buffer, do not disturb the other."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for sock in (ours, theirs):
            sock.setblocking(False)
        other = Link((ours, theirs), pair, authority)
        other.stream = TlsStream(link.context, link.shared)
        other.shake()
        first, second = link.client.encrypt(b"a" * 20_000), other.client.encrypt(b"b" * 20_000)
        link.theirs.sendall(first[:10_000])
        with pytest.raises(BlockingIOError):
            link.read()
        other.client._sock.sendall(second)
        assert other.read(5) == b"bbbbb"
        link.theirs.sendall(first[10_000:])
        assert link.read() == b"a" * 20_000
        assert other.read() == b"b" * 19_995


def test_the_end_is_known_from_either_side_of_tls(link: Link) -> None:
    """By close_notify after the last bytes; a shutdown of the socket alone counts, too."""
    link.client.send(b"last")
    with pytest.raises(ssl.SSLWantReadError):
        link.client.tls.unwrap()
    link.client.flush()
    assert link.read() == b"last"
    assert link.stream.ended
    assert link.read() == b""
    link.ours.sendall(link.stream.farewell())
    with pytest.raises(ssl.SSLZeroReturnError):
        link.client.receive()


def test_a_socket_that_ends_without_a_farewell_is_an_end(link: Link) -> None:
    """What was sent before is read first."""
    link.client.send(b"last")
    link.theirs.shutdown(socket.SHUT_WR)
    assert link.read() == b"last"
    assert link.read() == b""
    assert link.stream.ended


def test_a_peek_takes_nothing(link: Link) -> None:
    """The byte is read with the others afterwards."""
    fd = link.ours.fileno()
    assert link.stream.peek(fd) is None
    link.client.send(b"hello")
    assert link.stream.peek(fd) == link.stream.peek(fd) == b"h"
    assert link.read() == b"hello"
    link.theirs.shutdown(socket.SHUT_WR)
    assert link.stream.peek(fd) == b""


def test_answers_are_encrypted(link: Link) -> None:
    """The client reads them as they were."""
    link.ours.sendall(link.stream.encrypt(b"acknowledged" * 3000))
    got = link.client.receive()
    while len(got) < 36_000:
        got += link.client.receive()
    assert got == b"acknowledged" * 3000


def test_a_read_ends_after_some_records(link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    """However small they are; the caller comes again for the rest, also if the socket is empty."""
    monkeypatch.setattr(tls, "MOST_STEPS", 20)
    link.theirs.sendall(b"".join(link.client.encrypt(b"%d" % (number % 10)) for number in range(50)))
    got = link.read()
    assert 15 < len(got) <= 20
    assert not link.stream.is_emptied
    while len(got) < 50:
        got += link.read()
    assert got == b"0123456789" * 5
    with pytest.raises(BlockingIOError):
        link.read()
    assert link.stream.is_emptied


def test_a_stream_without_content_is_an_error_of_the_peer(link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client can send messages of TLS itself for ever; content that came before them counts."""
    monkeypatch.setattr(tls, "PIECE_BYTES", 500)
    monkeypatch.setattr(tls, "MOST_BARREN", 1500)
    # A half-received record takes the place of messages that the ssl module cannot send.
    link.theirs.sendall(link.client.encrypt(b"content") + link.client.encrypt(b"x" * 16_000)[:5000])
    assert link.read() == b"content"
    assert link.read() == b""
    with pytest.raises(RemoteProtocolError, match="TLS without content"):
        link.read()


def test_large_records_have_content_in_each_piece(link: Link) -> None:
    """Wherever the network cuts them, with their headers and tags."""
    data = os.urandom(1 << 18)
    sent = link.client.encrypt(data)
    got = b""
    for begin in range(0, len(sent), 30_011):
        link.theirs.sendall(sent[begin : begin + 30_011])
        with contextlib.suppress(BlockingIOError):
            while True:
                piece = link.read()
                assert piece
                got += piece
    assert got == data


def test_a_damaged_stream_is_an_error_of_the_peer(link: Link) -> None:
    """And leaves nothing in the shared buffer."""
    data = bytearray(link.client.encrypt(b"x" * 100))
    data[-1] ^= 1
    link.theirs.sendall(data + b"more")
    with pytest.raises(RemoteProtocolError, match="damaged"):
        link.read()
    assert not link.shared.incoming.pending


def test_no_ticket_is_sent(ends: tuple[socket.socket, socket.socket], pair: Pair, authority: Authority) -> None:
    """After the handshake nothing is sent: a client that only writes would meet a reset when it closes."""
    made = Link(ends, pair, authority)
    made.shake()
    assert made.client.tls.version() == "TLSv1.3"
    assert made.context.num_tickets == 0
    with pytest.raises(ssl.SSLWantReadError):
        made.client.receive()
    assert made.client.tls.session is None or not made.client.tls.session.has_ticket


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", tls.PROTOCOL),
        (b"\x16\x03\x01\x00\x05hello", tls.PROTOCOL),
        (b"", tls.CLOSED),
    ],
)
def test_what_is_not_a_handshake_has_a_reason(
    ends: tuple[socket.socket, socket.socket], pair: Pair, authority: Authority, sent: bytes, reason: str
) -> None:
    """HTTP, garbage, and an end before the handshake."""
    made = Link(ends, pair, authority)
    made.theirs.sendall(sent)
    made.theirs.shutdown(socket.SHUT_WR)
    assert _failure(made, (b"", b"")) == reason
    assert not made.shared.incoming.pending


def test_a_connection_that_is_reset_has_a_reason(pair: Pair, authority: Authority) -> None:
    """During its handshake: the client has ended with data unread."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        theirs = socket.create_connection(server.getsockname())
        ours, _ = server.accept()
    ours.setblocking(False)
    with ours:
        made = Link((ours, theirs), pair, authority)
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        theirs.close()
        with pytest.raises(HandshakeError, match="the connection failed: Connection reset by peer") as caught:
            made.stream.handshake(ours.fileno())
    assert caught.value.reason == tls.CLOSED


def test_an_old_version_has_a_reason(
    ends: tuple[socket.socket, socket.socket], pair: Pair, authority: Authority
) -> None:
    """A client that speaks TLS 1.2 at most is refused where 1.3 is demanded."""
    made = Link(ends, pair, authority, "1.3")
    context = client_context(authority)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(HandshakeError) as caught:
        made.shake(client=StepClient(made.theirs, context))
    assert caught.value.reason == tls.VERSION


def test_a_client_that_does_not_trust_us_says_so(
    ends: tuple[socket.socket, socket.socket], pair: Pair, tmp_path: Path
) -> None:
    """By an alert, which is the reason."""
    made = Link(ends, pair, Authority(tmp_path / "other"))
    with pytest.raises(ssl.SSLCertVerificationError):
        made.shake()
    made.client.flush()
    with pytest.raises(HandshakeError, match="refuses") as caught:
        made.stream.handshake(made.ours.fileno())
    assert caught.value.reason == tls.ALERT


def test_an_endless_handshake_is_given_up(
    ends: tuple[socket.socket, socket.socket], pair: Pair, authority: Authority
) -> None:
    """However little of it OpenSSL holds."""
    made = Link(ends, pair, authority)
    made.client.step()
    made.stream.handshake(made.ours.fileno())
    # A middlebox may send this byte any number of times before a handshake is complete (RFC 8446, appendix D.4).
    assert _failure(made, [b"\x14\x03\x03\x00\x01\x01" * 10_000] * 100) == tls.PROTOCOL


def _failure(link: Link, sent: Sequence[bytes]) -> str:
    """Return the reason of the handshake that fails while these bytes come, one after the other."""
    try:
        for data in sent:
            if data:
                link.theirs.sendall(data)
            link.stream.handshake(link.ours.fileno())
    except HandshakeError as error:
        return error.reason
    raise AssertionError("the handshake goes on")


@pytest.mark.parametrize(
    ("certificate", "name"),
    [
        ({}, ""),
        ({"subject": ((("organizationName", "o"),), (("commonName", "web-7"),))}, "web-7"),
        ({"subject": ((("commonName", "web-7"),),), "subjectAltName": (("DNS", "web-7.example"),)}, "web-7.example"),
        ({"subjectAltName": (("IP Address", "10.0.0.1"), ("URI", "spiffe://shop/web"))}, "spiffe://shop/web"),
        ({"subject": ((("commonName", "x" * 1000),),)}, "x" * 255),
    ],
)
def test_a_client_has_a_name(certificate: dict[str, object], name: str) -> None:
    """By its certificate: of the names that are made for programs the first, else the common name."""
    assert name_of(certificate) == name


def test_a_long_chain_of_certificates_has_a_reason(
    ends: tuple[socket.socket, socket.socket], pair: Pair, authority: Authority, tmp_path: Path
) -> None:
    """OpenSSL takes 100 KiB of them."""
    issued, chain = authority.issue("long"), tmp_path / "chain.pem"
    chain.write_bytes(Path(issued.path).read_bytes() + Path(authority.path).read_bytes() * 400)
    ours, theirs = ends
    ca = Path(authority.path).read_bytes()
    stream = TlsStream(make_context(ListenerTls("localhost:1", True, "1.2", (pair,), ca)), SharedBuffers())
    client = StepClient(theirs, client_context(authority, (str(chain), issued.key)))

    def shake() -> None:
        for _ in range(100):
            client.step()
            stream.handshake(ours.fileno())
            ours.sendall(stream.take_output())

    with pytest.raises(HandshakeError, match="more than 100 KiB") as caught:
        shake()
    assert caught.value.reason == "certificate"
