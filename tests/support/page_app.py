"""Provides an application for tests of the page's server: it streams, sleeps, or answers at once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from prefork_logd.config.settings import Settings


class App:
    """An application that streams events, sleeps, or answers at once."""

    def __init__(self, _settings: Settings) -> None:
        self.gone = ""
        self.begun: list[str] = []
        self.may_go_on = asyncio.Event()
        App.last = self

    last: App

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request as its path says."""
        self.begun.append(scope["path"])
        if scope["path"] == "/held":
            await self.may_go_on.wait()
        kind = b"text/event-stream" if scope["path"] == "/events" else b"text/plain"
        if scope["path"] == "/slow":
            await asyncio.sleep(0.3)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
        if scope["path"] == "/endless":
            await receive()
            sending = asyncio.ensure_future(_send_for_ever(send))
            self.gone = (await receive())["type"]
            sending.cancel()
            return
        if scope["path"] == "/large":
            await send({"type": "http.response.body", "body": bytes(48 << 20)})
            return
        if scope["path"] == "/events":
            await send({"type": "http.response.body", "body": b": hello\n\n", "more_body": True})
            await receive()
            while (await receive())["type"] != "http.disconnect":
                pytest.fail("a second body")
        await send({"type": "http.response.body", "body": b"done"})


async def _send_for_ever(send: Send) -> None:
    while True:
        await send({"type": "http.response.body", "body": bytes(65_536), "more_body": True})
        await asyncio.sleep(0)
