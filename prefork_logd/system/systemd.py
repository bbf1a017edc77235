"""Takes over the sockets that systemd passes on (sd_listen_fds(3)).

Owns the environment variables. Does not know the protocol of a socket.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

from prefork_logd.errors import ProcessError

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
