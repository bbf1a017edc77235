"""A daemon tells its parent that it is ready."""

from __future__ import annotations

import errno
import os
import re
import resource
from typing import TYPE_CHECKING

import pytest

from prefork_logd.errors import ProcessError
from prefork_logd.system import daemonize

if TYPE_CHECKING:
    from pathlib import Path


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


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, re.escape("make room (`df` and `df -i` show what is full)")),
        (errno.ELOOP, "remove the link, or name a path without links"),
        (errno.EACCES, "make the file and its directory writable, or give another --state-dir"),
    ],
)
def test_a_log_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, remedy: str
) -> None:
    """Nothing is started, and the sentence ends with the remedy."""

    def refuse(path: Path) -> int:
        raise OSError(number, "no", str(path))

    monkeypatch.setattr(daemonize, "open_log", refuse)
    with pytest.raises(ProcessError, match=rf"a\.log: cannot write the collector's own log: no; {remedy}$"):
        daemonize.detach(lambda _: 0, tmp_path / "a.log")
