"""The other end of a connection, in the test's own thread: a socket pair, and the server's half of a session."""

from __future__ import annotations

import contextlib
import socket
import ssl
from typing import TYPE_CHECKING, Any

from prefork_logd.handlers._connector import Connector
from prefork_logd.handlers._fallback import Fallback
from prefork_logd.handlers._link import Link
from prefork_logd.handlers._notices import Notices
from prefork_logd.handlers._options import Options
from prefork_logd.handlers._queue import Queue
from prefork_logd.inputs.session.server import ServerSession

if TYPE_CHECKING:
    from tests.support.authority import Certificate

LIMITS = (1 << 16, (1 << 16) + 64)


class Receiver:
    """A link of no process, whose sockets are one end of a pair each time it connects."""

    def __init__(self, **arguments: Any) -> None:
        self.options = Options("127.0.0.1", 1, **arguments)
        self.notices = Notices("127.0.0.1:1")
        self.counts: dict[str, int] = {}
        self.queue = Queue(self.options, self.notices, self.counts)
        self.connector = Connector(self.options, self.notices, self._make_socket)
        self.fallback = Fallback(self.options, self.notices)
        self.link = Link(self.options, self.queue, self.connector, self.fallback, self.notices, self.counts)
        self.server = ServerSession(*LIMITS)
        self.sock: Any = None
        self._sockets: list[socket.socket] = []

    def _make_socket(self, _: float) -> socket.socket:
        ours, self.sock = socket.socketpair()
        self.sock.setblocking(False)
        self.server = ServerSession(*LIMITS)
        self._sockets += [ours, self.sock]
        return ours

    def add(self, *records: bytes) -> None:
        """Have records to send."""
        for data in records:
            self.queue.add(data, 1.0, None)

    def connect(self) -> None:
        """Connect at once, and say HELLO or send plain frames."""
        self.connector.retry_at = 0.0
        self.link.pump()
        self.connector.take_step()
        self.link.pump()

    def read(self) -> list[Any]:
        """Return what the server understands."""
        return list(self.server.receive(self.read_bytes()))

    def read_bytes(self) -> bytes:
        """Return what has been sent, empty if nothing has."""
        try:
            data: bytes = self.sock.recv(1 << 20)
        except BlockingIOError:
            return b""
        return data

    def answer(self, data: bytes) -> None:
        """Send to the client, and let it act."""
        self.sock.sendall(data)
        self.link.pump()

    def welcome(self, committed: int = 0) -> None:
        """Open the session."""
        self.connect()
        self.read()
        self.answer(self.server.welcome(committed))

    def close(self) -> None:
        """Leave no socket."""
        self.link.close_socket()
        for sock in self._sockets:
            sock.close()


class TlsReceiver(Receiver):
    """A link whose other end speaks TLS: `read_bytes` and `answer` are the content of the TLS records."""

    def __init__(self, certificate: Certificate, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(*certificate)
        self._context.num_tickets = 0

    def greet(self) -> None:
        """Complete the handshake."""
        plain = self.sock
        self.sock = self._context.wrap_socket(plain, server_side=True, do_handshake_on_connect=False)
        self._sockets.append(self.sock)
        for _ in range(3):
            with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLError):
                self.sock.do_handshake()
            self.link.pump()

    def read_bytes(self) -> bytes:
        """As of a Receiver."""
        found = b""
        with contextlib.suppress(ssl.SSLWantReadError):
            while data := self.sock.recv(1 << 16):
                found += data
        return found

    def answer(self, data: bytes) -> None:
        """As of a Receiver."""
        self.sock.send(data)
        self.link.pump()
