"""Ends a connection to a receiver at a time, however slowly the receiver goes on.

Owns the timer. Does not know a protocol.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def ending(sock: socket.socket, ends_s: float) -> Iterator[None]:
    """Shut a connection down at a time of time.monotonic.

    The timeout of a socket is not enough: a peer that sends a byte now and then would get more by each.
    """
    # TLS takes the descriptor away from the socket.
    copy = sock.dup()

    def end() -> None:
        with contextlib.suppress(OSError):
            copy.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(max(0.0, ends_s - time.monotonic()), end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        copy.close()
