"""Connects to a host within a time, the look-up of its name included.

Owns the threads of look-ups. Does not know HTTP or SMTP.

getaddrinfo(3) cannot be given a time, and waits for name servers for as long as resolv.conf(5) says: half a minute and
more. So it runs in a thread, which goes on after the time is over. An attempt that comes meanwhile waits for the same
thread.
"""

from __future__ import annotations

import socket
import threading
import time
from typing import TYPE_CHECKING, Any

from prefork_logd.alerts.receivers.failures import SendError

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_LOOKUPS = 32
"""Look-ups at the same time: as many as receivers. Redirects may name many hosts."""
OWN_NAME_S = 2.0
"""Longest time that the look-up of this host's own name may take."""
_running: dict[str, _Lookup] = {}
_lock = threading.Lock()


class _Lookup:
    """A call that asks name servers, in a thread of its own."""

    def __init__(self, name: str, call: Callable[[], Any]) -> None:
        self._name, self._call = name, call
        self._answer: Any = None
        self._error: Exception | None = None
        self._is_done = threading.Event()
        # A daemon, so that no command waits for it at its end.
        threading.Thread(target=self._run, name=f"look up {name}", daemon=True).start()

    def _run(self) -> None:
        try:
            self._answer = self._call()
        except Exception as error:  # noqa: BLE001 - it is raised in the thread that waits
            self._error = error
        with _lock:
            _running.pop(self._name, None)
        self._is_done.set()

    def wait(self, ends_s: float) -> Any:
        """Return the answer. Raises SendError after the time, and the error of the call."""
        if not self._is_done.wait(max(0.0, ends_s - time.monotonic())):
            raise SendError(f"{self._name}: no answer from the name servers in time")
        if self._error is not None:
            raise self._error
        return self._answer


def _look_up(name: str, call: Callable[[], Any], ends_s: float) -> Any:
    """Return what a call returns; calls of one name have one thread. Raises SendError, and the error of the call."""
    with _lock:
        lookup = _running.get(name)
        if lookup is None:
            if len(_running) >= MOST_LOOKUPS:
                raise SendError(f"{name}: {MOST_LOOKUPS} other names wait for the name servers")
            lookup = _running[name] = _Lookup(name, call)
    return lookup.wait(ends_s)


def own_name(sock: socket.socket, ends_s: float) -> str:
    """Return the name of this host for a mail server, else the address of a socket (RFC 5321, 4.1.3)."""
    try:
        name = str(_look_up("this host", socket.getfqdn, min(ends_s, time.monotonic() + OWN_NAME_S)))
    except (OSError, UnicodeError, SendError):
        name = ""
    if "." in name:
        return name
    address = str(sock.getsockname()[0]).partition("%")[0]
    return f"[IPv6:{address}]" if sock.family == socket.AF_INET6 else f"[{address}]"


def connect(host: str, port: int, ends_s: float, check: Callable[[str], None] = lambda _: None) -> socket.socket:
    """Return a socket that is connected to an address of a host, by a time of time.monotonic.

    `check` raises SendError for an address that is not wanted. Raises OSError, SendError.
    """
    try:
        found = _look_up(f"{host}:{port}", lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM), ends_s)
    except UnicodeError as error:
        raise SendError(f"{host}: is not the name of a host") from error
    last: OSError | None = None
    for family, kind, protocol, _, address in found:
        check(str(address[0]))
        sock = socket.socket(family, kind, protocol)
        sock.settimeout(max(0.001, ends_s - time.monotonic()))
        try:
            sock.connect(address)
        except OSError as error:
            sock.close()
            last = error
        else:
            return sock
    raise last or SendError(f"{host}: has no address")
