"""Passes bytes to another process as a file in memory (memfd_create(2)), whose descriptor goes over a socket.

For what may be larger than one message. Does not know what the bytes mean.
"""

from __future__ import annotations

import os

from prefork_logd.system.disk import write_all


def make_memory_file(name: str, data: bytes) -> int:
    """Return the descriptor of a new file in memory that holds `data`; `name` is shown in /proc. Raises OSError."""
    fd = os.memfd_create(name, os.MFD_CLOEXEC)
    try:
        write_all(fd, data)
    except OSError:
        os.close(fd)
        raise
    return fd


def take_memory_file(fd: int) -> bytes:
    """Return all bytes of a file of `make_memory_file`, and close the descriptor, whatever happens. Raises OSError."""
    with os.fdopen(fd, "rb") as file:
        # The offset is shared with the process that has written it.
        file.seek(0)
        return file.read()
