"""Answers /metrics, /healthz and /readyz.

Does not know the names of metrics (metrics.py), or who may ask (gate.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import PlainTextResponse
from starlette.routing import Route

from prefork_logd.errors import ProcessError
from prefork_logd.web.metrics import CONTENT_TYPE, metrics_text, unready_because

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute

    from prefork_logd.web.context import PageContext

PATHS = frozenset({"/metrics", "/healthz", "/readyz"})


def routes() -> list[BaseRoute]:
    """Return the routes."""
    return [Route("/metrics", _metrics), Route("/healthz", _health), Route("/readyz", _readiness)]


async def _metrics(request: Request) -> Response:
    """Return the metrics; 503 if the collector does not answer, which Prometheus shows as `up == 0`."""
    try:
        text = metrics_text(await _context(request).status())
    except ProcessError as error:
        return PlainTextResponse(f"{error}\n", 503)
    return PlainTextResponse(text, media_type=CONTENT_TYPE)


async def _health(request: Request) -> Response:
    """Tell whether the master answers: one that does not should be restarted."""
    try:
        await _context(request).status()
    except ProcessError as error:
        return PlainTextResponse(f"{error}\n", 503)
    return PlainTextResponse("ok\n")


async def _readiness(request: Request) -> Response:
    """Tell whether clients are served; if not, why."""
    try:
        reason = unready_because(await _context(request).status())
    except ProcessError as error:
        reason = str(error)
    return PlainTextResponse(f"{reason}\n" if reason else "ready\n", 503 if reason else 200)


def _context(request: Request) -> PageContext:
    context: PageContext = request.app.state.context
    return context
