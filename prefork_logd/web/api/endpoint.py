"""Turns requests into calls, and what they return or raise into answers.

Owns who may call, and the status and form of each error. Does not know what any call does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from starlette.authentication import has_required_scope
from starlette.requests import Request
from starlette.responses import Response

from prefork_logd.errors import (
    LogdError,
    ProcessError,
    QueryCancelledError,
    QueryMemoryError,
    QueryTimeoutError,
    StoreError,
    describe_unexpected,
)
from prefork_logd.records.render import escape_json
from prefork_logd.system.log import RateLimitedLog
from prefork_logd.web.api.answers import Error, Problem
from prefork_logd.web.api.parameters import Parameter, ParameterError, TooLargeError, make_filters, read_parameters
from prefork_logd.web.live import TooManyViewersError
from prefork_logd.web.places import BusyError
from prefork_logd.web.refusal import TOO_HEAVY
from prefork_logd.web.search_pool import MOST_RECORDS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from starlette.types import Receive, Scope, Send

    from prefork_logd.query.filters import Filters
    from prefork_logd.web.context import PageContext
    from prefork_logd.web.search_pool import Lease

_log = RateLimitedLog()

T = TypeVar("T")
MOST_BODY_BYTES = 65_536
GONE = 499
"""Status for a client that has closed its connection; it is logged, not sent."""
HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


class NotFoundError(LogdError):
    """There is no such thing; the text says which."""


class ForbiddenError(LogdError):
    """The user may not do this; the text says why."""


class _LevelsNeeded(Exception):  # noqa: N818 - a way out of the parser, not an error
    """A query names a level whose number records have to tell."""


def _needed() -> dict[str, int]:
    raise _LevelsNeeded


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One request with its parameters."""

    request: Request
    values: dict[str, Any]
    body: Any = None
    """What was sent, of the call's type."""

    @property
    def context(self) -> PageContext:
        """What every request shares."""
        context: PageContext = self.request.app.state.context
        return context

    @property
    def bounds(self) -> Any:
        """The bounds of a share link, with `q`, `since` and `until`; None without."""
        return getattr(self.request.user, "bounds", None)

    @property
    def visitor(self) -> str:
        """Who asks, for bounds of each visitor; all readers of share links are one."""
        return f"{getattr(self.request.user, 'by', '')}:{self.request.user.display_name}"

    @property
    def store(self) -> str | None:
        """Name of the store; None for the first one. The reader of a share link sees the store of the link only.

        Raises ParameterError for a name that no store has.
        """
        if self.bounds is not None:
            bound: str | None = self.bounds.store
            return bound
        name: str | None = self.values.get("store")
        known = [store.name for store in self.context.settings.store]
        if name is not None and name not in known:
            raise ParameterError("store", f"store: there is no store {name!r:.100}; configured: {', '.join(known)}")
        return name

    def filters(self, lease: Lease) -> Filters:
        """Return the filters of the parameters and the bounds. Raises ParameterError, StoreError."""
        return make_filters(self.values, lambda: lease.search().levels(), self.bounds)

    async def filters_of_tail(self) -> Filters:
        """Return the same for a tail, which needs no store unless the query names a level that services made."""
        try:
            return make_filters(self.values, _needed, self.bounds)
        except _LevelsNeeded:
            carried = await self.search(lambda lease: lease.search().levels())
            return make_filters(self.values, lambda: carried, self.bounds)

    async def search(self, work: Callable[[Lease], T], most_records: int = MOST_RECORDS) -> T:
        """Return the result of `work`, called in a thread with the store of the parameters.

        Raises as SearchPool.run does; the search is cancelled when the client has gone.
        """
        return await self.context.searches.run(
            work,
            store=self.store,
            deadline_s=self.deadline_s(),
            most_records=most_records,
            gone=self.gone,
            visitor=self.visitor,
        )

    def deadline_s(self) -> float:
        """Return the seconds that the search may take. Raises ParameterError."""
        web, given = self.context.settings.web, self.values.get("deadline_s")
        if given is not None and given > web.longest_deadline_s:
            raise ParameterError(
                "deadline_s", f"deadline_s is at most {web.longest_deadline_s:g} (web.longest_deadline)"
            )
        return web.deadline_s if given is None else float(given)

    async def gone(self) -> None:
        """Return when the client has closed its connection."""
        while (await self.request.receive())["type"] != "http.disconnect":
            pass


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call of the API."""

    path: str
    summary: str
    handle: Callable[[Asked], Awaitable[Any]]
    """Returns a Response, or a value that is sent as JSON."""
    answer: Any = None
    """Type of the value; or the media type of the Response."""
    parameters: Sequence[Parameter] = ()
    method: str = "GET"
    body: Any = None
    """Type of the JSON that is sent with the request; None: nothing is."""
    scope: str = "view"
    for_shares: bool = field(default=True)
    """Whether the reader of a share link may call it."""


class Endpoint:
    """The calls of one path, as an ASGI application."""

    def __init__(self, calls: Sequence[Call]) -> None:
        """Answer with one of these calls, each of another method."""
        self.calls = {call.method: call for call in calls}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope, receive)
        try:
            response = await self._respond(request)
        except Exception as error:  # noqa: BLE001 - ends this request only
            response = error_response(error, request.url.path)
        await response(scope, receive, send)

    async def _respond(self, request: Request) -> Response:
        call = self.calls.get(request.method)
        if call is None:
            allowed = ", ".join(self.calls)
            response = error_answer(405, f"{request.method[:20]} is not a method of this call; use {allowed}")
            response.headers["Allow"] = allowed
            return response
        if not has_required_scope(request, [call.scope]):
            if not request.user.is_authenticated:
                return error_answer(401, "log in first, or send a token: `Authorization: Bearer TOKEN`")
            raise ForbiddenError(
                f"this needs the right {call.scope!r}, which {request.user.display_name!r} does not have"
            )
        if not call.for_shares and getattr(request.user, "bounds", None) is not None:
            raise ForbiddenError("a share link shows records only; log in for this")
        values = read_parameters(request.scope["query_string"], call.parameters)
        body = await _read_body(request, call.body) if call.body is not None else None
        found = await call.handle(Asked(request=request, values=values, body=body))
        return found if isinstance(found, Response) else json_response(found)


async def _read_body(request: Request, kind: Any) -> Any:
    """Return the JSON of a request as a value of a type. Raises ParameterError, TooLargeError."""
    data = b""
    async for piece in request.stream():
        data += piece
        if len(data) > MOST_BODY_BYTES:
            raise TooLargeError(f"the body has more than {MOST_BODY_BYTES:,} bytes; send less")
    try:
        return msgspec.json.decode(data, type=kind)
    except (ValueError, RecursionError) as error:
        raise ParameterError("", f"the body is not as it has to be: {error}") from None


def json_response(value: Any, status: int = 200) -> Response:
    """Return a value as JSON."""
    return Response(encode(value), status, {**HEADERS}, "application/json")


def encode(value: Any) -> bytes:
    r"""Return a value as JSON: a lone surrogate as `\udcff`, a number that JSON cannot hold as null.

    Characters that control a terminal are escaped, as in stored lines: an answer may be shown on one.
    """
    try:
        return escape_json(msgspec.json.encode(value))
    except (UnicodeEncodeError, OverflowError):
        import json  # noqa: PLC0415 - rare

        return json.dumps(_plain(msgspec.to_builtins(value)), separators=(",", ":")).encode()


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [*map(_plain, value)]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def error_answer(status: int, message: str, parameter: str | None = None, column: int | None = None) -> Response:
    """Return an error as JSON."""
    return json_response(Problem(Error(message, parameter, column)), status)


def error_response(error: Exception, path: str) -> Response:
    """Return the answer for an exception of a call to a path."""
    match error:
        case ParameterError():
            return error_answer(400, str(error), error.parameter, error.column)
        case TooLargeError():
            return error_answer(413, str(error))
        case ForbiddenError():
            return error_answer(403, str(error))
        case NotFoundError():
            return error_answer(404, str(error))
        case QueryCancelledError():
            return error_answer(GONE, str(error))
        case QueryMemoryError():
            # Not 503: the same query would need as much memory again.
            return error_answer(TOO_HEAVY, str(error))
        case QueryTimeoutError():
            return error_answer(504, str(error))
        case BusyError() | TooManyViewersError() | StoreError() | ProcessError():
            return _later(str(error))
        case MemoryError():
            return _later("the page has no memory for the answer now; try again in a few seconds (web.memory_bytes)")
    _log.warning("%r: the request failed: %s", path[:200], describe_unexpected(error))
    return error_answer(500, "the request failed because of an error of the collector, which its log describes")


def _later(message: str) -> Response:
    response = error_answer(503, message)
    response.headers["Retry-After"] = "3"
    return response


async def not_found(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a request for a path that is not a call."""
    response = error_answer(404, "there is no such call; /api/v1/openapi.json lists all of them")
    await response(scope, receive, send)
