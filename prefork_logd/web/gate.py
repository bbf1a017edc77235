"""Lets visitors in and keeps strangers out, before any route is reached.

Owns which paths are open to everybody, and which requests have to prove that the page itself has made them. Does not
know how visitors are recognized (visitors.py).
"""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse

from prefork_logd.config.web import is_loopback
from prefork_logd.web.monitoring import PATHS as MONITORING
from prefork_logd.web.proxies import UNIX, peer
from prefork_logd.web.refusal import API, refusal
from prefork_logd.web.shares import PATH as SHARE_PATH
from prefork_logd.web.visitors import Visitor

if TYPE_CHECKING:
    from starlette.requests import HTTPConnection
    from starlette.responses import Response
    from starlette.types import ASGIApp, Receive, Scope, Send

LOGIN, LOGOUT = "/login", "/logout"
_OPEN = (LOGIN, LOGOUT, "/favicon.ico")
_OPEN_BELOW = ("/static/", SHARE_PATH)
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
CSRF_HEADER = "x-csrf-token"


class Gate:
    """The application for visitors."""

    def __init__(self, application: ASGIApp) -> None:
        self._application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope)
        response = self._refuse(request)
        if response is None:
            await self._application(scope, receive, send)
        else:
            await response(scope, receive, send)

    def _refuse(self, request: Request) -> Response | None:
        """Return the answer to a request that may not reach a route; None for one that may."""
        path, user = path_of(request), request.user
        if request.method not in _SAFE and not is_from_here(request):
            return refusal(path, 403, "a page of another origin has made this request; open the page itself")
        if path in _OPEN or path.startswith(_OPEN_BELOW):
            return None
        if not isinstance(user, Visitor):
            return None if path in MONITORING and is_of_this_host(request) else _stranger(request)
        if user.bounds is not None and path in MONITORING:
            return refusal(path, 403, "a share link shows records only; log in for this")
        if request.method in _SAFE:
            return None
        if user.bounds is not None:
            return refusal(path, 403, "a share link can be read only; log in for this")
        if user.csrf and not hmac.compare_digest(user.csrf.encode(), request.headers.get(CSRF_HEADER, "").encode()):
            sentence = "the header X-CSRF-Token is missing or wrong; GET /api/v1/session has its value"
            return refusal(path, 403, sentence)
        return None


def path_of(conn: HTTPConnection) -> str:
    """Return the path that chooses the route.

    Not `conn.url.path`, which is parsed from a text that begins with the header `Host`, and may be another path.
    """
    return str(conn.scope["path"])


def is_from_here(request: Request) -> bool:
    """Tell whether the page itself has made a request, as far as the browser says so.

    Browsers send Sec-Fetch-Site over TLS and to this host, and Origin otherwise. A client that is not a browser sends
    neither header; it has no cookies of others either.
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site in ("same-origin", "none")
    origin = request.headers.get("origin")
    if origin is None:
        return True
    try:
        return urlsplit(origin).netloc.lower() == request.headers.get("host", "").lower()
    except ValueError:
        return False


def is_of_this_host(request: Request) -> bool:
    """Tell whether a program of this host asks for itself, not a reverse proxy for somebody else."""
    headers = request.headers
    is_passed_on = any(name in headers for name in ("forwarded", "x-forwarded-for", "via"))
    address = peer(request.scope)
    return not is_passed_on and (address == UNIX or is_loopback(address))


def _stranger(request: Request) -> Response:
    """Return the answer to somebody who is not logged in."""
    if path_of(request).startswith(API) or path_of(request) in MONITORING:
        response = refusal(
            path_of(request),
            401,
            "log in first, or send a token: `Authorization: Bearer TOKEN` (prefork-logd web token)",
        )
        response.headers["WWW-Authenticate"] = "Bearer"
        return response
    return login_first(request)


def login_first(request: Request) -> Response:
    """Return the answer that leads to the form of the log-in, and back afterwards."""
    query = request.scope["query_string"].decode("latin-1")
    target = path_of(request) + (f"?{query}" if query else "")
    if request.headers.get("sec-fetch-site") == "cross-site" and request.method == "GET":
        return go_on(local_path(target))
    return RedirectResponse(f"{LOGIN}?next={quote(target, safe='')}", 303)


def go_on(target: str) -> HTMLResponse:
    """Return a page that leads on to a path of ours.

    A browser that follows a link of another site sends no cookie with SameSite=Strict, and no redirect changes that;
    the request that this page makes has the cookies.
    """
    address = quote(target, safe="/?&=%:@+,;~-._!*'()$")
    address = address.replace("&", "&amp;").replace("'", "&#39;")
    return HTMLResponse(
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>prefork-logd</title>'
        f'<meta http-equiv="refresh" content="0; url={address}"><p><a href="{address}">Go on</a></p></html>'
    )


def local_path(text: str) -> str:
    """Return a path of this page to go to after a log-in; "/" for anything that could lead elsewhere."""
    is_local = text.startswith("/") and not text.startswith(("//", "/\\", LOGIN, LOGOUT))
    return text if is_local and text.isprintable() and len(text) < 8000 and "\\" not in text else "/"
