"""A client that waits to be welcomed is welcomed once, by whichever worker has it then."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from prefork_logd.processes.acknowledged import Acknowledged
from prefork_logd.protocol.messages import Message, State
from prefork_logd.protocol.session import ServerSession
from tests.unit.protocol import wire


class Worker:
    """What a worker is to its clients."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, bytes, int]] = []
        batch = SimpleNamespace(open=lambda *request: self.asked.append(request))
        self.dispatcher = SimpleNamespace(batch=batch)
        self.acknowledged = Acknowledged(self)  # type: ignore[arg-type] # as much of one as is needed

    def close(self, connection: Any) -> None:
        connection.fd = -1


def connection(receiver: ServerSession) -> Any:
    said: list[bytes] = []
    fields = {"fd": 7, "peer": "peer", "accept": "any", "session": b"", "epoch": 0, "unsent": b""}

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
