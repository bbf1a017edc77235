"""Accepts a worker's share of the connections that wait at the listening sockets.

Owns when a worker accepts, and the handling of errors of accept(2). Does not know protocols.
"""

from __future__ import annotations

import errno
import math
import select
from typing import TYPE_CHECKING

from prefork_logd.net.listener import BACKLOG, peer_text
from prefork_logd.net.loop import EDGE, READ, Loop, Timer

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from prefork_logd.net.load_balance import AcceptShare


MOST_A_TURN = 8
"""Most connections accepted in one turn: a worker that empties the queue at once takes the share of later workers."""
_RETRY_S = 0.002
_FULL_RETRY_S = 0.1
_NO_DESCRIPTOR = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_LOST_IN_QUEUE = frozenset(
    {
        errno.ECONNABORTED,
        errno.ENETDOWN,
        errno.EPROTO,
        errno.ENOPROTOOPT,
        errno.EHOSTDOWN,
        errno.ENONET,
        errno.EHOSTUNREACH,
        errno.EOPNOTSUPP,
        errno.ENETUNREACH,
        errno.EPERM,
    }
)
"""Errors of the one connection in accept(2); the next one may work."""


class Acceptor:
    """Takes a worker's share of the connections that wait on one listening socket.

    The socket is watched with EPOLLET, so an edge is reported once, even if this worker cannot accept then. If it
    leaves connections waiting, a timer tries again: soon if it was another worker's turn, later if it was full.
    """

    def __init__(
        self,
        loop: Loop,
        sock: socket.socket,
        admit: Callable[[int, str], None],
        share: AcceptShare,
        report: Callable[[OSError], None],
    ) -> None:
        """Pass each connection to `admit` as (descriptor, peer), and errors that keep some waiting to `report`."""
        self._loop = loop
        self._sock = sock
        self._admit = admit
        self._share = share
        self._report = report
        self._timer: Timer | None = None
        self._waiting_since_s = math.inf
        """When this worker first left a connection waiting; infinite when none waits."""
        self._waiting = select.poll()
        self._waiting.register(sock.fileno(), select.POLLIN)
        loop.add(sock.fileno(), self, READ | EDGE)

    def ready(self, _events: int, /) -> None:
        """Accept until the queue is empty, this worker has its share, or it has accepted enough for one turn."""
        if self._timer is not None:
            self._timer.cancel()
        for _ in range(MOST_A_TURN):
            if not self._share.has_room():
                self._retry_within(_FULL_RETRY_S)
                return
            if not self._share.is_my_turn(self._loop.now_s, self._waiting_since_s):
                self._retry_within(_RETRY_S)
                return
            if not self._accept_one():
                return
        # Other workers may be a few milliseconds late: leave the rest of a burst to the next turn.
        self._retry_within(0)

    def _accept_one(self) -> bool:
        """Accept one connection; return whether to go on."""
        try:
            sock, place = self._sock.accept()
        except BlockingIOError:
            self._waiting_since_s = math.inf
            return False
        except OSError as error:
            if error.errno in _LOST_IN_QUEUE:
                return True
            if error.errno not in _NO_DESCRIPTOR:
                raise
            self._report(error)
            self._retry_within(_FULL_RETRY_S)
            return False
        try:
            sock.setblocking(False)
            peer = peer_text(sock, place)
        except OSError:
            # It was reset before its address was read.
            sock.close()
            return True
        self._admit(sock.detach(), peer)
        return True

    def take_queue(self) -> None:
        """Accept every connection in the kernel's queue, however full this worker is."""
        for _ in range(BACKLOG):
            if not self._accept_one():
                break

    def close(self) -> None:
        """Stop accepting; the shared socket stays open in the other processes."""
        if self._timer is not None:
            self._timer.cancel()
        self._loop.remove(self._sock.fileno())
        self._sock.close()

    def accept_waiting(self) -> None:
        """Accept waiting connections; call it when a place has become free here."""
        if self._timer is not None and self._timer.pending:
            self.ready(0)

    def _retry_within(self, delay_s: float) -> None:
        if not self._waiting.poll(0):
            self._waiting_since_s = math.inf
            return
        self._waiting_since_s = min(self._waiting_since_s, self._loop.now_s)
        if self._timer is None or not self._timer.pending:
            self._timer = self._loop.later(delay_s, self._timed)

    def _timed(self) -> None:
        self.ready(0)
