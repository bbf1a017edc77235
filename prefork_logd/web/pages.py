"""Serves the views of the page and their static files.

Owns the frame of each view, which templates draw, and the address of its modules. Does not know who is let in, or
records: the modules in the browser ask the API for them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from starlette.responses import HTMLResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from prefork_logd.web.gate import login_first
from prefork_logd.web.templates import STATIC, render, static_path

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request
    from starlette.routing import BaseRoute
    from starlette.types import Scope

SHARE = "share"
"""Role of the reader of a share link, in the document."""
_LASTING = "public, max-age=31536000, immutable"
"""For static files: their address changes when one of them does."""
_SHARED = (
    "api",
    "detail",
    "dom",
    "frame",
    "json",
    "keyboard",
    "levels",
    "menu",
    "numbers",
    "preferences",
    "query_field",
    "query_text",
    "rights",
    "rows",
    "sharing",
    "state",
    "time",
    "traceback",
    "value_tree",
)


class View(NamedTuple):
    """One view of the page."""

    name: str
    title: str
    path: str
    modules: tuple[str, ...]
    """What the browser loads at once, so that no module waits for the one that imports it."""
    inner: str = ""
    """Path of the pages of single things in this view, which the same template draws."""
    for_shares: bool = False
    """Whether the reader of a share link may see it."""


VIEWS = (
    View(
        "search",
        "Search",
        "/",
        (*_SHARED, "brush", "field_list", "histogram", "patterns", "results", "statistics", "time_range", "tools"),
        for_shares=True,
    ),
    View("tail", "Tail", "/tail", (*_SHARED, "stream"), for_shares=True),
    View(
        "errors",
        "Errors",
        "/errors",
        (
            "api",
            "brush",
            "detail",
            "dom",
            "error_changes",
            "error_group",
            "error_list",
            "frame",
            "group_texts",
            "histogram",
            "json",
            "keyboard",
            "levels",
            "menu",
            "numbers",
            "panel",
            "preferences",
            "query_text",
            "rights",
            "sharing",
            "state",
            "time",
            "traceback",
            "value_tree",
        ),
        inner="/errors/{key}",
    ),
    View(
        "alerts",
        "Alerts",
        "/alerts",
        (
            "alert_actions",
            "alert_form",
            "alert_tables",
            "alert_texts",
            "api",
            "dom",
            "frame",
            "group_texts",
            "json",
            "keyboard",
            "levels",
            "menu",
            "numbers",
            "panel",
            "preferences",
            "rights",
            "state",
            "time",
        ),
    ),
    View(
        "system",
        "System",
        "/system",
        (
            "api",
            "dom",
            "figures",
            "frame",
            "json",
            "keyboard",
            "menu",
            "numbers",
            "panel",
            "panels",
            "preferences",
            "rights",
            "time",
        ),
    ),
)
"""In the order of the navigation."""


def routes() -> list[BaseRoute]:
    """Return the routes of the views and the static files."""
    return [
        *(Route(view.path, _page(view), methods=["GET"], name=view.name) for view in VIEWS),
        *(Route(view.inner, _page(view), methods=["GET"]) for view in VIEWS if view.inner),
        Mount(static_path(), _Static(directory=STATIC), name="static"),
    ]


def _page(view: View) -> Callable[[Request], Awaitable[Response]]:
    async def show(request: Request) -> Response:
        role = _role(request)
        if role == SHARE and not view.for_shares:
            return login_first(request)
        text = render(
            f"{view.name}.html",
            view=view.name,
            title=view.title,
            views=[one for one in VIEWS if one.for_shares or role != SHARE],
            role=role,
            modules=[f"{name}.js" for name in view.modules],
        )
        return HTMLResponse(text, headers={"Cache-Control": "no-store"})

    return show


def _role(request: Request) -> str:
    """Return the role of a reader, for the modules in the browser (static/rights.js)."""
    user = request.scope.get("user")
    return SHARE if getattr(user, "bounds", None) is not None else getattr(user, "role", "")


class _Static(StaticFiles):
    """Files that may be kept for ever."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = _LASTING
        return response
