"""Lets TLS handshakes take turns: the others wait only briefly beside a peer that opens many.

Owns when a handshake begins and goes on, and how long it may take. Does not know certificates or requests.

A handshake takes about a millisecond with a key of an elliptic curve, and several with one of RSA. asyncio goes on with
every handshake that has received something in one turn of its loop: those of 250 connections of one peer would keep a
visitor waiting. Here they go on in Turns (turns.py), in which the addresses alternate. asyncio would also give each
connection its memory and OpenSSL's state at once; here it gets them in its first turn.

asyncio.sslproto is not documented. With a Python in which it is another, the import of this module raises ImportError.
"""

from __future__ import annotations

import asyncio
import inspect
from asyncio.sslproto import SSLProtocol
from typing import TYPE_CHECKING, Any, Protocol

from prefork_logd.processes.web.listener import client_of

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from prefork_logd.processes.web.turns import Turns

HANDSHAKE_S = 10
"""Longest time from the connection to the client's first message, and from there to a complete handshake; asyncio
allows 60 s."""
_FIRST_BYTES = 4096
"""A client's first message is about 2,000 bytes long."""


def _check_base() -> None:
    """Raise ImportError if SSLProtocol is not a class that a PacedHandshake can derive from."""
    if not issubclass(SSLProtocol, asyncio.BufferedProtocol):
        raise ImportError("SSLProtocol is not an asyncio.BufferedProtocol")  # noqa: TRY004 - of the import
    try:
        inspect.signature(SSLProtocol).bind(None, None, None, None, server_side=True, ssl_handshake_timeout=HANDSHAKE_S)
    except TypeError as error:
        raise ImportError(f"SSLProtocol: {error}") from error


_check_base()


class Application(Protocol):
    """The protocol of the decrypted connection."""

    transport: asyncio.Transport | None
    """None until the handshake is complete."""


class Entrance(asyncio.BufferedProtocol):
    """A connection until its first message has its turn. Then a PacedHandshake takes its place."""

    requests = 0

    def __init__(self, make: Callable[[], PacedHandshake], turns: Turns) -> None:
        self._make = make
        self._turns = turns
        self._buffer = bytearray()
        self._nbytes = 0
        self.peer_address = ""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the client's first message."""
        self._transport = transport
        self.peer_address = client_of(transport.get_extra_info("peername"))
        self._timer = asyncio.get_running_loop().call_later(HANDSHAKE_S, transport.abort)

    def get_buffer(self, _sizehint: int) -> bytearray:
        """Return room for the first message."""
        self._buffer = bytearray(_FIRST_BYTES)
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Wait for a turn, and receive nothing meanwhile."""
        self._nbytes = nbytes
        if not self._turns.take(self):
            self._transport.pause_reading()

    def read_events(self) -> None:
        """Begin the handshake, in this connection's turn."""
        if self._transport.is_closing():
            return
        handshake = self._make()
        # First, since what is decrypted then may have to wait.
        self._transport.resume_reading()
        self._transport.set_protocol(handshake)
        handshake.connection_made(self._transport)
        handshake.begin(memoryview(self._buffer)[: self._nbytes])
        self._timer.cancel()

    def connection_lost(self, _error: Exception | None) -> None:
        """Forget the connection."""
        self._timer.cancel()
        self._turns.forget(self)


class PacedHandshake(SSLProtocol):
    """The encrypted side of one connection; its handshake goes on in this connection's turns.

    Only the methods of asyncio.BufferedProtocol are overridden.
    """

    requests = 0
    max_size = 32 << 10
    """Bytes received at once; asyncio's 256 KiB for each connection are for clients that send much."""

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
        """Take a connection over."""
        self._encrypted = transport
        self.peer_address = client_of(transport.get_extra_info("peername"))
        super().connection_made(transport)

    def begin(self, received: memoryview) -> None:
        """Begin with what has come, in this connection's turn."""
        self.get_buffer(len(received))[: len(received)] = received
        super().buffer_updated(len(received))

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
        if self._encrypted is not None:
            # First, since what is decrypted then may have to wait.
            self._encrypted.resume_reading()
            super().buffer_updated(self._nbytes)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Forget the connection."""
        self._encrypted = None
        self._turns.forget(self)
        super().connection_lost(exc)
