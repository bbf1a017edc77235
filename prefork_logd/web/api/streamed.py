"""Sends an answer piece by piece: events of a tail, or an export.

Owns its end: when the client goes away, or takes no more. Does not know what is sent.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from starlette.responses import Response

from prefork_logd.errors import LogdError
from prefork_logd.system.log import RateLimitedLog
from prefork_logd.web.api.endpoint import HEADERS

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping

    from starlette.types import Receive, Scope, Send

_log = RateLimitedLog()

STALLED_S = 60.0
"""Time after which a client that takes nothing is given up."""


async def _nothing() -> None:
    """Do nothing."""


class Streamed(Response):
    """A response of unknown length."""

    def __init__(
        self,
        pieces: AsyncGenerator[bytes],
        media_type: str,
        close: Callable[[], Awaitable[object]] = _nothing,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Send these pieces, then call `close`, whatever happens.

        A LogdError of `pieces` ends the connection without the end of the answer, so that the client notices.
        """
        # A proxy that gathers an answer would keep events back.
        extra = {**HEADERS, "X-Accel-Buffering": "no", **(headers or {})}
        super().__init__(headers=extra, media_type=media_type)
        del self.headers["content-length"]
        self._pieces = pieces
        self._close = close

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer until its end, or until the client has gone."""
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            sending = asyncio.ensure_future(self._send(send))
            gone = asyncio.ensure_future(_gone(receive))
            try:
                await asyncio.wait([sending, gone], return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in (sending, gone):
                    task.cancel()
                await asyncio.wait([sending, gone])
            if not sending.cancelled():
                sending.result()
        except (LogdError, TimeoutError) as error:
            _log.warning("%s: the answer was cut off: %s", scope["path"][:200], error or "the client takes nothing")
        finally:
            await self._close()

    async def _send(self, send: Send) -> None:
        async with contextlib.aclosing(self._pieces) as pieces:
            async for piece in pieces:
                async with asyncio.timeout(STALLED_S):
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
