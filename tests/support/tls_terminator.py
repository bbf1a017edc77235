"""Runs a server that takes TLS and passes its content on to a plain address, as stunnel or a load balancer does."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import struct
import threading
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from tests.support.authority import Certificate

_TURN_S = 0.05


class TlsTerminator:
    """One address with TLS; a thread for each connection."""

    def __init__(
        self, to: tuple[str, int], certificate: Certificate, client_authority: str | None = None, **settings: object
    ) -> None:
        """Take the plain address. `settings` are attributes of the ssl.SSLContext."""
        self._to = to
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(*certificate)
        self._context.num_tickets = 0
        if client_authority is not None:
            self._context.load_verify_locations(client_authority)
            self._context.verify_mode = ssl.CERT_REQUIRED
        for name, value in settings.items():
            setattr(self._context, name, value)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self._listener.getsockname()
        self._is_over = threading.Event()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self.handshakes: list[str] = []
        """The version of TLS of each complete handshake, or the reason why there was none."""
        self.names: list[str] = []
        """The common name in the certificate of each client that has shown one."""
        self.damaged = 0
        """How many connections broke TLS."""
        self._connections: set[ssl.SSLSocket] = set()

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        for thread in list(self._threads):
            thread.join(20)
        self._listener.close()

    def reset(self) -> None:
        """End every connection by a reset."""
        for secure in list(self._connections):
            with contextlib.suppress(OSError):
                secure.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                secure.close()

    def _accept(self) -> None:
        self._listener.settimeout(_TURN_S)
        while not self._is_over.is_set():
            with contextlib.suppress(TimeoutError):
                sock, _ = self._listener.accept()
                self._threads.append(threading.Thread(target=self._serve, args=(sock,), daemon=True))
                self._threads[-1].start()

    def _serve(self, sock: socket.socket) -> None:
        sock.settimeout(5)
        try:
            secure = self._context.wrap_socket(sock, server_side=True, suppress_ragged_eofs=False)
        except OSError as error:
            self.handshakes.append(str(getattr(error, "reason", error)))
            sock.close()
            return
        self._note(secure)
        try:
            with contextlib.suppress(OSError, ValueError), socket.create_connection(self._to) as plain:
                self._pass_on(secure, plain)
        finally:
            self._connections.discard(secure)
            secure.close()

    def _note(self, secure: ssl.SSLSocket) -> None:
        self._connections.add(secure)
        subject = (secure.getpeercert() or {}).get("subject", ())
        self.names += [value for ((name, value),) in subject if name == "commonName"]
        self.handshakes.append(str(secure.version()))

    def _pass_on(self, secure: ssl.SSLSocket, plain: socket.socket) -> None:
        while not self._is_over.is_set():
            ready, _, _ = select.select([secure, plain], [], [], _TURN_S)
            if secure in ready and not self._receive(secure, plain):
                return
            if plain in ready:
                data = plain.recv(65_536)
                if not data:
                    return
                secure.sendall(data)

    def _receive(self, secure: ssl.SSLSocket, plain: socket.socket) -> bool:
        """Pass on what the client has sent; return whether there may be more."""
        while True:
            try:
                data = secure.recv(65_536)
            except ssl.SSLEOFError:  # no close_notify
                return False
            except ssl.SSLError:
                self.damaged += 1
                raise
            plain.sendall(data)
            if not data or not secure.pending():
                return bool(data)
