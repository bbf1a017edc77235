"""Few requests are worked on at once, and nobody waits for the flood of another."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from prefork_logd.config.load import loads
from prefork_logd.web import request_turns
from prefork_logd.web.proxies import Proxies
from prefork_logd.web.request_turns import AT_ONCE, EARLIER, STRANGERS_AT_ONCE, RequestTurns
from prefork_logd.web.shares import Bounds
from prefork_logd.web.visitors import VIEWER, Visitor

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import Message, Receive, Scope, Send

ADA, BOB = Visitor("ada", VIEWER, "session"), Visitor("bob", VIEWER, "session")


class App:
    """An application whose requests end when they are told."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.end = asyncio.Event()
        self.turns = RequestTurns(self, Proxies(loads("", "", {}).web), 200)
        self.statuses: list[int] = []
        self.refused = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.begun.append(scope["path"])
        if scope["path"].startswith("/stream"):
            kind = (b"content-type", b"text/event-stream; charset=utf-8")
            await send({"type": "http.response.start", "status": 200, "headers": [kind]})
        if not scope["path"].startswith("/quick"):
            await self.end.wait()

    def ask(self, path: str, user: Visitor | None = None, address: str = "10.0.0.1", earlier: int = 0) -> None:
        """Begin a request."""
        scope = {"type": "http", "path": path, "headers": [], "user": user, "client": (address, 1), EARLIER: earlier}
        self._tasks.append(asyncio.ensure_future(self.turns(scope, _never, self._send)))

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.statuses.append(message["status"])
            self.refused.set()

    async def settle(self) -> None:
        """Let everything happen that can."""
        for _ in range(200):
            await asyncio.sleep(0)

    async def finish(self) -> None:
        """End every request."""
        self.end.set()
        await asyncio.gather(*self._tasks)


async def _never() -> Message:
    raise AssertionError("nothing is read here")


def run(test: Callable[[App], Any]) -> None:
    async def main() -> None:
        app = App()
        await test(app)
        await app.finish()

    asyncio.run(main())


@pytest.fixture
def ageless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep every request young."""
    monkeypatch.setattr(request_turns, "YOUNG_S", 1000.0)


@pytest.mark.usefixtures("ageless")
def test_few_requests_of_strangers_are_worked_on_at_once() -> None:
    """Readers of share links are strangers. Those who are logged in wait for none of them."""
    reader = Visitor("share link", VIEWER, "share", bounds=Bounds("", None, None, None, 2.0))

    async def test(app: App) -> None:
        for number in range(5):
            app.ask(f"/s{number}", reader if number % 2 else None)
        for number in range(5):
            app.ask(f"/a{number}", ADA)
        await app.settle()
        assert app.begun == [
            *(f"/s{number}" for number in range(STRANGERS_AT_ONCE)),
            *(f"/a{n}" for n in range(AT_ONCE)),
        ]

    run(test)


@pytest.mark.usefixtures("ageless")
def test_the_first_requests_of_connections_and_other_visitors_come_first() -> None:
    """A place that becomes free is for somebody who has none."""

    async def test(app: App) -> None:
        for number in range(AT_ONCE):
            app.ask(f"/a{number}", ADA)
        app.ask("/quick/late", ADA, earlier=7)
        app.ask("/quick/first", ADA, earlier=0)
        app.ask("/quick/bob", BOB, earlier=9)
        await app.settle()
        app.begun.clear()
        await app.finish()
        assert app.begun == ["/quick/bob", "/quick/first", "/quick/late"]

    run(test)


def test_a_request_that_waits_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as a search, or a stream that never ends; its own end makes no second place."""
    monkeypatch.setattr(request_turns, "YOUNG_S", 0.0)

    async def test(app: App) -> None:
        for number in range(STRANGERS_AT_ONCE + 3):
            app.ask(f"/s{number}")
            await app.settle()
        assert len(app.begun) == STRANGERS_AT_ONCE + 3
        monkeypatch.setattr(request_turns, "YOUNG_S", 1000.0)
        await app.finish()
        app.end.clear()
        app.begun.clear()
        for number in range(STRANGERS_AT_ONCE + 3):
            app.ask(f"/again{number}")
        await app.settle()
        assert len(app.begun) == STRANGERS_AT_ONCE

    run(test)


@pytest.mark.usefixtures("ageless")
def test_a_stream_makes_room_when_it_begins() -> None:
    """After a restart hundreds of viewers come back at once."""

    async def test(app: App) -> None:
        for number in range(100):
            app.ask(f"/stream{number}", ADA)
        for number in range(AT_ONCE + 1):
            app.ask(f"/a{number}", ADA)
        await app.settle()
        assert app.begun[100:] == [f"/a{number}" for number in range(AT_ONCE)]

    run(test)


@pytest.mark.usefixtures("ageless")
def test_a_request_that_waits_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """With an answer that says so; it never begins."""
    monkeypatch.setattr(request_turns, "WAIT_S", 0.001)

    async def test(app: App) -> None:
        app.turns = RequestTurns(app, Proxies(loads("", "", {}).web), 8)
        for number in range(STRANGERS_AT_ONCE + 1):
            app.ask(f"/s{number}")
        await app.refused.wait()
        assert app.statuses == [503]
        assert len(app.begun) == STRANGERS_AT_ONCE

    run(test)
