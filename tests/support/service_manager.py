"""Takes notifications as systemd does, on a socket for NOTIFY_SOCKET (sd_notify(3))."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from pathlib import Path


class FakeServiceManager:
    """A datagram socket; each notification is a dict of its assignments."""

    def __init__(self, path: Path, watchdog_s: float = 0.0) -> None:
        """Listen at `path`; with `watchdog_s` ask for keep-alives in that time."""
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sock.bind(str(path))
        self.environment = {"NOTIFY_SOCKET": str(path)}
        if watchdog_s:
            self.environment["WATCHDOG_USEC"] = str(int(watchdog_s * 1e6))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._sock.close()

    def take(self) -> list[dict[str, str]]:
        """Return the notifications that have come."""
        self._sock.setblocking(False)
        taken = []
        while True:
            try:
                taken.append(_parse(self._sock.recv(65536)))
            except BlockingIOError:
                return taken

    def wait(self, name: str, timeout_s: float = 20.0) -> dict[str, str]:
        """Return the next notification with an assignment to `name`; drops those before it. Raises TimeoutError."""
        self._sock.settimeout(timeout_s)
        while name not in (taken := _parse(self._sock.recv(65536))):
            pass
        return taken

    def has_ended(self, name: str, silence_s: float) -> bool:
        """Return whether no notification assigns to `name` for so long; one or two may still be under way."""
        for _ in range(3):
            try:
                self.wait(name, silence_s)
            except TimeoutError:
                return True
        return False


def _parse(datagram: bytes) -> dict[str, str]:
    return dict(line.split("=", 1) for line in datagram.decode().split("\n"))
