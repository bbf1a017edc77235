"""Lets TLS handshakes take turns: a peer that opens many of them delays nobody else for long.

Owns when a handshake goes on, and how long it may take. Does not know certificates or requests.

A handshake takes about a millisecond with a key of an elliptic curve, and several with one of RSA. asyncio goes on with
every handshake that has received something in one turn of its loop: those of 250 connections of one peer would keep a
visitor waiting. Here they go on in Turns (turns.py), in which the addresses alternate.
"""

from __future__ import annotations

from asyncio.sslproto import SSLProtocol
from typing import TYPE_CHECKING, Any, Protocol

from prefork_logd.processes.web.listener import client_of

if TYPE_CHECKING:
    import asyncio
    import ssl

    from prefork_logd.processes.web.turns import Turns

HANDSHAKE_S = 10
"""Longest time from the connection to a complete handshake; asyncio allows 60 s."""


class Application(Protocol):
    """The protocol of the decrypted connection."""

    transport: asyncio.Transport | None
    """None until the handshake is complete."""


class PacedHandshake(SSLProtocol):
    """The encrypted side of one connection; its handshake goes on in this connection's turns.

    Only the methods of asyncio.BufferedProtocol are overridden.
    """

    requests = 0

    def __init__(
        self, loop: asyncio.AbstractEventLoop, application: Any, context: ssl.SSLContext, turns: Turns
    ) -> None:
        """Decrypt for a protocol, which is an Application."""
        no_waiter: Any = None
        super().__init__(loop, application, context, no_waiter, server_side=True, ssl_handshake_timeout=HANDSHAKE_S)
        self._application: Application = application
        self._turns = turns
        self._encrypted: asyncio.Transport | None = None
        self._nbytes = 0
        """Number of received bytes that wait for a turn. They stay in the buffer, since nothing is read meanwhile."""
        self.peer_address = ""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the client's first message."""
        self._encrypted = transport
        self.peer_address = client_of(transport.get_extra_info("peername"))
        super().connection_made(transport)

    def buffer_updated(self, nbytes: int) -> None:
        """Go on with what has come, in a turn if it belongs to the handshake."""
        if self._application.transport is not None:
            super().buffer_updated(nbytes)
            return
        self._nbytes = nbytes
        if not self._turns.take(self) and self._encrypted is not None:
            self._encrypted.pause_reading()

    def read_events(self) -> None:
        """Go on with the handshake, in this connection's turn."""
        nbytes, self._nbytes = self._nbytes, 0
        if self._encrypted is None or not nbytes:
            return
        # First, since what is decrypted then may have to wait.
        self._encrypted.resume_reading()
        super().buffer_updated(nbytes)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Forget the connection."""
        self._encrypted = None
        self._turns.forget(self)
        super().connection_lost(exc)
