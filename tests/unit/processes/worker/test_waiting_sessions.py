"""Sessions that wait for the writer cost what their connections do, and nothing once these are gone."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from prefork_logd.ipc.batch_sender import BATCH_COST_BYTES
from prefork_logd.processes.worker.sessions import MOST_ASKED
from tests.support import wire
from tests.support.inprocess import Pair, read, said

if TYPE_CHECKING:
    from collections.abc import Iterator


MOST_TURNS = 20


@pytest.fixture
def pair() -> Iterator[Pair]:
    pair = Pair()
    pair.turn(2)
    yield pair
    pair.close()


def hello(number: int) -> bytes:
    return wire.hello(client=b"\xff" * 255, capabilities=1).replace(wire.SESSION, b"%016d" % number)


def test_clients_that_come_and_go_while_the_writer_is_stopped_leave_nothing(pair: Pair) -> None:
    """Each is answered; the memory for those that have gone does not grow."""
    costs = []
    for number in range(4 * MOST_ASKED):
        client = pair.connect()
        client.sendall(hello(number))
        answers = []
        for _ in range(MOST_TURNS):
            # A turn is bounded in time: on a busy machine accepting and reading need one each.
            pair.worker.loop.turn(0)
            answers += [kind for kind, _ in said(client)]
            if answers:
                break
        assert answers == [0x85]
        client.close()
        pair.worker.loop.turn(0)
        if number % MOST_ASKED == MOST_ASKED - 1:
            tables = [value for value in vars(pair.worker.sessions).values() if isinstance(value, dict | list)]
            costs.append((sum(map(len, tables)), pair.worker.link.cost_bytes))
    assert costs[0][0] == MOST_ASKED
    assert len(set(costs)) == 1
    pair.turn(5)
    assert pair.writer.asked == MOST_ASKED
    assert pair.worker.link.empty
    assert not pair.worker.sessions._opening


def test_all_that_wait_are_let_in_when_the_writer_goes_on(pair: Pair) -> None:
    """However many there are: the next are asked for as the first are answered."""
    clients = [pair.connect() for _ in range(MOST_ASKED + 50)]
    for number, client in enumerate(clients):
        client.sendall(hello(number))
    for _ in range(MOST_TURNS):
        pair.worker.loop.turn(0)
    assert all([kind for kind, _ in said(client)] == [0x85] for client in clients)
    pair.turn(10)
    assert all([kind for kind, _ in said(client)] == [0x81] for client in clients)
    assert pair.writer.asked == len(clients)


def test_a_new_writer_is_asked_for_all_that_wait(pair: Pair) -> None:
    """Those it was not asked for yet come after those the last one has not answered."""
    clients = [pair.connect() for _ in range(MOST_ASKED + 5)]
    for number, client in enumerate(clients):
        client.sendall(hello(number))
    for _ in range(MOST_TURNS):
        pair.worker.loop.turn(0)
    pair.worker.writer_resumed()
    pair.turn(10)
    assert all([kind for kind, _ in said(client)][-1] == 0x81 for client in clients)


def test_a_client_calls_itself_something_short(pair: Pair) -> None:
    """A name of 255 odd characters, escaped for the log, would be 1.5 kB for each connection."""
    client = pair.connect()
    client.sendall(hello(1))
    pair.turn(3)
    assert read(client)
    (name,) = pair.worker.sessions._names.values()
    assert sys.getsizeof(name) < 700


@pytest.mark.slow
def test_batches_without_a_line_count_towards_the_high_water_mark(pair: Pair) -> None:
    """A client that sends a gap each turn while the writer is stopped is no longer read in time."""
    client = pair.welcome()
    turns = 0
    while not pair.worker.paused:
        turns += 1
        client.sendall(wire.gap(turns, 1))
        pair.worker.loop.turn(0)
        assert turns * BATCH_COST_BYTES < 3 * pair.worker._high_water
    pair.turn(3)
    while pair.worker.paused:
        pair.turn()
    assert pair.worker.link.cost_bytes == 0


def test_who_is_left_out_is_told_to_connect_again(pair: Pair) -> None:
    """The client is not at fault: its session may have been forgotten, or another connection has it."""
    client = pair.welcome()
    pair.worker.range_refused(wire.SESSION, pair.connection().epoch)
    assert [(kind, body[:2]) for kind, body in said(client)] == [(0x84, b"\0\5")]
