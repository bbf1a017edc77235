"""The writer's end of a worker's pipes: batches are passed on once and in order, and every answer arrives."""

from __future__ import annotations

import contextlib
import logging
import os
from typing import TYPE_CHECKING

import pytest

from prefork_logd.ipc import batch_receiver
from prefork_logd.ipc.batch import COMMITTED, Batch, opened, read_answers
from prefork_logd.ipc.batch_builder import BatchBuilder
from prefork_logd.ipc.batch_receiver import BatchReceiver
from prefork_logd.ipc.batch_sender import make_pipes
from prefork_logd.net.loop import Loop

if TYPE_CHECKING:
    from collections.abc import Iterator


class Sink:
    """A writer that keeps the lines of batches, and a worker's ends of the pipes."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.full = False
        self.most = 1000
        self.lines: list[bytes] = []
        self.postponed: list[BatchReceiver] = []
        self._torn = b""
        (self.batches_fd, self.answers_fd), pipes = make_pipes()
        self.receiver = BatchReceiver(self, 7, pipes, 5)

    def add_batch(self, source: BatchReceiver, batch: Batch) -> None:
        assert source is self.receiver
        self.lines += [bytes(segment.data) for group in batch.groups for segment in group.segments]
        self.full = len(self.lines) >= self.most

    def postpone(self, source: BatchReceiver) -> None:
        self.postponed.append(source)

    def send(self, number: int, line: bytes, cut: int | None = None) -> None:
        """Write a batch of one line into the pipe, or its beginning."""
        builder = BatchBuilder(1)
        builder.add(1, line)
        os.write(self.batches_fd, b"".join(builder.build(number).pieces)[:cut])

    def turn(self, count: int = 3) -> None:
        for _ in range(count):
            self.loop.turn(0)

    def answers(self) -> list[tuple[int, int]]:
        """Return the kind and the first number of each answer that has arrived."""
        with contextlib.suppress(BlockingIOError):
            while piece := os.read(self.answers_fd, 1 << 20):
                self._torn += piece
        found, self._torn = read_answers(self._torn)
        return [(answer.kind, answer.a) for answer in found]

    def die(self) -> None:
        """Close the worker's ends, as the kernel does for a process that was killed."""
        for name in ("batches_fd", "answers_fd"):
            if getattr(self, name) >= 0:
                os.close(getattr(self, name))
            setattr(self, name, -1)

    def close(self) -> None:
        self.die()
        self.receiver.close()
        self.loop.close()


@pytest.fixture
def sink() -> Iterator[Sink]:
    sink = Sink()
    yield sink
    sink.close()


def test_the_first_answer_is_the_batch_after_which_the_worker_resumes(sink: Sink) -> None:
    """Without it a worker would send what is committed already."""
    assert sink.answers() == [(COMMITTED, 5)]
    assert (sink.receiver.worker, sink.receiver.taken, sink.receiver.committed) == (7, 5, 5)


def test_batches_are_taken_before_they_are_committed(sink: Sink) -> None:
    """The worker hears of the commit, not of the receipt; one number is enough for all."""
    sink.answers()
    sink.send(6, b"six\n")
    sink.send(7, b"seven\n")
    sink.turn()
    assert sink.lines == [b"six\n", b"seven\n"]
    assert (sink.receiver.taken, sink.receiver.committed) == (7, 5)
    assert sink.answers() == []
    sink.receiver.commit()
    assert sink.receiver.committed == 7
    assert sink.answers() == [(COMMITTED, 7)]


def test_a_batch_that_is_here_already_is_passed_over(sink: Sink) -> None:
    """Numbers up to the committed one, and those that were taken."""
    for number in (4, 5, 6, 6, 7):
        sink.send(number, b"%d\n" % number)
    sink.turn()
    assert sink.lines == [b"6\n", b"7\n"]


def test_nothing_is_read_beyond_the_room_of_the_writer(sink: Sink) -> None:
    """What was not read stays in the pipe, and comes when it is asked for again."""
    sink.most = 2
    for number in range(6, 11):
        sink.send(number, b"%d\n" % number)
    sink.turn()
    assert sink.lines == [b"6\n", b"7\n"]
    assert sink.postponed == [sink.receiver]
    sink.full, sink.most = False, 1000
    sink.receiver.ready(0)
    assert sink.lines == [b"%d\n" % number for number in range(6, 11)]


def test_a_worker_has_its_turn_and_the_others_theirs(sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bytes of a turn are bounded."""
    monkeypatch.setattr(batch_receiver, "TURN_BYTES", 10)
    for number in range(6, 10):
        sink.send(number, b"12345\n")
    sink.turn()
    assert len(sink.lines) == 2
    assert sink.postponed == [sink.receiver]


def test_a_half_batch_of_a_dead_worker_is_no_batch(sink: Sink) -> None:
    """Whole ones before it are taken."""
    sink.send(6, b"whole\n")
    sink.send(7, b"half\n", -1)
    sink.die()
    sink.turn()
    assert sink.receiver.ended
    assert sink.lines == [b"whole\n"]
    assert sink.receiver.taken == 6


def test_a_pipe_with_other_bytes_is_read_no_further(
    sink: Sink, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What came before them is kept; what follows them is not taken for a batch."""
    monkeypatch.setattr(logging.getLogger("prefork_logd"), "propagate", True)
    sink.send(6, b"good\n")
    os.write(sink.batches_fd, b"x" * 28)
    sink.send(7, b"late\n")
    sink.turn()
    assert sink.receiver.ended
    assert sink.lines == [b"good\n"]
    assert "unexpected bytes in a worker's pipe" in caplog.text
    assert "the lines in it are lost" in caplog.text
    sink.receiver.ready(0)
    assert sink.lines == [b"good\n"]


def test_answers_wait_for_a_worker_that_does_not_read(sink: Sink) -> None:
    """None is torn, lost or overtaken, however long it takes."""
    for token in range(5_000):
        sink.receiver.answer(opened(b"s" * 16, token, 1, 0))
    sink.receiver.answer(opened(b"s" * 16, 5_000, 1, 0))
    tokens: list[int] = []
    for _ in range(20):
        tokens += [token for kind, token in sink.answers() if kind != COMMITTED]
        sink.turn()
    assert tokens == list(range(5_001))


def test_a_dead_worker_needs_no_answers(sink: Sink) -> None:
    """The commit of its last batches is not an error."""
    sink.send(6, b"last\n")
    sink.turn()
    sink.die()
    sink.receiver.commit()
    sink.turn()
    assert sink.receiver.committed == 6
    assert sink.receiver.ended
