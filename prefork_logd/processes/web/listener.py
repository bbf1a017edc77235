"""Accepts connections within two bounds: for one address, and in total.

Owns the counts. Does not know HTTP.

A connection counts from accept(2) on. With TLS asyncio gives it 256 KiB before the first byte has come, and shows it to
the server only after the handshake, so the server itself would count too late.
"""

from __future__ import annotations

import asyncio
import socket
import weakref
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any

from prefork_logd.web.attempts import address_key
from prefork_logd.web.proxies import UNIX

if TYPE_CHECKING:
    from collections.abc import Callable

LEAST_OF_ONE = 8
AT_ONCE = 16
"""Connections accepted in one turn of the event loop: asyncio would accept all that wait, which takes as long as many
answers."""


def client_of(address: Any) -> str:
    """Return the text under which the other end of a connection counts: its address, of IPv6 its network of 64 bits."""
    return address_key(str(address[0])) if isinstance(address, tuple) else UNIX


class Admission:
    """The connections that are open, on all listening sockets."""

    def __init__(self, most: int) -> None:
        """Allow so many; one address may hold half of them."""
        self._most = most
        # Behind a proxy, or on a Unix socket, all connections may have one address.
        self._most_of_one = max(LEAST_OF_ONE, most // 2)
        self._held: Counter[str] = Counter()

    def take(self, address: str) -> bool:
        """Count a connection from an address, if there is room for it; return whether there was."""
        if self._held.total() >= self._most or self._held[address] >= self._most_of_one:
            return False
        self._held[address] += 1
        return True

    def give_back(self, address: str) -> None:
        """Forget a connection from an address."""
        self._held[address] -= 1
        if not self._held[address]:
            del self._held[address]


class Listener(socket.socket):
    """A listening socket that closes connections for which there is no room."""

    def __init__(self, listening: socket.socket, admission: Admission) -> None:
        """Take the place of a socket that listens, which is of no use after this."""
        super().__init__(listening.family, listening.type, listening.proto, listening.detach())
        self.setblocking(False)
        self._admission = admission
        self._left = AT_ONCE
        """Connections that may still be accepted in this turn of the event loop."""

    def accept(self) -> tuple[socket.socket, Any]:
        """Return the next connection for which there is room, and its address; others are closed.

        Raises BlockingIOError if there is none, or if this turn of the event loop has had enough; asyncio asks again.
        """
        if self._left == AT_ONCE:
            asyncio.get_running_loop().call_soon(self._begin_turn)
        while self._left:
            self._left -= 1
            accepted, address = super().accept()
            host = client_of(address)
            if self._admission.take(host):
                return _Connection(accepted, partial(self._admission.give_back, host)), address
            accepted.close()
        raise BlockingIOError

    def _begin_turn(self) -> None:
        self._left = AT_ONCE


class _Connection(socket.socket):
    """A connection that counts until it is closed, or forgotten."""

    def __init__(self, accepted: socket.socket, ended: Callable[[], None]) -> None:
        super().__init__(accepted.family, accepted.type, accepted.proto, accepted.detach())
        self._ended = weakref.finalize(self, ended)

    def close(self) -> None:
        """Close it."""
        super().close()
        self._ended()
