"""Speaks with systemd: takes over its sockets (sd_listen_fds(3)), and sends it notifications (sd_notify(3)).

Owns the environment variables. Does not know the protocol of a socket, or when something is to be notified.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

from prefork_logd.errors import ProcessError
from prefork_logd.system.log import LOGGER

if TYPE_CHECKING:
    from collections.abc import Mapping


_LISTEN_FDS_START = 3
"""sd_listen_fds(3)"""


def inherited(environment: Mapping[str, str] = os.environ) -> list[socket.socket]:
    """Return the listening sockets that systemd activation passed to this process (sd_listen_fds(3)); often none.

    Raises ProcessError for a descriptor that is not a listening stream socket.
    """
    if environment.get("LISTEN_PID") != str(os.getpid()):
        return []
    try:
        count = int(environment.get("LISTEN_FDS", "0"))
    except ValueError:
        raise ProcessError(f"LISTEN_FDS is {environment['LISTEN_FDS']!r}, which is not a number; unset it") from None
    sockets = []
    for fd in range(_LISTEN_FDS_START, _LISTEN_FDS_START + count):
        try:
            sock = socket.socket(fileno=fd)
            listening = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        except OSError as error:
            raise ProcessError(f"LISTEN_FDS passes descriptor {fd}, which is not a socket: {error.strerror}") from error
        if not listening or sock.type != socket.SOCK_STREAM:
            raise ProcessError(f"LISTEN_FDS passes descriptor {fd}, which is not a listening stream socket")
        os.set_inheritable(fd, False)
        sockets.append(sock)
    return sockets


class Notifier:
    """Sends notifications to the service manager that started this process, or nothing without one."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        """Read the variables of sd_notify(3) and sd_watchdog_enabled(3)."""
        self._address = _address(environment.get("NOTIFY_SOCKET", ""))
        self._has_failed = False
        self.watchdog_s = _watchdog_s(environment) if self._address else 0.0
        """Time in seconds without a keep-alive after which the service manager ends the service; 0: never."""

    @property
    def is_wanted(self) -> bool:
        """Whether a service manager takes notifications."""
        return bool(self._address)

    def send(self, **assignments: object) -> None:
        """Send assignments such as `READY=1`; never blocks and never raises. Logs the first failure only."""
        if not self._address:
            return
        text = "\n".join(f"{name}={_one_line(value)}" for name, value in assignments.items())
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
                sock.sendto(text.encode(errors="replace"), self._address)
        except OSError as error:
            if not self._has_failed:
                LOGGER.warning("cannot notify systemd through NOTIFY_SOCKET: %s", error.strerror or error)
            self._has_failed = True
        else:
            self._has_failed = False


def _address(path: str) -> str:
    """Return the address of a socket as connect(2) takes it; `@` stands for an abstract one (unix(7))."""
    if path.startswith("@"):
        return "\0" + path[1:]
    if path and not path.startswith("/"):
        LOGGER.warning("NOTIFY_SOCKET is %r, which is not the path of a Unix socket; systemd is not notified", path)
        return ""
    return path


def _watchdog_s(environment: Mapping[str, str]) -> float:
    """Return the time limit of the watchdog in seconds, if this process is the one that it watches."""
    if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0.0
    text = environment.get("WATCHDOG_USEC", "0")
    if not text.isdecimal():
        LOGGER.warning("WATCHDOG_USEC is %r, which is not a number; the watchdog is not served", text)
        return 0.0
    return int(text) / 1e6


def _one_line(value: object) -> str:
    return str(value).replace("\n", " ")
