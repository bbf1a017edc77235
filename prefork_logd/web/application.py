"""Puts the application together: its layers and its routes.

Owns their order. Does not know sockets or processes.

From the outside: Guard (guard.py, put around this by the server), known host names, who the visitor is,
whose turn it is (request_turns.py), the one-time token, the gate, and then the routes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.routing import Mount

from prefork_logd.errors import StoreError
from prefork_logd.stores.registry import choose_store
from prefork_logd.web import api, monitoring, pages
from prefork_logd.web.gate import Gate, path_of
from prefork_logd.web.headers import KnownHosts
from prefork_logd.web.login import Login, TokenEntrance
from prefork_logd.web.refusal import FAILED, refusal
from prefork_logd.web.request_turns import RequestTurns
from prefork_logd.web.visitors import Visitors

if TYPE_CHECKING:
    from starlette.requests import HTTPConnection, Request
    from starlette.responses import Response

    from prefork_logd.config.settings import Settings
    from prefork_logd.web.context import PageContext


def make_application(context: PageContext) -> Starlette:
    """Return the application for the page of one collector. Raises OSError if its secrets cannot be kept."""
    web = context.settings.web
    visitors = Visitors(web, context.state_dir, _first_store(context.settings))
    login = Login(visitors)
    application = Starlette(
        routes=[*login.routes(), *monitoring.routes(), Mount("/api/v1", routes=api.routes()), *pages.routes()],
        middleware=[
            Middleware(KnownHosts, settings=web),
            Middleware(AuthenticationMiddleware, backend=visitors, on_error=_unauthorized),
            Middleware(RequestTurns, proxies=visitors.proxies, most_connections=web.max_connections),
            Middleware(TokenEntrance, login=login),
            Middleware(Gate),
        ],
    )
    # Starlette sends this and raises the error again, which Guard logs.
    application.add_exception_handler(Exception, _failed)
    application.add_exception_handler(404, missing)
    application.state.context = context
    application.state.status = context.status
    application.state.shares = visitors.shares
    return application


def _first_store(settings: Settings) -> str | None:
    """Return the name of the store that is searched if none is named; None if there is none."""
    try:
        return choose_store(settings, None).name
    except StoreError:
        return None


async def missing(request: Request, _error: Exception) -> Response:
    """Return the answer for a path that no route matches, such as one with a line break."""
    return refusal(path_of(request), 404, "there is no such page or call; /api/v1/openapi.json lists the calls")


async def _failed(request: Request, _error: Exception) -> Response:
    return refusal(path_of(request), 500, FAILED)


def _unauthorized(conn: HTTPConnection, error: Exception) -> Response:
    response = refusal(path_of(conn), 401, str(error))
    response.headers["WWW-Authenticate"] = "Bearer"
    return response
