"""Answers the calls of the HTTP API: searches, the tail, exports and the state of the collector, as JSON.

Does not know how users log in, or how pages look.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.routing import Route

from prefork_logd.web.api import (
    alerts,
    analysis,
    complete,
    errors,
    export,
    hints,
    openapi,
    records,
    searches,
    session,
    status,
    tail,
    times,
)
from prefork_logd.web.api.endpoint import Endpoint, not_found

if TYPE_CHECKING:
    from starlette.routing import BaseRoute

    from prefork_logd.web.api.endpoint import Call

_CALLS: tuple[Call, ...] = (
    *records.CALLS,
    *analysis.CALLS,
    *complete.CALLS,
    *hints.CALLS,
    *export.CALLS,
    *tail.CALLS,
    *status.CALLS,
    *searches.CALLS,
    *errors.CALLS,
    *alerts.CALLS,
    *session.CALLS,
    *times.CALLS,
)
CALLS = (*_CALLS, openapi.make_call(_CALLS))
"""Every call."""


def routes() -> list[BaseRoute]:
    """Return the routes of the API, to be mounted at /api/v1."""
    paths: dict[str, list[Call]] = {}
    for call in CALLS:
        paths.setdefault(call.path, []).append(call)
    return [
        *(Route(path, Endpoint(calls), methods=None) for path, calls in paths.items()),
        Route("/{rest:path}", _NotFound(), methods=None),
    ]


class _NotFound:
    """An ASGI application; a plain function would be called with a request."""

    __call__ = staticmethod(not_found)
