"""Shares the memory in which a worker makes its lines with the writer.

Owns its size, and the access of both sides. Does not know what lies in it (batch.py), or when a part is used again: the
worker does so once the lines there are committed.

Each worker process has memory of its own, like its pipes. It exists until worker, writer and master have closed it, so
the writer can still read the batches of a killed worker.
"""

from __future__ import annotations

import fcntl
import mmap
import os

from prefork_logd.system.log import LOGGER

ARENA_BYTES = 22 * 589_824
"""A multiple of the compiled core's blocks: enough for the default high-water mark and the batches in flight."""


def make() -> int:
    """Return the descriptor of new shared memory; -1 if it cannot be made."""
    fd = -1
    try:
        fd = os.memfd_create("arena", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(fd, ARENA_BYTES)
        # A process that shrank the file would end those that have mapped it (SIGBUS): seals forbid that.
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    except OSError:
        # Without shared memory lines go through the pipe.
        if fd >= 0:
            os.close(fd)
        return -1
    return fd


class Pages:
    """A worker's memory for a writer that cannot map it: each range is read when it is needed."""

    def __init__(self, fd: int) -> None:
        """Read from this descriptor, which is closed with the object."""
        self._fd = fd

    def __del__(self) -> None:
        """Close the descriptor."""
        os.close(self._fd)

    def __getitem__(self, span: slice) -> memoryview:
        """Return the bytes from `span.start` to `span.stop`, fewer where the memory ends."""
        return memoryview(os.pread(self._fd, span.stop - span.start, span.start))


def look_into(fd: int) -> memoryview | Pages:
    """Return a worker's memory for reading; the descriptor belongs to the result."""
    try:
        view = memoryview(mmap.mmap(fd, os.fstat(fd).st_size, prot=mmap.PROT_READ))
    except OSError as error:
        LOGGER.warning("cannot map the memory of a worker: %s; its lines are read one by one", error.strerror)
        return Pages(fd)
    os.close(fd)
    return view
