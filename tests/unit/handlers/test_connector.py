"""Tries to connect: one address after another, and what blocks only where it is asked for."""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING, Any

import pytest

from prefork_logd.handlers import _connector
from prefork_logd.handlers._connector import Connector
from prefork_logd.handlers._notices import Notices
from prefork_logd.handlers._options import Options
from prefork_logd.handlers._sockets import PENDING

if TYPE_CHECKING:
    from collections.abc import Iterator


class Network:
    """Stands in for the kernel: answers by address."""

    def __init__(self, answers: dict[Any, Any]) -> None:
        self.answers = answers
        self.tried: list[Any] = []
        self.pending: Any = PENDING

    def begin_connect(self, _: int, address: Any) -> tuple[Any, Any]:
        self.tried.append(address)
        answer = self.answers[address]
        return (None if answer == errno.EMFILE else Closable()), answer

    def end_connect(self, _: Any) -> Any:
        return self.pending


class Closable:
    def close(self) -> None:
        pass

    def setblocking(self, _: bool) -> None:
        pass


class ChangedFiles:
    """Stands in for the TlsContext of files that change, and cannot be read."""

    is_read = False

    def has_changed(self) -> bool:
        return not self.is_read

    def renew(self) -> str:
        self.is_read = True
        return "is reached with the certificates that were read before"


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    time = [100.0]
    monkeypatch.setattr(_connector, "monotonic", lambda: time[0])
    return time


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Iterator[Network]:
    made = Network({})
    monkeypatch.setattr(_connector, "begin_connect", made.begin_connect)
    monkeypatch.setattr(_connector, "end_connect", made.end_connect)
    return made


def make(host: str = "localhost", make_socket: Any = None) -> tuple[Connector, Notices]:
    notices = Notices(host)
    return Connector(Options(host, 1), notices, make_socket), notices


def test_the_next_address_is_tried_when_one_refuses(network: Network, now: list[float]) -> None:
    network.answers = {("127.0.0.1", 1): errno.ECONNREFUSED, ("::1", 1): None}
    connector, notices = make()
    sock, is_connected = connector.open(now[0], 0.05)
    assert sock is not None
    assert is_connected
    assert "Connection refused" in notices.trouble
    assert not connector.is_due(now[0])
    assert connector.is_due(now[0] + 0.05)


def test_when_all_refuse_the_first_is_tried_again_later(network: Network, now: list[float]) -> None:
    network.answers = {("127.0.0.1", 1): errno.EMFILE, ("::1", 1): errno.ECONNREFUSED}
    connector, _ = make()
    assert connector.open(now[0], 0.05) == (None, False)
    connector.open(now[0], 0.05)
    assert network.tried == [("127.0.0.1", 1), ("::1", 1)] * 2
    assert connector.step is None


def test_a_try_ends_at_its_time_limit_and_the_next_address_follows_at_once(network: Network, now: list[float]) -> None:
    network.answers = {("127.0.0.1", 1): PENDING, ("::1", 1): PENDING}
    connector, notices = make()
    sock, is_connected = connector.open(now[0], 0.05)
    assert not is_connected
    assert connector.is_connected(sock) is None
    now[0] += 3.1
    assert connector.is_connected(sock) is False
    assert notices.trouble == "cannot be reached: no answer"
    assert connector.retry_at == 0.0
    sock, _ = connector.open(now[0], 0.05)
    network.pending = None
    assert connector.is_connected(sock) is True
    connector.begin_anew()
    connector.open(now[0], 0.05)
    assert network.tried[-1] == ("127.0.0.1", 1)


def test_a_name_is_resolved_where_it_may_block(network: Network, now: list[float], monkeypatch: Any) -> None:
    monkeypatch.setattr(_connector, "resolve", lambda *_: [(socket.AF_INET, "address")])
    network.answers = {"address": None}
    connector, _ = make("logs.example.com")
    assert connector.open(now[0], 0.05) is None
    assert not connector.is_due(now[0] + 1)
    connector.take_step()
    assert connector.step_done.is_set()
    assert connector.is_due(now[0])
    assert connector.open(now[0], 0.05)[1]


def test_a_name_that_is_not_found_is_asked_for_again(network: Network, now: list[float], monkeypatch: Any) -> None:
    def fails(*_: Any) -> Any:
        raise socket.gaierror("no such name")

    monkeypatch.setattr(_connector, "resolve", fails)
    connector, _ = make("logs.example.com")
    assert connector.open(now[0], 0.05) is None
    connector.take_step()
    assert connector.step is None
    assert connector.open(now[0] + 1, 0.05) is None


def test_certificates_that_have_changed_are_read_where_it_may_block(
    network: Network, now: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    """What cannot be read is said once, and those that were read before are used."""
    network.answers = {("127.0.0.1", 1): None}
    connector, _ = make()
    tls = ChangedFiles()
    connector._options.tls = tls
    for _ in range(2):
        tls.is_read = False
        assert connector.open(now[0], 0.05) is None
        assert not tls.is_read
        connector.take_step()
        assert tls.is_read
        assert connector.is_due(now[0])
        assert connector.open(now[0], 0.05)[1]
        connector.begin_anew()
    said = capsys.readouterr().err
    assert said.count("is reached with the certificates that were read before") == 1


def test_an_address_that_has_connected_says_more_than_the_next_one(network: Network, now: list[float]) -> None:
    network.answers = {("127.0.0.1", 1): None, ("::1", 1): errno.ECONNREFUSED}
    connector, notices = make()
    connector.open(now[0], 0.05)
    connector.has_connected = True
    notices.trouble = "is not trusted"
    connector.open(now[0], 0.05)
    assert notices.trouble == "is not trusted"
    network.answers = {("127.0.0.1", 1): errno.EHOSTUNREACH, ("::1", 1): errno.ECONNREFUSED}
    connector.open(now[0], 0.05)
    assert notices.trouble == "cannot be reached: Connection refused"


def test_a_subclass_makes_its_socket_where_it_may_block(network: Network, now: list[float]) -> None:
    made = Closable()
    connector, _ = make(make_socket=lambda timeout: made if timeout == 3.0 else None)
    assert connector.open(now[0], 0.05) is None
    assert connector.take_made_socket() is None
    connector.take_step()
    assert connector.take_made_socket() is made
    assert connector.take_made_socket() is None
    assert network.tried == []
