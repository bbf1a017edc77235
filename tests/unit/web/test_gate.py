"""Who reaches a route: by path, method, visitor, and what the browser says of the request's origin."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from starlette.authentication import UnauthenticatedUser
from starlette.responses import PlainTextResponse

from prefork_logd.web.gate import Gate, go_on, local_path
from prefork_logd.web.shares import Bounds
from prefork_logd.web.visitors import Visitor

if TYPE_CHECKING:
    from starlette.authentication import BaseUser
    from starlette.types import Receive, Scope, Send

STRANGER = UnauthenticatedUser()
ADA = Visitor("ada", "admin", "session", csrf="c5f")
PROGRAM = Visitor("ci", "viewer", "token")
SHARE = Visitor("", "viewer", "share", bounds=Bounds("", None, None, None, float("inf")))
REACHED = "reached a route"
CSRF = {"X-CSRF-Token": "c5f"}


def answer(user: BaseUser, path: str, method: str = "GET", client: str = "192.0.2.1", **headers: str) -> httpx.Response:
    """Return the gate's answer to one request; the application behind it answers every path."""
    inner = PlainTextResponse(REACHED)

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await Gate(inner)({**scope, "user": user}, receive, send)

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(application, client=(client, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://logs.example") as browser:
            return await browser.request(method, path, headers=headers)

    return asyncio.run(ask())


def reaches(*arguments: Any, **rest: Any) -> bool:
    return answer(*arguments, **rest).text == REACHED


@pytest.mark.parametrize("path", ["/login", "/logout", "/favicon.ico", "/static/page.css", "/share/x"])
def test_these_paths_are_open_to_strangers(path: str) -> None:
    """Those that the log-in and a share link need."""
    assert reaches(STRANGER, path)


@pytest.mark.parametrize("path", ["/", "/errors/1", "/static", "/loginx", "/LOGIN", "/share", "//static/page.css"])
def test_every_other_page_leads_strangers_to_the_log_in(path: str) -> None:
    """Which leads back to it."""
    found = answer(STRANGER, path + "?q=a%20b")
    assert found.status_code == 303
    assert found.headers["location"].startswith("/login?next=%2F")
    assert found.headers["location"].endswith("%3Fq%3Da%2520b")


@pytest.mark.parametrize("path", ["/api/v1/records", "/metrics"])
def test_programs_without_a_token_are_told_how_to_get_one(path: str) -> None:
    """By the status and header of RFC 9110."""
    found = answer(STRANGER, path)
    assert (found.status_code, found.headers["www-authenticate"]) == (401, "Bearer")
    assert "prefork-logd web token" in found.text


@pytest.mark.parametrize(
    ("client", "headers", "is_let_in"),
    [
        ("127.0.0.1", {}, True),
        ("::1", {}, True),
        ("192.0.2.1", {}, False),
        ("127.0.0.1", {"X-Forwarded-For": "192.0.2.1"}, False),
        ("127.0.0.1", {"Forwarded": "for=192.0.2.1"}, False),
        ("127.0.0.1", {"Via": "1.1 proxy"}, False),
    ],
)
def test_metrics_are_open_to_this_host_itself(client: str, headers: dict[str, str], *, is_let_in: bool) -> None:
    """Not to others through a reverse proxy of this host."""
    assert reaches(STRANGER, "/metrics", client=client, **headers) is is_let_in
    assert not reaches(STRANGER, "/api/v1/records", client=client, **headers)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_a_change_needs_the_csrf_token_of_the_session(method: str) -> None:
    """An API token needs none: no browser sends it by itself."""
    assert reaches(ADA, "/api/v1/searches", method, **CSRF)
    assert reaches(PROGRAM, "/api/v1/searches", method)
    for wrong in ({}, {"X-CSRF-Token": "c5"}, {"X-CSRF-Token": ""}):
        found = answer(ADA, "/api/v1/searches", method, **wrong)
        assert found.status_code == 403
        assert "X-CSRF-Token is missing or wrong" in found.json()["error"]["message"]


@pytest.mark.parametrize(
    ("headers", "is_let_in"),
    [
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "none"}, True),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "http://logs.example"}, False),
        ({"Origin": "http://LOGS.example"}, True),
        ({"Origin": "http://logs.example:81"}, False),
        ({"Origin": "http://evil.example"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": "http://[evil"}, False),
        ({}, True),
    ],
)
def test_a_change_by_a_page_of_another_origin_is_refused(headers: dict[str, str], *, is_let_in: bool) -> None:
    """Also with the right token, and for the log-in, which is open to everybody."""
    assert reaches(ADA, "/api/v1/searches", "POST", **CSRF, **headers) is is_let_in
    assert reaches(STRANGER, "/login", "POST", **headers) is is_let_in
    assert reaches(ADA, "/api/v1/searches", "GET", **headers), "reading changes nothing"


def test_a_share_link_reads_records_only() -> None:
    """Neither changes nor metrics."""
    assert reaches(SHARE, "/api/v1/records")
    for path, method in (("/metrics", "GET"), ("/api/v1/searches", "POST"), ("/api/v1/searches", "DELETE")):
        assert answer(SHARE, path, method).status_code == 403
    assert reaches(ADA, "/metrics")


def test_a_link_on_another_site_is_followed_by_a_request_of_our_own() -> None:
    """The browser has not sent the cookie with it, so the answer leads on instead of to the log-in."""
    found = answer(STRANGER, "/errors/1?q=x", **{"Sec-Fetch-Site": "cross-site"})
    assert (found.status_code, found.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert 'content="0; url=/errors/1?q=x"' in found.text


@pytest.mark.parametrize("target", ["/?q=<script>", '/?q="x', "/?q='x", "/?a=1&b=2", "/\u202e"])
def test_a_page_that_leads_on_holds_the_target_as_text(target: str) -> None:
    """No character of it ends an attribute, or begins a tag."""
    text = bytes(go_on(target).body).decode()
    address = text.partition("url=")[2].partition('"')[0]
    assert not set("<>'\"") & set(address)
    assert text.count('"') == 10


@pytest.mark.parametrize("target", ["/", "/errors/1", "/?q=a%20b", "/loggers"])
def test_a_path_of_this_page_is_gone_to(target: str) -> None:
    """As it was asked for."""
    assert local_path(target) == target


@pytest.mark.parametrize(
    "target",
    [
        "", "errors", "http://evil.example/", "//evil.example", "/\\evil.example", "/a\\b", "\\\\evil.example",
        "/login?next=/", "/logout", "/a\nb", "/" + "x" * 8_000,
    ],
)  # fmt: skip
def test_a_target_that_could_lead_elsewhere_becomes_the_first_page(target: str) -> None:
    """Another site, the log-in again, or the end of the session."""
    assert local_path(target) == "/"
