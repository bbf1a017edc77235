"""Notices by HTTP: a receiver that fails, is slow, answers twice, closes late, or redirects."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from prefork_logd.alerts import sending
from prefork_logd.alerts.receivers import http
from prefork_logd.alerts.receivers.failures import SendError
from prefork_logd.errors import StoreError
from tests.support.alerting import Hook, hooked, reply
from tests.support.certificates import make_certificate
from tests.support.harness import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.alerting import World

    Maker = Callable[..., World]

OVER_0 = 'query = "level>=error"'


def post(url: str, timeout_s: float = 1.0, *, allow_private: bool = False, **headers: str) -> str:
    return http.post(url, b'{"a":1}', {"Idempotency-Key": "x", **headers}, timeout_s, allow_private=allow_private)


@contextlib.contextmanager
def raw_server(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """Give the address of a server that reads a request, and answers one connection after the other by `answer`."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    sock, _ = listening.accept()
                    with sock, contextlib.suppress(OSError):
                        sock.recv(65_536)
                        answer(sock)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/hook"
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_a_request(hook: Hook) -> None:
    """It is a POST with the body, the id, and the name of the program."""
    assert post(f"{hook.url}?key=1") == "200 OK"
    (request,) = hook.requests
    assert (request.path, request.body) == ("/hook?key=1", b'{"a":1}')
    assert request.headers["Host"] == f"127.0.0.1:{hook.port}"
    assert request.headers["User-Agent"].startswith("prefork-logd/")
    assert request.headers["Idempotency-Key"] == "x"


@pytest.mark.parametrize(
    ("status", "headers", "is_refusal", "retry_after"),
    [
        (500, {}, False, 0),
        (503, {"Retry_After": "120"}, False, 120),
        (429, {"Retry_After": "99999999"}, False, 3600),
        (503, {"Retry_After": "Wed, 21 Oct 2015 07:28:00 GMT"}, False, 0),
        (503, {"Retry_After": "soon"}, False, 0),
        (400, {}, True, 0),
        (404, {}, True, 0),
        (302, {"Location": "/"}, True, 0),
    ],
)
def test_statuses_of_failures(
    hook: Hook, status: int, headers: dict[str, str], is_refusal: bool, retry_after: float
) -> None:
    """A receiver that is busy is another thing than one that refuses."""
    hook.answer = lambda handler: reply(handler, status, b"why\x1b[31m not\n", **headers)
    with pytest.raises(SendError, match=str(status)) as caught:
        post(hook.url)
    assert (caught.value.is_refusal, caught.value.retry_after_s) == (is_refusal, retry_after)
    assert "\x1b" not in str(caught.value)
    if status != 302:
        assert "why" in str(caught.value)


def test_a_date_to_retry_after(hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    """As RFC 9110 allows."""
    monkeypatch.setattr(http.time, "time", lambda: 1445412480.0 - 60)
    hook.answer = lambda handler: reply(handler, 503, Retry_After="Wed, 21 Oct 2015 07:28:00 GMT")
    with pytest.raises(SendError) as caught:
        post(hook.url)
    assert caught.value.retry_after_s == 60


def test_answers_of_bad_servers() -> None:
    """Two answers at once, one without an end, one that is late to close, one that is no HTTP: none hangs."""
    good = b"HTTP/1.1 200 OK\r\n\r\n"
    gate = threading.Event()
    with raw_server(lambda sock: sock.sendall(good * 2)) as url:
        assert post(url) == "200 OK"
    with raw_server(lambda sock: sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n")) as url:
        assert post(url) == "200 OK"
    with raw_server(lambda sock: (sock.sendall(good), gate.wait(5))) as url:
        began = time.monotonic()
        assert post(url, 5.0) == "200 OK"
        assert time.monotonic() - began < 3
        gate.set()
    with raw_server(lambda sock: sock.sendall(b"220 smtp ESMTP\r\n")) as url, pytest.raises(SendError):
        post(url)
    with raw_server(lambda _: None) as url, pytest.raises(SendError):
        post(url)
    with (
        raw_server(lambda sock: sock.sendall(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000)) as url,
        pytest.raises(SendError),
    ):
        post(url)


def test_a_server_that_sends_a_byte_now_and_then_gets_its_time_and_no_more() -> None:
    """Each byte alone would be in time."""

    def dribble(sock: socket.socket) -> None:
        while True:
            sock.sendall(b"H")
            if sock.recv(1, socket.MSG_DONTWAIT | socket.MSG_PEEK) == b"":
                return

    def slow(sock: socket.socket) -> None:
        for character in b"HTTP/1.1 200 OK":
            sock.sendall(bytes([character]))
            if gone.wait(0.1):
                return

    gone = threading.Event()
    with raw_server(slow) as url:
        began = time.monotonic()
        with pytest.raises(SendError, match="no answer in time"):
            post(url, 0.5)
        assert time.monotonic() - began < 1.2
        gone.set()
    with raw_server(dribble) as url, pytest.raises(SendError):
        post(url, 0.5)


@pytest.mark.parametrize("status", [307, 308])
def test_a_redirect_to_a_private_address_is_refused(hook: Hook, status: int) -> None:
    """Unless it is allowed; the same host is the operator's own."""
    with hooked() as inner:
        hook.answer = lambda handler: reply(handler, status, Location=inner.url)
        with pytest.raises(SendError, match=r"redirects to a private address, 127\.0\.0\.1, which is not followed"):
            post(hook.url)
        assert inner.requests == []
        assert post(hook.url, allow_private=True, Authorization="Bearer secret") == "200 OK"
        (request,) = inner.requests
        assert request.body == b'{"a":1}'
        assert "Authorization" not in request.headers
    answers = iter([status, 200])
    hook.answer = lambda handler: reply(handler, next(answers), Location="/other")
    assert post(hook.url, Authorization="Bearer secret") == "200 OK"
    assert [(one.path, one.headers["Authorization"]) for one in hook.requests[-2:]] == [
        ("/hook", "Bearer secret"), ("/other", "Bearer secret"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "location",
    ["", "ftp://x", "//user:pass@127.0.0.1/", "http://[::1", "http://127.0.0.1:99999/", "gopher:x", "http://a b/"],
)
def test_a_redirect_to_nowhere(hook: Hook, location: str) -> None:
    """Is an error, also where everything is allowed."""
    hook.answer = lambda handler: reply(handler, 307, Location=location)
    with pytest.raises(SendError, match="redirects to something that is not an address"):
        post(hook.url, allow_private=True)


def test_a_circle_of_redirects_ends(hook: Hook) -> None:
    """After three."""
    hook.answer = lambda handler: reply(handler, 307, Location="/hook")
    with pytest.raises(SendError, match="more than 3 times"):
        post(hook.url)
    assert len(hook.requests) == 4


@pytest.mark.parametrize(
    ("address", "is_private"),
    [
        ("127.0.0.1", True), ("10.1.2.3", True), ("169.254.169.254", True), ("192.168.0.1", True), ("0.0.0.0", True),
        ("100.64.0.1", True), ("::1", True), ("fe80::1%eth0", True), ("fd00::1", True), ("::ffff:10.0.0.1", True),
        ("64:ff9b::a00:1", True), ("2002:7f00:1::", True), ("224.0.0.1", True), ("255.255.255.255", True),
        ("fec0::1", True), ("::127.0.0.1", True), ("::ffff:0:10.0.0.1", True), ("64:ff9b:1::a00:1", True),
        ("3fff::1", True), ("5f00::1", True), ("192.0.0.8", True),
        ("1.1.1.1", False), ("2606:4700::1111", False), ("::ffff:1.1.1.1", False), ("64:ff9b::101:101", False),
    ],
)  # fmt: skip
def test_private_addresses(address: str, is_private: bool) -> None:
    """In every spelling."""
    assert http.is_private(address) == is_private


def test_a_name_that_leads_to_a_private_address(hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    """The address counts, not the name; and it is looked up once."""
    calls: list[str] = []
    real = socket.getaddrinfo

    def lookup(host: str, *rest: Any, **named: Any) -> Any:
        calls.append(host)
        return real("127.0.0.1" if host.endswith(".example") else host, *rest, **named)

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    hook.answer = lambda handler: reply(handler, 307, Location=f"http://inner.example:{hook.port}/")
    with pytest.raises(SendError, match="private address"):
        post(hook.url)
    assert calls == ["127.0.0.1", "inner.example"]


@pytest.mark.slow
def test_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A certificate has to be trusted; a redirect to http is not followed."""
    path, key = make_certificate(tmp_path, "hook")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path, key)
    with hooked() as hook:
        hook._server.socket = context.wrap_socket(hook._server.socket, server_side=True)
        url = hook.url.replace("http:", "https:")
        with pytest.raises(SendError, match="its certificate is not trusted"):
            post(url)
        monkeypatch.setenv("SSL_CERT_FILE", path)
        assert post(url) == "200 OK"
        hook.answer = lambda handler: reply(handler, 307, Location=hook.url)
        with pytest.raises(SendError, match="redirects from https to http"):
            post(url, allow_private=True)


def test_a_receiver_that_fails_is_tried_again(make_world: Maker, hook: Hook) -> None:
    """With growing pauses, and each notice once in the end, in order."""
    world = make_world(OVER_0)
    hook.answer = lambda handler: reply(handler, 500)
    world.log()
    for _ in range(60):
        world.turn()
    assert hook.ids == ["firing"] * 5, "after 0, 2, 6, 14 and 30 seconds"
    hook.answer = lambda handler: reply(handler, 200)
    for _ in range(10):
        world.turn()
    assert hook.ids[5:] == ["firing", "resolved"]
    assert len({request.id for request in hook.requests}) == 2
    assert world.engine.numbers["sent"] == 2


def test_a_receiver_says_when_to_try_again(make_world: Maker, hook: Hook) -> None:
    """By Retry-After."""
    world = make_world(OVER_0)
    hook.answer = lambda handler: reply(handler, 429, Retry_After="40")
    world.log()
    world.turn(turns=40)
    assert hook.ids == ["firing"]
    world.turn(turns=3)
    assert hook.ids == ["firing", "firing"]


def test_a_notice_is_given_up_in_the_end(make_world: Maker, hook: Hook) -> None:
    """It is counted; the end of the incident has a time of its own."""
    world = make_world(OVER_0)
    world.configure('[alerts]\ngive_up = "20s"\n' + _configured(hook))
    hook.answer = lambda handler: reply(handler, 500)
    world.log()
    world.turn(turns=40)
    assert set(hook.ids) == {"firing", "resolved"}
    assert (world.engine.numbers["failed"], world.engine.numbers["waiting"]) == (2, 0)
    hook.answer = lambda handler: reply(handler, 200)
    hook.requests.clear()
    world.turn(turns=40)
    assert hook.requests == []


def test_one_refused_notice_holds_up_no_other(make_world: Maker, hook: Hook) -> None:
    """A receiver that is down is not asked for each of its notices, though."""
    world = make_world(OVER_0)
    hook.answer = lambda handler: reply(handler, 400 if b"other" in hook.requests[-1].body else 200)
    world.configure(_configured(hook) + '[[alert]]\nname = "other"\nevery = "1s"\nsend = ["hook"]\n')
    world.log()
    world.turn()
    assert sorted(json.loads(one.body)["alert"] for one in hook.requests) == ["other", "rule"]
    hook.requests.clear()
    hook.answer = lambda handler: reply(handler, 500)
    world.turn(20)
    world.log()
    world.turn()
    assert len(hook.requests) <= 2


def _configured(hook: Hook) -> str:
    from tests.support.alerting import toml

    return toml(hook, OVER_0)


def test_a_slow_receiver_holds_up_no_other(make_world: Maker, hook: Hook) -> None:
    """Each has a thread; one attempt is under way at a receiver at a time, however often the engine turns."""
    gate = threading.Event()
    with hooked() as slow:
        slow.answer = lambda handler: (gate.wait(10), reply(handler, 200))
        world = make_world(OVER_0)
        other = f'[[receiver]]\nname = "slow"\ntype = "webhook"\nurl = "{slow.url}"\ntimeout = "20s"\n'
        world.configure(other + _configured(hook).replace('send = ["hook"]', 'send = ["slow", "hook"]'))
        world.log()
        for _ in range(5):
            world.monotonic += 1
            world.wall += 1
            world.engine.turn()
        wait_for(lambda: hook.requests and slow.requests, "both")
        assert (hook.ids, slow.ids) == (["firing"], ["firing"])
        gate.set()
        world.turn(turns=12)
        assert (hook.ids, slow.ids) == (["firing", "resolved"], ["firing", "resolved"])


@pytest.mark.parametrize("body", [b"{", b"{}", None], ids=["damaged", "of another release", "of no type"])
def test_a_notice_that_cannot_be_read_holds_up_no_other(make_world: Maker, hook: Hook, body: bytes | None) -> None:
    """It is given up, with the reason."""
    hook.answer = lambda handler: reply(handler, 500)
    world = make_world(OVER_0)
    world.log()
    world.turn()
    assert world.engine._opened is not None
    db = world.engine._opened.ledger.db
    db.execute("UPDATE notices SET body = ?", (body if body is not None else 7,))
    hook.answer = lambda handler: reply(handler, 200)
    hook.requests.clear()
    world.turn(turns=12)
    assert hook.ids == ["resolved"]
    first, second = db.execute("SELECT state, answer FROM notices ORDER BY number").fetchall()
    assert first[0] == "failed"
    assert first[1].startswith("it cannot be read in alerts.db: ")
    assert second[0] == "sent"


def test_a_database_that_cannot_be_written_makes_no_notice_come_twice(
    make_world: Maker, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer is remembered until it can be noted; a failure is not repeated each second meanwhile."""
    world = make_world(OVER_0)

    def full(*_: object) -> None:
        raise StoreError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(sending.Outbox, "mark_sent", full)
        patched.setattr(sending.Outbox, "mark_failed", full)
        world.log()
        for _ in range(20):
            _turn_once(world)
        assert hook.ids == ["firing"]
    for _ in range(20):
        _turn_once(world)
    assert hook.ids == ["firing", "resolved"]
    assert world.engine.numbers["sent"] == 2


def _turn_once(world: World) -> None:
    """Let the engine take a turn, without waiting for what cannot be noted."""
    world.monotonic += 1
    world.wall += 1
    world.engine.turn()
    if world.engine._sending is not None:
        for thread in list(world.engine._sending[1]._threads.values()):
            thread.join()


def test_an_unexpected_error_ends_one_attempt(make_world: Maker, hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    """The notice is tried again later."""
    world = make_world(OVER_0)
    with monkeypatch.context() as patched:
        patched.setattr(sending, "send", lambda *_: 1 // 0)
        world.log()
        world.turn()
    world.turn(turns=4)
    assert hook.ids == ["firing"]
