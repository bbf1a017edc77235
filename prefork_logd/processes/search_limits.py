"""Bounds a process that searches stores: its priority, its memory, and its life after the master's death.

Does not know what is searched, nor for whom.
"""

from __future__ import annotations

import gc
import os
import resource
import signal

from prefork_logd.system import libc

NICENESS = 10
"""Lower than ingest, higher than shippers: somebody waits for an answer."""
_ARENAS = 2
"""More would let each thread keep memory that others need."""
ALLOCATOR = "retain:false"
"""DuckDB's allocator, jemalloc(3), would keep every address that it has used, which the limit of memory counts."""


def bound_process(memory_bytes: int) -> None:
    """Bound this process for the rest of its life, before it loads a library that searches.

    `memory_bytes` limits the private memory that can be written, also of threads and libraries (getrlimit(2)).
    """
    # A search may hang in a library: only this signal ends the process after its master's death.
    libc.signal_on_parent_death(signal.SIGKILL)
    os.nice(NICENESS)
    gc.freeze()
    libc.limit_arenas(_ARENAS)
    os.environ["DUCKDB_JE_MALLOC_CONF"] = ALLOCATOR
    resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
