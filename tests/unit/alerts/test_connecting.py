"""Name servers that do not answer cost no more than the receiver's time."""

from __future__ import annotations

import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from prefork_logd.alerts.receivers import connecting, http
from prefork_logd.alerts.receivers.connecting import connect, own_name
from prefork_logd.alerts.receivers.failures import SendError

if TYPE_CHECKING:
    from collections.abc import Iterator


class NameServers:
    """Name servers that answer when a test lets them; `calls` has the names."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[str] = []
        self.may_answer = threading.Event()
        real = socket.getaddrinfo

        def look_up(host: str, *rest: Any, **named: Any) -> Any:
            self.calls.append(host)
            assert self.may_answer.wait(30)
            return real("127.0.0.1", *rest, **named)

        def name_self() -> str:
            assert self.may_answer.wait(30)
            return "logs.example.org"

        monkeypatch.setattr(socket, "getaddrinfo", look_up)
        monkeypatch.setattr(socket, "getfqdn", name_self)

    def end(self) -> None:
        """Let all threads end."""
        self.may_answer.set()
        for thread in threading.enumerate():
            if thread.name.startswith("look up"):
                thread.join()


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[NameServers]:
    """Return name servers that do not answer."""
    made = NameServers(monkeypatch)
    yield made
    made.end()


def test_a_look_up_ends_in_time(silent: NameServers) -> None:
    """The thread goes on, and the next attempt waits for the same one; then it answers."""
    began_s = time.monotonic()
    with pytest.raises(SendError, match=r"hook\.example:80: no answer from the name servers in time"):
        http.post("http://hook.example/", b"", {}, 0.2, allow_private=False)
    assert time.monotonic() - began_s < 5
    with pytest.raises(SendError, match="in time"):
        connect("hook.example", 80, time.monotonic())
    assert silent.calls == ["hook.example"]
    silent.end()
    assert connecting._running == {}


def test_ports_of_a_host_are_looked_up_apart(silent: NameServers) -> None:
    """The answer has the port."""
    with pytest.raises(SendError):
        connect("hook.example", 1, time.monotonic())
    silent.may_answer.set()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with connect("hook.example", port, time.monotonic() + 10) as sock:
            assert sock.getpeername() == ("127.0.0.1", port)


def test_the_number_of_look_ups_is_bounded(silent: NameServers, monkeypatch: pytest.MonkeyPatch) -> None:
    """Redirects may name many hosts."""
    monkeypatch.setattr(connecting, "MOST_LOOKUPS", 2)
    for name in ("a", "b"):
        with pytest.raises(SendError, match="in time"):
            connect(name, 80, time.monotonic())
    with pytest.raises(SendError, match="c:80: 2 other names wait for the name servers"):
        connect("c", 80, time.monotonic())
    assert silent.calls == ["a", "b"]


def test_the_own_name_for_a_mail_server(silent: NameServers, monkeypatch: pytest.MonkeyPatch) -> None:
    """The address stands for it if it is not known in time, or has no domain."""
    monkeypatch.setattr(connecting, "OWN_NAME_S", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as sock:
        assert own_name(sock, time.monotonic() + 10) == "[127.0.0.1]"
        silent.may_answer.set()
        monkeypatch.setattr(connecting, "OWN_NAME_S", 10.0)
        assert own_name(sock, time.monotonic() + 10) == "logs.example.org"
        monkeypatch.setattr(socket, "getfqdn", lambda: "logs")
        assert own_name(sock, time.monotonic() + 10) == "[127.0.0.1]"
    with socket.socket(socket.AF_INET6) as sock:
        assert own_name(sock, time.monotonic() + 10) == "[IPv6:::]"


def test_an_error_of_the_name_servers_is_that_of_the_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not that of the time."""
    with pytest.raises(SendError, match="is not the name of a host"):
        connect("a" * 64 + ".example", 80, time.monotonic() + 10)

    def fail(*_: Any, **__: Any) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(SendError, match=r"nowhere\.invalid: Name or service not known"):
        http.post("http://nowhere.invalid/", b"", {}, 10, allow_private=False)
