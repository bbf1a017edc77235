"""Shares the memory in which a worker makes its lines with the writer.

Owns its size, and how each side gets at it. What lies in it where is ipc/batch.py's to say, and when a part of it
is used again the worker's: not before the writer has committed what is there.

Each life of a worker has its own, as it has pipes of its own. It lives until the last of worker, writer and master has
let go of it, so what a killed worker had passed on is still written.
"""

from __future__ import annotations

import fcntl
import mmap
import os

from prefork_logd.system.log import LOGGER

ARENA_BYTES = 22 * 589_824
"""In blocks as the compiled core makes them: what the default high-water mark needs, and some on the way."""


def make() -> int:
    """Return the descriptor of a new one; -1 where no memory file can be had."""
    fd = -1
    try:
        fd = os.memfd_create("arena", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(fd, ARENA_BYTES)
        # Nobody can take away what another has mapped, who would end by SIGBUS.
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    except OSError:
        # Lines go through the pipe then.
        if fd >= 0:
            os.close(fd)
        return -1
    return fd


class Pages:
    """What a worker makes, for a writer that cannot map it: each range is read when it is asked for."""

    def __init__(self, fd: int) -> None:
        """Read from this descriptor, and close it in the end."""
        self._fd = fd

    def __del__(self) -> None:
        """Close the descriptor."""
        os.close(self._fd)

    def __getitem__(self, place: slice) -> memoryview:
        """Return the bytes from `place.start` to `place.stop`, fewer where the memory ends."""
        return memoryview(os.pread(self._fd, place.stop - place.start, place.start))


def look_into(fd: int) -> memoryview | Pages:
    """Return what a worker makes there, to be read only; the descriptor is taken."""
    try:
        view = memoryview(mmap.mmap(fd, os.fstat(fd).st_size, prot=mmap.PROT_READ))
    except OSError as error:
        LOGGER.warning("cannot map the memory of a worker: %s; its lines are read from it", error.strerror)
        return Pages(fd)
    os.close(fd)
    return view
