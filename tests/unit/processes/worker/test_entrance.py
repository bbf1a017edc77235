"""A worker takes its share of those who connect, and those in the queue when it ends."""

from __future__ import annotations

import os
import resource
import socket
from typing import TYPE_CHECKING

import pytest

from prefork_logd.ipc.scoreboard import Field, Scoreboard
from prefork_logd.net.listener import ListeningSocket, bind_all
from prefork_logd.net.loop import Loop
from prefork_logd.processes.worker.entrance import RESERVED_DESCRIPTORS, Entrance, most_connections

if TYPE_CHECKING:
    from collections.abc import Iterator


class Door:
    """An entrance with one listening socket."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.board = Scoreboard()
        self.board.use_slots(1)
        self.counters = self.board.slot(1)
        self.counters[Field.ACCEPTING] = 1
        self.admitted: list[tuple[tuple[str, str], int]] = []
        (sock,) = bind_all(["127.0.0.1:0"])
        self.address = sock.getsockname()
        self.entrance = Entrance(1, self.board)
        self.entrance.configure(100)
        self.entrance.open(self.loop, [ListeningSocket(sock, "json", "localhost:1")], self._admit, lambda error: None)
        self.clients: list[socket.socket] = []

    def _admit(self, accept: str, fd: int, peer: str, listener: int, tls_listener: str) -> None:
        assert listener == 0
        self.admitted.append(((accept, tls_listener), fd))
        self.counters[Field.CONNECTIONS] = len(self.admitted)

    def connect(self, count: int = 1) -> None:
        self.clients += [socket.create_connection(self.address) for _ in range(count)]

    def close(self) -> None:
        self.entrance.close(takes_queue=False)
        for client in self.clients:
            client.close()
        for _, fd in self.admitted:
            os.close(fd)
        self.loop.close()


@pytest.fixture
def door() -> Iterator[Door]:
    door = Door()
    yield door
    door.close()


def test_who_connects_is_admitted_as_the_listener_says(door: Door) -> None:
    """With the accepted clients, and the TLS listener."""
    door.connect(2)
    door.loop.turn(1)
    assert [admits for admits, _ in door.admitted] == [("json", "localhost:1")] * 2


def test_a_full_worker_leaves_others_in_the_queue_until_a_place_is_free(door: Door) -> None:
    """It looks again when it is told to."""
    door.entrance.configure(1)
    door.connect(2)
    door.loop.turn(1)
    assert len(door.admitted) == 1
    door.counters[Field.CONNECTIONS] = 0
    door.entrance.accept_waiting()
    assert len(door.admitted) == 2


@pytest.mark.parametrize("takes_queue", [True, False])
def test_who_has_connected_before_the_end_is_taken_on_demand(door: Door, takes_queue: bool) -> None:
    """However full the worker is."""
    door.entrance.configure(0)
    door.connect(3)
    door.loop.turn(1)
    assert door.admitted == []
    door.entrance.close(takes_queue=takes_queue)
    assert len(door.admitted) == (3 if takes_queue else 0)
    assert door.counters[Field.ACCEPTING] == 0


def test_a_process_holds_what_its_limit_of_descriptors_leaves() -> None:
    """Some are kept for other things."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert 0 < most_connections() <= limit - RESERVED_DESCRIPTORS
