"""A full collector says so to clients that can wait, keeps the others waiting, and no address fills it alone."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from prefork_logd.ipc.messages import Drain
from prefork_logd.ipc.scoreboard import Field, Scoreboard
from prefork_logd.processes.worker import admission
from prefork_logd.processes.worker.admission import RETRY_S, SMALLEST_ROOM, SPARE
from tests.support import wire
from tests.support.inprocess import Pair, configuration, frame, is_closed, read, said

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator
    from pathlib import Path

PLACES = 10


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    pair = Pair(configuration(tmp_path / "c.toml", f"store = []\n[limits]\nmax_connections = {PLACES}\n"))
    yield pair
    pair.close()


def later(pair: Pair) -> None:
    """Let the time come at which a worker looks again."""
    for _, _, timer in list(pair.worker.loop._timers):
        if timer.when_s <= pair.worker.loop.now_s + 2 * RETRY_S:
            timer.fire()
    pair.turn(3)


def age(pair: Pair) -> None:
    """Let connections have been silent for long, and the last search be long ago."""
    pair.worker._admission._none_until_s = 0.0
    for silent in pair.worker._admission._silent.values():
        silent.update(dict.fromkeys(silent, 0.0))


def fill(pair: Pair, count: int = PLACES, peer: str = "") -> list[socket.socket]:
    """Return clients that have sent a record, each of another address."""
    clients = [pair.connect(peer or f"10.0.0.{number}:1") for number in range(count)]
    for client in clients:
        client.sendall(frame())
    pair.turn(3)
    return clients


def hello(number: int = 0) -> bytes:
    return wire.hello(capabilities=1).replace(wire.SESSION, b"%016d" % number)


def is_busy(client: socket.socket) -> bool:
    return [(kind, body[:2]) for kind, body in said(client)] == [(0x84, b"\0\7")]


def test_connections_that_have_sent_nothing_keep_nobody_out(pair: Pair) -> None:
    """However many there are: a place is taken by the first byte."""
    idle = [pair.connect() for _ in range(60)]
    assert pair.worker.counters[Field.PLACED] == 0
    clients = fill(pair, PLACES - 1)
    session = pair.welcome()
    assert len(pair.writer.lines) == PLACES - 1
    assert not any(map(is_closed, [*idle, *clients, session]))


def test_clients_that_wait_leave_room_for_those_of_other_addresses(pair: Pair) -> None:
    """One address with ever more of them has its youngest closed; the first of them waits on, and others get in."""
    clients = fill(pair, PLACES + SMALLEST_ROOM + 20, "10.0.0.1:1")
    later(pair)
    held = PLACES + SMALLEST_ROOM - SPARE
    assert len(pair.worker.connections) <= held
    assert not any(map(is_closed, clients[: held - 5]))
    assert is_closed(clients[-1])
    assert pair.worker.counters[Field.DROPPED] >= 20
    other = pair.welcome()
    later(pair)
    assert not is_closed(other)
    for client in clients:
        client.close()
    pair.turn(30)
    assert not pair.worker._admission._waiting
    assert not pair.worker._admission._waiting_of


def test_clients_whose_bytes_wait_are_not_looked_at_again_with_each_arrival(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As those whose TLS handshakes wait: else a flood of them would cost more with each connection."""
    clients = [pair.connect() for _ in range(PLACES + SMALLEST_ROOM - SPARE)]
    age(pair)
    looked: list[int] = []

    def look(fd: int) -> bytes:
        looked.append(fd)
        return b"\x16"

    monkeypatch.setattr(admission, "peek", look)
    clients.extend(pair.connect() for _ in range(50))
    assert len(looked) == len(set(looked)) == PLACES + SMALLEST_ROOM - SPARE
    assert not any(map(is_closed, clients))
    monkeypatch.undo()
    age(pair)
    pair.connect()
    assert sum(map(is_closed, clients)) > 50


def test_the_second_of_an_address_is_closed_before_anyone_who_waits_alone(pair: Pair) -> None:
    """Two of one address are several already; the first of them is not closed."""
    fill(pair)
    first, alone, second = (pair.connect(peer) for peer in ("10.9.9.9:1", "10.8.8.8:1", "10.9.9.9:2"))
    for client in (first, alone, second):
        client.sendall(frame("waiting"))
    pair.turn(3)
    assert pair.worker._admission._close_a_waiting_one()
    assert [is_closed(client) for client in (first, alone, second)] == [False, False, True]
    assert not pair.worker._admission._close_a_waiting_one()


def test_clients_that_wait_alone_are_not_closed(pair: Pair) -> None:
    """Where each address has but one, nobody has more than a share."""
    clients = fill(pair, PLACES + SMALLEST_ROOM + 20)
    later(pair)
    assert not any(map(is_closed, clients))


def test_a_client_of_a_session_is_told_at_once(
    pair: Pair, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it proves itself or not, and whatever pieces its HELLO comes in; the log says it once."""
    monkeypatch.setattr(logging.getLogger("prefork_logd"), "propagate", True)
    fill(pair)
    for accept in ("any", "session", "authenticated"):
        client = pair.connect(accept=accept)
        for byte in hello():
            client.sendall(bytes([byte]))
            pair.turn()
        # A turn that took long, on a busy machine, leaves the connection to the next.
        pair.turn(3)
        assert is_busy(client)
        assert is_closed(client)
    assert pair.worker.counters[Field.PLACED] == PLACES
    assert caplog.text.count("every place is taken (limits.max_connections is 10, 9 per address)") == 1


def test_a_session_is_let_in_when_a_place_is_free(pair: Pair) -> None:
    """It comes again after a second."""
    clients = fill(pair)
    refused = pair.connect()
    refused.sendall(hello())
    pair.turn(2)
    assert is_busy(refused)
    clients[3].close()
    pair.turn(2)
    assert not is_closed(pair.welcome())


def test_it_is_told_while_nothing_is_read(pair: Pair) -> None:
    """A full disk beside it changes nothing."""
    fill(pair)
    pair.worker.paused = True
    client = pair.connect()
    client.sendall(hello())
    pair.turn(2)
    assert is_busy(client)


def test_a_plain_client_waits_unread_and_loses_nothing(pair: Pair) -> None:
    """The next free place is for the one that has waited longest, even if it has gone meanwhile."""
    clients = fill(pair)
    first, second = pair.connect(), pair.connect()
    first.sendall(frame("first") * 3)
    pair.turn()
    second.sendall(frame("second"))
    second.close()
    pair.turn(3)
    assert len(pair.writer.lines) == PLACES
    assert not is_closed(first)
    clients[0].close()
    pair.turn(2)
    later(pair)
    assert [b"first" in line for line in pair.writer.lines[PLACES:]] == [True] * 3
    clients[1].close()
    pair.turn(2)
    later(pair)
    assert b"second" in pair.writer.lines[-1]


def test_what_waits_is_read_at_a_stop(pair: Pair) -> None:
    """What clients have sent before it is written, places or not."""
    fill(pair)
    client = pair.connect()
    client.sendall(frame("waited"))
    pair.turn(2)
    pair.worker._handle_message(Drain(fast=False), [])
    pair.turn(3)
    assert b"waited" in pair.writer.lines[-1]


def test_the_room_is_bounded_and_records_are_never_closed(pair: Pair) -> None:
    """Of those that have sent nothing the peer that has most loses the oldest; who has sent something, nothing."""
    clients = fill(pair)
    waiting = pair.connect("10.9.9.9:1")
    waiting.sendall(frame("waiting"))
    pair.turn(2)
    other = pair.connect("10.8.8.8:1")
    flood = [pair.connect("10.7.7.7:1") for _ in range(200)]
    pair.turn(2)
    # Their first bytes may be on their way.
    assert not any(map(is_closed, flood))
    age(pair)
    later(pair)
    assert len(pair.worker.connections) == PLACES + 64 - SPARE
    assert not any(map(is_closed, [*clients, waiting, other, *flood[-40:]]))
    assert all(map(is_closed, flood[:100]))


def test_bytes_that_have_just_come_keep_a_connection(pair: Pair) -> None:
    """It is chosen to be closed, and has begun to speak in the same moment."""
    first = pair.connect("10.7.7.7:1")
    first.sendall(frame("just in time"))
    for _ in range(200):
        pair.connect("10.7.7.7:1")
    age(pair)
    pair.worker._admission._make_room()
    pair.turn(3)
    assert not is_closed(first)
    assert len(pair.writer.lines) == 1


def test_one_address_leaves_places_for_others(pair: Pair) -> None:
    """A tenth by default; another share can be set."""
    fill(pair, 2 * PLACES, "10.0.0.1:1")
    assert pair.worker.counters[Field.PLACED] == 9
    same = pair.connect("10.0.0.1:2")
    same.sendall(hello())
    pair.turn(2)
    assert is_busy(same)
    assert not is_closed(pair.welcome(peer="10.0.0.2:1"))


def test_places_are_those_of_all_workers(tmp_path: Path) -> None:
    """What another worker has counts; its free place is found without a word from it."""
    board = Scoreboard()
    settings = configuration(tmp_path / "c.toml", "store = []\n[limits]\nmax_connections = 3\n")
    one, two = Pair(settings, 1, board), Pair(settings, 2, board)
    try:
        clients = fill(one, 3)
        late = two.connect()
        late.sendall(frame("late"))
        two.turn(2)
        assert not two.writer.lines
        clients[0].close()
        one.turn(2)
        later(two)
        assert len(two.writer.lines) == 1
    finally:
        one.close()
        two.close()


def test_nothing_is_left_of_connections_that_have_gone(pair: Pair) -> None:
    """Of any kind."""
    clients = [*fill(pair), *(pair.connect() for _ in range(20))]
    for client in clients[-10:]:
        client.sendall(frame())
    pair.turn(2)
    partial = pair.connect()
    partial.sendall(hello()[:9])
    pair.turn(2)
    for client in [*clients, partial]:
        client.close()
    for _ in range(5):
        later(pair)
    admission = pair.worker._admission
    assert not any((admission._placed, admission._by_peer, admission._silent, admission._waiting))
    assert pair.worker.counters[Field.PLACED] == 0
    assert len(pair.writer.lines) == PLACES + 10
    assert read(pair.welcome()) == b""
