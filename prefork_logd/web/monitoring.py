"""Answers /metrics, /healthz and /readyz: as routes of the page, and as an application of its own for `[metrics]`.

Does not know the names of metrics (metrics.py), or who may ask the page (gate.py).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from prefork_logd.errors import ProcessError
from prefork_logd.web.metrics import CONTENT_TYPE, metrics_text, unready_because

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute

    Status = Callable[[], Awaitable[dict[str, Any]]]

PATHS = frozenset({"/metrics", "/healthz", "/readyz"})


STATUS_AGE_S = 0.5
"""How old a status document may be that `[metrics]` answers with: strangers cannot ask the master more often."""


def make_application(status: Status) -> Starlette:
    """Return the application of the addresses of `[metrics]`: these paths alone, for everybody who can reach them."""
    application = Starlette(routes=routes())
    application.state.status = RecentStatus(status)
    return application


class RecentStatus:
    """Asks for the status document, and keeps it for a moment."""

    def __init__(self, status: Status, clock: Callable[[], float] = time.monotonic) -> None:
        self._status = status
        self._clock = clock
        self._document: dict[str, Any] = {}
        self._asked_at = -STATUS_AGE_S

    async def __call__(self) -> dict[str, Any]:
        """Return a document that is no older than STATUS_AGE_S. Raises ProcessError if the collector cannot answer."""
        asked_at = self._clock()
        if asked_at - self._asked_at >= STATUS_AGE_S:
            self._document = await self._status()
            self._asked_at = asked_at
        return self._document


def routes() -> list[BaseRoute]:
    """Return the routes."""
    return [Route("/metrics", _metrics), Route("/healthz", _health), Route("/readyz", _readiness)]


async def _metrics(request: Request) -> Response:
    """Return the metrics; 503 if the collector does not answer, which Prometheus shows as `up == 0`."""
    try:
        text = metrics_text(await _status(request))
    except ProcessError as error:
        return PlainTextResponse(f"{error}\n", 503)
    return PlainTextResponse(text, media_type=CONTENT_TYPE)


async def _health(request: Request) -> Response:
    """Tell whether the master answers: one that does not should be restarted."""
    try:
        await _status(request)
    except ProcessError as error:
        return PlainTextResponse(f"{error}\n", 503)
    return PlainTextResponse("ok\n")


async def _readiness(request: Request) -> Response:
    """Tell whether clients are served; if not, why."""
    try:
        reason = unready_because(await _status(request))
    except ProcessError as error:
        reason = str(error)
    return PlainTextResponse(f"{reason}\n" if reason else "ready\n", 503 if reason else 200)


async def _status(request: Request) -> dict[str, Any]:
    document: dict[str, Any] = await request.app.state.status()
    return document
