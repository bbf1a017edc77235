"""Lines to descriptor 2: nobody who has to read them can hold up a process."""

from __future__ import annotations

import contextlib
import os
import pty
import socket
import termios
from typing import TYPE_CHECKING

import pytest

from prefork_logd.system import own_stderr
from prefork_logd.system.own_stderr import MOST_BYTES, LineWriter, open_unshared

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LINE = b"x" * 999 + b"\n"


@contextlib.contextmanager
def as_stderr(fd: int) -> Iterator[None]:
    """Make `fd` descriptor 2 of this process for a while."""
    saved = os.dup(2)
    try:
        os.dup2(fd, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


class Reader:
    """A pipe, socket or terminal, whose blocking end is for descriptor 2."""

    def __init__(self, kind: str) -> None:
        if kind == "socket":
            ends = socket.socketpair()
            self.reading, self.writing = (end.detach() for end in ends)
        elif kind == "terminal":
            self.reading, self.writing = pty.openpty()
            attributes = termios.tcgetattr(self.writing)
            attributes[1] &= ~termios.OPOST
            termios.tcsetattr(self.writing, termios.TCSANOW, attributes)
        else:
            self.reading, self.writing = os.pipe()
        os.set_blocking(self.reading, False)

    def read(self) -> bytes:
        """Return all that waits to be read."""
        data = b""
        with contextlib.suppress(BlockingIOError):
            while True:
                data += os.read(self.reading, 65536)
        return data

    def close(self) -> None:
        """Close both ends."""
        os.close(self.reading)
        os.close(self.writing)


@pytest.fixture(params=["pipe", "socket", "terminal"])
def reader(request: pytest.FixtureRequest) -> Iterator[Reader]:
    """Each kind of file that has a reader."""
    reader = Reader(request.param)
    yield reader
    reader.close()


def _nothing() -> None:
    return


def _denied(path: str, *_: object) -> int:
    raise PermissionError(path)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("prepare", [open_unshared, _nothing])
def test_a_reader_that_has_stopped_holds_up_nothing(reader: Reader, prepare: Callable[[], None]) -> None:
    """Its lines are left out and counted, and the next one is whole; with or without a description of our own."""
    writer, written = LineWriter(), 0
    with as_stderr(reader.writing):
        prepare()
        while writer.write(LINE):
            written += 1
            assert written < 10_000
        assert written >= 3
        assert not writer.write(LINE)
        assert writer.left_out == 2
        received = reader.read()
        assert received.startswith(LINE * written)
        assert writer.write(b"again\n")
        assert writer.left_out == 0
    assert (received + reader.read()).endswith(b"\nagain\n")
    assert os.get_blocking(reader.writing), "the description that others share has changed"


def test_a_pipe_of_another_user_is_written_without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """It cannot be opened a second time, as `docker run --user` has it."""
    reader = Reader("pipe")
    monkeypatch.setattr(own_stderr.os, "open", _denied)
    with as_stderr(reader.writing):
        open_unshared()
        writer = LineWriter()
        while writer.write(LINE):
            pass
        assert writer.left_out == 1
    lines = reader.read().splitlines(keepends=True)
    assert set(lines) == {LINE}
    assert len(lines) >= 8
    reader.close()


def test_a_long_line_is_cut_where_a_part_of_it_could_get_lost() -> None:
    """A pipe takes up to PIPE_BUF bytes as a whole."""
    reader = Reader("pipe")
    with as_stderr(reader.writing):
        open_unshared()
        assert LineWriter().write(b"y" * 100_000 + b"\n")
    line = reader.read()
    assert len(line) == MOST_BYTES
    assert line.endswith(b"y [cut]\n")
    reader.close()


def test_a_closed_descriptor_is_no_error() -> None:
    """A caller may have closed it."""
    writer = LineWriter()
    with as_stderr(2):
        os.close(2)
        open_unshared()
        assert not writer.write(b"line\n")
    assert writer.left_out == 1
