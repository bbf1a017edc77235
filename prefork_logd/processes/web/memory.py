"""Ends the page's process if its memory stays short: the master starts another one.

Owns the measurement and its repetitions. Does not know which code uses the memory.

The limit of the kernel counts addresses, and libraries keep some of those that they do not use any more. Without this
a few large answers would leave a page on which every later request fails.
"""

from __future__ import annotations

import asyncio
import mmap
from pathlib import Path
from typing import TYPE_CHECKING

from prefork_logd.system.log import LOGGER

if TYPE_CHECKING:
    from collections.abc import Callable

SHARE = 0.6
"""Part of the limit above which memory is short: a request needs some."""
LOOKS = 10
LOOK_S = 1.0
"""Memory that is short this often, once each time, is not given back any more."""


def data_bytes() -> int:
    """Return the private memory that this process can write (proc_pid_statm(5)), which RLIMIT_DATA limits."""
    return int(Path("/proc/self/statm").read_text().split()[5]) * mmap.PAGESIZE


class MemoryWatch:
    """Looks at the memory for a while, each time that a request has failed."""

    def __init__(
        self, limit_bytes: int, free: Callable[[], None], end: Callable[[], None], used: Callable[[], int] = data_bytes
    ) -> None:
        """Call `free` to release memory, and `end` if that does not help."""
        self._most_bytes = int(limit_bytes * SHARE)
        self._free = free
        self._end = end
        self._used = used
        self._task: asyncio.Task[None] | None = None

    def request_failed(self) -> None:
        """Begin to look, unless memory is there, or is looked at already."""
        if (self._task is None or self._task.done()) and self._is_short():
            self._task = asyncio.get_running_loop().create_task(self._watch())

    def _is_short(self) -> bool:
        return self._used() > self._most_bytes

    async def _watch(self) -> None:
        for _ in range(LOOKS):
            self._free()
            await asyncio.sleep(LOOK_S)
            if not self._is_short():
                return
        LOGGER.warning(
            "the page holds %d MiB, of which it can give nothing back (web.memory_bytes); it ends, to start again",
            self._used() >> 20,
        )
        self._end()
