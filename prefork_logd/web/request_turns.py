"""Lets a few requests begin at a time, so that a flood of them delays nobody else for long.

Owns who is next. Does not know what is asked.

The event loop gives every request that it has a step in each of its turns: with the requests of 450 connections at once
a turn takes as long as hundreds of answers, and an answer takes several turns. So only AT_ONCE requests are worked on
at once. Those who are logged in do not wait for strangers, and visitors do not wait for the many requests of another
one; among the requests of one visitor, the first ones of their connections come first. A request that waits for
something else, such as a search or a client that does not read, makes room after YOUNG_S, and a stream when it begins.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from starlette.requests import HTTPConnection

from prefork_logd.web.attempts import address_key
from prefork_logd.web.gate import path_of
from prefork_logd.web.guard import is_stream
from prefork_logd.web.places import BusyError, Places
from prefork_logd.web.refusal import refusal
from prefork_logd.web.visitors import Visitor

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from prefork_logd.web.proxies import Proxies

AT_ONCE = 4
"""Requests of those who are logged in."""
STRANGERS_AT_ONCE = 2
YOUNG_S = 0.05
"""Time after which a request is no longer counted: it waits for something, or is one of a few long ones."""
EARLIER = "prefork_logd.earlier"
"""Key of a scope: the number of requests that its connection has made before. The server sets it."""
WAIT_S = 10.0
"""Longest wait; afterwards the request is refused."""


class RequestTurns:
    """The application; its requests wait for their turn."""

    def __init__(self, application: ASGIApp, proxies: Proxies, most_connections: int) -> None:
        """Let each visitor wait with as many requests as there may be connections."""
        self._application = application
        self._proxies = proxies
        most_waiting = 2 * most_connections
        self._places = Places(AT_ONCE, wait_s=WAIT_S, most_waiting=most_waiting)
        self._of_strangers = Places(STRANGERS_AT_ONCE, wait_s=WAIT_S, most_waiting=most_waiting)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        conn = HTTPConnection(scope)
        # None on an address that serves metrics alone.
        user = scope.get("user")
        if isinstance(user, Visitor) and user.bounds is None:
            places, name = self._places, f"{user.by}:{user.username}"
        else:
            # A share link may have many readers.
            places, name = self._of_strangers, address_key(self._proxies.client(scope))
        try:
            await places.take(name, scope.get(EARLIER, 0))
        except BusyError:
            response = refusal(path_of(conn), 503, "the page has too many requests at once; try again in a few seconds")
            response.headers["Retry-After"] = "5"
            await response(scope, receive, send)
            return
        turn = _Turn(places, name)
        timer = asyncio.get_running_loop().call_later(YOUNG_S, turn.end)

        async def send_part(message: Message) -> None:
            if message["type"] == "http.response.start" and is_stream(message):
                turn.end()
            await send(message)

        try:
            await self._application(scope, receive, send_part)
        finally:
            timer.cancel()
            turn.end()


class _Turn:
    """A place that is given back once."""

    def __init__(self, places: Places, name: str) -> None:
        self._places = places
        self._name = name
        self._is_over = False

    def end(self) -> None:
        """Give the place to the next request, unless that was done."""
        if not self._is_over:
            self._is_over = True
            self._places.give_back(self._name)
