"""Answers piece by piece: they end with the client, and an error is not mistaken for the end."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from prefork_logd.errors import StoreError
from prefork_logd.web.api import streamed
from prefork_logd.web.api.streamed import Streamed

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    import pytest


class Exchange:
    """Sends an answer to a client that goes away at the will of the test."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.closed = 0
        self.gone = asyncio.Event()

    async def run(self, pieces: AsyncGenerator[bytes]) -> list[bytes]:
        """Return the bodies that were sent."""
        async with asyncio.timeout(30):
            await Streamed(pieces, "text/plain", self._close)({"path": "/x"}, self._receive, self._send)
        return [message["body"] for message in self.sent[1:]]

    async def _close(self) -> None:
        self.closed += 1

    async def _receive(self) -> dict[str, Any]:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        self.sent.append(message)


def test_every_piece_is_sent() -> None:
    """Then the end of the answer."""

    async def pieces() -> AsyncGenerator[bytes]:
        yield b"a"
        yield b"b"

    async def main() -> None:
        exchange = Exchange()
        assert await exchange.run(pieces()) == [b"a", b"b", b""]
        headers = dict(exchange.sent[0]["headers"])
        assert headers[b"content-type"] == b"text/plain; charset=utf-8"
        assert headers[b"cache-control"] == b"no-store"
        assert b"content-length" not in headers
        assert exchange.sent[-1]["more_body"] is False
        assert exchange.closed == 1

    asyncio.run(main())


def test_a_client_that_goes_away_ends_the_pieces() -> None:
    """Their generator is closed, and so is what they need."""
    ended = []

    async def main() -> None:
        exchange = Exchange()

        async def pieces() -> AsyncGenerator[bytes]:
            try:
                yield b"a"
                exchange.gone.set()
                await asyncio.Event().wait()
            finally:
                ended.append(True)

        assert await exchange.run(pieces()) == [b"a"]
        assert exchange.closed == 1

    asyncio.run(main())
    assert ended == [True]


def test_an_error_cuts_the_answer_off(caplog: pytest.LogCaptureFixture) -> None:
    """The end is not sent, so that the client notices; the log says why."""

    async def pieces() -> AsyncGenerator[bytes]:
        yield b"a"
        raise StoreError("the disk is gone")

    async def main() -> None:
        exchange = Exchange()
        with caplog.at_level(logging.WARNING):
            assert await exchange.run(pieces()) == [b"a"]
        assert exchange.sent[-1]["more_body"] is True
        assert exchange.closed == 1

    asyncio.run(main())
    assert "the disk is gone" in caplog.text


def test_a_client_that_takes_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not keep the search."""
    monkeypatch.setattr(streamed, "STALLED_S", 0.01)

    async def pieces() -> AsyncGenerator[bytes]:
        yield b"a"

    async def main() -> None:
        exchange = Exchange()

        async def stalled(message: Any) -> None:
            exchange.sent.append(message)
            if message["type"] == "http.response.body":
                await asyncio.Event().wait()

        monkeypatch.setattr(exchange, "_send", stalled)
        assert await exchange.run(pieces()) == [b"a"]
        assert exchange.closed == 1

    asyncio.run(main())
