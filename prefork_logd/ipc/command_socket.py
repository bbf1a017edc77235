"""Carries questions from the command line to the master, on a socket in state_dir: one line of JSON each way.

Owns the socket in state_dir, half-received requests and half-sent answers. Does not know the verbs.

The path may be longer than the 107 bytes of sun_path (unix(7)), so both sides use a path in /proc/self/fd.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import time
from typing import TYPE_CHECKING, Any

import msgspec

from prefork_logd.config.paths import CONTROL_SOCKET
from prefork_logd.errors import ProcessError
from prefork_logd.net.loop import ENDED, READ, WRITE, Loop
from prefork_logd.system.log import LOGGER, describe_bug
from prefork_logd.system.running import connect
from prefork_logd.system.shield import attempt

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_LONGEST_REQUEST = 4096
_MOST_CLIENTS = 64
_BACKLOG = 1024
"""Large, because connect(2) on a Unix socket fails with EAGAIN when the queue is full, instead of waiting."""
_REQUEST_S = 5.0
"""How long a client may take to send its request."""
_PATIENCE_S = 60.0
"""How long a client is kept after its request: for the answer, and for reading it."""
_FULL_RETRY_S = 0.1
END_VERB = "end"
"""The verb of the question for the exit status; it stops nothing."""
ASK_AGAIN_S = _PATIENCE_S / 2
"""When the question for the exit status has to be asked again, before the master closes its connection."""


class Request(msgspec.Struct):
    """A request of the command line."""

    verb: str
    count: int = 0
    """The number of workers, for the verbs that need one."""


_REQUEST = msgspec.json.Decoder(Request)


def _short_path(directory_fd: int) -> str:
    return f"/proc/self/fd/{directory_fd}/{CONTROL_SOCKET}"


class NoAnswerError(ProcessError):
    """The master has not answered in time: it hangs, or is busy."""


class CommandServer:
    """The master's side."""

    def __init__(
        self,
        loop: Loop,
        state_dir: Path,
        handle_request: Callable[[Request, Callable[[dict[str, Any]], None]], None],
        inherited_fd: int = -1,
    ) -> None:
        """Pass each request to `handle_request`, with the function that takes the answer, now or later.

        Listen on `inherited_fd` if this process had the socket before an upgrade.
        """
        self._loop = loop
        self._handle_request = handle_request
        self._path = state_dir / CONTROL_SOCKET
        self._clients: dict[_Client, None] = {}
        """In the order of their arrival."""
        self._sock = self._listen(state_dir) if inherited_fd < 0 else socket.socket(fileno=inherited_fd)
        self._sock.setblocking(False)
        os.set_inheritable(self._sock.fileno(), False)
        loop.add(self._sock.fileno(), self, READ)

    def _listen(self, state_dir: Path) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._path.unlink(missing_ok=True)
        directory_fd = os.open(state_dir, os.O_DIRECTORY | os.O_CLOEXEC)
        old_umask = os.umask(0o177)
        try:
            sock.bind(_short_path(directory_fd))
        finally:
            os.umask(old_umask)
            os.close(directory_fd)
        sock.listen(_BACKLOG)
        return sock

    def descriptors(self) -> tuple[int, list[int], list[int]]:
        """Return the listening descriptor, those of clients that wait for an answer, and those of new clients."""
        waiting = [client.sock.fileno() for client in self._clients if client.waits]
        new = [client.sock.fileno() for client in self._clients if client.is_new]
        return self._sock.fileno(), waiting, new

    def adopt(self, fd: int, *, waits: bool) -> Callable[[dict[str, Any]], None]:
        """Take over a client from before an upgrade; return the function that answers it. `waits`: it has asked."""
        os.set_inheritable(fd, False)
        client = _Client(self, self._loop, socket.socket(fileno=fd))
        if waits:
            client.wait()
        self._clients[client] = None
        return client.answer

    def ready(self, _events: int, /) -> None:
        """Accept a client; if there are too many, close one that has not asked yet."""
        try:
            sock, _ = self._sock.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                # The socket stays ready, so the loop would spin: watch it again later.
                self._loop.change(self._sock.fileno(), 0)
                self._loop.later(_FULL_RETRY_S, self._listen_again)
            return
        if len(self._clients) >= _MOST_CLIENTS:
            idle = next((client for client in self._clients if not client.waits), None)
            if idle is None:
                sock.close()
                return
            idle.close()
        self._clients[_Client(self, self._loop, sock)] = None

    def _listen_again(self) -> None:
        if self._sock.fileno() >= 0:
            self._loop.change(self._sock.fileno(), READ)

    def answer_request(self, client: _Client, line: bytes) -> None:
        """Answer one request."""
        try:
            request = _REQUEST.decode(line)
        except (ValueError, RecursionError):
            client.answer({"error": "a request is one line: a JSON object with a verb"})
            return
        try:
            self._handle_request(request, client.answer)
        except Exception as error:  # noqa: BLE001 - a request must not end the collector
            LOGGER.error("cannot answer %r: %s", request.verb, describe_bug(error))
            client.answer({"error": describe_bug(error)})

    def forget(self, client: _Client) -> None:
        """Remove a client that has been closed."""
        self._clients.pop(client, None)

    def close(self) -> None:
        """Stop answering, and remove the socket."""
        for client in list(self._clients):
            client.close()
        self._loop.remove(self._sock.fileno())
        self._sock.close()
        self._path.unlink(missing_ok=True)

    def close_in_child(self) -> None:
        """Close, in a child, the descriptors that the fork copied."""
        self._sock.close()
        for client in self._clients:
            client.sock.close()


class _Client:
    """The connection of one command line."""

    def __init__(self, server: CommandServer, loop: Loop, sock: socket.socket) -> None:
        self._server = server
        self._loop = loop
        self.sock = sock
        self._request = b""
        self._answer = b""
        self.waits = False
        """Whether it has asked, and has no answer yet."""
        sock.setblocking(False)
        loop.add(sock.fileno(), self, READ)
        self._patience = loop.later(_REQUEST_S, self.close)

    def ready(self, events: int) -> None:
        """Read the request, or write the answer; an unexpected error ends this client."""
        if not attempt("a request on the control socket", lambda: self._go_on(events)):
            self.close()

    def _go_on(self, events: int) -> None:
        if self._answer:
            self._send()
            return
        if self.waits:
            # Nothing is read before the answer, so only the end of the client is reported.
            if events & ENDED:
                self.close()
            return
        try:
            data = self.sock.recv(_LONGEST_REQUEST)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._request += data
        if not data or len(self._request) > _LONGEST_REQUEST:
            self.close()
        elif self._request.endswith(b"\n"):
            self.wait()
            self._server.answer_request(self, self._request)

    def wait(self) -> None:
        """Stop reading until there is an answer."""
        self.waits = True
        self._patience.cancel()
        self._patience = self._loop.later(_PATIENCE_S, self.close)
        self._loop.change(self.sock.fileno(), 0)

    @property
    def is_new(self) -> bool:
        """Whether nothing was read from it or sent to it."""
        return not self.waits and not self._request and not self._answer

    def answer(self, answer: dict[str, Any]) -> None:
        """Send the answer and close, unless the client has gone meanwhile."""
        self.waits = False
        if self.sock.fileno() >= 0 and not attempt("an answer on the control socket", lambda: self._begin(answer)):
            self.close()

    def _begin(self, answer: dict[str, Any]) -> None:
        self._answer = json.dumps(answer).encode() + b"\n"
        self._send()

    def _send(self) -> None:
        try:
            self._answer = self._answer[self.sock.send(self._answer) :]
        except BlockingIOError:
            pass
        except OSError:
            self._answer = b""
        if self._answer:
            self._loop.change(self.sock.fileno(), WRITE)
        else:
            self.close()

    def close(self) -> None:
        """Close the connection."""
        if self.sock.fileno() < 0:
            return
        self._patience.cancel()
        self._loop.remove(self.sock.fileno())
        self.sock.close()
        self._server.forget(self)


def _ask(state_dir: Path, verb: str, timeout_s: float, **details: int) -> socket.socket:
    """Return the connection on which the answer to a request will come. Raises OSError."""
    sock = connect(state_dir)
    try:
        sock.settimeout(timeout_s)
        sock.sendall(json.dumps({"verb": verb, **details}).encode() + b"\n")
    except OSError:
        sock.close()
        raise
    return sock


class EndQuestion:
    """Asks a collector for the exit status that it will have, which only its parent learns otherwise (wait(2))."""

    def __init__(self, state_dir: Path) -> None:
        """Ask now: the answer comes when the collector ends. Another question takes the place of one that is closed."""
        self._sock: socket.socket | None = None
        with contextlib.suppress(OSError):
            self._sock = _ask(state_dir, END_VERB, _REQUEST_S)

    def close(self) -> None:
        """Withdraw the question."""
        if self._sock is not None:
            self._sock.close()

    def exit_status(self) -> int | None:
        """Return the status of the collector, which has ended; None if it has not told it: it was killed."""
        with contextlib.suppress(OSError, ValueError), self._sock or contextlib.nullcontext() as sock:
            if sock is not None:
                sock.setblocking(False)
                status = json.loads(sock.recv(_LONGEST_REQUEST)).get("exit_status")
                return status if isinstance(status, int) else None
        return None


def send_command(state_dir: Path, verb: str, timeout_s: float, **details: int) -> dict[str, Any]:
    """Send a request to the master of the collector in `state_dir`, and return its answer.

    Raises NoAnswerError if the answer does not come in time, ProcessError if the connection fails.
    """
    deadline_s = time.monotonic() + timeout_s
    data = b""
    try:
        with _ask(state_dir, verb, timeout_s, **details) as sock:
            while not data.endswith(b"\n"):
                sock.settimeout(max(0.001, deadline_s - time.monotonic()))
                piece = sock.recv(65_536)
                if not piece:
                    break
                data += piece
        answer: dict[str, Any] = json.loads(data)
    except (TimeoutError, BlockingIOError):
        # BlockingIOError is EAGAIN of connect(2): the queue is full.
        raise NoAnswerError(
            f"the collector did not answer in {timeout_s:g} s; it may still act on the request"
        ) from None
    except (OSError, ValueError) as error:
        raise ProcessError(f"{state_dir / CONTROL_SOCKET}: no answer from the collector: {error}") from error
    return answer
