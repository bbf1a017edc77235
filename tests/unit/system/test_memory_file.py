"""Files in memory: all that was written is read, and no descriptor stays open."""

from __future__ import annotations

import errno
import os

import pytest

from prefork_logd.system.memory_file import make_memory_file, take_memory_file
from tests.support.procfs import descriptors


@pytest.mark.parametrize("data", [b"", b"a line\n", bytes(range(256)) * 5_000])
def test_all_bytes_are_taken(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """However little each write(2) takes; the file is closed by the one who takes it."""
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:100_000]))
    before = descriptors(os.getpid())
    fd = make_memory_file("some", data)
    assert not os.get_inheritable(fd)
    assert take_memory_file(fd) == data
    assert descriptors(os.getpid()) == before


def test_a_file_is_taken_from_its_start() -> None:
    """Its descriptors share one offset, also with another process: one that was read to the end is read again."""
    fd = make_memory_file("some", b"lines")
    assert take_memory_file(os.dup(fd)) == take_memory_file(fd) == b"lines"


def test_a_file_that_cannot_be_written_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when memory is short."""

    def write(fd: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), (fd, len(data)))

    before = descriptors(os.getpid())
    monkeypatch.setattr(os, "write", write)
    with pytest.raises(OSError, match="No space"):
        make_memory_file("some", b"lines")
    assert descriptors(os.getpid()) == before
