"""Accepts connections in one worker: its share of those that wait, within the number that its process can hold.

Owns the acceptors. Does not know a connection after its accept: admission.py decides about its place.
"""

from __future__ import annotations

import functools
import resource
from pathlib import Path
from typing import TYPE_CHECKING

from prefork_logd.ipc.scoreboard import Field, Scoreboard
from prefork_logd.net.acceptor import Acceptor
from prefork_logd.net.load_balance import AcceptShare, Load

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from prefork_logd.net.listener import ListeningSocket
    from prefork_logd.net.loop import Loop

RESERVED_DESCRIPTORS = 16
"""Descriptors kept free for pipes and configuration files."""


class Entrance:
    """The listening sockets of one worker."""

    def __init__(self, slot: int, board: Scoreboard) -> None:
        self._board = board
        self._counters = board.slot(slot)
        self.most_own = most_connections()
        """Number of connections that this process can hold."""
        self._share = AcceptShare(slot, self._loads, 0, self.most_own)
        self._acceptors: list[Acceptor] = []

    def _loads(self) -> list[Load]:
        return [Load(*load) for load in self._board.loads()]

    def configure(self, max_connections: int) -> None:
        """Set the most connections that all workers together hold."""
        self._share.max_connections = max_connections

    def open(
        self,
        loop: Loop,
        sockets: Iterable[ListeningSocket],
        admit: Callable[..., None],
        report: Callable[[OSError], None],
    ) -> None:
        """Accept from `sockets`.

        `admit` gets the accepted clients, the descriptor and the peer of each connection; as `listener` the index of
        its socket, as `tls_listener` the address of its listener if that speaks TLS. `report` gets an error of
        accept(2).
        """
        for index, (sock, accept, tls_listener) in enumerate(sockets):
            admit_here = functools.partial(admit, accept, listener=index, tls_listener=tls_listener)
            self._acceptors.append(Acceptor(loop, sock, admit_here, self._share, report))

    def accept_waiting(self) -> None:
        """Accept waiting connections; call it when a place has become free here."""
        for acceptor in self._acceptors:
            acceptor.accept_waiting()

    def close(self, *, takes_queue: bool) -> None:
        """Accept no more connections; with `takes_queue`, accept the kernel's queue first."""
        if takes_queue:
            for acceptor in self._acceptors:
                acceptor.take_queue()
        self._counters[Field.ACCEPTING] = 0
        acceptors, self._acceptors = self._acceptors, []
        for acceptor in acceptors:
            acceptor.close()


def most_connections() -> int:
    """Return the number of connections that this process can hold, from its limit of descriptors."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    in_use = sum(1 for _ in Path("/proc/self/fd").iterdir())
    return max(1, limit - in_use - RESERVED_DESCRIPTORS)
