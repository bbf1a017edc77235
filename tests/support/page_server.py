"""Serves the page's whole application by real HTTP, in a thread of the test's process: login, gate, headers and API."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from typing import TYPE_CHECKING, Any

import httpx

from prefork_logd.config.load import loads
from prefork_logd.processes.web.server import PageServer
from prefork_logd.web.application import make_application
from prefork_logd.web.context import make_context
from tests.support.page import no_status

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    from starlette.types import ASGIApp

    from prefork_logd.config.settings import Settings


class Served:
    """A page that is served at `url`."""

    def __init__(self, url: str, settings: Settings) -> None:
        self.url = url
        self.settings = settings
        self.end: Callable[[], None] = lambda: None
        """Begins the end of the server."""
        self.call: Callable[[Callable[[], object]], object] = lambda _function: None
        """Calls a function in the event loop of the server."""

    def get(self, path: str) -> httpx.Response:
        """Return the answer to one request."""
        return httpx.get(self.url + path, timeout=20)

    def client(self, **rest: Any) -> httpx.Client:
        """Return a browser of its own, which follows no redirect."""
        return httpx.Client(base_url=self.url, timeout=20, **rest)


@contextlib.contextmanager
def serving(
    state_dir: Path,
    toml: str = "",
    application: Callable[[Settings], ASGIApp] | None = None,
    listening: socket.socket | None = None,
    status: Callable[[], Awaitable[dict[str, Any]]] = no_status,
) -> Iterator[Served]:
    """Serve the page with the settings of `toml`, or another application; until the end of the block."""
    settings = loads(toml, "", {"state_dir": str(state_dir)})
    state_dir.mkdir(exist_ok=True)
    sock = listening or socket.create_server(("127.0.0.1", 0))
    sock.setblocking(False)
    if sock.family != socket.AF_UNIX:
        # asyncio does it for sockets that name their protocol; without it each answer waits 40 ms for an ACK.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    scheme = settings.web.scheme
    place = sock.getsockname()
    served = Served(f"{scheme}://127.0.0.1:{place[1]}" if isinstance(place, tuple) else "http://localhost", settings)
    ready, problems = threading.Event(), []

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        context = make_context(settings, status)
        try:
            made = application(settings) if application is not None else make_application(context)
            server = PageServer(made, settings.web, [sock])
            served.call = loop.call_soon_threadsafe
            served.end = lambda: loop.call_soon_threadsafe(server.end) and None
            await server.run_until_ended(ready.set, 2.0)
        finally:
            context.close()

    def run() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:  # noqa: BLE001 - raised in the test
            problems.append(error)
        ready.set()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        ready.wait(20)
        if not problems:
            yield served
    finally:
        if thread.is_alive():
            served.end()
        thread.join(20)
        sock.close()
    if problems:
        raise problems[0]
