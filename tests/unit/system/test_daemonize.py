"""A daemon tells its parent that it is ready."""

from __future__ import annotations

import os

from prefork_logd.system import daemonize


def test_readiness_is_told_once() -> None:
    """The pipe says one thing and closes."""
    read_fd, write_fd = os.pipe()
    ready = daemonize.Readiness(write_fd)
    ready.tell(pid=7)
    ready.tell(pid=8)
    assert os.read(read_fd, 100) == b'{"pid": 7}\n'
    assert os.read(read_fd, 100) == b""
    os.close(read_fd)
