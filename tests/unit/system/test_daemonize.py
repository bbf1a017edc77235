"""A daemon tells its parent that it is ready."""

from __future__ import annotations

import os
import resource

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


def test_few_descriptors_are_tried_while_the_daemon_is_detached() -> None:
    """And as many as before can be opened afterwards."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with daemonize._few_descriptors():
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (min(256, before[0]), before[1])
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == before
