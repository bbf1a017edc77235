"""Lines that lie in memory which worker and writer share: there until they are committed, whoever dies meanwhile."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import pickle
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from prefork_logd.errors import LocalProtocolError
from prefork_logd.ingest import core as native
from prefork_logd.ingest import lines_memory
from prefork_logd.inputs.pickles.decode import decode
from prefork_logd.ipc import shared_memory
from prefork_logd.ipc.batch import Batch
from prefork_logd.ipc.batch_builder import BatchBuilder, Outgoing
from prefork_logd.ipc.batch_reader import BatchReader
from prefork_logd.ipc.batch_receiver import BatchReceiver
from prefork_logd.ipc.batch_sender import BatchSender, make_pipes
from prefork_logd.net.loop import Loop
from prefork_logd.records.record import make_record
from prefork_logd.records.render import render_json
from tests.support import procfs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prefork_logd.ipc.batch_sender import Receipt

if native.share is None:
    pytest.skip("there is no compiled core, and so no memory is shared", allow_module_level=True)

BLOCK_BYTES = 589_824
BLOCKS = 3
OUTPUTS = (1, 2)


def frames(*messages: str) -> bytes:
    """Return length-prefixed records."""
    bodies = [pickle.dumps({"name": "a", "msg": message, "args": None}, 1) for message in messages]
    return b"".join(len(body).to_bytes(4, "big") + body for body in bodies)


class Gatherer:
    """What a worker does between reading and sending."""

    def __init__(self) -> None:
        self.core = native.Core([(None, 0, ()), (None, 0, ())], [], False)
        self.builder = BatchBuilder(1, None, native.Lines)

    def gather(self, *messages: str) -> None:
        data = frames(*messages)
        end, taken, rejected, _, _ = self.core.run(
            *(data, 0, len(data), 1000, 1 << 24, "peer", 1.0, self.builder.sinks(OUTPUTS)),
            *(self._take, 1 << 30, 0, 1000),
        )
        assert (end, taken, rejected) == (len(data), len(messages), 0)

    def _take(self, frame: bytes) -> int:
        """Do what the core leaves to Python, long messages for one."""
        line = render_json(make_record(decode(frame), "peer", 1.0))
        for output in OUTPUTS:
            self.builder.add(output, line)
        return 1


def stored(batch: Batch) -> dict[int, bytes]:
    """Return the lines of each output."""
    found = dict.fromkeys(OUTPUTS, b"")
    for group in batch.groups:
        for segment in group.segments:
            found[segment.output] += bytes(segment.data)
    return found


class Writer:
    """A writer that looks at lines as late as it may: when it commits them."""

    def __init__(self, loop: Loop, committed: int, shared: memoryview) -> None:
        self.loop = loop
        self.full = False
        self.waiting: list[Batch] = []
        workers_ends, writers_ends = make_pipes()
        self.workers_ends = workers_ends
        self.source = BatchReceiver(self, 1, writers_ends, committed, shared)

    def add_batch(self, source: BatchReceiver, batch: Batch) -> None:
        self.waiting.append(batch)

    def postpone(self, source: BatchReceiver) -> None:
        self.loop.again(source)


class Sharing(RuleBasedStateMachine):
    """A worker with little memory to share, and writers that come and go."""

    def __init__(self) -> None:
        super().__init__()
        self.memory = mmap.mmap(-1, BLOCKS * BLOCK_BYTES)
        native.share(self.memory)
        self.loop = Loop()
        self.link = BatchSender(self.loop, self)
        self.gatherer = Gatherer()
        self.sent: list[str] = []
        self.count = 0
        self.files = dict.fromkeys(OUTPUTS, b"")
        self.committed = 0
        self.writer: Writer | None = None

    def batches_committed(self, receipts: list[Receipt]) -> None:
        """Tell nobody."""

    def session_opened(self, token: int, epoch: int, committed: int) -> None:
        raise AssertionError("nobody asked")

    def range_refused(self, session: bytes, epoch: int) -> None:
        raise AssertionError("nothing is in a session")

    def writer_resumed(self) -> None:
        """Have nothing to ask."""

    @rule(nbytes=st.sampled_from([1, 100, 5_000, 200_000, 400_000]), times=st.integers(1, 5))
    def gather(self, nbytes: int, times: int) -> None:
        messages = [f"{self.count + index}:{'x' * nbytes}" for index in range(times)]
        self.count += times
        self.sent += messages
        self.gatherer.gather(*messages)

    @rule()
    def send(self) -> None:
        if self.gatherer.builder:
            self.link.send(self.gatherer.builder.build(self.link.next_number), [])

    @precondition(lambda self: self.writer is None)
    @rule()
    def begin_writer(self) -> None:
        self.writer = Writer(self.loop, self.committed, memoryview(self.memory).toreadonly())
        self.link.attach(*self.writer.workers_ends)

    @rule(times=st.integers(1, 4))
    def turn(self, times: int) -> None:
        for _ in range(times):
            self.loop.turn(0)

    @precondition(lambda self: self.writer is not None)
    @rule(is_told=st.booleans())
    def commit(self, is_told: bool) -> None:
        """Write what was taken; the writer may die before it says so."""
        writer = self.writer
        assert writer is not None
        for batch in writer.waiting:
            for output, lines in stored(batch).items():
                self.files[output] += lines
            self.committed = batch.number
        writer.waiting = []
        if is_told:
            writer.source.commit()
        else:
            self.kill_writer()

    @precondition(lambda self: self.writer is not None)
    @rule()
    def kill_writer(self) -> None:
        writer, self.writer = self.writer, None
        assert writer is not None
        writer.source.ended = True  # it may still have a turn in the loop
        writer.source.close()
        writer.waiting = []
        self.link.detach()

    @invariant()
    def every_line_is_there_once(self) -> None:
        for lines in self.files.values():
            texts = [line.split(b'"message":"', 1)[1].split(b'"', 1)[0] for line in lines.splitlines()]
            assert texts == [message.encode() for message in self.sent[: len(texts)]]

    def teardown(self) -> None:
        if self.writer is None:
            self.begin_writer()
        self.send()
        for _ in range(200):
            self.loop.turn(0)
            self.commit(is_told=True)
            if self.link.empty:
                break
        self.every_line_is_there_once()
        assert all(lines.count(b"\n") == len(self.sent) for lines in self.files.values())
        assert self.link.held_bytes == 0
        self.kill_writer()
        self.loop.close()
        # Refused if a block had not come back.
        native.share(None)


TestSharing = pytest.mark.slow(Sharing.TestCase)
TestSharing.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


@pytest.fixture
def memory() -> Iterator[mmap.mmap]:
    """Memory for three blocks, shared."""
    found = mmap.mmap(-1, BLOCKS * BLOCK_BYTES)
    native.share(found)
    yield found
    native.share(None)
    found.close()


def read(outgoing: Outgoing, shared: memoryview) -> Batch:
    """Return the batch as a writer sees it that shares `shared`."""
    reader = BatchReader(shared)
    data = b"".join(outgoing.pieces)
    batch = None
    while data:
        place = reader.want()
        piece, data = data[: len(place)], data[len(place) :]
        place[: len(piece)] = piece
        batch = reader.filled(len(piece))
    assert batch is not None
    return batch


def test_lines_are_in_the_pipe_when_the_memory_is_used_up(memory: mmap.mmap) -> None:
    """More batches are on their way than there is memory for: none waits, and none is lost."""
    shared = memoryview(memory).toreadonly()
    gatherer = Gatherer()
    on_their_way = []
    for number in range(1, 5):
        gatherer.gather(f"message {number}")
        on_their_way.append(gatherer.builder.build(number))
    assert [len(batch.shared) for batch in on_their_way] == [2, 1, 0, 0]
    for number, batch in enumerate(on_their_way, 1):
        assert all(f"message {number}".encode() in lines for lines in stored(read(batch, shared)).values())
    shared.release()


def test_the_most_shared_is_used_again_first(memory: mmap.mmap) -> None:
    """What one batch has left is where the next one is made: it is still in the processor's cache."""
    gatherer = Gatherer()
    places = set()
    for number in range(1, 20):
        gatherer.gather("again")
        batch = gatherer.builder.build(number)
        places.add(bytes(batch.pieces[0])[-40:])
        assert len(batch.shared) == len(OUTPUTS)
        del batch
    assert len(places) == 1
    assert memory[:1] != b"\0"


@pytest.mark.parametrize("nbytes", [0, 10, 2 * BLOCK_BYTES + 10])
def test_a_place_beyond_the_memory_is_an_error(memory: mmap.mmap, nbytes: int) -> None:
    """A writer that has less of the memory than its worker takes nothing that it cannot see whole."""
    gatherer = Gatherer()
    gatherer.gather("one")
    held = gatherer.builder.build(1)
    gatherer.gather("two")
    outgoing = gatherer.builder.build(2)
    with memoryview(memory) as view, view[:nbytes] as part, pytest.raises(LocalProtocolError, match="shared memory"):
        read(outgoing, part)
    assert held.shared


def test_a_worker_s_memory_keeps_its_size() -> None:
    """Nobody can take away pages that another has mapped, which would end it by SIGBUS (fcntl(2), file seals)."""
    fd = shared_memory.make()
    try:
        with pytest.raises(PermissionError):
            os.ftruncate(fd, 0)
        with pytest.raises(PermissionError):
            os.ftruncate(fd, 2 * shared_memory.ARENA_BYTES)
        assert fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
        view = shared_memory.look_into(os.dup(fd))
        assert isinstance(view, memoryview)
        assert view.readonly
        assert len(view) == shared_memory.ARENA_BYTES
    finally:
        os.close(fd)


def test_no_memory_file_means_that_lines_go_through_the_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system may refuse it, a container's filter of system calls for one."""

    def refuse(*_: object) -> int:
        raise PermissionError(1, "Operation not permitted")

    before = list(Path("/proc/self/fd").iterdir())
    for refused in (os, "memfd_create"), (os, "ftruncate"), (fcntl, "fcntl"):
        with monkeypatch.context() as patch:
            patch.setattr(*refused, refuse)
            assert shared_memory.make() == -1
    assert len(list(Path("/proc/self/fd").iterdir())) == len(before)


def test_a_writer_that_cannot_map_the_memory_reads_from_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A limit of address space (RLIMIT_AS) must not lose what a worker has made."""
    fd = shared_memory.make()
    os.pwrite(fd, b"lines\n", 100)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(mmap, "mmap", refuse)
    found = shared_memory.look_into(os.dup(fd))
    assert bytes(found[100:106]) == b"lines\n"
    assert len(found[shared_memory.ARENA_BYTES - 2 : shared_memory.ARENA_BYTES + 2]) == 2
    lines_memory.use(fd)
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_memory_with_lines_in_it_is_not_given_up(memory: mmap.mmap) -> None:
    """Whoever holds a batch may still look at it."""
    gatherer = Gatherer()
    gatherer.gather("held")
    outgoing = gatherer.builder.build(1)
    with pytest.raises(BufferError, match="lines in the shared memory"):
        native.share(None)
    assert outgoing.shared
    assert memory


@pytest.mark.parametrize("can_map", [True, False])
def test_memory_that_is_looked_into_leaves_no_descriptor(can_map: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mapping does not need it, and what reads by it closes it."""

    def fail(*_: object, **__: object) -> mmap.mmap:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    if not can_map:
        monkeypatch.setattr(mmap, "mmap", fail)
    before = procfs.descriptors(os.getpid())
    memory = shared_memory.look_into(shared_memory.make())
    assert bytes(memory[3:5]) == bytes(2)
    del memory
    assert procfs.descriptors(os.getpid()) == before
