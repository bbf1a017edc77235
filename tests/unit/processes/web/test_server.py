"""The server bounds what a connection costs, and its end waits for no stream."""

from __future__ import annotations

import signal
import socket
import ssl
from typing import TYPE_CHECKING

import httpx
import pytest

from prefork_logd.errors import ProcessError
from prefork_logd.processes.web import heads, server
from prefork_logd.web import request_turns
from prefork_logd.web.proxies import Proxies
from prefork_logd.web.request_turns import RequestTurns
from tests.support.certificates import make_certificate
from tests.support.harness import wait_for
from tests.support.page_app import App
from tests.support.page_server import Served, serving

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.types import Receive, Scope, Send

    from prefork_logd.config.settings import Settings


def connect(served: Served) -> socket.socket:
    host, _, port = served.url.removeprefix("http://").rpartition(":")
    return socket.create_connection((host, int(port)), timeout=10)


def test_the_end_waits_for_answers_and_not_for_streams(tmp_path: Path) -> None:
    """A stop of the collector takes no longer because somebody watches."""
    with serving(tmp_path, application=App) as served, served.client() as client, connect(served) as slow:
        with client.stream("GET", "/events") as stream:
            chunks = stream.iter_raw()
            assert next(chunks) == b": hello\n\n"
            slow.sendall(b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert served.get("/").text == "done"
            served.end()
            assert b"".join(chunks) == b"done"
        assert b"200 OK" in slow.recv(1000)


def test_connections_are_bounded(tmp_path: Path) -> None:
    """Those above the bound are closed at once; when others have gone, there is room again."""
    with serving(tmp_path, "[web]\nmax_connections = 20", App) as served:
        held = [connect(served) for _ in range(10)]
        for sock in held:
            sock.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert sock.recv(100)
        with connect(served) as more:
            assert more.recv(100) == b""
        for sock in held:
            sock.close()
        wait_for(lambda: _answers(served), "an answer")


def _answers(served: Served) -> bool:
    try:
        return served.get("/").text == "done"
    except httpx.HTTPError:
        return False


def test_a_head_that_does_not_come_ends_the_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that comes byte by byte, and the second one of a connection."""
    monkeypatch.setattr(server, "HEAD_S", 0.2)
    with serving(tmp_path, application=App) as served:
        with connect(served) as idle:
            assert idle.recv(100) == b""
        with connect(served) as slow:
            slow.sendall(b"GET / HTTP/1.1\r\nX: ")
            assert slow.recv(100) == b""
        with connect(served) as second:
            second.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\nGET /second")
            answer = b""
            while chunk := second.recv(1000):
                answer += chunk
            assert answer.count(b"200 OK") == 1


def test_a_long_answer_is_not_taken_for_a_missing_head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time ends with the request's head."""
    monkeypatch.setattr(server, "HEAD_S", 0.1)
    with serving(tmp_path, application=App) as served:
        assert served.get("/slow").text == "done"


def test_a_client_that_does_not_read_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its answer would hold memory, and its connection a place."""
    monkeypatch.setattr(server, "STALL_S", 0.2)
    with serving(tmp_path, application=App) as served, connect(served) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.sendall(b"GET /endless HTTP/1.1\r\nHost: localhost\r\n\r\n")
        wait_for(lambda: App.last.gone, "the end")
        assert App.last.gone == "http.disconnect"


def test_a_head_has_a_bound(tmp_path: Path) -> None:
    """A client cannot fill the memory with headers."""
    with serving(tmp_path, application=App) as served, served.client() as client:
        assert client.get("/", headers={"X-Long": "a" * 1000}).text == "done"
        with connect(served) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\nX-Long: " + b"a" * heads.MOST_HEAD_BYTES + b"\r\n")
            assert b"400 Bad Request" in sock.recv(1000)


def test_a_head_of_too_many_lines_is_refused(tmp_path: Path) -> None:
    """h11 would take 40 ms for it, in which nobody else gets an answer."""
    with serving(tmp_path, application=App) as served:
        with connect(served) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"a: b\r\n" * heads.MOST_HEAD_LINES)
            assert b"400 Bad Request" in sock.recv(1000)
        assert not App.last.begun
        assert served.get("/").text == "done"


def test_a_body_of_too_many_chunks_is_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A megabyte of chunks of one byte would take 10 s, in which nobody else gets an answer."""
    with serving(tmp_path, application=App) as served:
        with connect(served) as sock:
            sock.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
            sock.sendall(b"1\r\na\r\n" * (heads.MOST_CHUNKS + 1))
            answer = b""
            while part := sock.recv(1000):
                answer += part
            assert b"400 Bad Request" in answer
        assert served.get("/").text == "done"
    assert not caplog.records


class StrangersTurns:
    """The application, whose requests wait for their turn as those of strangers do."""

    def __init__(self, settings: Settings) -> None:
        self._turns = RequestTurns(App(settings), Proxies(settings.web), settings.web.max_connections)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["user"] = None
        await self._turns(scope, receive, send)


def test_a_flood_of_requests_in_a_row_delays_a_new_client_little(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first requests of connections come before later ones; every request is answered in the end."""
    monkeypatch.setattr(request_turns, "YOUNG_S", 1000.0)
    clients, each = 60, 8
    with serving(tmp_path, application=StrangersTurns) as served, connect(served) as visitor:
        flood = [connect(served) for _ in range(clients)]
        for sock in flood:
            sock.sendall(b"GET /held HTTP/1.1\r\nHost: localhost\r\n\r\n" * each)
        wait_for(lambda: len(App.last.begun) == request_turns.STRANGERS_AT_ONCE, "a request at each place")
        visitor.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        served.call(App.last.may_go_on.set)
        assert b"200 OK" in visitor.recv(1000)
        for sock in flood:
            answers = b""
            while answers.count(b"done") < each:
                answers += sock.recv(65_536)
            sock.close()
        assert App.last.begun.index("/") < 2 * clients


def test_garbage_is_answered_and_logged_by_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A client could fill the log otherwise."""
    with serving(tmp_path, application=App) as served:
        with connect(served) as sock:
            sock.sendall(b"\x16\x03\x01\x00\xff garbage\r\n\r\n")
            assert b"400 Bad Request" in sock.recv(1000)
        assert served.get("/").text == "done"
    assert not caplog.records


@pytest.mark.slow
def test_answers_are_encrypted_with_a_certificate(tmp_path: Path) -> None:
    """By the page itself, without a proxy."""
    path, key = make_certificate(tmp_path)
    toml = f'[web]\ncertificate = "{path}"\nkey = "{key}"'
    trust = ssl.create_default_context(cafile=path)
    with serving(tmp_path, toml, App) as served, served.client(verify=trust) as client:
        assert served.url.startswith("https:")
        assert client.get("/").text == "done"


@pytest.mark.parametrize("content", ["", "garbage"])
def test_a_certificate_that_cannot_be_used_is_an_error(tmp_path: Path, content: str) -> None:
    """With the setting and a remedy."""
    path = tmp_path / "page.pem"
    if content:
        path.write_text(content)
    with (
        pytest.raises(ProcessError, match=r"web\.certificate, web\.key: .*name a matching pair"),
        serving(tmp_path, f'[web]\ncertificate = "{path}"\nkey = "{path}"', App),
    ):
        pytest.fail("it serves")


def test_signals_are_left_alone(tmp_path: Path) -> None:
    """The master decides about the end of its children."""
    before = signal.getsignal(signal.SIGTERM)
    with serving(tmp_path, application=App):
        assert signal.getsignal(signal.SIGTERM) is before


def test_answers_that_nobody_reads_are_bounded(tmp_path: Path) -> None:
    """Together: the connection that waits longest is closed, and others are served."""
    with serving(tmp_path, '[web]\nmemory_bytes = 268435456\nbind = ["127.0.0.1:9021"]', App) as served:
        first, second = connect(served), connect(served)
        for sock in (first, second):
            sock.sendall(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
            sock.settimeout(20)
            assert sock.recv(12) == b"HTTP/1.1 200"
        assert served.get("/").text == "done"
        assert _read_all(first) < 48 << 20
        assert _read_all(second) > 48 << 20
        first.close()
        second.close()


def _read_all(sock: socket.socket) -> int:
    """Return the number of bytes until the end of an answer, or of the connection."""
    nbytes = 0
    while nbytes <= 48 << 20:
        try:
            data = sock.recv(1 << 20)
        except ConnectionResetError:
            break
        if not data:
            break
        nbytes += len(data)
    return nbytes


@pytest.mark.slow
def test_connections_without_a_handshake_are_bounded(tmp_path: Path) -> None:
    """With TLS they count from the beginning: each has memory already."""
    certificate, key = make_certificate(tmp_path)
    toml = f'[web]\nmax_connections = 20\ncertificate = "{certificate}"\nkey = "{key}"'
    with serving(tmp_path, toml, App) as served:
        port = int(served.url.rpartition(":")[2])
        held = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(10)]
        with socket.create_connection(("127.0.0.1", port), timeout=10) as more:
            assert more.recv(100) == b""
        for sock in held:
            sock.close()
        wait_for(lambda: _has_tls(port), "a handshake")


def _has_tls(port: int) -> bool:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as sock, context.wrap_socket(sock):
            return True
    except OSError:
        return False
