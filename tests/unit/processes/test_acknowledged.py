"""A client that waits to be welcomed is welcomed once, by whichever worker has it then."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from prefork_logd.processes.acknowledged import Acknowledged
from prefork_logd.processes.guard import Guard
from prefork_logd.protocol import auth
from prefork_logd.protocol.messages import Message, State
from prefork_logd.protocol.session import ServerSession
from tests.unit.protocol import wire


class Worker:
    """What a worker is to its clients."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, bytes, int]] = []
        self.keys: dict[bytes, bytes] = {}
        batch = SimpleNamespace(open=lambda *request: self.asked.append(request))
        self.dispatcher = SimpleNamespace(batch=batch)
        self.guard = Guard(self.close)
        self.acknowledged = Acknowledged(self)  # type: ignore[arg-type] # as much of one as is needed

    def close(self, connection: Any) -> None:
        connection.fd = -1


def connection(receiver: ServerSession) -> Any:
    said: list[bytes] = []
    fields = {
        "fd": 7,
        "peer": "peer",
        "accept": "any",
        "session": b"",
        "epoch": 0,
        "unsent": b"",
        "is_refused": False,
        "floor": 0,
    }

    class Connection(SimpleNamespace):
        __hash__ = object.__hash__

    return Connection(receiver=receiver, said=said, send=said.append, **fields)


@pytest.fixture
def waiting() -> tuple[Worker, Any]:
    worker, client = Worker(), connection(ServerSession(300, 2000))
    worker.acknowledged.happened(client, client.receiver.receive(wire.hello(5)))
    assert worker.asked == [(1, wire.SESSION, 5)]
    return worker, client


def test_an_epoch_that_comes_after_the_freeze_is_not_told(waiting: tuple[Worker, Any]) -> None:
    """The state is on its way: were the client welcomed here, the other worker would not know of it."""
    worker, client = waiting
    frozen = worker.acknowledged.freeze(client)
    assert frozen is not None
    assert frozen.asked_first == 5
    worker.acknowledged.opened(1, 3, 4)
    assert client.said == []
    other, moved = Worker(), connection(ServerSession.thaw(client.receiver.freeze()))
    moved.session = client.session
    other.acknowledged.thaw(moved, frozen)
    assert other.asked == [(1, wire.SESSION, 5)]
    other.acknowledged.opened(1, 4, 4)
    assert [kind for data in moved.said for kind, _ in wire.messages(data)] == [Message.WELCOME]
    assert (moved.epoch, moved.receiver.state) == (4, State.OPEN)


def test_a_client_that_nobody_takes_is_welcomed_where_it_was(waiting: tuple[Worker, Any]) -> None:
    """Its epoch is asked for again; the answer that came in between counts no more."""
    worker, client = waiting
    frozen = worker.acknowledged.freeze(client)
    assert frozen is not None
    worker.acknowledged.opened(1, 3, 4)
    worker.acknowledged.keep(client, frozen)
    assert worker.asked[1:] == [(2, wire.SESSION, 5)]
    worker.acknowledged.opened(2, 4, 4)
    assert client.receiver.state is State.OPEN
    assert len(client.said) == 1


def hello_on(accept: str, capabilities: int) -> tuple[Worker, Any, list[int]]:
    """Return what a client of a listener was sent for its HELLO, before the writer has said a word."""
    worker, client = Worker(), connection(ServerSession(300, 2000))
    client.accept = accept
    worker.acknowledged.happened(client, client.receiver.receive(wire.hello(5, capabilities=capabilities)))
    return worker, client, kinds(client)


def kinds(client: Any) -> list[int]:
    return [kind for data in client.said for kind, _ in wire.messages(data)]


def test_a_client_that_can_wait_is_told_to_at_once() -> None:
    """The writer may take long; a client that hears nothing would take us for a plain receiver."""
    worker, client, said = hello_on("any", 1)
    assert said == [Message.WAIT]
    worker.acknowledged.opened(1, 3, 4)
    assert kinds(client) == [Message.WAIT, Message.WELCOME]


def test_a_client_that_knows_no_waiting_hears_none() -> None:
    """An older version of the handler would take it for a breach of the protocol."""
    assert hello_on("any", 0)[2] == []
    assert hello_on("any", 0xFFFFFFFE)[2] == []


def test_a_client_that_proves_itself_is_told_to_wait_after_that_wherever_it_is_then() -> None:
    """What it can do goes with it to another worker."""
    worker, client, said = hello_on("authenticated", 1)
    assert said == [Message.CHALLENGE]
    frozen = worker.acknowledged.freeze(client)
    assert frozen is not None
    other, moved = Worker(), connection(ServerSession.thaw(client.receiver.freeze()))
    other.keys = {b"id": b"k" * 32}
    other.acknowledged.thaw(moved, frozen)
    mac = auth.client_mac(b"k" * 32, frozen.nonce, b"c" * 32, wire.SESSION, b"id")
    other.acknowledged.happened(moved, moved.receiver.receive(wire.auth(b"id", b"c" * 32, mac)))
    assert kinds(moved) == [Message.WAIT]
    other.acknowledged.opened(1, 3, 4)
    assert kinds(moved) == [Message.WAIT, Message.WELCOME]
