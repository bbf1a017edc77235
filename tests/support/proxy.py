"""Runs a network that fails on demand, between clients and a collector on the loopback."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
from typing import Self


class Proxy:
    """Passes on bytes in both directions, with faults on demand."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._to = address
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self._listener.getsockname()
        self.drops_answers = False
        """Whether the bytes of the collector are lost."""
        self._pairs: dict[socket.socket, socket.socket] = {}
        self._frozen: set[socket.socket] = set()
        self._clients: set[socket.socket] = set()
        self._wake, self._woken = socket.socketpair()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._wake.close()
        self._thread.join()
        for sock in (*self._pairs, self._listener, self._woken):
            sock.close()

    def freeze(self) -> None:
        """Stop passing on bytes of the present connections, and keep them open."""
        self._frozen |= set(self._pairs)

    def thaw(self) -> None:
        """Pass on the bytes held back."""
        self._frozen.clear()
        self._wake.send(b"x")

    def reset(self) -> None:
        """End every connection with RST, at both ends."""
        for sock in list(self._pairs):
            self._end(sock, reset=True)

    def _run(self) -> None:
        while True:
            watched = [sock for sock in list(self._pairs) if sock not in self._frozen]
            with contextlib.suppress(OSError, ValueError):
                ready, _, _ = select.select([self._listener, self._woken, *watched], [], [], 0.05)
                for sock in ready:
                    if sock is self._woken:
                        if not sock.recv(100):
                            return
                    elif sock is self._listener:
                        self._accept()
                    elif sock not in self._frozen:
                        self._pass_on(sock)

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        try:
            server = socket.create_connection(self._to)
        except OSError:
            client.close()
            return
        self._pairs[client], self._pairs[server] = server, client
        self._clients.add(client)

    def _pass_on(self, sock: socket.socket) -> None:
        other = self._pairs.get(sock)
        try:
            data = sock.recv(65_536)
            if data and other is not None and not (self.drops_answers and sock not in self._clients):
                other.sendall(data)
        except OSError:
            data = b""
        if not data:
            self._end(sock)

    def _end(self, sock: socket.socket, *, reset: bool = False) -> None:
        other = self._pairs.pop(sock, None)
        for end in (sock, other):
            if end is not None:
                self._pairs.pop(end, None)
                self._clients.discard(end)
                with contextlib.suppress(OSError):
                    if reset:
                        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    end.close()
