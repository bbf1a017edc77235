"""Runs a TCP proxy that can be cut, or pass on only the bytes of clients."""

from __future__ import annotations

import contextlib
import socket
import threading


class Proxy:
    """Passes connections on to a port of this machine."""

    def __init__(self, port: int) -> None:
        self._target = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._pairs: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._is_cut = False
        self._is_deaf = False
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        """URL for clients."""
        return f"nats://127.0.0.1:{self._listener.getsockname()[1]}"

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                if self._is_cut:
                    raise ConnectionRefusedError
                server = socket.create_connection(self._target, 2)
                server.settimeout(None)
            except OSError:
                client.close()
                continue
            with self._lock:
                self._pairs |= {client, server}
            for source, target, told in ((client, server, False), (server, client, True)):
                threading.Thread(target=self._pump, args=(source, target, told), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, told: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                if not (told and self._is_deaf):
                    target.sendall(data)
        for sock in (source, target):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            with self._lock:
                self._pairs.discard(sock)
            sock.close()

    def deafen(self) -> None:
        """Stop passing on bytes to clients."""
        self._is_deaf = True

    def cut(self) -> None:
        """End every connection, and let none begin."""
        self._is_cut = True
        with self._lock:
            for sock in self._pairs:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        """Pass on all bytes again."""
        self._is_cut = self._is_deaf = False

    def close(self) -> None:
        """End it."""
        self.cut()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
