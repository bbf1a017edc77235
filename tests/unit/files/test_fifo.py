"""A stream takes whole batches, waits for a slow reader, and says when one has stalled."""

import os

import pytest

from prefork_logd.files.fifo import Stream


@pytest.fixture
def pipe():
    """Return (read end, write end), the latter non-blocking."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    ends = [reader, writer]
    yield ends
    for fd in ends:
        if fd >= 0:
            os.close(fd)


def read(fd, nbytes):
    pieces = []
    while nbytes:
        piece = os.read(fd, nbytes)
        pieces.append(piece)
        nbytes -= len(piece)
    return b"".join(pieces)


def test_a_batch_larger_than_the_pipe_arrives_whole_before_the_next(pipe):
    """What the pipe cannot take is owed: the next batch is refused until it can follow."""
    reader, writer = pipe
    stream = Stream(writer, stall_s=0.01)
    first = b"".join(b"%07d\n" % number for number in range(20_000))
    stream.write([first])
    with pytest.raises(BlockingIOError, match="stalled"):
        stream.write([b"second\n"])
    got = read(reader, 65_536)
    with pytest.raises(BlockingIOError):
        stream.write([b"second\n"])
    got += read(reader, 65_536)
    stream.write([b"sec", b"ond\n"])
    got += read(reader, len(first) - len(got))
    assert got == first
    assert read(reader, 7) == b"second\n"


def test_a_full_pipe_takes_nothing_of_a_batch(pipe):
    reader, writer = pipe
    stream = Stream(writer, stall_s=0.01)
    stream.write([b"x" * 65_536])
    with pytest.raises(BlockingIOError):
        stream.write([b"y\n"])
    assert read(reader, 65_536) == b"x" * 65_536
    stream.write([b"y\n"])
    assert read(reader, 2) == b"y\n"


def test_a_reader_that_leaves_takes_only_the_line_it_began(pipe):
    """The next batch is refused; what was owed after the torn line still stands."""
    reader, writer = pipe
    stream = Stream(writer, stall_s=0.01)
    stream.write([b"x" * 70_000 + b"\nwhole\n"])
    os.close(reader)
    pipe[0] = -1
    with pytest.raises(BrokenPipeError):
        stream.write([b"y\n"])
    assert stream._owed == b"whole\n"
