"""One request costs no more than itself: its body, its errors and its memory are bounded."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from prefork_logd.web import guard
from prefork_logd.web.guard import Guard

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Scope, Send


def answer(application: Any, *received: Message, path: str = "/api/v1/x", rest_s: float = 0.0) -> list[Message]:
    """Return what is sent for a request; after the messages received nothing comes for some time."""
    sent: list[Message] = []
    messages = iter(received)

    async def receive() -> Message:
        message = next(messages, None)
        if message is not None:
            return message
        await asyncio.sleep(rest_s)
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    async def run() -> None:
        await Guard(application)({"type": "http", "path": path, "method": "POST", "headers": []}, receive, send)

    asyncio.run(run())
    return sent


def body(data: bytes, *, more: bool = False) -> Message:
    return {"type": "http.request", "body": data, "more_body": more}


async def echo(_scope: Scope, receive: Receive, send: Send) -> None:
    message = await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": message["body"]})


def test_a_body_is_passed_on_whole() -> None:
    """However many pieces it came in."""
    assert answer(echo, body(b"a", more=True), body(b"b"))[1]["body"] == b"ab"


def test_a_long_body_is_refused_before_it_is_read() -> None:
    pieces = [body(bytes(40_000), more=True)] * 3
    start, rest = answer(echo, *pieces)
    assert start["status"] == 413
    assert (b"connection", b"close") in start["headers"]
    assert b"send less" in rest["body"]


def test_a_slow_body_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "BODY_S", 0.05)
    assert answer(echo, body(b"a", more=True), rest_s=10)[0]["status"] == 408


def test_a_client_that_goes_is_not_answered() -> None:
    assert answer(echo, body(b"a", more=True)) == []


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [(MemoryError(), 503, b"web.memory_bytes"), (KeyError("secret"), 500, b"its log describes")],
)
def test_an_error_ends_one_request(
    error: Exception, status: int, said: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """The log has the reason, the client a sentence."""

    async def fail(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise error

    start, rest = answer(fail, body(b""), path="/api/v1/\n\x1b")
    assert start["status"] == status
    assert said in rest["body"]
    assert b"secret" not in rest["body"]
    assert caplog.records[-1].getMessage().isprintable()


@pytest.mark.parametrize(("status", "is_failure"), [(200, False), (400, False), (404, False), (422, True), (503, True)])
def test_failures_are_reported(status: int, is_failure: bool) -> None:
    """Those for lack of memory too: the memory may be that of the page, which then has to start again."""
    failures: list[int] = []

    async def refuse(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    answer(Guard(refuse, lambda: failures.append(status)), body(b""))
    assert failures == [status] * is_failure


def test_an_error_in_the_middle_of_an_answer_ends_it() -> None:
    """No second head is sent."""

    async def fail(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ValueError

    assert [message.get("status") for message in answer(fail, body(b""))] == [200]


def test_a_stream_hears_of_the_end_whenever_it_asked() -> None:
    """Before its answer has begun, as Starlette does, or later; a plain answer is not disturbed."""
    heard: list[str] = []

    def application(kind: bytes) -> Any:
        async def run(_scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            waiting = asyncio.ensure_future(receive())
            await asyncio.sleep(0)
            await send({"type": "http.response.start", "status": 200, "headers": [(b"Content-Type", kind)]})
            made.end_streams()
            done, _ = await asyncio.wait((waiting,), timeout=0.1)
            heard.append("the end" if done else "nothing")
            waiting.cancel()

        made = Guard(run)
        return made

    async def receive() -> Message:
        if received:
            await asyncio.sleep(60)
        received.append(True)
        return body(b"")

    async def send(message: Message) -> None:
        assert message["status"] == 200

    async def serve(kind: bytes) -> None:
        await application(kind)({"type": "http", "path": "/", "method": "GET", "headers": []}, receive, send)

    for kind in (b"text/event-stream; charset=utf-8", b"text/plain"):
        received: list[bool] = []
        asyncio.run(serve(kind))
    assert heard == ["the end", "nothing"]


def test_other_protocols_are_not_answered() -> None:
    async def run() -> None:
        await Guard(echo)({"type": "websocket"}, None, None)  # type: ignore[arg-type]

    asyncio.run(run())
