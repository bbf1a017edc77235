"""TLS sessions of a worker that ends are asked to connect again, a few at a time."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from prefork_logd.processes.worker.guard import Guard
from prefork_logd.processes.worker.reconnection import FEWEST, STEP_S, Reconnection


class Worker:
    """Has connections, and timers that the test lets pass."""

    def __init__(self, connections: list[Any]) -> None:
        self.connections = dict(enumerate(connections))
        self.closed: list[Any] = []
        self.timers: list[Any] = []
        self.loop: Any = SimpleNamespace(later=lambda delay_s, call: self.timers.append((delay_s, call)))
        self.guard = Guard(self.close)

    def close(self, connection: Any) -> None:
        connection.fd = -1
        self.closed.append(connection)


class Client:
    """A connection."""

    def __init__(self, *, tls: bool = True, session: bytes = b"s" * 16, fails: bool = False) -> None:
        self.fd, self.peer = 1, "peer"
        self.tls = object() if tls else None
        self.session = session
        self.input = SimpleNamespace(dismiss=lambda why, may_return: (why, may_return))
        self.told: list[Any] = []
        self._fails = fails

    def send(self, data: Any) -> None:
        if self._fails:
            raise RuntimeError
        self.told.append(data)


def test_sessions_are_asked_a_few_at_a_time() -> None:
    """All of them within half of the time that they have."""
    clients = [Client() for _ in range(1000)]
    worker = Worker(clients)
    Reconnection(worker).begin(2.0)
    steps = 1
    while worker.timers:
        delay_s, call = worker.timers.pop()
        assert delay_s == STEP_S
        call()
        steps += 1
    assert len(worker.closed) == 1000
    assert steps * STEP_S <= 1.1
    assert clients[0].told == [("this worker ends; connect again, and go on from what is committed", True)]


def test_others_are_left_alone() -> None:
    """Plain connections move; a client without acknowledgements would lose records."""
    worker = Worker([Client(tls=False), Client(session=b""), Client()])
    Reconnection(worker).begin(10.0)
    assert worker.closed == [worker.connections[2]]


def test_a_client_that_has_left_meanwhile_is_passed_over() -> None:
    """And an error about one costs that one its connection."""
    clients = [Client(fails=True), *(Client() for _ in range(FEWEST))]
    worker = Worker(clients)
    Reconnection(worker).begin(10.0)
    clients[-1].fd = -1
    for _, call in worker.timers:
        call()
    assert not clients[-1].told
    assert all(client.told for client in clients[1:-1])
    assert clients[0] in worker.closed
