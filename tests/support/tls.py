"""Provides a collector whose clients speak TLS, and clients that do it step by step, for tests."""

from __future__ import annotations

import contextlib
import ssl
from typing import TYPE_CHECKING

from tests.support.harness import DEADLINE_S, Collector

if TYPE_CHECKING:
    import socket

    from tests.support.authority import Authority


def client_context(authority: Authority | None, certificate: tuple[str, str] | None = None) -> ssl.SSLContext:
    """Return the context of a client that trusts `authority` (None: everybody), and has a certificate on demand."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    if authority is None:
        context.verify_mode = ssl.CERT_NONE
    else:
        context.load_verify_locations(authority.path)
    if certificate is not None:
        context.load_cert_chain(*certificate)
    return context


class TlsCollector(Collector):
    """A collector that clients of the test reach by TLS."""

    context: ssl.SSLContext | None = None
    """How `connect` speaks; None: plain."""
    server_name: str | None = None

    def connect(self, index: int = 0) -> socket.socket:
        """Return a connected socket, over TLS if there is a context."""
        sock = super().connect(index)
        if self.context is None:
            return sock
        try:
            return self.context.wrap_socket(sock, server_hostname=self.server_name)
        except BaseException:
            sock.close()
            raise


class StepClient:
    """A client's TLS over a socket that does not block, which the test drives step by step."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, server_name: str | None = None) -> None:
        self._sock = sock
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_name)

    def hello(self) -> bytes:
        """Return the first flight, without sending it."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.do_handshake()
        return self._outgoing.read()

    def step(self) -> bool:
        """Take what has come, and send what follows from it; return whether the handshake is complete here."""
        with contextlib.suppress(BlockingIOError):
            self._incoming.write(self._sock.recv(1 << 16))
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            is_done = False
        else:
            is_done = True
        self.flush()
        return is_done

    def flush(self) -> None:
        """Send what TLS wants to send."""
        if self._outgoing.pending:
            self._sock.sendall(self._outgoing.read())

    def encrypt(self, data: bytes) -> bytes:
        """Return the encrypted bytes of `data`."""
        while data:
            data = data[self.tls.write(data) :]
        return self._outgoing.read()

    def send(self, data: bytes) -> None:
        """Send encrypted bytes."""
        self._sock.sendall(self.encrypt(data))

    def receive(self) -> bytes:
        """Return the decrypted bytes that have come; empty at the collector's close_notify. Raises SSLWantReadError."""
        with contextlib.suppress(BlockingIOError):
            self._incoming.write(self._sock.recv(1 << 16))
        return self.tls.read(1 << 16)


def serial_of(sock: socket.socket) -> str:
    """Return the serial number of the certificate that a TLS connection's server has shown."""
    assert isinstance(sock, ssl.SSLSocket)
    sock.settimeout(DEADLINE_S)
    certificate = sock.getpeercert()
    assert certificate is not None
    return str(certificate["serialNumber"])
