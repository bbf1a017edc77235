"""A connection is read fairly and to its end, and never when it should not be."""

from __future__ import annotations

import os
import socket
import struct
from typing import TYPE_CHECKING

import pytest

from prefork_logd.inputs.base import Bye, Opening, Records, Terms, TooLarge
from prefork_logd.net.loop import ENDED, READ, Loop
from prefork_logd.processes.worker.connection import (
    EVENTS,
    GREETING_BYTES,
    READ_BYTES,
    TURN_BYTES,
    Connection,
    has_unread,
)
from tests.support import wire

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from prefork_logd.errors import RemoteProtocolError
    from prefork_logd.inputs.base import Event


class Owner:
    """Notes what connections deliver."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.buffer = memoryview(bytearray(READ_BYTES))
        self.paused = False
        self.postponed: list[Connection] = []
        self.frames: list[bytes] = []
        self.skipped: list[TooLarge] = []
        self.progress: list[bool] = []
        self.violations: list[RemoteProtocolError] = []
        self.ends: list[OSError | None] = []
        self.events: list[Event] = []
        self.rest_bytes = 0
        self.slice_over = False

    def is_due(self, connection: Connection) -> bool:
        return not self.loop.crowded

    def queue(self, connection: Connection) -> None:
        self.loop.again(connection)

    def begin_slice(self, *, waited: bool) -> None:
        pass

    def end_slice(self, connection: Connection, *, waited: bool) -> None:
        pass

    def enter(self, connection: Connection) -> bool:
        return True

    def postpone(self, connection: Connection) -> None:
        self.postponed.append(connection)

    def terms_for(self, connection: Connection) -> Terms:
        return Terms(1000)

    def handle_events(self, connection: Connection, events: Sequence[Event]) -> None:
        for event in events:
            match event:
                case Records():
                    self.frames += event.bodies
                case TooLarge():
                    self.skipped.append(event)
                case _:
                    self.events.append(event)

    def note_progress(self, connection: Connection, completed: bool) -> None:
        self.progress.append(completed)

    def close_violating(self, connection: Connection, error: RemoteProtocolError) -> None:
        self.violations.append(error)
        connection.close()

    def close_ended(self, connection: Connection, error: OSError | None) -> None:
        self.ends.append(error)
        connection.close()


@pytest.fixture
def owner() -> Iterator[Owner]:
    owner = Owner()
    yield owner
    owner.loop.close()


@pytest.fixture
def client(owner: Owner) -> Iterator[tuple[Connection, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    for sock in (ours, theirs):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    connection = Connection(owner, ours.detach(), "peer")
    owner.loop.add(connection.fd, connection, EVENTS)
    yield connection, theirs
    theirs.close()
    if connection.fd >= 0:
        connection.close()


def framed(body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + body


def test_what_has_arrived_is_read_until_nothing_is_left(owner: Owner, client: tuple[Connection, socket.socket]) -> None:
    """Whole frames are delivered, and the part of the next one is waited for."""
    connection, theirs = client
    theirs.sendall(framed(b"one") + framed(b"two") + framed(b"three")[:3])
    owner.loop.turn(0)
    assert owner.frames == [b"one", b"two"]
    assert connection.input is not None
    assert connection.input.pending
    theirs.sendall(framed(b"three")[3:])
    owner.loop.turn(0)
    assert owner.frames == [b"one", b"two", b"three"]
    assert owner.progress == [True, True]


def test_an_idle_connection_holds_no_input(client: tuple[Connection, socket.socket]) -> None:
    """Who has sent nothing costs nothing but the connection."""
    assert client[0].input is None


def test_a_connection_with_much_to_read_lets_others_in_between(
    owner: Owner, client: tuple[Connection, socket.socket]
) -> None:
    """No turn reads more than its bytes; the rest is read without a new edge."""
    _, theirs = client
    body = framed(b"x" * 996)
    count = 2 * TURN_BYTES // 1000
    theirs.setblocking(False)
    sent = theirs.send(body * count)
    owner.loop.turn(0)
    assert 0 < len(owner.frames) * 1000 <= TURN_BYTES
    for _ in range(20):
        owner.loop.turn(0)
    assert len(owner.frames) == sent // 1000


def test_a_paused_connection_is_not_read_and_not_forgotten(
    owner: Owner, client: tuple[Connection, socket.socket]
) -> None:
    """While reading pauses bytes stay in the kernel, and the owner knows who has some."""
    connection, theirs = client
    theirs.sendall(framed(b"one"))
    owner.loop.turn(0)
    owner.paused = True
    theirs.sendall(framed(b"two"))
    owner.loop.turn(0)
    assert owner.frames == [b"one"]
    assert owner.postponed == [connection]
    owner.paused = False
    owner.loop.again(connection)
    owner.loop.turn(0)
    assert owner.frames == [b"one", b"two"]


def test_a_greeting_is_read_while_reading_pauses(owner: Owner, client: tuple[Connection, socket.socket]) -> None:
    """In any pieces, and nothing after it: whoever speaks sessions is to learn that we do, too."""
    connection, theirs = client
    owner.paused = True
    said = wire.hello(capabilities=1)
    for piece in (said[:5], said[5:20]):
        theirs.sendall(piece)
        owner.loop.turn(0)
        assert owner.events == []
        assert owner.postponed == []
    theirs.sendall(said[20:])
    owner.loop.turn(0)
    assert [type(event) for event in owner.events] == [Opening]
    assert owner.postponed == [connection]
    theirs.sendall(wire.bye())
    owner.loop.turn(0)
    assert len(owner.events) == 1
    owner.paused = False
    owner.loop.again(connection)
    owner.loop.turn(0)
    assert [type(event) for event in owner.events] == [Opening, Bye]


def test_of_frames_no_more_than_a_greeting_is_read_while_reading_pauses(
    owner: Owner, client: tuple[Connection, socket.socket]
) -> None:
    """What a connection begins with tells which protocol it speaks."""
    connection, theirs = client
    owner.paused = True
    theirs.sendall(framed(b"x" * 100) * 100)
    owner.loop.turn(0)
    assert 0 < len(owner.frames) <= GREETING_BYTES // 104
    assert owner.postponed == [connection]
    owner.paused = False
    owner.loop.again(connection)
    owner.loop.turn(0)
    assert owner.frames == [b"x" * 100] * 100


def test_a_connection_that_ends_while_reading_pauses_is_closed(
    owner: Owner, client: tuple[Connection, socket.socket]
) -> None:
    """If it has said nothing, there is nothing to wait for."""
    connection, theirs = client
    owner.paused = True
    theirs.close()
    owner.loop.turn(0)
    assert owner.ends == [None]
    assert connection.fd == -1
    assert owner.postponed == []


def test_the_end_is_told_after_what_came_before_it(owner: Owner, client: tuple[Connection, socket.socket]) -> None:
    """Bytes and end-of-file that come together are both seen, in one turn."""
    connection, theirs = client
    theirs.sendall(framed(b"one"))
    theirs.close()
    owner.loop.turn(0)
    assert owner.frames == [b"one"]
    assert owner.ends == [None]
    assert connection.fd == -1


def test_a_late_event_for_a_closed_connection_is_harmless(
    owner: Owner, client: tuple[Connection, socket.socket]
) -> None:
    """A turn that was asked for before the close finds nothing to do."""
    connection, _ = client
    owner.loop.again(connection)
    connection.close()
    owner.loop.turn(0)
    connection.ready(READ)
    assert owner.ends == []


def test_what_is_no_frame_ends_the_connection(owner: Owner, client: tuple[Connection, socket.socket]) -> None:
    """The owner is told why, once, and nothing more is read."""
    connection, theirs = client
    theirs.sendall(b"GET / HTTP/1.1\r\n" + b"x" * READ_BYTES)
    owner.loop.turn(0)
    owner.loop.turn(0)
    assert [error.reason for error in owner.violations] == ["no-frame"]
    assert connection.fd == -1


def test_a_reset_is_told_with_its_error(owner: Owner) -> None:
    """A connection that fails is reported with what the kernel says."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        theirs = socket.create_connection(server.getsockname())
        ours, _ = server.accept()
    ours.setblocking(False)
    connection = Connection(owner, ours.detach(), "peer")
    owner.loop.add(connection.fd, connection, EVENTS)
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    theirs.close()
    owner.loop.turn(1)
    assert isinstance(owner.ends[0], ConnectionResetError)


def test_a_turn_that_was_asked_for_reads_to_the_end(owner: Owner, client: tuple[Connection, socket.socket]) -> None:
    """After `again` no short read is taken for the last: the edge may have been used up."""
    connection, theirs = client
    theirs.sendall(framed(b"one"))
    theirs.close()
    connection.queued = True
    connection.ready(ENDED)
    assert not connection.queued
    assert owner.ends == [None]
    assert connection.fd == -1
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.close(connection.fd)


def test_what_was_sent_and_not_read_is_seen(owner: Owner, client: tuple[Connection, socket.socket]) -> None:
    """Until it is read: also one byte, and also after the client's end."""
    connection, theirs = client
    assert not has_unread(connection)
    theirs.sendall(b"\0")
    assert has_unread(connection)
    owner.loop.turn(0)
    assert not has_unread(connection)
    theirs.sendall(b"\0" * 300)
    theirs.shutdown(socket.SHUT_WR)
    assert has_unread(connection)
