"""A client that waits to be welcomed is welcomed once, by whichever worker has it then."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from prefork_logd.inputs.base import Gap, Terms
from prefork_logd.inputs.session import auth
from prefork_logd.inputs.session.messages import Message, State
from prefork_logd.inputs.session.session_input import SessionInput
from prefork_logd.ipc.scoreboard import Field
from prefork_logd.processes.worker.guard import Guard
from prefork_logd.processes.worker.intake import Intake
from prefork_logd.processes.worker.sessions import SessionTable
from tests.support import wire
from tests.support.inprocess import NoLimits

NONCE = b"n" * 32


class Worker:
    """What a worker is to its clients."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, bytes, int]] = []
        self.keys: dict[bytes, bytes] = {}
        batch = SimpleNamespace(open=lambda *request: self.asked.append(request))
        self.dispatcher = SimpleNamespace(batch=batch)
        self.guard = Guard(self.close)
        self.limits = NoLimits()
        self.services = SimpleNamespace(count=lambda _: None)
        self.sessions = SessionTable(self)  # type: ignore[arg-type] # as much of one as is needed
        self._intake = Intake(self)  # type: ignore[arg-type]

    def close(self, connection: Any) -> None:
        connection.fd = -1

    def terms(self, accept: str) -> Terms:
        return Terms(300, accept == "authenticated", keys=lambda: self.keys, nonce=lambda: NONCE)

    def receive(self, client: Any, data: bytes) -> None:
        """Let a client's bytes be taken."""
        self._intake.handle_events(client, client.input.receive(data))

    def connect(self, accept: str = "any") -> Any:
        return connection(SessionInput(self.terms(accept)))

    def adopt(self, client: Any, accept: str = "any") -> Any:
        """Return a client of another worker, whose table is asked for the rest of its state."""
        moved = connection(SessionInput.load_state(client.input.dump_state(), self.terms(accept)))
        moved.session = client.session
        return moved


def connection(one: SessionInput) -> Any:
    said: list[bytes] = []
    described: list[bytes] = []
    fields = {
        "fd": 7,
        "peer": "peer",
        "described": described,
        "describe_sender": described.append,
        "session": b"",
        "epoch": 0,
        "unsent": b"",
        "floor": 0,
    }

    class Connection(SimpleNamespace):
        __hash__ = object.__hash__

    def send(data: bytes) -> None:
        said.extend([data] if data else [])

    return Connection(input=one, said=said, send=send, **fields)


@pytest.fixture
def waiting() -> tuple[Worker, Any]:
    worker = Worker()
    client = worker.connect()
    worker.receive(client, wire.hello(5))
    assert worker.asked == [(1, wire.SESSION, 5)]
    return worker, client


def test_a_client_describes_itself_before_its_first_record() -> None:
    worker = Worker()
    client = worker.connect()
    worker.receive(client, wire.hello(5, more=b"\0\x02{}"))
    assert client.described == [b"{}"]


def test_an_epoch_that_comes_after_the_dump_is_not_sent(waiting: tuple[Worker, Any]) -> None:
    """The state is on its way: were the client welcomed here, the other worker would not know of it."""
    worker, client = waiting
    state = worker.sessions.dump_state(client)
    assert state is not None
    assert state.asked_first == 5
    worker.sessions.admit(1, 3, 4)
    assert client.said == []
    other = Worker()
    moved = other.adopt(client)
    other.sessions.load_state(moved, state)
    assert other.asked == [(1, wire.SESSION, 5)]
    other.sessions.admit(1, 4, 4)
    assert [kind for data in moved.said for kind, _ in wire.messages(data)] == [Message.WELCOME]
    assert (moved.epoch, moved.input.server.state) == (4, State.OPEN)


def test_a_client_that_nobody_takes_is_welcomed_where_it_was(waiting: tuple[Worker, Any]) -> None:
    """Its epoch is asked for again; the answer that came in between counts no more."""
    worker, client = waiting
    state = worker.sessions.dump_state(client)
    assert state is not None
    worker.sessions.admit(1, 3, 4)
    worker.sessions.keep(client, state)
    assert worker.asked[1:] == [(2, wire.SESSION, 5)]
    worker.sessions.admit(2, 4, 4)
    assert client.input.server.state is State.OPEN
    assert len(client.said) == 1


def hello_on(accept: str, capabilities: int) -> tuple[Worker, Any, list[int]]:
    """Return what a client of a listener was sent for its HELLO, before the writer has answered."""
    worker = Worker()
    client = worker.connect(accept)
    worker.receive(client, wire.hello(5, capabilities=capabilities))
    return worker, client, kinds(client)


def kinds(client: Any) -> list[int]:
    return [kind for data in client.said for kind, _ in wire.messages(data)]


def test_a_client_that_can_wait_is_told_to_at_once() -> None:
    """The writer may take long; a client that hears nothing would take us for a plain receiver."""
    worker, client, said = hello_on("any", 1)
    assert said == [Message.WAIT]
    worker.sessions.admit(1, 3, 4)
    assert kinds(client) == [Message.WAIT, Message.WELCOME]


def test_a_client_that_knows_no_waiting_hears_none() -> None:
    """An older version of the handler would take it for a breach of the protocol."""
    assert hello_on("any", 0)[2] == []
    assert hello_on("any", 0xFFFFFFFE)[2] == []


def test_a_client_that_proves_itself_is_told_to_wait_after_that_wherever_it_is_then() -> None:
    """What it can do goes with it to another worker."""
    worker, client, said = hello_on("authenticated", 1)
    assert said == [Message.CHALLENGE]
    assert worker.asked == []
    assert worker.sessions.dump_state(client) is None
    other = Worker()
    other.keys = {b"id": b"k" * 32}
    moved = other.adopt(client, "authenticated")
    mac = auth.client_mac(b"k" * 32, NONCE, b"c" * 32, wire.SESSION, b"id")
    other.receive(moved, wire.auth(b"id", b"c" * 32, mac))
    assert kinds(moved) == [Message.WAIT]
    other.sessions.admit(1, 3, 4)
    assert kinds(moved) == [Message.WAIT, Message.WELCOME]


def test_a_session_without_numbers_left_is_refused_and_closed(waiting: tuple[Worker, Any]) -> None:
    """The client is told to begin another."""
    worker, client = waiting
    worker.sessions.admit(1, 3, (1 << 64) - 2)
    ((kind, body),) = [message for data in client.said for message in wire.messages(data)]
    assert (kind, body[:2]) == (Message.ERROR, b"\0\2")
    assert client.fd == -1


def test_a_newer_connection_of_a_session_closes_the_older_one(waiting: tuple[Worker, Any]) -> None:
    """Its client has left it."""
    worker, client = waiting
    newer = worker.connect()
    worker.receive(newer, wire.hello(6))
    assert (client.fd, newer.fd) == (-1, 7)


def test_a_gap_is_counted_logged_and_listed() -> None:
    """With the client's name, the number of records, their times and the reason, which is cut and escaped."""
    listed: list[Any] = []
    logged: list[Any] = []
    batch = SimpleNamespace(
        has_other_epoch=lambda *_: False, begin=lambda *_: None, advance=lambda *_: None, end=lambda: None
    )
    counters = dict.fromkeys(Field, 0)
    port = SimpleNamespace(
        counters=counters,
        dispatcher=SimpleNamespace(batch=batch, note_gap=lambda *given: listed.append(given)),
    )
    table = SessionTable(port)  # type: ignore[arg-type]
    table._gaps = SimpleNamespace(warning=lambda form, *given, fields: logged.append(form % given))  # type: ignore[assignment]
    client = connection(SessionInput(Worker().terms("any")))
    table.note_gap(client, Gap(5, 14, 100.0, 0.0, "queue full\x1b" + "x" * 200))
    (peer, received_s, name, count, detail) = listed[0]
    assert (peer, name, count) == ("peer", "peer", 10)
    assert received_s > 1.7e9
    assert detail.startswith("between 1970-01-01T00:01:40Z and unknown ('queue full\\x1bxx")
    assert len(detail) < 150
    assert logged == [f"peer dropped 10 records {detail}"]
    assert counters[Field.DROPPED] == counters[Field.GAPS] == 10
