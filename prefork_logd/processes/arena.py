"""The memory that a worker makes its lines in, and the writer writes them to the files from.

Owns its size, and how each side gets at it. What lies in it where is protocol/batch.py's to say, and when a part of it
is used again the worker's: not before the writer has committed what is there.

Each life of a worker has its own, as it has pipes of its own. It lives until the last of worker, writer and master has
let go of it, so what a killed worker had passed on is still written.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from typing import TYPE_CHECKING

from prefork_logd import native

if TYPE_CHECKING:
    from prefork_logd.processes.children import Child

ARENA_BYTES = 36 * 327_680
"""In blocks as the compiled core makes them: what the default high-water mark needs, and some on the way."""


def make() -> int:
    """Return the descriptor of a new one; -1 where there is no compiled core to use it, or no memory file to be had."""
    if native.share is None:
        return -1
    try:
        fd = os.memfd_create("arena", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    except OSError:
        # Lines go through the pipe then.
        return -1
    os.ftruncate(fd, ARENA_BYTES)
    # Whoever maps it may rely on its size: a page that is there can never turn into a SIGBUS.
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    return fd


def use(fd: int) -> None:
    """Make lines there from now on, in a worker; the descriptor is closed."""
    if native.share is not None:
        native.share(mmap.mmap(fd, ARENA_BYTES))
    os.close(fd)


def look_into(fd: int) -> memoryview:
    """Return what a worker makes there, to be read only; the descriptor is closed."""
    try:
        return memoryview(mmap.mmap(fd, os.fstat(fd).st_size, prot=mmap.PROT_READ))
    finally:
        os.close(fd)


def drop(child: Child) -> None:
    """Close the descriptor of a worker's; whoever has mapped it goes on."""
    if child.arena_fd >= 0:
        os.close(child.arena_fd)
        child.arena_fd = -1
