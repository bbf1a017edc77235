"""Serves an application by HTTP/1.1 on sockets that are bound already, with uvicorn.

Owns the bounds of a connection, and the order of the end. Does not know the application.

uvicorn leaves to a proxy what this process has to do itself: a bound on connections (listener.py), bounds on the heads
and chunks of requests (heads.py), on TLS handshakes (handshakes.py) and on the time of both (turns.py), a bound on the
time of a client that does not read, and an end that does not wait for endless streams.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from prefork_logd.errors import ProcessError
from prefork_logd.processes.web.heads import BoundedHeads
from prefork_logd.processes.web.listener import Admission, Listener, client_of
from prefork_logd.processes.web.turns import Turns
from prefork_logd.web.guard import Guard
from prefork_logd.web.request_turns import EARLIER

try:
    from prefork_logd.processes.web import handshakes
except ImportError:  # with this Python they go asyncio's own way
    handshakes = None  # type: ignore[assignment]

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator

    from starlette.types import ASGIApp, Receive, Scope, Send

    from prefork_logd.config.web import WebSettings

    Failed = Callable[[], None]

HEAD_S = 10.0
"""Longest time from the connection, or from the last answer, to the end of a request's head."""
STALL_S = 60.0
"""Longest time for which a client reads nothing of an answer that waits for it."""
UNSENT_SHARE = 8
"""This part of web.memory_bytes may hold what clients have asked for and do not read."""
_BACKLOG = 512


class _BoundedProtocol(H11Protocol):
    """One connection, which is closed if its request does not come, or if its answers are not read."""

    unsent: dict[_BoundedProtocol, int]
    """Bytes that wait for a client, of each connection where they are too many; the oldest such connection first."""
    most_unsent = 0

    turns: Turns
    """Shared by all connections of a server."""

    def __init__(self, *config: Any, **rest: Any) -> None:
        super().__init__(*config, **rest)
        self.conn = BoundedHeads()
        self._waits_for_turn = False
        self.requests = 0
        self._application, self.app = self.app, self._call_application

    async def _call_application(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[EARLIER] = self.requests
        self.requests += 1
        await self._application(scope, receive, send)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._head_timer: asyncio.TimerHandle | None = None
        self._stall_timer: asyncio.TimerHandle | None = None
        self.peer_address = client_of(self.client)
        self._expect_head()

    def _expect_head(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_S, self.transport.abort)

    def handle_events(self) -> None:
        """Read what has come, or let it wait for another turn of the event loop."""
        if not self._waits_for_turn and not self.turns.take(self):
            self._waits_for_turn = True
            # What has come before the end of a connection is read first: asyncio reads no end while it pauses.
            self.flow.pause_reading()

    def read_events(self) -> None:
        """Read what has come up to the next request, in this connection's turn."""
        before = self.cycle
        if self._waits_for_turn:
            self._waits_for_turn = False
            self.flow.resume_reading()
        super().handle_events()
        if self.cycle is not before and self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._head_timer is None and not self.transport.is_closing() and self.cycle.response_complete:
            self._expect_head()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stall_timer = self.loop.call_later(STALL_S, self.transport.abort)
        self.unsent[self] = self.transport.get_write_buffer_size()
        while len(self.unsent) > 1 and sum(self.unsent.values()) > self.most_unsent:
            self._close_one()

    def _close_one(self) -> None:
        """Close a connection that does not read: the oldest one of the address that takes most memory."""
        by_address: Counter[str] = Counter()
        for connection, nbytes in self.unsent.items():
            by_address[connection.peer_address] += nbytes
        ((address, _),) = by_address.most_common(1)
        oldest = next(connection for connection in self.unsent if connection.peer_address == address)
        del self.unsent[oldest]
        oldest.transport.abort()

    def resume_writing(self) -> None:
        super().resume_writing()
        self.unsent.pop(self, None)
        if self._stall_timer is not None:
            self._stall_timer.cancel()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.turns.forget(self)
        self.unsent.pop(self, None)
        for timer in (self._head_timer, self._stall_timer):
            if timer is not None:
                timer.cancel()


def _make_protocol(settings: WebSettings) -> type[_BoundedProtocol]:
    """Return the class of the connections of one server, with its bounds."""
    bounds = {"turns": Turns(), "unsent": {}, "most_unsent": settings.memory_bytes // UNSENT_SHARE}
    return type("PageProtocol", (_BoundedProtocol,), bounds)


def _encrypt(config: uvicorn.Config) -> None:
    """Let the connections of a server go through TLS in turns, in place of asyncio's way, if it has a certificate."""
    context = config.ssl
    if context is None or handshakes is None:
        return
    turns, make_application, config.ssl = Turns(), config.http_protocol_class, None

    def make(**given: Any) -> handshakes.Entrance:
        loop = asyncio.get_running_loop()
        return handshakes.Entrance(
            lambda: handshakes.PacedHandshake(loop, make_application(**given), context, turns), turns
        )

    config.http_protocol_class = make  # type: ignore[assignment]


class PageServer(uvicorn.Server):
    """One server, from the first connection to its end."""

    def __init__(
        self, application: ASGIApp, settings: WebSettings, sockets: list[socket.socket], failed: Failed = lambda: None
    ) -> None:
        """Serve on listening `sockets`; call `failed` after each failed request. Raises ProcessError for a bad key."""
        self._ending = asyncio.Event()
        self._sockets = sockets
        self._admission = Admission(settings.max_connections)
        self._guard = Guard(application, failed)
        tls: dict[str, Any] = {}
        if settings.certificate:
            tls = {"ssl_certfile": settings.certificate, "ssl_keyfile": settings.key}
        config = uvicorn.Config(
            self._guard,
            loop="asyncio",
            http=_make_protocol(settings),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            backlog=_BACKLOG,
            **tls,
        )
        # Clients could fill our log with its lines; an error of the application is logged by Guard.
        for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi", "asyncio"):
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)
        try:
            config.load()
        except OSError as error:
            # The master has checked the pair; it may have been replaced since.
            why = error.strerror or str(error)
            raise ProcessError(f"web.certificate, web.key: cannot be used: {why}; name a matching pair") from error
        _encrypt(config)
        super().__init__(config)

    async def run_until_ended(self, ready: Callable[[], None], drain_s: float) -> None:
        """Serve until `end` is called; requests under way then get `drain_s` seconds. Calls `ready` when it serves."""
        self.config.timeout_graceful_shutdown = max(1, int(drain_s) - 1)
        self._ready = ready
        await self.serve(sockets=[Listener(sock, self._admission) for sock in self._sockets])

    def end(self) -> None:
        """Accept no more, end streams, and let other requests finish."""
        self._guard.end_streams()
        self.should_exit = True
        self._ending.set()

    async def main_loop(self) -> None:
        """Wait for the end, without waking up."""
        self._ready()
        await self._ending.wait()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone: the master decides about the end of its children."""
        yield
