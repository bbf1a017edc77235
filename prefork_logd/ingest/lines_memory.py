"""Makes the compiled core write lines into the memory that a worker shares with the writer.

Owns the mapping. Does not know what lies in the memory.
"""

from __future__ import annotations

import mmap
import os

from prefork_logd.ingest import core
from prefork_logd.ipc.shared_memory import ARENA_BYTES
from prefork_logd.system.log import LOGGER


def use(fd: int) -> None:
    """Write lines into the memory from now on, if it can be mapped; the descriptor is closed."""
    try:
        if core.share is not None:
            core.share(mmap.mmap(fd, ARENA_BYTES))
    except OSError as error:
        LOGGER.warning("cannot map the memory for lines: %s; they go through the pipe", error.strerror)
    finally:
        os.close(fd)
