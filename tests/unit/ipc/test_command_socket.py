"""A request on the control socket costs itself at most: never the collector, and never another request."""

from __future__ import annotations

import contextlib
import json
import socket
from typing import TYPE_CHECKING, Any

import pytest

from prefork_logd.config.paths import CONTROL_SOCKET
from prefork_logd.ipc import command_socket as module
from prefork_logd.ipc.command_socket import END_VERB, CommandServer, EndQuestion, Request
from prefork_logd.net.loop import Loop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

BIG = {"status": "x" * 4_000_000}


class _Served:
    """A console that knows a few verbs, and clients of it."""

    def __init__(self, directory: Path) -> None:
        self.loop = Loop()
        self.asked: list[str] = []
        self.late: list[Callable[[dict[str, Any]], None]] = []
        self.stack = contextlib.ExitStack()
        self._directory = directory
        self.console = CommandServer(self.loop, directory, self._asked)

    def _asked(self, request: Request, answer: Callable[[dict[str, Any]], None]) -> None:
        verb = request.verb
        self.asked.append(verb)
        if verb == "fail":
            raise LookupError("a bug")
        if verb in ("later", END_VERB):
            self.late.append(answer)
        else:
            answer(BIG if verb == "big" else {"verb": verb})

    def client(self, request: bytes = b"") -> socket.socket:
        sock = self.stack.enter_context(socket.socket(socket.AF_UNIX))
        sock.settimeout(5)
        sock.connect(str(self._directory / CONTROL_SOCKET))
        with contextlib.suppress(BrokenPipeError):
            sock.sendall(request)
        self.turns()
        return sock

    def turns(self) -> None:
        for _ in range(6):
            self.loop.turn(0)

    def answer(self, sock: socket.socket) -> Any:
        data = b""
        while not data.endswith(b"\n"):
            self.turns()
            piece = sock.recv(1 << 20)
            if not piece:
                return None
            data += piece
        return json.loads(data)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[_Served]:
    served = _Served(tmp_path)
    yield served
    served.stack.close()
    served.console.close()
    served.loop.close()


@pytest.mark.parametrize(
    "request_bytes",
    [
        b'{"verb":' + b"[" * 4000 + b"\n",
        b"[" * 4095 + b"\n",
        b'{"verb":' * 500 + b"\n",
        b'{"verb": "\xff\xfe"}\n',
        b'{"verb": 7}\n',
        b'{"verb": null}\n',
        b'{"verb": "workers", "count": "many"}\n',
        b'{"verb": ["status"]}\n',
        b"[]\n",
        b"\n",
        b"\x00\x01\n",
        b'{"verb": "status"} {"verb": "status"}\n',
        b'{"verb": "status"}\n{"verb": "status"}\n',
        b'{"verb": 1' + b"0" * 4000 + b"}\n",
        b'{"verb": "fail"}\n',
    ],
)
def test_a_bad_request_gets_an_error(served: _Served, request_bytes: bytes) -> None:
    """Whatever is wrong with it; the next one is answered."""
    assert "error" in served.answer(served.client(request_bytes))
    assert served.answer(served.client(b'{"verb": "status"}\n')) == {"verb": "status"}


def test_an_endless_request_is_ended(served: _Served) -> None:
    """Its client is closed."""
    client = served.client(b"x" * 100_000)
    with contextlib.suppress(ConnectionResetError):
        assert client.recv(1) == b""
    assert not served.console._clients


def test_idle_clients_keep_nobody_out(served: _Served) -> None:
    """With as many as there may be, the oldest that has not asked makes room."""
    idle = [served.client(b'{"verb') for _ in range(100)]
    assert served.answer(served.client(b'{"verb": "status"}\n')) == {"verb": "status"}
    assert idle[0].recv(1) == b""


def test_clients_that_wait_for_an_answer_are_kept(served: _Served) -> None:
    """They are bounded, too: one more is refused, and those get their answers."""
    waiting = [served.client(b'{"verb": "later"}\n') for _ in range(module._MOST_CLIENTS)]
    assert len(served.late) == len(waiting)
    assert served.answer(served.client(b"")) is None
    for answer in served.late:
        answer({"done": True})
    assert all(served.answer(sock) == {"done": True} for sock in waiting)


def test_a_client_asks_once(served: _Served) -> None:
    """Bytes that it sends before its answer are not read; if it goes away, it is forgotten."""
    client = served.client(b'{"verb": "later"}\n')
    with contextlib.suppress(BlockingIOError):
        client.setblocking(False)
        while True:
            client.send(b'{"verb": "status"}\n' * 1000)
    served.turns()
    assert served.asked == ["later"]
    client.close()
    served.turns()
    assert not served.console._clients
    served.late[0]({"done": True})


def test_a_slow_reader_keeps_nobody_waiting(served: _Served) -> None:
    """An answer is written as it is read, while others are answered."""
    slow = served.client(b'{"verb": "big"}\n')
    assert served.answer(served.client(b'{"verb": "status"}\n')) == {"verb": "status"}
    assert served.answer(slow) == BIG


def test_an_answer_that_cannot_be_sent_ends_its_client(served: _Served) -> None:
    """It is a bug, and costs this request."""
    client = served.client(b'{"verb": "later"}\n')
    served.late[0]({"set": {1}})
    assert client.recv(1) == b""
    assert served.answer(served.client(b'{"verb": "status"}\n')) == {"verb": "status"}
    client.close()


def test_the_exit_status_is_told_at_the_end(served: _Served, tmp_path: Path) -> None:
    """Asked before, answered when the collector ends; without an answer there is none."""
    asked, closed = EndQuestion(tmp_path), EndQuestion(tmp_path)
    served.turns()
    closed.close()
    assert served.asked == [END_VERB, END_VERB]
    served.late[0]({"exit_status": 1})
    assert (asked.exit_status(), closed.exit_status()) == (1, None)
    unanswered = EndQuestion(tmp_path)
    served.turns()
    next(iter(served.console._clients)).close()
    assert unanswered.exit_status() is None


def test_no_collector_tells_no_exit_status(tmp_path: Path) -> None:
    """Nobody listens, so there is nothing to wait for."""
    assert EndQuestion(tmp_path).exit_status() is None
