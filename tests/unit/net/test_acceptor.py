"""A worker takes its share of waiting connections, and leaves none of them waiting for ever."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from pathlib import Path

from prefork_logd.net.acceptor import MOST_A_TURN, Acceptor
from prefork_logd.net.listener import bind_all
from prefork_logd.net.load_balance import AcceptShare, Load
from prefork_logd.net.loop import Loop


class _Server:
    """An acceptor whose limits a test sets."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.sockets = bind_all(["127.0.0.1:0"])
        self.admitted: list[int] = []
        self.reported: list[int | None] = []
        self.others = 0
        share = AcceptShare(1, self._loads, 1000, 1000)
        self.acceptor = Acceptor(self.loop, self.sockets[0], self._admit, share, self._report)

    def _loads(self) -> list[Load]:
        return [Load(1, len(self.admitted), len(self.admitted)), Load(2, self.others, 0)]

    def _admit(self, fd: int, peer: str) -> None:
        assert peer.startswith("127.0.0.1:")
        self.admitted.append(fd)

    def _report(self, error: OSError) -> None:
        self.reported.append(error.errno)

    def close(self) -> None:
        for fd in self.admitted:
            os.close(fd)
        self.acceptor.close()
        self.loop.close()


def test_who_waits_is_taken_in_the_end_though_another_was_emptier() -> None:
    """An edge comes once; a worker that left somebody waiting looks again by itself."""
    server = _Server()
    clients = [socket.create_connection(server.sockets[0].getsockname()) for _ in range(20)]
    while len(server.admitted) < 20:
        server.loop.turn(1)
    for client in clients:
        client.close()
    server.close()


def test_one_turn_takes_only_a_few() -> None:
    """A burst is left to workers that are a little late; those that wait are taken turn by turn."""
    server = _Server()
    server.others = 500
    clients = [socket.create_connection(server.sockets[0].getsockname()) for _ in range(3 * MOST_A_TURN)]
    server.loop.turn(1)
    assert len(server.admitted) == MOST_A_TURN
    while len(server.admitted) < len(clients):
        server.loop.turn(1)
    for client in clients:
        client.close()
    server.close()


def test_draining_takes_everyone_who_has_connected() -> None:
    """What waits in the backlog at a stop has already sent something."""
    server = _Server()
    clients = [socket.create_connection(server.sockets[0].getsockname()) for _ in range(20)]
    server.acceptor.take_queue()
    server.acceptor.close()
    assert len(server.admitted) == 20
    for fd in server.admitted:
        os.close(fd)
    for client in clients:
        client.close()
    server.loop.close()


def test_running_out_of_descriptors_neither_spins_nor_forgets() -> None:
    """While there is none the loop sleeps; when there is one again, who waited is taken."""
    import resource

    server = _Server()
    server.others = 500
    client = socket.create_connection(server.sockets[0].getsockname())
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(path.name) for path in Path("/proc/self/fd").iterdir())
    spare: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 8, limits[1]))
    try:
        with contextlib.suppress(OSError):
            while True:
                spare.append(os.dup(0))
        turns = 0
        while not server.reported:
            server.loop.turn(1)
            turns += 1
        assert turns == 1
        assert server.reported == [errno.EMFILE]
        os.close(spare.pop())
        server.acceptor.accept_waiting()
        assert len(server.admitted) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for fd in spare:
            os.close(fd)
    client.close()
    server.close()
