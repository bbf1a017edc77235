"""The entry of the command: no standard descriptor is closed when anything else is opened."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest

from prefork_logd.__main__ import open_standard_descriptors

COMBINATIONS = [closed for size in range(4) for closed in itertools.combinations(range(3), size)]


@pytest.mark.slow
@pytest.mark.parametrize("closed", COMBINATIONS, ids=str)
def test_closed_standard_descriptors_lead_to_dev_null(closed: tuple[int, ...]) -> None:
    """Those that are closed are opened, those that are open stay, and the next file gets another number."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            before = {fd: os.fstat(fd) for fd in range(3)}
            for fd in closed:
                os.close(fd)
            open_standard_descriptors()
            kept = all(os.path.samestat(os.fstat(fd), before[fd]) for fd in range(3) if fd not in closed)
            null = all(Path(f"/proc/self/fd/{fd}").readlink() == Path(os.devnull) for fd in closed)
            inherited = all(os.get_inheritable(fd) for fd in closed)
            status = 0 if kept and null and inherited and os.open("/", os.O_RDONLY) > 2 else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
