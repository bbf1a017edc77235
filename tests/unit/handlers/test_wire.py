"""One socket: bounded reads, messages in pieces, and its end."""

from __future__ import annotations

import select
import socket
from typing import TYPE_CHECKING

import pytest

from prefork_logd.handlers import ProtocolError
from prefork_logd.handlers._wire import Wire

if TYPE_CHECKING:
    from collections.abc import Iterator


class Notes(Wire):
    """Notes what happens."""

    def __init__(self) -> None:
        super().__init__()
        self.received: list[bytes] = []
        self.sent: list[int] = []
        self.ends: list[str] = []

    def take_in(self, data: bytes) -> None:
        if data == b"wrong":
            raise ProtocolError("wrong")
        self.received.append(data)

    def note_sent(self, count: int) -> None:
        self.sent.append(count)

    def end_closed(self) -> None:
        self.ends.append("closed")
        self.drop()

    def end_violation(self, error: ProtocolError) -> None:
        self.ends.append(str(error))
        self.drop()


@pytest.fixture
def pair() -> Iterator[tuple[Notes, socket.socket]]:
    """Give a wire over TCP, and its other end."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    ours.setblocking(False)
    wire = Notes()
    wire.use(ours)
    with theirs:
        yield wire, theirs
    wire.drop()


def arrive(wire: Notes, theirs: socket.socket, data: bytes) -> list[tuple[int, int]]:
    """Send from the other end, and return poll's events once it is there."""
    theirs.sendall(data)
    select.select([wire.sock], [], [], 10)
    return wire.poll(0)


def test_what_poll_announces_is_taken_in_later_in_one_piece(pair: tuple[Notes, socket.socket]) -> None:
    wire, theirs = pair
    for data in (b"one", b"two"):
        wire.receive(arrive(wire, theirs, data))
    assert wire.received == []
    assert wire.looks_alive()
    assert wire.received == [b"onetwo"]


def test_after_sixteen_reads_it_is_taken_in_at_once(pair: tuple[Notes, socket.socket]) -> None:
    wire, theirs = pair
    for _ in range(16):
        wire.receive(arrive(wire, theirs, b"x"))
    assert wire.received == [b"x" * 16]


def test_one_call_reads_a_bounded_piece(pair: tuple[Notes, socket.socket]) -> None:
    wire, theirs = pair
    theirs.setblocking(False)
    sent = 0
    while sent < 1 << 17:
        sent += theirs.send(bytes(1 << 14))
    wire.read()
    assert sum(map(len, wire.received)) <= 4 << 14


def test_the_end_is_seen_after_what_came_before_it(pair: tuple[Notes, socket.socket]) -> None:
    wire, theirs = pair
    theirs.sendall(b"last words")
    theirs.close()
    select.select([wire.sock], [], [], 10)
    assert not wire.looks_alive()
    assert (wire.received, wire.ends) == ([b"last words"], ["closed"])
    assert (wire.sock, wire.send, wire.poll, wire.is_direct) == (None, None, None, False)


def test_a_violation_ends_it(pair: tuple[Notes, socket.socket]) -> None:
    wire, theirs = pair
    arrive(wire, theirs, b"wrong")
    wire.read()
    assert wire.ends == ["wrong"]


def test_a_message_is_sent_in_pieces_as_there_is_room(pair: tuple[Notes, socket.socket]) -> None:
    wire, theirs = pair
    message = bytes(range(256)) * (1 << 16)
    wire.out = message
    assert not wire.flush()
    got = b""
    while len(got) < len(message):
        got += theirs.recv(1 << 20)
        wire.flush()
    assert got == message
    assert sum(wire.sent) == len(message)
    assert wire.flush()


def test_a_send_that_takes_nothing_waits_for_room(pair: tuple[Notes, socket.socket]) -> None:
    """As that of ssl.SSLSocket of Python 2.7, which a subclass may use, where others raise an error."""

    class Full:
        def send(self, _: bytes, __: int) -> int:
            return 0

    wire, _ = pair
    sock, wire.sock = wire.sock, Full()
    wire.out = b"message"
    assert not wire.flush()
    assert (wire.out, wire.ends) == (b"message", [])
    wire.sock = sock


def test_a_send_to_nobody_ends_it(pair: tuple[Notes, socket.socket]) -> None:
    wire, _ = pair
    wire.sock.shutdown(socket.SHUT_RDWR)
    wire.out = b"message"
    assert not wire.flush()
    assert wire.ends == ["closed"]
    wire.out = b"message"
    assert not wire.flush()


def test_other_kinds_of_sockets_have_no_poll() -> None:
    wire = Notes()
    ours, theirs = socket.socketpair()
    with theirs:
        wire.use(ours)
        assert wire.poll is None
        wire.drop()
