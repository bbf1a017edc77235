"""An unexpected error costs the connection it came from, and no other client anything."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING, Any

import pytest

from prefork_logd.inputs import state as frozen
from prefork_logd.inputs.session.messages import State
from prefork_logd.inputs.session.server import ServerSession, SessionState
from prefork_logd.ipc.messages import Drain, TakeOver
from prefork_logd.ipc.scoreboard import Field, Scoreboard
from prefork_logd.processes.worker.connection import Connection
from prefork_logd.processes.worker.handover import make_pair
from tests.support import inprocess, wire
from tests.support.inprocess import Pair, frame, is_closed, said

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator

VICTIM = b"victim".rjust(16)
HONEST = b"honest".rjust(16)


class BugError(Exception):
    """An unexpected error."""


@pytest.fixture
def pair() -> Iterator[Pair]:
    pair = Pair()
    yield pair
    pair.close()


class Clients:
    """One whose connection meets a bug, and those it must cost nothing."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.plain = pair.connect()
        self.honest = pair.welcome(HONEST)
        self.victim = pair.welcome(VICTIM)
        self.bad = pair.connection()
        assert self.bad.session == VICTIM
        self._number = 0

    def break_(self, patch: pytest.MonkeyPatch, where: object, name: str) -> None:
        """Let a function fail when it is about the victim."""
        right: Callable[..., Any] = getattr(where, name)

        def wrong(*arguments: Any, **named: Any) -> Any:
            if any(self._is_bad(argument) for argument in arguments):
                raise BugError(name)
            return right(*arguments, **named)

        patch.setattr(where, name, wrong)

    def _is_bad(self, argument: object) -> bool:
        return argument is self.bad or argument is self.server or argument == VICTIM

    @property
    def server(self) -> ServerSession | None:
        """The victim's session."""
        return getattr(self.bad.input, "server", None)

    def assert_only_the_victim_pays(self, caplog: pytest.LogCaptureFixture, *, closed: bool = True) -> None:
        """Check that the others are served as before, and that the log has one line."""
        self.pair.turn(3)
        self._number += 1
        before = len(self.pair.writer.lines)
        self.plain.sendall(frame("plain"))
        self.honest.sendall(wire.batch(self._number, frame("honest")[4:]))
        self.pair.turn(3)
        assert len(self.pair.writer.lines) == before + 2
        assert [kind for kind, _ in said(self.honest)][-1] == 0x83
        if closed:
            assert is_closed(self.victim)
            assert self.bad.fd < 0
            assert self.bad not in self.pair.worker.connections.values()
        bugs = [record.getMessage() for record in caplog.records if "unexpected error" in record.getMessage()]
        assert len(bugs) == 1, bugs
        assert self.bad.peer in bugs[0]
        assert "BugError" in bugs[0]


@pytest.fixture
def clients(pair: Pair, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Clients:
    monkeypatch.setattr(logging.getLogger("prefork_logd"), "propagate", True)
    return Clients(pair)


def batch(number: int, count: int = 1) -> bytes:
    return wire.batch(number, *[frame("victim")[4:]] * count)


def test_reading(clients: Clients, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever is done with bytes that have come."""
    clients.break_(monkeypatch, ServerSession, "receive")
    clients.victim.sendall(batch(1))
    clients.assert_only_the_victim_pays(caplog)


def test_a_first_byte(pair: Pair, clients: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before it is known what a client speaks."""

    def wrong(*_: object) -> None:
        raise BugError

    with monkeypatch.context() as patch:
        patch.setattr("prefork_logd.processes.worker.connection.choose", wrong)
        fresh = pair.connect()
        fresh.sendall(b"x")
        pair.turn(2)
    assert is_closed(fresh)
    clients.plain.sendall(frame())
    pair.turn(2)
    assert len(pair.writer.lines) == 1


def test_records(clients: Clients, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Lines that were made before the error are left out: the client sends their records again."""
    dispatcher = clients.pair.worker.dispatcher
    right = dispatcher.run
    clients.victim.sendall(batch(1, 2))
    clients.pair.turn(2)
    assert len(clients.pair.writer.lines) == 2

    def wrong(*arguments: Any) -> Any:
        result = right(*arguments)
        if arguments[4] == clients.bad.peer:
            raise BugError
        return result

    with monkeypatch.context() as patch:
        patch.setattr(dispatcher, "run", wrong)
        clients.plain.sendall(frame("before"))
        clients.victim.sendall(batch(3, 5))
        clients.pair.turn(3)
    assert sorted(line.split(b'"message":')[1][:9] for line in clients.pair.writer.lines) == [
        *[b'"before",'], *[b'"victim",'] * 2,
    ]  # fmt: skip
    clients.assert_only_the_victim_pays(caplog)
    again = clients.pair.connect()
    again.sendall(wire.hello().replace(wire.SESSION, VICTIM))
    clients.pair.turn(3)
    ((_, body),) = said(again)
    assert int.from_bytes(body[13:21], "big") == 2


def test_acknowledging(clients: Clients, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Others whose records were in the same batch are acknowledged."""
    clients.break_(monkeypatch, ServerSession, "ack")
    clients.victim.sendall(batch(1))
    clients.honest.sendall(wire.batch(1, frame("honest")[4:]))
    clients.pair.turn(3)
    assert [kind for kind, _ in said(clients.honest)] == [0x83]
    clients._number = 1
    clients.assert_only_the_victim_pays(caplog)


@pytest.mark.parametrize("name", ["welcome", "wait"])
def test_welcoming(
    name: str, pair: Pair, clients: Clients, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A client that is let in, and one that has to wait."""
    clients.victim = pair.connect()
    clients.bad = pair.connection()
    right = getattr(ServerSession, name)

    def wrong(session: ServerSession, *arguments: Any) -> Any:
        if session is clients.server:
            raise BugError
        return right(session, *arguments)

    monkeypatch.setattr(ServerSession, name, wrong)
    clients.victim.sendall(wire.hello(capabilities=1).replace(wire.SESSION, b"another".rjust(16)))
    clients.assert_only_the_victim_pays(caplog)


def test_refusing(clients: Clients, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A range that the writer has left out."""
    clients.break_(monkeypatch, ServerSession, "error")
    clients.pair.worker.range_refused(VICTIM, clients.bad.epoch)
    clients.assert_only_the_victim_pays(caplog)


def test_a_new_writer_is_asked(
    pair: Pair, clients: Clients, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A session that waits for its epoch is asked for again."""
    clients.victim = pair.connect()
    clients.bad = pair.connection()
    clients.victim.sendall(wire.hello().replace(wire.SESSION, VICTIM))
    pair.worker.loop.turn(0)
    clients.break_(monkeypatch, pair.worker.dispatcher.batch, "open")
    pair.worker.writer_resumed()
    clients.assert_only_the_victim_pays(caplog)


@pytest.mark.parametrize("name", ["begin", "forget"])
def test_deadlines(
    name: str, clients: Clients, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Of a record that is half received, or no longer."""
    clients.break_(monkeypatch, clients.pair.worker.deadlines, name)
    clients.victim.sendall(batch(1)[: -1 if name == "begin" else None])
    clients.pair.turn(2)
    monkeypatch.undo()
    monkeypatch.setattr(logging.getLogger("prefork_logd"), "propagate", True)
    caplog.records[1:] = []  # closing forgets the deadline, too
    clients.assert_only_the_victim_pays(caplog)


def test_a_deadline_that_passes(
    clients: Clients, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Giving a record up."""
    clients.victim.sendall(batch(1)[:-1])
    clients.pair.turn(2)
    warnings = clients.pair.worker.warnings
    clients.break_(monkeypatch, warnings, "warning")
    right = warnings.warning

    def wrong(message: str, *arguments: object) -> None:
        if clients.bad.peer in arguments:
            raise BugError
        right(message, *arguments)

    monkeypatch.setattr(warnings, "warning", wrong)
    clients.pair.worker.deadlines.restart(0.0)
    clients.assert_only_the_victim_pays(caplog)


@pytest.mark.parametrize("where", ["sessions", "deadlines", "connection"])
def test_closing(
    where: str, clients: Clients, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Each step of it is done, whatever fails before."""
    worker = clients.pair.worker
    if where == "connection":
        fd, right = clients.bad.fd, worker.loop.remove

        def wrong(removed: int) -> None:
            right(removed)
            if removed == fd:
                raise BugError

        monkeypatch.setattr(worker.loop, "remove", wrong)
    else:
        clients.break_(monkeypatch, getattr(worker, where), "forget")
    with_deadline = batch(1)[:-1] if where == "deadlines" else b""
    clients.victim.sendall(with_deadline + b"")
    clients.pair.worker.close(clients.bad)
    clients.assert_only_the_victim_pays(caplog)


def test_a_reload(clients: Clients, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A new limit for what each client may send."""
    clients.break_(monkeypatch, ServerSession, "limit")
    clients.pair.worker._configure(inprocess.DEFAULT)
    clients.assert_only_the_victim_pays(caplog)


def test_a_stop(clients: Clients, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Every other connection is read to its end, and closed."""
    worker = clients.pair.worker
    clients.break_(monkeypatch, worker, "close_ended")
    worker._handle_message(Drain(fast=True), [])
    clients.pair.turn(2)
    assert not worker.connections
    assert is_closed(clients.plain)
    assert sum("BugError" in record.getMessage() for record in caplog.records) == 1


class Two:
    """Two workers, of which one hands its connections to the other."""

    def __init__(self, clients: Clients) -> None:
        self.clients = clients
        self.board: Scoreboard = clients.pair.board
        self.other = Pair(slot=2, board=self.board)
        self.moved: list[tuple[int, str]] = []

    def move(self) -> None:
        given, taken = make_pair()
        self.other.worker._handle_message(TakeOver(), [taken.detach()])
        self.clients.pair.worker.migration.hand_over((0,), -1, [given])
        for _ in range(6):
            self.clients.pair.turn()
            self.other.turn()

    def assert_others_moved(self, caplog: pytest.LogCaptureFixture) -> None:
        assert not self.clients.pair.worker.connections
        assert len(self.other.worker.connections) == 2
        assert not self.other.worker.migration.busy
        assert is_closed(self.clients.victim)
        self.clients.plain.sendall(frame("moved"))
        self.other.turn(2)
        assert len(self.other.writer.lines) == 1
        assert sum("BugError" in record.getMessage() for record in caplog.records) == 1


@pytest.fixture
def two(clients: Clients) -> Iterator[Two]:
    two = Two(clients)
    yield two
    two.other.close()


@pytest.mark.parametrize(
    ("where", "name"),
    [
        (Connection, "dump_state"),
        (Connection, "hold"),
        (ServerSession, "dump_state"),
    ],
)
def test_dumping(
    where: type, name: str, two: Two, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The others are handed over."""
    two.clients.break_(monkeypatch, where, name)
    two.move()
    two.assert_others_moved(caplog)


def test_packing(two: Two, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A value that has no form, such as a number of more than 64 bits."""

    def wrong(connection: frozen.ConnectionState) -> Any:
        if connection.session == VICTIM:
            raise BugError
        return right(connection)

    right = frozen.pack_one
    monkeypatch.setattr("prefork_logd.processes.worker.migration.pack_one", wrong)
    two.move()
    two.assert_others_moved(caplog)


@pytest.mark.parametrize("name", ["load", "adopt"])
def test_loading(name: str, two: Two, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """The group is taken, and the one that cannot be gone on with is closed by its new worker."""
    worker = two.other.worker
    if name == "load":
        right = ServerSession.load_state

        def wrong_load(state: SessionState) -> ServerSession:
            # The victim came last.
            if state.expected == 7:
                raise BugError
            return right(state)

        assert two.clients.server is not None
        two.clients.server.expected = 7
        monkeypatch.setattr(ServerSession, "load_state", wrong_load)
    else:
        adopt = worker.adopt

        def wrong_adopt(connection: Connection, state: frozen.ConnectionState) -> None:
            adopt(connection, state)
            if state.session == VICTIM:
                raise BugError

        monkeypatch.setattr(worker, "adopt", wrong_adopt)
    two.move()
    two.assert_others_moved(caplog)


def test_what_is_the_process_s_own_is_not_confined(clients: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without memory no connection can be served: the master makes another worker."""

    def wrong(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(ServerSession, "receive", wrong)
    clients.victim.sendall(batch(1))
    with pytest.raises(MemoryError):
        clients.pair.turn()
    monkeypatch.undo()


LIMITS = (0, 1, (1 << 31) - 1, 1 << 31, (1 << 63) - 1, 1 << 63, (1 << 64) - 2, (1 << 64) - 1)


def _messages() -> Iterator[tuple[str, bytes]]:
    """Yield what a client may say, with every number at its limits."""
    hello = wire.hello().replace(wire.SESSION, VICTIM)
    yield "nothing", b""
    for first in LIMITS:
        for count in LIMITS:
            yield f"gap {first} {count}", wire.gap(first, count)
            if count < 1 << 32:
                yield f"batch {first} {count}", wire.batch(first, b"x", count=count)
        yield f"hello {first}", wire.hello(first)
    yield "capabilities", hello
    for moment in (float("nan"), float("inf"), 1e308, -1e308, 5e-324):
        yield f"gap of {moment}", wire.gap(1, 1, moment, -moment)
    for size in (0, 1, (1 << 31) - 1, 1 << 31, (1 << 32) - 1):
        for kind in range(7):
            yield f"type {kind} of {size} bytes", wire.message(kind, b"")[:4] + size.to_bytes(4, "big")


@pytest.mark.slow
@pytest.mark.parametrize("accept", ["any", "session", "authenticated"])
def test_every_number_of_every_message_at_its_limits(
    accept: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Before and after HELLO and WELCOME, followed by one more message, and by a move to another worker."""
    monkeypatch.setattr(logging.getLogger("prefork_logd"), "propagate", True)
    pair = Pair()
    other = Pair(slot=2, board=pair.board)
    try:
        for number, (_, message) in enumerate(_messages()):
            session = b"%016d" % number
            for first in LIMITS[1:]:
                client = pair.connect(accept=accept)
                hello = wire.hello(first, capabilities=first & 0xFFFFFFFF).replace(wire.SESSION, session)
                for data in (hello, message, wire.batch(first + 1 & (1 << 64) - 1, b"") + wire.bye()[:-1]):
                    with contextlib.suppress(BrokenPipeError):
                        client.sendall(data)
                    pair.turn(2)
                client.close()
            pair.clients.clear()
            pair.turn()
        clients = [pair.welcome(b"%016d" % (9000 + number)) for number, _ in enumerate(LIMITS)]
        for client, last in zip(clients, LIMITS, strict=True):
            client.sendall(wire.gap(1, last))
        pair.turn(3)
        given, taken = make_pair()
        other.worker._handle_message(TakeOver(), [taken.detach()])
        pair.worker.migration.hand_over((0,), -1, [given])
        for _ in range(6):
            pair.turn()
            other.turn()
        assert [is_closed(client) for client in clients] == [last in (0, LIMITS[-1]) for last in LIMITS]
        assert all(connection.input.server.state is State.OPEN for connection in other.worker.connections.values())  # type: ignore[union-attr]
        assert not [record for record in caplog.records if "unexpected" in record.getMessage()]
        assert pair.worker.counters[Field.DROPPED] < 1 << 63
    finally:
        pair.close()
        other.close()


def test_the_largest_number_ends_a_session(pair: Pair) -> None:
    """What uses it is told so, a message after it finds no session, and a HELLO after it is refused."""
    client = pair.welcome()
    client.sendall(wire.gap(1, (1 << 64) - 1) + wire.bye())
    pair.turn(2)
    assert [(kind, body[:2]) for kind, body in said(client)] == [(0x84, b"\0\4")]
    assert is_closed(client)
    last = pair.welcome()
    last.sendall(wire.gap(1, (1 << 64) - 2))
    pair.turn(3)
    assert said(last) == [(0x83, b"\xff" * 7 + b"\xfe")]
    last.sendall(wire.batch(1, b"repeated") + wire.gap((1 << 64) - 1, 1))
    pair.turn(3)
    assert [(kind, body[:2]) for kind, body in said(last)] == [(0x84, b"\0\4")]
    again: socket.socket = pair.connect()
    again.sendall(wire.hello((1 << 64) - 1))
    pair.turn(3)
    assert [(kind, body[:2]) for kind, body in said(again)] == [(0x84, b"\0\2")]
