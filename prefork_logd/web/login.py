"""Logs in and out: by password, by the one-time token, and by a share link.

Owns the routes for these and the limit of tries. Does not know how a visitor is recognized later (visitors.py).
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlencode

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from prefork_logd.errors import describe_unexpected
from prefork_logd.system.log import RateLimitedLog
from prefork_logd.web import one_time_token
from prefork_logd.web.attempts import Attempts
from prefork_logd.web.gate import LOGIN, LOGOUT, go_on, local_path
from prefork_logd.web.shares import PATH as SHARE_PATH
from prefork_logd.web.shares import parameters_of
from prefork_logd.web.templates import render
from prefork_logd.web.users import find_user, password_mark
from prefork_logd.web.visitors import LOCAL_USER, Visitor, Visitors

if TYPE_CHECKING:
    from starlette.routing import BaseRoute
    from starlette.types import ASGIApp, Receive, Scope, Send

_TOKEN = "token"  # noqa: S105 - the name of a parameter
_MOST_FIELDS = 8
_WRONG_TOKEN = "this token is used up, or wrong; `prefork-logd status` prints a new address"  # noqa: S105
_SHARED = "Your link shows the records of one search. Log in to see more."
_WRONG_PASSWORD = "the name or the password is wrong"  # noqa: S105


class Login:
    """The ways in and out."""

    def __init__(self, visitors: Visitors) -> None:
        self._visitors = visitors
        self._attempts = Attempts()
        # Each check takes 32 MiB and a core.
        self._one_at_a_time = asyncio.Semaphore(1)
        self._log = RateLimitedLog()

    def routes(self) -> list[BaseRoute]:
        """Return the routes, which need no log-in."""
        return [
            Route(LOGIN, self.show, methods=["GET"]),
            Route(LOGIN, self.submit, methods=["POST"]),
            Route(LOGOUT, self.leave, methods=["POST"]),
            Route(f"{SHARE_PATH}{{text}}", self.share, methods=["GET"]),
        ]

    async def show(self, request: Request) -> Response:
        """Show the form; somebody who is logged in is led on."""
        target = local_path(request.query_params.get("next", "/"))
        if isinstance(request.user, Visitor) and request.user.bounds is None:
            return RedirectResponse(target, 303)
        return self._form(target, note=_SHARED if isinstance(request.user, Visitor) else "")

    async def submit(self, request: Request) -> Response:
        """Take the form: a name and a password, or the one-time token."""
        body = await request.body()
        try:
            fields = parse_qs(body.decode(), keep_blank_values=True, max_num_fields=_MOST_FIELDS)
        except ValueError:
            return self._form("/", 400, "the form cannot be read; fill it in again")
        given = {name: values[0] for name, values in fields.items()}
        target = local_path(given.get("next", "/"))
        if given.get(_TOKEN):
            return await self.enter(request, given[_TOKEN], target)
        address = self._visitors.proxies.client(request.scope)
        if wait_s := self._attempts.begin(address):
            return self._too_many(target, wait_s)
        name = given.get("name", "")
        async with self._one_at_a_time:
            user = await asyncio.to_thread(find_user, self._visitors.settings.user, name, given.get("password", ""))
        if user is None:
            self._log.warning("a log-in to the page from %s as %r failed", address, name[:64])
            return self._form(target, 401, _WRONG_PASSWORD)
        self._attempts.succeeded(address)
        return self._begin(request, target, user.name, "password", password_mark(user))

    async def enter(self, request: Request, token: str, target: str) -> Response:
        """Let in with the one-time token."""
        address = self._visitors.proxies.client(request.scope)
        if wait_s := self._attempts.begin(address):
            return self._too_many(target, wait_s)
        try:
            is_right = one_time_token.take(self._visitors.files, token)
        except OSError as error:
            # A token that cannot be replaced would work twice.
            self._log.warning("the one-time token of the page cannot be replaced: %s", describe_unexpected(error))
            return self._form(target, 503, "the token cannot be replaced; see the collector's log")
        if not is_right:
            if isinstance(request.user, Visitor):
                self._attempts.succeeded(address)
                return RedirectResponse(target, 303)
            self._log.warning("a one-time token of the page from %s is not valid", address)
            return self._form(target, 401, _WRONG_TOKEN)
        self._attempts.succeeded(address)
        return self._begin(request, target, LOCAL_USER, "token")

    def _begin(self, request: Request, target: str, user: str, by: str, mark: str = "") -> Response:
        # A new id each time: one that somebody has planted in the browser gives no access.
        visitors = self._visitors
        visitors.sessions.end(visitors.session_id(request))
        response = RedirectResponse(target, 303)
        visitors.set_session(request, response, visitors.sessions.begin(user, by, mark))
        return response

    async def leave(self, request: Request) -> Response:
        """Log out: the session ends here, not only in the browser."""
        self._visitors.sessions.end(self._visitors.session_id(request))
        response = RedirectResponse(LOGIN, 303)
        self._visitors.forget(request, response)
        return response

    async def share(self, request: Request) -> Response:
        """Lead to the records of a share link. Somebody who is logged in keeps all rights."""
        text = request.path_params["text"]
        bounds = self._visitors.shares.read(text)
        if bounds is None:
            return self._form("/", 410, "this share link has expired, or was withdrawn; ask for a new one")
        response = go_on(f"/?{urlencode(parameters_of(bounds))}")
        self._visitors.set_share(request, response, text, bounds.expires - time.time())
        return response

    def _too_many(self, target: str, wait_s: float) -> Response:
        seconds = int(wait_s) + 1
        response = self._form(target, 429, f"too many log-ins have failed; try again in {seconds} s")
        response.headers["Retry-After"] = str(seconds)
        return response

    def _form(self, target: str, status: int = 200, problem: str = "", note: str = "") -> Response:
        problem = f"{problem[:1].upper()}{problem[1:]}." if problem else ""
        text = render(
            "login.html", next=target, problem=problem, note=note, has_users=bool(self._visitors.settings.user)
        )
        # With no-referrer, browsers would send "Origin: null" with the form.
        return HTMLResponse(text, status, {"Referrer-Policy": "same-origin"})


class TokenEntrance:
    """The application; a request for "/?token=..." logs in first."""

    def __init__(self, application: ASGIApp, login: Login) -> None:
        self._application = application
        self._login = login

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["path"] == "/" and scope["method"] == "GET" and b"token=" in scope["query_string"]:
            request = Request(scope)
            # An image or frame of another site could use up the tries of whoever looks at it.
            is_opened = request.headers.get("sec-fetch-dest", "document") == "document"
            if is_opened and (token := request.query_params.get(_TOKEN)):
                rest = [(name, value) for name, value in request.query_params.multi_items() if name != _TOKEN]
                response = await self._login.enter(request, token, local_path(f"/?{urlencode(rest)}" if rest else "/"))
                await response(scope, receive, send)
                return
        await self._application(scope, receive, send)
