"""Serves the page's application over a store of seeded records, without a login: for tests, and to try it by hand.

python -m tests.support.page --records 100000 --port 8021 --rate 50
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.authentication import AuthCredentials, AuthenticationBackend, SimpleUser
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.routing import Mount

from prefork_logd.config.load import load, loads
from prefork_logd.config.paths import JOURNAL_DIRECTORY
from prefork_logd.stores.registry import make_store
from prefork_logd.web.api import routes
from prefork_logd.web.application import missing
from prefork_logd.web.context import PageContext, make_context
from prefork_logd.web.page_files import PageFiles
from prefork_logd.web.shares import Bounds, Shares
from tests.support.record_logs import GrowingLog
from tests.support.stores import JOURNAL, block, never

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from starlette.requests import HTTPConnection

    from prefork_logd.config.settings import Settings

LIVE_JOURNAL = "fedcba9876543210" * 2
"""The id of the journal of records that come while the page is served."""
TURN_S = 0.02
_SEED_AT_ONCE = 50_000


class Anybody(AuthenticationBackend):
    """Lets everybody in, with these rights."""

    def __init__(self, scopes: Sequence[str] = ("view", "admin"), bounds: Any = None) -> None:
        self._scopes = scopes
        self._bounds = bounds

    async def authenticate(self, _conn: HTTPConnection) -> tuple[AuthCredentials, SimpleUser]:
        """Return the user `tester`."""
        user = SimpleUser("tester")
        user.role = "admin" if "admin" in self._scopes else "viewer"  # type: ignore[attr-defined]
        user.bounds = self._bounds  # type: ignore[attr-defined]
        return AuthCredentials(self._scopes), user


def bounds(q: str, since: str | None = None, until: str | None = None, store: str | None = None) -> Bounds:
    """Return the bounds of a share link that does not expire."""
    return Bounds(q, since, until, store, float("inf"))


async def no_status() -> dict[str, Any]:
    """Return the status document of a collector that has nothing."""
    return {"version": "0", "pid": 1, "children": [], "stores": [], "outputs": []}


def make_settings(state_dir: Path, text: str = "") -> Settings:
    """Return the settings of a configuration file with this text, which is written."""
    path = state_dir / "prefork-logd.toml"
    path.write_text(text)
    return loads(text, str(path), {"state_dir": str(state_dir)})


def seed(settings: Settings, lines: Sequence[bytes], first: int = 0, journal: str = JOURNAL, store: int = 0) -> None:
    """Put lines into a store of these settings, with the numbers from `first` on."""
    opened = make_store(settings.store[store])
    with contextlib.closing(opened):
        opened.open(journal)
        opened.write([block(first, [*lines])], never)


def _fleet_lines() -> Any:
    """Return the module of the lines, which lies beside the benchmarks."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
    import _fleet_lines

    return _fleet_lines


def seed_fleet(settings: Settings, count: int, days: float = 1.0) -> None:
    """Put records of a mixed fleet into the store, spread over so many days until now."""
    step_s = days * 86_400 / count
    start = time.time() - days * 86_400
    for first in range(0, count, _SEED_AT_ONCE):
        some = min(_SEED_AT_ONCE, count - first)
        seed(settings, _fleet_lines().lines(first, some, start, step_s), first)


@contextlib.asynccontextmanager
async def page_context(settings: Settings) -> AsyncIterator[PageContext]:
    """Give the context of a collector with these settings, which does not run."""
    context = make_context(settings, no_status)
    try:
        yield context
    finally:
        context.close()


def make_page(settings: Settings, backend: AuthenticationBackend | None = None) -> Starlette:
    """Return the application; its life span opens and closes the context."""

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with page_context(settings) as context:
            app.state.context = context
            app.state.shares = Shares(PageFiles(context.state_dir), settings.web.share_lifetime_s)
            yield

    return Starlette(
        routes=[Mount("/api/v1", routes=routes())],
        middleware=[Middleware(AuthenticationMiddleware, backend=backend or Anybody())],
        lifespan=lifespan,
        exception_handlers={404: missing},
    )


@contextlib.asynccontextmanager
async def serving(app: Starlette) -> AsyncIterator[httpx.AsyncClient]:
    """Serve an application on a port of its own in this event loop, and give a client of its API."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", timeout_graceful_shutdown=1))
    serve = asyncio.ensure_future(server.serve())
    try:
        while not server.started and not serve.done():  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}/api/v1", timeout=30) as client:
            yield client
    finally:
        app.state.context.live.close()
        server.should_exit = True
        await serve


class Event(NamedTuple):
    """A Server-Sent Event."""

    name: str
    id: str
    data: Any
    """The JSON in it."""


async def read_events(answer: httpx.Response) -> AsyncIterator[Event]:
    """Yield the events of an answer."""
    fields: dict[str, str] = {}
    async for line in answer.aiter_lines():
        name, _, value = line.partition(": ")
        if not line and "data" in fields:
            yield Event(fields["event"], fields.get("id", ""), json.loads(fields["data"]))
        if not line:
            fields = {}
        elif name:
            fields[name] = value


class Client:
    """Calls an application in this process, one request at a time."""

    def __init__(self, app: Starlette, base: str = "http://127.0.0.1/api/v1") -> None:
        """Start the application."""
        self._runner = asyncio.Runner()
        self._lifespan = app.router.lifespan_context(app)
        self._runner.run(self._lifespan.__aenter__())
        self._http = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=base)

    def request(self, method: str, path: str, **given: Any) -> httpx.Response:
        """Return the answer to a request."""
        return self._runner.run(self._http.request(method, path, **given))

    def get(self, path: str, **params: Any) -> httpx.Response:
        """Return the answer to GET with parameters."""
        return self.request("GET", path, params=params)

    def close(self) -> None:
        """Stop the application."""
        self._runner.run(self._http.aclose())
        self._runner.run(self._lifespan.__aexit__(None, None, None))
        self._runner.close()


def _grow(log: GrowingLog, rate: int) -> None:
    """Commit so many records a second."""
    began, lines = time.monotonic(), _fleet_lines().lines
    while rate:
        time.sleep(TURN_S)
        count = int((time.monotonic() - began) * rate) - log.next
        if count > 0:
            log.add(lines(log.next, count, time.time() - log.next / rate, 1 / rate))


def main() -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--days", type=float, default=1.0)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--rate", type=int, default=0, help="new records a second, for the tail")
    parser.add_argument("--state-dir", type=Path, help="an existing state directory, which is not seeded")
    given = parser.parse_args()
    with contextlib.ExitStack() as resources:
        state_dir = given.state_dir
        if state_dir is None:
            state_dir = Path(resources.enter_context(tempfile.TemporaryDirectory()))
            seed_fleet(make_settings(state_dir), given.records, given.days)
            log = GrowingLog(state_dir / JOURNAL_DIRECTORY, LIVE_JOURNAL, 16 << 20)
            threading.Thread(target=_grow, args=(log, given.rate), daemon=True).start()
        settings = make_settings(state_dir) if given.state_dir is None else load(None, {"state_dir": str(state_dir)})
        uvicorn.run(make_page(settings), port=given.port, log_level="info")


if __name__ == "__main__":
    main()
