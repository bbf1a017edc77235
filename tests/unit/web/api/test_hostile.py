"""Hostile requests: whatever is sent, the answer is a sentence, and what it costs is bounded."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_from_bytes

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from prefork_logd.web import search_pool
from prefork_logd.web.api import CALLS
from tests.support.endless_search import Endless
from tests.support.page import make_page, make_settings, page_context, seed, serving
from tests.support.stores import numbered

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.applications import Starlette

NAMES = sorted({one.name for call in CALLS for one in call.parameters} | {"unknown"})
PATHS = [
    call.path
    for call in CALLS
    # The others send streams, or need a book of error groups.
    if call.method == "GET" and call.path not in {"/tail", "/export"} and not call.path.startswith("/errors")
]
_raw = st.binary(max_size=40).map(quote_from_bytes)
_odd = st.sampled_from(
    [
        "%00",
        "%ff",
        "%ed%b0%80",
        "%F0%9F%99%82",
        "-1",
        "1e999",
        "9" * 400,
        "nan",
        "'",
        "(" * 40,
        "level%3E%3DX",
        "@1",
        "*",
    ]
)
queries = st.lists(st.tuples(st.sampled_from(NAMES), _raw | _odd), max_size=5).map(
    lambda pairs: "&".join(f"{name}={value}" for name, value in pairs)
)


async def ask(
    app: Starlette, path: str, query: bytes = b"", method: str = "GET", body: bytes = b""
) -> tuple[int, bytes]:
    """Return status and body of the answer to one request, without a client that would mend it."""
    sent: list[Any] = []
    bodies = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> dict[str, Any]:
        if bodies:
            return bodies.pop()
        await asyncio.Event().wait()
        return {}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": method, "path": path, "raw_path": path.encode("utf-8", "surrogateescape"),
        "query_string": query, "headers": [(b"host", b"localhost")], "root_path": "", "scheme": "http",
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2), "http_version": "1.1", "asgi": {"version": "3.0"},
    }  # fmt: skip
    await app(scope, receive, send)
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return a function that asks an application with a few records."""
    made = make_settings(tmp_path_factory.mktemp("page"))
    seed(made, numbered(0, 20))
    with asyncio.Runner() as loop:
        app = make_page(made)
        context = page_context(made)

        async def begin() -> None:
            app.state.context = await context.__aenter__()

        loop.run(begin())
        yield lambda *given, **named: loop.run(ask(app, *given, **named))
        loop.run(context.__aexit__(None, None, None))


@example("/records/{id}", "\n0", "")
@example("/records", "", "store=%00")
@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(PATHS), st.text(max_size=40), queries)
def test_any_parameters_have_an_answer(runner: Any, path: str, name: str, query: str) -> None:
    """Good ones a result, others a sentence."""
    status, body = runner(f"/api/v1{path.replace('{id}', name)}", query.encode())
    assert status in {200, 400, 404}, body
    answer = json.loads(body)
    if status != 200:
        assert len(answer["error"]["message"]) > 10
        assert "Traceback" not in answer["error"]["message"]


@settings(max_examples=50)
@given(st.text(max_size=60), st.binary(max_size=100), st.text("ABCDEGPOST", min_size=1, max_size=8))
def test_any_path_method_and_bytes_have_an_answer(runner: Any, path: str, query: bytes, method: str) -> None:
    """Unknown calls are not found."""
    status, body = runner(f"/api/v1/{path}", query, method)
    assert status in {200, 400, 404, 405}, body
    assert json.loads(body)


@settings(max_examples=50)
@given(st.sampled_from(["/searches", "/shares"]), st.binary(max_size=200) | st.just(b"[" * 60_000))
def test_any_body_has_an_answer(runner: Any, path: str, body: bytes) -> None:
    """It is not taken for something else."""
    status, answer = runner(f"/api/v1{path}", b"", "POST", body)
    assert status == 400, answer


def test_large_requests_are_refused(runner: Any) -> None:
    """Unread."""
    assert runner("/api/v1/records", b"q=" + b"a" * (1 << 20))[0] == 413
    assert runner("/api/v1/records", b"q=" + b"(" * 16_000)[0] == 400
    assert runner("/api/v1/searches", b"", "POST", b"x" * (1 << 20))[0] == 413


def test_ten_thousand_requests_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few are answered, the others are told to come again; afterwards everything works as before."""
    made = make_settings(tmp_path)
    seed(made, numbered(0, 20))
    monkeypatch.setattr(search_pool, "WAIT_S", 60.0)
    app = make_page(made)

    async def main() -> None:
        async with contextlib.AsyncExitStack() as stack:
            app.state.context = await stack.enter_async_context(page_context(made))
            answers = await asyncio.gather(*(ask(app, "/api/v1/count") for _ in range(10_000)))
            statuses = Counter(status for status, _ in answers)
            assert statuses.keys() == {200, 503}
            assert statuses[200] <= search_pool.MOST_WAITING + made.web.searches
            assert await ask(app, "/api/v1/count") == (200, b'{"count":20}')

    asyncio.run(main())


def test_a_search_ends_with_its_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over HTTP: the place is free again."""
    made = make_settings(tmp_path, "[web]\nsearches = 1\n")
    seed(made, numbered(0, 20))
    endless = Endless()
    opened = search_pool.open_killable
    monkeypatch.setattr(search_pool, "open_killable", lambda *_: endless)

    async def main() -> None:
        async with serving(make_page(made)) as client:
            asking = asyncio.ensure_future(client.get("/count"))
            await asyncio.to_thread(endless.began.wait, 30)
            monkeypatch.setattr(search_pool, "open_killable", opened)
            asking.cancel()
            assert (await client.get("/count")).json() == {"count": 20}
            assert endless.is_closed

    asyncio.run(main())
