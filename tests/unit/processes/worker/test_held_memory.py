"""The memory held for one client is bounded: its largest connections are closed until the rest fits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest

from prefork_logd.config.client_limits import ClientLimitSettings
from prefork_logd.ipc.scoreboard import LimitField
from prefork_logd.processes.worker.connection import READ_BYTES, SMALL_READ_BYTES
from prefork_logd.processes.worker.held_memory import MOST_COST, HeldMemory, most_to_read
from prefork_logd.processes.worker.limited_client import Client
from tests.support.children import FakeLoop

if TYPE_CHECKING:
    from prefork_logd.processes.worker.connection import Connection


class _Connection:
    """A connection that holds so many bytes."""

    session = b""

    def __init__(self, held_bytes: int, *clients: Client[Any]) -> None:
        self.held_bytes = held_bytes
        self.clients = clients


class _Rig:
    """A client under a limit of memory, and the connections that were closed."""

    def __init__(self) -> None:
        self.loop = FakeLoop()
        self.counters = memoryview(bytearray(8 * len(LimitField))).cast("Q")
        self.client = self.make_client("10.0.0.1")
        self.closed: list[int] = []
        self.reasons: set[str] = set()
        self.memory = HeldMemory(self.loop.loop, self._give_up)

    def make_client(self, name: str, memory: int = 100) -> Client[Any]:
        return Client(ClientLimitSettings(name="m", memory=memory), self.counters, name, 1, -1, 0.0)

    def connect(self, held_bytes: int) -> Connection:
        return cast("Connection", _Connection(held_bytes, self.client))

    def _give_up(self, connection: Connection, reason: str) -> None:
        self.closed.append(connection.held_bytes)
        self.reasons.add(reason)
        for client in connection.clients:
            self.memory.forget(connection, client)


@pytest.fixture
def rig() -> _Rig:
    return _Rig()


def test_the_largest_connections_are_closed(rig: _Rig) -> None:
    """As many as needed, and the reason names the limit; exactly the limit is within it."""
    for nbytes in (30, 40, 30):
        rig.memory.note(rig.connect(nbytes))
    assert rig.closed == []
    rig.memory.note(rig.connect(45))
    assert rig.closed == [45]
    rig.memory.note(rig.connect(1))
    assert rig.closed == [45, 40]
    assert rig.client.held_bytes == 61
    assert rig.counters[LimitField.CLOSED] == 2
    assert rig.reasons == {"limit m: its client holds more than 100 bytes"}


def test_a_connection_that_holds_less_again_counts_less(rig: _Rig) -> None:
    """It is noted whenever its bytes change, and forgotten when it is closed."""
    connection = rig.connect(90)
    rig.memory.note(connection)
    connection = cast("Any", connection)
    connection.held_bytes = 5
    rig.memory.note(connection)
    assert rig.client.held_bytes == 5
    rig.memory.note(rig.connect(95))
    rig.memory.forget(connection, rig.client)
    assert (rig.closed, rig.client.held_bytes) == ([], 95)


def test_who_comes_under_a_limit_is_closed_in_the_next_turn(rig: _Rig) -> None:
    """The caller may be using the connection; clients are looked at once."""
    connections = [rig.connect(60), rig.connect(70)]
    for connection in connections:
        rig.memory.begin(connection, rig.client)
    assert rig.closed == []
    rig.loop.pass_s(0.1)
    assert rig.closed == [70]
    rig.loop.pass_s(0.1)
    assert rig.closed == [70]


def test_clients_are_counted_by_themselves(rig: _Rig) -> None:
    """What one holds costs another nothing."""
    rig.memory.note(rig.connect(90))
    other = rig.make_client("10.0.0.2")
    rig.memory.note(cast("Connection", _Connection(90, other)))
    assert rig.closed == []
    assert (rig.client.held_bytes, other.held_bytes) == (90, 90)


def test_little_is_read_at_a_time_of_a_client_near_its_limit(rig: _Rig) -> None:
    """What is read at once may have to be kept; a client without a limit of memory reads as all do."""
    free, large = rig.make_client("free", 0), rig.make_client("large", 1 << 40)
    for client, most in ((free, READ_BYTES), (large, READ_BYTES), (rig.client, SMALL_READ_BYTES)):
        assert most_to_read(cast("Connection", _Connection(0, client))) == most
    some = rig.make_client("some", 10 * MOST_COST * SMALL_READ_BYTES)
    some.hold(_Connection(0), 4 * MOST_COST * SMALL_READ_BYTES)
    assert most_to_read(cast("Connection", _Connection(0, free, some))) == min(READ_BYTES, 6 * SMALL_READ_BYTES)
    free.begin_wait(_Connection(0), 1.0)
    assert most_to_read(cast("Connection", _Connection(0, free, some))) == SMALL_READ_BYTES
