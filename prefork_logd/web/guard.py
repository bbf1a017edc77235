"""Bounds the cost of one request, and keeps its errors from the process: the outermost layer of the application.

Owns the largest body, the time that it may take, and the end of streams; gives every answer the safe headers. Does not
know routes or users.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from prefork_logd.system.log import RateLimitedLog, describe_bug
from prefork_logd.web.headers import make_safe
from prefork_logd.web.refusal import FAILED, TOO_HEAVY, refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST_BODY_BYTES = 65_536
BODY_S = 10.0
"""Longest time from a request's head to the end of its body."""
_STREAM = b"text/event-stream"


class Guard:
    """The application with bounds."""

    def __init__(self, application: ASGIApp, failed: Callable[[], None] = lambda: None) -> None:
        """Call `failed` after each request that failed: for lack of memory, or with a status from 500 on."""
        self._application = application
        self._failed = failed
        self._streams_end = asyncio.Event()
        self._log = RateLimitedLog()

    def end_streams(self) -> None:
        """Let every stream of events end, now and from now on: each client connects again after a restart."""
        self._streams_end.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        request = _Request(scope, receive, send, self._streams_end)
        try:
            if not await request.read_body():
                return
            await self._application(scope, request.receive, request.send)
        except asyncio.CancelledError:
            raise
        except MemoryError:
            self._log.warning("%s: a request needed more memory than web.memory_bytes allows", _path(scope))
            sentence = "this request needs more memory than the page may use; ask for fewer records (web.memory_bytes)"
            await request.fail(503, sentence)
        except Exception as error:  # noqa: BLE001 - an error of one request must not be more than that
            self._log.warning("%s: the request failed: %s", _path(scope), _printable(describe_bug(error)))
            await request.fail(500, FAILED)
        finally:
            if request.status >= 500 or request.status == TOO_HEAVY:
                self._failed()


class _Request:
    """One request: its body, which is read before the application is called, and its answer."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, streams_end: asyncio.Event) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._streams_end = streams_end
        self._body: bytes | None = b""
        self._has_begun = False
        self.status = 0
        """Status of the answer; 0 before it."""
        self._is_stream = False

    async def read_body(self) -> bool:
        """Read the body; return False after an answer was sent because it is too long or too slow."""
        body = bytearray()
        try:
            async with asyncio.timeout(BODY_S):
                while True:
                    message = await self._receive()
                    if message["type"] == "http.disconnect":
                        return False
                    body += message.get("body", b"")
                    if len(body) > MOST_BODY_BYTES:
                        await self.fail(413, f"the body is longer than {MOST_BODY_BYTES:,} bytes; send less")
                        return False
                    if not message.get("more_body", False):
                        break
        except TimeoutError:
            await self.fail(408, f"the body did not come within {BODY_S:g} s; send it again")
            return False
        self._body = bytes(body)
        return True

    async def receive(self) -> Message:
        """Return the body, then wait for the client to go; a stream also hears that the client has gone at its end."""
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        gone, end = asyncio.ensure_future(self._receive()), asyncio.ensure_future(self._streams_end.wait())
        try:
            await asyncio.wait((gone, end), return_when=asyncio.FIRST_COMPLETED)
            # An application may ask before its answer has begun, so it is known only now whether that is a stream.
            return {"type": "http.disconnect"} if self._is_stream else await gone
        finally:
            gone.cancel()
            end.cancel()

    async def send(self, message: Message) -> None:
        """Send a part of the answer."""
        if message["type"] == "http.response.start":
            make_safe(message)
            self._has_begun = True
            self.status = message["status"]
            self._is_stream = is_stream(message)
        await self._send(message)

    async def fail(self, status: int, sentence: str) -> None:
        """Answer with an error, unless an answer has begun: then the connection is closed in the middle of it."""
        if not self._has_begun:
            self.status = status
            response = refusal(self._scope["path"], status, sentence)
            # What is left of the body would be read as the next request.
            response.headers["Connection"] = "close"
            await response(self._scope, self._receive, self.send)


def is_stream(start: Message) -> bool:
    """Tell whether an answer that begins so is a stream of events, which has no end of its own."""
    return any(name.lower() == b"content-type" and value.startswith(_STREAM) for name, value in start["headers"])


def _path(scope: Scope) -> str:
    return _printable(str(scope["path"])[:200])


def _printable(text: str) -> str:
    """Return a text for the log in printable ASCII: no client writes an escape sequence to a terminal."""
    return ascii(text)[1:-1]
