"""Who sends a request is found by one of four ways in, and what no longer holds lets nobody in."""

from __future__ import annotations

import asyncio
from http.cookies import SimpleCookie
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace
from starlette.authentication import AuthenticationError
from starlette.requests import HTTPConnection
from starlette.responses import Response

from prefork_logd.config.web import WebSettings, WebUserSettings
from prefork_logd.web.users import hash_password, password_mark
from prefork_logd.web.visitors import ADMIN, LOCAL_USER, VIEWER, Visitor, Visitors

if TYPE_CHECKING:
    from pathlib import Path

VERA = WebUserSettings(name="vera", password=hash_password("correct horse"), role="viewer")
SETTINGS = WebSettings(
    user=(VERA,), proxy_header="X-User", trusted_proxies=("10.0.0.1",), proxy_role="viewer", session_lifetime="1h"
)
PROXY = {"client": ("10.0.0.1", 1)}


def request(headers: dict[str, str] | None = None, *, cookies: str = "", **scope: Any) -> HTTPConnection:
    """Return a request with these headers and cookies."""
    given = {**(headers or {}), **({"cookie": cookies} if cookies else {})}
    raw = [(name.lower().encode(), value.encode()) for name, value in given.items()]
    return HTTPConnection({"type": "http", "client": ("192.0.2.7", 1), "scheme": "http", "headers": raw, **scope})


def visitor_of(visitors: Visitors, conn: HTTPConnection) -> Visitor | None:
    """Return who sends a request; the rights are those of the role."""
    found = asyncio.run(visitors.authenticate(conn))
    if found is None:
        return None
    credentials, visitor = found
    assert credentials.scopes == {ADMIN: ["view", "admin"], VIEWER: ["view"]}[visitor.role]
    assert visitor.is_authenticated
    return visitor


def cookies_of(response: Response) -> dict[str, Any]:
    """Return the cookies that a response sets, by name."""
    jar: SimpleCookie = SimpleCookie()
    for name, value in response.raw_headers:
        if name == b"set-cookie":
            jar.load(value.decode())
    return dict(jar)


def with_cookies(response: Response, **scope: Any) -> HTTPConnection:
    """Return the next request of a browser that got this response."""
    return request(cookies="; ".join(f"{name}={one.value}" for name, one in cookies_of(response).items()), **scope)


def logged_in(visitors: Visitors, user: str, by: str, mark: str = "") -> HTTPConnection:
    """Return a request of a browser in which somebody has logged in."""
    response = Response()
    visitors.set_session(request(), response, visitors.sessions.begin(user, by, mark))
    return with_cookies(response)


@pytest.fixture
def visitors(tmp_path: Path) -> Visitors:
    return Visitors(SETTINGS, tmp_path, "archive")


def test_a_stranger_is_nobody(visitors: Visitors) -> None:
    """Without any proof, or with one that belongs to something else."""
    assert visitor_of(visitors, request()) is None
    assert visitor_of(visitors, request({"Authorization": "Basic dmVyYTp4"})) is None
    assert visitor_of(visitors, request({"X-User": "vera"})) is None, "not from the proxy"
    assert visitor_of(visitors, request(cookies="prefork_logd_session_x=y; other=z")) is None


def test_an_api_token_has_a_role(visitors: Visitors) -> None:
    """And comes before every other way in. It needs no token against forged requests."""
    token = visitors.tokens.add("robot", ADMIN, None)
    found = visitor_of(visitors, request({"Authorization": f"bearer  {token} ", "X-User": "vera"}, **PROXY))
    assert found == Visitor("robot", ADMIN, "token")


def test_an_unknown_token_is_an_error(visitors: Visitors) -> None:
    """Also from a trusted proxy: a client that shows one relies on it."""
    with pytest.raises(AuthenticationError, match="unknown or too old; `prefork-logd web token NAME` makes one"):
        visitor_of(visitors, request({"Authorization": "Bearer x", "X-User": "vera"}, **PROXY))


def test_a_session_is_that_of_a_user_with_this_password(visitors: Visitors, tmp_path: Path) -> None:
    """It ends for a user who was removed, or has another password."""
    conn = logged_in(visitors, "vera", "password", password_mark(VERA))
    found = visitor_of(visitors, conn)
    assert found is not None
    assert (found.username, found.role, found.by) == ("vera", VIEWER, "session")
    assert found.csrf == visitors.sessions.csrf(visitors.session_id(conn))
    promoted, changed = replace(VERA, role="admin"), replace(VERA, password=hash_password("other"))
    for users, role in (((promoted,), ADMIN), ((changed,), None), ((), None)):
        again = visitor_of(Visitors(replace(SETTINGS, user=users), tmp_path), conn)
        assert (again.role if again else None) == role


def test_who_came_with_the_one_time_token_administrates(visitors: Visitors) -> None:
    """Only who can read the state directory has it."""
    found = visitor_of(visitors, logged_in(visitors, LOCAL_USER, "token"))
    assert found is not None
    assert (found.display_name, found.role) == (LOCAL_USER, ADMIN)


@pytest.mark.parametrize(("name", "role"), [("vera", ADMIN), ("walt", VIEWER)])
def test_a_proxy_names_its_user(tmp_path: Path, name: str, role: str) -> None:
    """With the role of the configuration, else that of all users of the proxy."""
    visitors = Visitors(replace(SETTINGS, user=(replace(VERA, role="admin"),)), tmp_path)
    found = visitor_of(visitors, request({"X-User": name}, **PROXY))
    assert found == Visitor(name, role, "proxy", visitors.sessions.csrf(f"proxy:{name}"))


@pytest.mark.parametrize("store", [None, "errors"])
def test_a_share_link_has_bounds(visitors: Visitors, store: str | None) -> None:
    """One that names no store is for the first one alone."""
    response = Response()
    text, _ = visitors.shares.sign("level>=ERROR", 1.0, 2.0, store=store)
    visitors.set_share(request(), response, text, 60.0)
    found = visitor_of(visitors, with_cookies(response))
    assert found is not None
    assert found.bounds is not None
    assert (found.role, found.by, found.csrf) == (VIEWER, "share", "")
    assert (found.bounds.q, found.bounds.store) == ("level>=ERROR", store or "archive")


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_cookies_are_for_this_page_alone(visitors: Visitors, scheme: str) -> None:
    """No script reads them, no other site sends them, and by TLS they never go unencrypted."""
    response = Response()
    conn = request(scheme=scheme)
    visitors.set_session(conn, response, "id")
    visitors.set_share(conn, response, "text", 60.9)
    session, share = cookies_of(response).values()
    assert (session.value, session["max-age"], share.value, share["max-age"]) == ("id", "3600", "text", "60")
    for one in (session, share):
        assert (one["path"], one["httponly"], one["samesite"]) == ("/", True, "strict")
        assert bool(one["secure"]) is (scheme == "https")


def test_a_browser_forgets_both_cookies(visitors: Visitors) -> None:
    """As at a logout."""
    response = Response()
    visitors.forget(request(), response)
    assert [(one.value, one["max-age"]) for one in cookies_of(response).values()] == [("", "0")] * 2


def test_collectors_of_one_host_have_cookies_of_their_own(visitors: Visitors, tmp_path: Path) -> None:
    """Browsers send cookies to all ports of a host."""
    other = tmp_path / "other"
    other.mkdir()
    conn = logged_in(visitors, LOCAL_USER, "token")
    assert visitor_of(Visitors(SETTINGS, other), conn) is None
