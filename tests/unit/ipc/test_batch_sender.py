"""Batches reach whoever is the writer, each committed once, whatever happens to writers."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from prefork_logd.ipc.batch import Batch, Group, opened, refused
from prefork_logd.ipc.batch_builder import BatchBuilder
from prefork_logd.ipc.batch_receiver import BatchReceiver
from prefork_logd.ipc.batch_sender import BatchSender, Receipt, make_pipes
from prefork_logd.net.loop import Loop
from tests.support import procfs

if TYPE_CHECKING:
    from collections.abc import Iterator


class Taker:
    """A writer that keeps what it takes in memory."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.full = False
        self.numbers: list[int] = []
        self.lines: list[bytes] = []
        self.postponed: list[BatchReceiver] = []

    def add_batch(self, source: BatchReceiver, batch: Batch) -> None:
        self.numbers.append(batch.number)
        self.lines += [bytes(segment.data) for group in batch.groups for segment in group.segments]

    def postpone(self, source: BatchReceiver) -> None:
        self.postponed.append(source)


class Pair:
    """A worker's link and the writer it is connected to, in one loop."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.commits = 0
        self.receipts: list[Receipt] = []
        self.opened: list[tuple[int, int, int]] = []
        self.refused: list[tuple[bytes, int]] = []
        self.resumed = 0
        self.link = BatchSender(self.loop, self)
        self.taker = Taker(self.loop)
        self.source: BatchReceiver | None = None

    def batches_committed(self, receipts: list[Receipt]) -> None:
        self.commits += 1
        self.receipts += receipts

    def session_opened(self, token: int, epoch: int, committed: int) -> None:
        self.opened.append((token, epoch, committed))

    def range_refused(self, session: bytes, epoch: int) -> None:
        self.refused.append((session, epoch))

    def writer_resumed(self) -> None:
        self.resumed += 1

    def connect(self, committed: int = 0) -> BatchReceiver:
        workers_ends, writers_ends = make_pipes()
        self.link.attach(*workers_ends)
        self.taker = Taker(self.loop)
        self.source = BatchReceiver(self.taker, 1, writers_ends, committed)
        return self.source

    def send(self, line: bytes, receipts: list[Receipt] | None = None) -> None:
        builder = BatchBuilder(generation=1)
        builder.add(1, line)
        self.link.send(builder.build(self.link.next_number), receipts or [])

    def turn(self, times: int = 8) -> None:
        for _ in range(times):
            self.loop.turn(0)


@pytest.fixture
def pair() -> Iterator[Pair]:
    pair = Pair()
    yield pair
    pair.link.detach()
    if pair.source is not None and not pair.source.ended:
        pair.turn()
    if pair.source is not None:
        pair.source.close()
    pair.loop.close()


def test_a_batch_is_kept_until_it_is_committed(pair: Pair) -> None:
    """What the writer has taken is not yet safe; what it has committed is forgotten."""
    source = pair.connect()
    pair.send(b"one\n")
    pair.send(b"two\n")
    pair.turn()
    assert pair.taker.lines == [b"one\n", b"two\n"]
    assert pair.link.held_bytes > 0
    source.commit()
    pair.turn()
    assert pair.link.empty
    assert pair.link.held_bytes == 0
    assert pair.commits >= 1


def test_batches_made_without_a_writer_are_sent_once_there_is_one(pair: Pair) -> None:
    """A worker that has no writer yet, or none any more, loses nothing."""
    pair.send(b"early\n")
    pair.turn()
    pair.connect()
    pair.turn()
    assert pair.taker.numbers == [1]


def test_a_new_writer_is_sent_what_the_last_one_had_not_committed(pair: Pair) -> None:
    """It says which batch it has last, and gets those after it, in order."""
    first = pair.connect()
    for line in (b"1\n", b"2\n", b"3\n"):
        pair.send(line)
    pair.turn()
    assert pair.taker.numbers == [1, 2, 3]
    first.close()
    pair.source = None
    pair.send(b"4\n")
    pair.turn()
    pair.connect(committed=2)
    pair.turn()
    assert pair.taker.numbers == [3, 4]
    assert pair.taker.lines == [b"3\n", b"4\n"]


def test_nothing_is_sent_before_the_writer_has_said_where_to_resume(pair: Pair) -> None:
    """A batch that is already committed must not be sent before that is known."""
    workers_ends, (batches_fd, commits_fd) = make_pipes()
    pair.send(b"1\n")
    pair.link.attach(*workers_ends)
    pair.turn()
    with pytest.raises(BlockingIOError):
        os.read(batches_fd, 1)
    os.close(batches_fd)
    os.close(commits_fd)


def test_a_full_pipe_holds_batches_back_without_losing_their_place(pair: Pair) -> None:
    """Large batches pass through a pipe that takes a part at a time."""
    pair.connect()
    lines = [bytes([65 + index]) * 700_000 + b"\n" for index in range(6)]
    for line in lines:
        pair.send(line)
    pair.turn(40)
    assert pair.taker.lines == lines


def test_a_source_that_has_had_its_turn_is_postponed(pair: Pair) -> None:
    """One worker cannot keep the writer to itself, nor fill it beyond its bound."""
    source = pair.connect()
    pair.taker.full = True
    pair.send(b"1\n")
    pair.turn()
    assert pair.taker.lines == []
    assert pair.taker.postponed == [source]
    pair.taker.full = False
    source.ready(0)
    assert pair.taker.lines == [b"1\n"]


def test_the_end_of_a_worker_is_told_after_its_last_whole_batch(pair: Pair) -> None:
    """A batch that its worker did not finish never was one."""
    source = pair.connect()
    pair.send(b"whole\n")
    pair.turn()
    pipes = pair.link._pipes
    assert pipes is not None
    builder = BatchBuilder(1)
    builder.add(1, b"half\n")
    os.write(pipes.batches_fd, b"".join(builder.build(2).pieces)[:-2])
    pair.link.detach()
    pair.turn()
    assert source.ended
    assert pair.taker.lines == [b"whole\n"]


def test_a_batch_that_comes_twice_is_taken_once(pair: Pair) -> None:
    """A worker that was not sure sends again."""
    pair.connect(committed=5)
    builder = BatchBuilder(1)
    pipes = pair.link._pipes
    assert pipes is not None
    for number in (5, 6, 6):
        builder.add(1, b"line\n")
        os.writev(pipes.batches_fd, builder.build(number).pieces)
    pair.turn()
    assert pair.taker.numbers == [6]


def test_receipts_come_with_the_commit_and_not_before(pair: Pair) -> None:
    """Who waits for an acknowledgement hears of it once, when its batch is committed."""
    source = pair.connect()
    first, second = Receipt("one", 3), Receipt("two", 7)  # type: ignore[arg-type] # any connection does
    pair.send(b"1\n", [first])
    pair.turn()
    assert pair.receipts == []
    source.commit()
    pair.turn()
    pair.send(b"2\n", [second])
    pair.turn()
    source.commit()
    pair.turn()
    assert pair.receipts == [first, second]


def test_what_the_writer_says_of_sessions_arrives_in_order(pair: Pair) -> None:
    """A refusal comes before the commit that would otherwise be taken for a yes."""
    source = pair.connect()
    pair.turn()
    assert pair.resumed == 1
    source.answer(opened(b"s" * 16, 1, 2, 3))
    source.answer(refused(Group(b"t" * 16, 4, 5, 6, [], [])))
    pair.turn()
    assert pair.opened == [(1, 2, 3)]
    assert pair.refused == [(b"t" * 16, 4)]


def test_more_answers_than_the_pipe_holds_all_arrive(pair: Pair) -> None:
    """Ten thousand clients that come at once are all let in."""
    source = pair.connect()
    for token in range(10_000):
        source.answer(opened(b"s" * 16, token, 1, 0))
    pair.turn(60)
    assert [token for token, _, _ in pair.opened] == list(range(10_000))


def test_pipes_are_made_both_or_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process without descriptors left for the second pair keeps none of the first."""
    pipe2, before = os.pipe2, procfs.descriptors(os.getpid())
    left = [1]

    def make(flags: int) -> tuple[int, int]:
        if not left:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        left.pop()
        return pipe2(flags)

    monkeypatch.setattr(os, "pipe2", make)
    with pytest.raises(OSError, match="Too many open files"):
        make_pipes()
    assert procfs.descriptors(os.getpid()) == before
