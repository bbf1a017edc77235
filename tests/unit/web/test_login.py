"""Logging in, out and being kept out, by real HTTP: each way in, and the attacks on it."""

from __future__ import annotations

import re
import socket
import stat
from typing import TYPE_CHECKING
from urllib.parse import quote

import msgspec
import pytest

from prefork_logd.web import attempts, one_time_token
from prefork_logd.web.headers import HEADERS
from prefork_logd.web.page_files import PageFiles
from prefork_logd.web.shares import Shares
from prefork_logd.web.tokens import Tokens
from prefork_logd.web.users import hash_password
from tests.support.page_server import Served, serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import httpx

SESSION = "/api/v1/session"
PASSWORD = "correct horse"
HASH = hash_password(PASSWORD)
USERS = f"""
[[web.user]]
name = "ada"
password = "{HASH}"
role = "admin"
[[web.user]]
name = "ben"
password = "{HASH}"
"""


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Served]:
    """Return a page with two users."""
    with serving(tmp_path / "state", USERS) as served:
        yield served


def files(served: Served) -> PageFiles:
    from pathlib import Path

    return PageFiles(Path(served.settings.server.state_dir))


def token(served: Served) -> str:
    return one_time_token.current(files(served))


def log_in(client: httpx.Client, name: str = "ada", password: str = PASSWORD, **fields: str) -> httpx.Response:
    return client.post("/login", data={"name": name, "password": password, **fields})


def session_cookie(answer: httpx.Response) -> str:
    return next(value for value in answer.headers.get_list("set-cookie") if "prefork_logd_session" in value)


# The one-time token


def test_the_token_lets_in_once(page: Served) -> None:
    """As an admin; the next one is another, and the file can be read by its owner only."""
    first = token(page)
    with page.client() as client, page.client() as other:
        answer = client.get("/", params={"token": first, "q": "a b"})
        assert (answer.status_code, answer.headers["location"]) == (303, "/?q=a+b")
        assert client.get(SESSION).json()["role"] == "admin"
        refused = other.get("/", params={"token": first})
        assert refused.status_code == 401
        assert "used up" in refused.text
        assert other.get(SESSION).status_code == 401
    assert token(page) != first
    path = files(page).path(one_time_token.FILE)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_the_token_can_be_typed(page: Served) -> None:
    """Into the form."""
    with page.client() as client:
        assert client.post("/login", data={"token": token(page), "next": "/tail"}).headers["location"] == "/tail"
        assert client.get(SESSION).status_code == 200


def test_a_used_address_of_somebody_who_is_in_leads_on(page: Served) -> None:
    """It is in the browser's history."""
    first = token(page)
    with page.client() as client:
        client.get("/", params={"token": first})
        answer = client.get("/", params={"token": first})
        assert (answer.status_code, answer.headers["location"]) == (303, "/")


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS"])
def test_only_get_uses_the_token_up(page: Served, method: str) -> None:
    """Programs that look at links send other methods."""
    first = token(page)
    with page.client() as client:
        client.request(method, "/", params={"token": first})
    assert token(page) == first


@pytest.mark.parametrize("kind", ["image", "iframe", "script"])
def test_another_page_cannot_use_up_the_tries(page: Served, kind: str) -> None:
    """Its images with wrong tokens are not tries."""
    with page.client() as client:
        for _ in range(30):
            answer = client.get("/", params={"token": "x"}, headers={"Sec-Fetch-Dest": kind})
            assert answer.status_code == 303
        answer = client.get("/", params={"token": token(page)}, headers={"Sec-Fetch-Dest": "document"})
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
        assert client.get(SESSION).status_code == 200


def test_a_token_that_cannot_be_replaced_lets_nobody_in(page: Served) -> None:
    """It would work twice."""
    first = token(page)
    path = files(page).path(f"{one_time_token.FILE}.new")
    path.mkdir()
    with page.client() as client:
        assert client.get("/", params={"token": first}).status_code == 503
        assert client.get(SESSION).status_code == 401
        path.rmdir()
        assert client.get("/", params={"token": first}).status_code == 303


# Passwords


def test_a_password_lets_in_with_its_role(page: Served) -> None:
    """A new session each time: an id that somebody has planted gives no access (session fixation)."""
    for name, role in (("ada", "admin"), ("ben", "viewer")):
        with page.client() as client:
            cookie_name = session_cookie(log_in(client)).partition("=")[0]
        with page.client(cookies={cookie_name: "planted"}) as client:
            answer = log_in(client, name, next="/tail?q=x")
            assert (answer.status_code, answer.headers["location"]) == (303, "/tail?q=x")
            cookie = session_cookie(answer)
            assert "planted" not in cookie
            assert re.search("; HttpOnly; Max-Age=604800; Path=/; SameSite=strict$", cookie)
            found = client.get(SESSION).json()
            assert (found["user"], found["role"]) == (name, role)
        with page.client(cookies={cookie_name: "planted"}) as attacker:
            assert attacker.get(SESSION).status_code == 401


@pytest.mark.parametrize(
    ("name", "password"),
    [("ada", "wrong"), ("ada", ""), ("", PASSWORD), ("eve", PASSWORD), ("ADA", PASSWORD), ("a" * 5000, "b" * 5000)],
)
def test_a_wrong_name_or_password_is_not_told_apart(page: Served, name: str, password: str) -> None:
    """Neither by the words nor by the status."""
    with page.client() as client:
        answer = log_in(client, name, password)
        assert answer.status_code == 401
        assert "The name or the password is wrong." in answer.text
        assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("body", [b"\xff\xfe", b"&".join(b"a=1" for _ in range(9)), b"name", b""])
def test_a_form_that_is_none_is_refused(page: Served, body: bytes) -> None:
    """Without an error in the log."""
    with page.client() as client:
        answer = client.post("/login", content=body, headers={"Content-Type": "application/x-www-form-urlencoded"})
        assert answer.status_code in (400, 401)


def test_log_ins_that_fail_are_limited(page: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also a right password is not tried then; who succeeds is not limited."""
    monkeypatch.setattr(attempts, "A_MINUTE", 0.01)  # on a busy machine a try would come back meanwhile
    with page.client() as client:
        for _ in range(attempts.FAILURES + 5):
            assert log_in(client).status_code == 303
        for _ in range(attempts.FAILURES):
            assert log_in(client, password="wrong").status_code == 401
        answer = log_in(client)
        assert answer.status_code == 429
        assert int(answer.headers["retry-after"]) > 0
        assert client.get("/", params={"token": "guess"}).status_code == 429


@pytest.mark.parametrize(
    "target",
    [
        "https://evil.example/",
        "//evil.example/",
        "/\\evil.example",
        "\\\\evil",
        "javascript:alert(1)",
        "/\nx",
        "/login",
        "",
    ],
)
def test_a_log_in_leads_to_no_other_site(page: Served, target: str) -> None:
    """An address of ours must not send somebody to a copy of the page."""
    with page.client() as client:
        assert log_in(client, next=target).headers["location"] == "/"


def test_logging_out_ends_the_session_itself(page: Served) -> None:
    """A copy of the cookie is worth nothing afterwards."""
    with page.client() as client:
        value = session_cookie(log_in(client)).partition(";")[0]
        assert client.post("/logout").headers["location"] == "/login"
        assert client.get(SESSION).status_code == 401
        client.cookies.clear()
        assert client.get(SESSION, headers={"Cookie": value}).status_code == 401


def test_sessions_outlive_the_process(tmp_path: Path) -> None:
    """A restart logs nobody out; a new password, or the removal of a user, does. The file holds no usable id."""
    state_dir = tmp_path / "state"
    with serving(state_dir, USERS) as served, served.client() as client:
        cookie = session_cookie(log_in(client)).partition(";")[0]
    assert cookie.partition("=")[2] not in (state_dir / "page" / "sessions.json").read_text()
    with serving(state_dir, USERS) as served, served.client(headers={"Cookie": cookie}) as client:
        assert client.get(SESSION).json()["user"] == "ada"
    changed = USERS.replace(HASH, hash_password("another"), 1)
    for toml in (changed, "", USERS.replace("ada", "eve")):
        with serving(state_dir, toml) as served, served.client(headers={"Cookie": cookie}) as client:
            assert client.get(SESSION).status_code == 401


def test_a_session_ends(page: Served, tmp_path: Path) -> None:
    """After its lifetime, also a lifetime that was shortened."""
    with page.client() as client:
        cookie = session_cookie(log_in(client)).partition(";")[0]
    with (
        serving(tmp_path / "state", f'[web]\nsession_lifetime = "1ms"\n{USERS}') as served,
        served.client(headers={"Cookie": cookie}) as client,
    ):
        assert client.get(SESSION).status_code == 401


# Strangers and other origins


def test_strangers_see_nothing(page: Served) -> None:
    """Pages lead to the form, calls are refused with the remedy."""
    with page.client() as client:
        assert client.get("/tail?q=a&b=c").headers["location"] == "/login?next=%2Ftail%3Fq%3Da%26b%3Dc"
        for path in (SESSION, "/api/v1/records", "/api/v1/nothing", "/api/v1/openapi.json"):
            answer = client.get(path)
            assert answer.status_code == 401
            assert "Authorization: Bearer" in answer.json()["error"]["message"]
        assert "password" in client.get("/login").text


def test_every_answer_keeps_the_browser_safe(page: Served) -> None:
    """Also errors: nobody frames the page, runs a script of another origin in it, or keeps its answers."""
    with page.client() as client:
        answers = [
            client.get("/login"),
            client.get(SESSION),
            client.get("/"),
            client.get("/", headers={"Host": "evil"}),
        ]
        log_in(client)
        answers += [client.get(SESSION), client.get("/nothing"), client.post(SESSION)]
        answers.append(client.post("/login", content=bytes(70_000)))
        # The status document of these tests lacks what the metrics need.
        broken = client.get("/metrics")
        assert broken.status_code == 500
        assert "its log describes" in broken.text
        answers.append(broken)
    for answer in answers:
        for name, value in HEADERS.items():
            assert answer.headers[name] == value
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["referrer-policy"] in ("no-referrer", "same-origin")
        assert "server" not in answer.headers


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 405),
        ({"X-CSRF-Token": "wrong"}, 403),
        ({"X-CSRF-Token": ""}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "null"}, 405),
    ],
)
def test_another_page_cannot_act_for_somebody(page: Served, headers: dict[str, str], status: int) -> None:
    """405: it got as far as the call, which takes no POST."""
    with page.client() as client:
        log_in(client)
        csrf = client.get(SESSION).json()["csrf"]
        answer = client.post(SESSION, headers={"X-CSRF-Token": csrf, **headers})
        assert answer.status_code == status
        if "X-CSRF-Token" in headers:
            assert "X-CSRF-Token" in answer.json()["error"]["message"]


def test_another_page_cannot_log_somebody_in(page: Served) -> None:
    """As the attacker, who would then read what is searched for."""
    with page.client() as client:
        answer = client.post("/login", data={"name": "ada", "password": PASSWORD}, headers={"Origin": "https://evil"})
        assert answer.status_code == 403
        assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "", "127.0.0.2.evil", "10.0.0.1", "[::1", "a:b"]
)
def test_a_foreign_host_name_is_refused(page: Served, host: str) -> None:
    """A page of an attacker whose name leads to this address reads nothing (DNS rebinding)."""
    with page.client() as client:
        log_in(client)
        answer = client.get(SESSION, headers={"Host": host})
        assert answer.status_code == 421
        assert "web.hosts" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:9021", "127.0.0.1:1", "[::1]:9021", "logs.example.org.", "a.localhost"]
)
def test_known_host_names_are_answered(tmp_path: Path, host: str) -> None:
    """Those of this host, and those of the configuration."""
    with (
        serving(tmp_path / "state", '[web]\nhosts = ["logs.example.org"]') as served,
        served.client() as client,
    ):
        assert client.get("/login", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "a/share/.localhost",
        "a/static/x.localhost",
        "localhost/login?",
        "localhost/share/#",
        "[::1]/share/x",
        "a@localhost",
    ],
)
def test_a_path_in_the_host_name_opens_nothing(page: Served, host: str) -> None:
    """Some URLs are made of it; what may be entered depends on the path alone."""
    name, _, port = page.url.removeprefix("http://").rpartition(":")
    for path in ("/api/v1/session", "/"):
        with socket.create_connection((name, int(port)), timeout=10) as sock:
            sock.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            assert re.match(rb"HTTP/1.1 4\d\d ", sock.recv(1000))


@pytest.mark.parametrize(
    "path", ["//api/v1/session", "/share/../api/v1/session", "/static/..%2fapi/v1/session", "/api/v1/session/"]
)
def test_another_spelling_of_a_path_opens_nothing(page: Served, path: str) -> None:
    """As it comes, without a client that tidies it."""
    name, _, port = page.url.removeprefix("http://").rpartition(":")
    with socket.create_connection((name, int(port)), timeout=10) as sock:
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        answer = sock.recv(10_000)
        assert re.match(rb"HTTP/1.1 (3|4)\d\d ", answer)
        assert b"csrf" not in answer


def test_two_host_names_are_refused(page: Served) -> None:
    """A proxy may have checked the other one."""
    host, _, port = page.url.removeprefix("http://").rpartition(":")
    with socket.create_connection((host, int(port)), timeout=10) as sock:
        sock.sendall(b"GET /login HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n")
        assert re.match(rb"HTTP/1.1 4\d\d ", sock.recv(1000))


def test_a_link_on_another_site_finds_the_session(page: Served) -> None:
    """The browser sends no strict cookie with it, so a page of ours makes the request again."""
    with page.client() as client:
        answer = client.get("/tail?q=%3Cb%3E&x='", headers={"Sec-Fetch-Site": "cross-site"})
        assert answer.status_code == 200
        assert 'content="0; url=/tail?q=%3Cb%3E&amp;x=&#39;"' in answer.text
        hostile = client.get("//evil.example/", headers={"Sec-Fetch-Site": "cross-site"})
        assert "evil" not in hostile.text


# API tokens


def test_an_api_token_lets_a_program_in(page: Served) -> None:
    """With its role, without a cookie, and without X-CSRF-Token: no browser sends it by itself."""
    tokens = Tokens(files(page))
    made = tokens.add("ci", "viewer", None)
    header = {"Authorization": f"Bearer {made}"}
    with page.client(headers=header) as client:
        found = client.get(SESSION)
        assert (found.json()["user"], found.json()["role"]) == ("ci", "viewer")
        assert "set-cookie" not in found.headers
        assert client.post(SESSION).status_code == 405
        tokens.remove("ci")
        answer = client.get(SESSION)
        assert answer.status_code == 401
        assert "prefork-logd web token" in answer.json()["error"]["message"]
        assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("header", ["Bearer", "Bearer x", "bearer plt_x", "Bearer \xe4", f"Bearer {'x' * 9000}"])
def test_another_token_does_not(page: Served, header: str) -> None:
    """Not even beside a good session: the client should hear of its mistake."""
    with page.client() as client:
        log_in(client)
        assert client.get(SESSION, headers={"Authorization": header.encode("latin-1")}).status_code == 401
        # A proxy may pass its own credentials on.
        assert client.get(SESSION, headers={"Authorization": "Basic YTpi"}).status_code == 200


# A proxy that has authenticated the user

PROXY = '[web]\nproxy_header = "X-User"\ntrusted_proxies = ["127.0.0.1"]\n'


def test_a_trusted_proxy_names_the_user(tmp_path: Path) -> None:
    """Who is configured has the role given there; such a browser has to prove its origin, too."""
    with serving(tmp_path / "state", PROXY + USERS) as served:
        with served.client(headers={"X-User": "cat"}) as client:
            found = client.get(SESSION).json()
            assert (found["user"], found["role"]) == ("cat", "viewer")
            assert client.post(SESSION).status_code == 403
            assert client.post(SESSION, headers={"X-CSRF-Token": found["csrf"]}).status_code == 405
        with served.client(headers={"X-User": "ada"}) as client:
            assert client.get(SESSION).json()["role"] == "admin"
            assert client.get(SESSION, headers=[("X-User", "ada"), ("X-User", "ben")]).status_code == 401


def test_nobody_else_is_believed(tmp_path: Path, page: Served) -> None:
    """Neither without the setting nor from another address."""
    with page.client(headers={"X-User": "ada", "X-Forwarded-User": "ada"}) as client:
        assert client.get(SESSION).status_code == 401
    with (
        serving(tmp_path / "other", PROXY.replace("127.0.0.1", "10.0.0.1")) as served,
        served.client(headers={"X-User": "ada"}) as client,
    ):
        assert client.get(SESSION).status_code == 401


def test_cookies_are_secure_behind_a_proxy_with_tls(tmp_path: Path, page: Served) -> None:
    """As the trusted proxy says; another client cannot say so."""
    with serving(tmp_path / "other", PROXY + USERS) as served, served.client() as client:
        answer = client.post(
            "/login", data={"name": "ada", "password": PASSWORD}, headers={"X-Forwarded-Proto": "https"}
        )
        assert "; Secure" in session_cookie(answer)
    with page.client(headers={"X-Forwarded-Proto": "https"}) as client:
        assert "; Secure" not in session_cookie(log_in(client))


def test_tries_are_counted_by_the_address_behind_the_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One guesser does not lock out everybody; what the guesser writes before the proxy's own entry does not count."""
    # On a busy machine ten checks of a password take as long as a try needs to come back.
    monkeypatch.setattr(attempts, "A_MINUTE", 1e-3)
    with serving(tmp_path / "state", PROXY + USERS) as served, served.client() as client:
        for number in range(attempts.FAILURES):
            headers = {"X-Forwarded-For": f"10.9.9.{number}, 192.0.2.1"}
            answer = client.post("/login", data={"name": "ada", "password": "x"}, headers=headers)
            assert answer.status_code == 401
        for address, status in (("192.0.2.1", 429), ("192.0.2.2", 401)):
            headers = {"X-Forwarded-For": f"8.8.8.8, {address}"}
            assert client.post("/login", data={"name": "ada"}, headers=headers).status_code == status


# Share links


def test_a_share_link_shows_its_records_only(page: Served) -> None:
    """It leads to its query; every call has its bounds, and nothing can be changed."""
    text, _ = Shares(files(page), 3600).sign("level>=ERROR", 1.5, 2.5)
    with page.client() as client:
        answer = client.get(f"/share/{text}")
        assert "/?q=level%3E%3DERROR&amp;since=%401.500000&amp;until=%402.500000" in answer.text
        found = client.get(SESSION).json()
        assert (found["user"], found["role"]) == ("share link", "viewer")
        assert client.post(SESSION, headers={"X-CSRF-Token": found["csrf"]}).status_code == 403
        for path in ("/metrics", "/healthz", "/api/v1/status", "/api/v1/configuration", "/api/v1/searches"):
            assert client.get(path).status_code == 403, path
        log_in(client)
        client.get(f"/share/{text}")
        assert client.get(SESSION).json()["user"] == "ada"


def test_the_reader_of_a_share_link_sees_no_views_that_are_refused(page: Served) -> None:
    """The others lead to the log-in, which says why, and back to the view."""
    text, _ = Shares(files(page), 3600).sign("level>=ERROR", 1.5, 2.5)
    with page.client() as client:
        client.get(f"/share/{text}")
        found = client.get("/").text
        assert ('data-role="share"' in found, re.findall(r'<a href="(/\w*)"', found)) == (True, ["/", "/tail"])
        for path in ("/errors", "/errors/g1:0", "/alerts?rule=a%2fb", "/system"):
            answer = client.get(path)
            assert (answer.status_code, answer.headers["location"]) == (303, f"/login?next={quote(path, safe='')}")
        assert "Your link shows the records of one search" in client.get(answer.headers["location"]).text
        log_in(client)
        found = client.get("/system").text
        assert ('data-role="admin"' in found, len(re.findall(r'<a href="(/\w*)"', found))) == (True, 5)


def test_a_share_link_without_a_beginning_shows_all_records(page: Served) -> None:
    """The page's own default, the last hour, would show none of them later."""
    text, _ = Shares(files(page), 3600).sign("level>=ERROR", None, 2.5)
    with page.client() as client:
        assert "/?q=level%3E%3DERROR&amp;since=all&amp;until=%402.500000" in client.get(f"/share/{text}").text


def test_a_share_link_is_for_one_store(tmp_path: Path) -> None:
    """Without a name for the first one: its reader cannot ask for another."""
    from tests.support.page import make_settings, seed
    from tests.support.stores import NOW, line

    toml = "".join(f'[[store]]\ntype = "parquet"\nname = "{name}"\npath = "{name}"\n' for name in ("one", "two"))
    settings = make_settings(tmp_path, toml)
    seed(settings, [line(NOW, msg="first")])
    seed(msgspec.structs.replace(settings, store=settings.store[1:]), [line(NOW, msg="first"), line(NOW, msg="first")])
    with serving(tmp_path, toml) as served:
        for store, count in ((None, 1), ("one", 1), ("two", 2)):
            text, _ = Shares(files(served), 3600).sign("first", None, None, store=store)
            with served.client() as client:
                client.get(f"/share/{text}")
                for asked in ({}, {"store": "one"}, {"store": "two"}):
                    assert client.get("/api/v1/count", params=asked).json() == {"count": count}, (store, asked)


def test_a_share_link_of_others_is_none(page: Served, tmp_path: Path) -> None:
    """Signed elsewhere, changed, expired or withdrawn."""
    shares = Shares(files(page), 3600)
    good, _ = shares.sign("a", None, None)
    late = Shares(files(page), 3600, clock=lambda: 0.0).sign("a", None, None)[0]
    foreign = Shares(PageFiles(tmp_path), 3600).sign("a", None, None)[0]
    with page.client() as client:
        for text in (late, foreign, good[1:], good[:-2], good + "A", "x", "x.", "%E2%82%AC.x", "a" * 9000):
            answer = client.get(f"/share/{text}")
            assert answer.status_code == 410, text
            assert "set-cookie" not in answer.headers
        assert client.get(f"/share/{good}").status_code == 200


# The cost of a request


def test_a_long_body_is_refused(page: Served) -> None:
    """Before it is read."""
    with page.client() as client:
        assert client.post("/login", content=b"a" * 70_000).status_code == 413
        assert client.post("/login", content=(b"a" * 1000 for _ in range(70))).status_code == 413


def test_names_in_the_log_are_escaped(page: Served, caplog: pytest.LogCaptureFixture) -> None:
    """Nobody forges a line by a name."""
    with page.client() as client:
        log_in(client, "eve\n2026 INFO all is well\x1b[2J\u202e")
    (line,) = [record.getMessage() for record in caplog.records if "log-in" in record.getMessage()]
    assert line.isprintable()
