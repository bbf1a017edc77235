"""The writer, in the test's own process: what it has answered is in the files, and a fault keeps lines, not time."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import logging
import os
import socket
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from prefork_logd.config.load import loads
from prefork_logd.config.paths import WRITER_LOCK
from prefork_logd.errors import ExitStatus
from prefork_logd.ipc.batch import COMMITTED, NO_SESSION, OPENED, REFUSED, read_answers
from prefork_logd.ipc.batch_builder import BatchBuilder
from prefork_logd.ipc.batch_sender import make_pipes
from prefork_logd.ipc.channel import Channel
from prefork_logd.ipc.configuration import Configuration
from prefork_logd.ipc.messages import Attach, Configure, Drain, Ping, Reopen, Retire, WakeupFd
from prefork_logd.ipc.scoreboard import WRITER_SLOT, Field, Scoreboard
from prefork_logd.processes.fork import LOST_STATUS
from prefork_logd.processes.writer import writer as module
from prefork_logd.processes.writer.writer import Writer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from prefork_logd.ipc.messages import AnyMessage

SESSION = b"s" * 16
send_pieces = os.writev
"""Works where `full` lets the writer's own calls fail."""
ONE = '[[output]]\nname = "one"\npath = "one.jsonl"\n'
TWO = ONE + '[[output]]\nname = "two"\npath = "two.jsonl"\n'


class Worker:
    """A worker's ends of the pipes."""

    def __init__(self) -> None:
        (self.batches_fd, self.answers_fd), self.theirs = make_pipes()
        self._torn = b""

    def send(self, number: int, line: bytes, output: int = 1, session: tuple[bytes, int, int] | None = None) -> None:
        """Send a batch of one line, of a session (its id, epoch and number) or of none."""
        builder = BatchBuilder(1)
        if session is not None:
            builder.begin(*session, session[2], floor=1)
        builder.add(output, line)
        send_pieces(self.batches_fd, builder.build(number).pieces)

    def open(self, number: int, session: bytes = SESSION, token: int = 1) -> None:
        """Ask for an epoch of a session."""
        builder = BatchBuilder(1)
        builder.open(token, session, 1)
        send_pieces(self.batches_fd, builder.build(number).pieces)

    def answers(self) -> list[tuple[int, int]]:
        """Return the kind and the first number of each answer."""
        with contextlib.suppress(BlockingIOError):
            while piece := os.read(self.answers_fd, 65_536):
                self._torn += piece
        found, self._torn = read_answers(self._torn)
        return [(answer.kind, answer.a) for answer in found]

    def end(self) -> None:
        for fd in (self.batches_fd, self.answers_fd):
            with contextlib.suppress(OSError):
                os.close(fd)


class Rig:
    """A writer, with the master's end of its channel."""

    def __init__(self, state_dir: Path, toml: str = ONE, board: Scoreboard | None = None) -> None:
        self.state_dir = state_dir
        self.board = board or Scoreboard()
        self.master, channel = Channel.pair()
        self.master.setblocking(False)
        self.writer = Writer(self.board, channel, [self.configuration(toml)], 0)
        self.workers: list[Worker] = []

    def configuration(self, toml: str, generation: int = 1, output_ids: tuple[int, ...] = ()) -> Configuration:
        settings = loads("store = []\n" + toml, "", {"state_dir": str(self.state_dir)})
        return Configuration(generation, settings, output_ids or tuple(range(1, len(settings.output) + 1)))

    def tell(self, message: AnyMessage, *fds: int) -> None:
        socket.send_fds(self.master, [msgspec.json.encode(message)], list(fds))
        for fd in fds:
            os.close(fd)

    def attach(self, number: int = 1) -> Worker:
        worker = Worker()
        self.workers.append(worker)
        self.tell(Attach(number), *worker.theirs)
        return worker

    def start(self) -> None:
        """Recover, as at the beginning of `run`."""
        assert self.writer._recover() == ""

    def turn(self, count: int = 6) -> None:
        for _ in range(count):
            self.writer.loop.turn(0)

    def heard(self) -> list[dict[str, Any]]:
        """Return the messages that the master got."""
        found = []
        with contextlib.suppress(BlockingIOError):
            while data := self.master.recv(65_536):
                found.append(json.loads(data))
        return found

    def lines(self, name: str = "one.jsonl") -> bytes:
        return (self.state_dir / name).read_bytes()

    def close(self) -> None:
        for worker in self.workers:
            worker.end()
        for source in self.writer._sources.values():
            source.close()
        for _, fds in self.writer._waiting:
            for fd in fds:
                os.close(fd)
        self.writer._outputs.close()
        self.writer._record_log.close()
        if self.writer._recovery.done:
            self.writer._journal.close()
        with contextlib.suppress(OSError):
            os.close(self.writer._recovery._lock_fd)
        self.writer._channel.close()
        self.master.close()
        self.writer.loop.close()


@pytest.fixture(autouse=True)
def _quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for no disk."""
    for call in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, call, lambda fd: None)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path, TWO)
    rig.start()
    yield rig
    rig.close()


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[str]]:
    """Return the calls that fail, as on a full disk, and let retries come with the next turn."""
    failing: set[str] = set()
    for name in ("writev", "pwritev", "pwrite", "write"):
        real = getattr(os, name)

        def call(*arguments: Any, _name: str = name, _real: Any = real) -> Any:
            if _name in failing:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return _real(*arguments)

        monkeypatch.setattr(os, name, call)
    monkeypatch.setattr(module, "FIRST_RETRY_S", 0.0)
    monkeypatch.setattr(module, "LONGEST_RETRY_S", 0.0)
    yield failing
    failing.clear()


def test_what_is_answered_is_in_the_files(rig: Rig) -> None:
    """Of several workers, each in its order; an answer is for all batches before it."""
    one, two = rig.attach(1), rig.attach(2)
    rig.turn()
    assert one.answers() == two.answers() == [(COMMITTED, 0)]
    for number in (1, 2, 3):
        one.send(number, b"one %d\n" % number)
        two.send(number, b"two %d\n" % number, output=2)
    assert one.answers() == []
    rig.turn()
    assert one.answers()[-1] == two.answers()[-1] == (COMMITTED, 3)
    assert rig.lines() == b"one 1\none 2\none 3\n"
    assert rig.lines("two.jsonl") == b"two 1\ntwo 2\ntwo 3\n"


def test_a_commit_waits_for_the_disk_if_it_is_acknowledged(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines of plain clients wait for none, also after a turn with lines of a session."""
    synced: list[int] = []
    for call in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, call, synced.append)
    worker = rig.attach()
    worker.open(1)
    rig.turn()
    epoch = next(first for kind, first in worker.answers() if kind == OPENED)
    for number, session in ((2, None), (3, (SESSION, epoch, 1)), (4, None)):
        synced.clear()
        worker.send(number, b"line\n", session=session)
        rig.turn()
        assert worker.answers()[-1] == (COMMITTED, number)
        assert bool(synced) is (session is not None)
    assert rig.lines() == b"line\n" * 3


def test_a_successor_goes_on_after_the_last_answer(tmp_path: Path) -> None:
    """Lines that were not committed are cut off, and the worker is told where to resume."""
    board = Scoreboard()
    first = Rig(tmp_path, board=board)
    first.start()
    worker = first.attach(7)
    worker.send(1, b"one\n")
    first.turn()
    assert worker.answers()[-1] == (COMMITTED, 1)
    first.close()
    second = Rig(tmp_path, board=board)
    second.start()
    again = second.attach(7)
    again.send(1, b"one\n")
    again.send(2, b"two\n")
    second.turn()
    assert again.answers() == [(COMMITTED, 1), (COMMITTED, 2)]
    assert second.lines() == b"one\ntwo\n"
    second.close()


def test_a_session_is_opened_and_its_numbers_are_taken_once(rig: Rig) -> None:
    """What comes again has no second line; an answer to an open comes with the epoch."""
    worker = rig.attach()
    worker.open(1, token=9)
    rig.turn()
    assert worker.answers() == [(COMMITTED, 0), (COMMITTED, 1), (OPENED, 9)]
    worker.send(2, b"first\n", session=(SESSION, 1, 1))
    worker.send(3, b"again\n", session=(SESSION, 1, 1))
    worker.send(4, b"second\n", session=(SESSION, 1, 2))
    rig.turn()
    assert rig.lines() == b"first\nsecond\n"
    assert worker.answers()[-1] == (COMMITTED, 4)


def test_lines_of_a_session_for_an_output_that_has_gone_are_refused(rig: Rig) -> None:
    """The client sends the records again, for the outputs that are there; other clients' are lost, and that is said."""
    worker = rig.attach()
    worker.open(1)
    rig.turn()
    worker.answers()
    worker.send(2, b"x\n", output=99, session=(SESSION, 1, 1))
    rig.turn()
    assert worker.answers() == [(REFUSED, 1), (COMMITTED, 2)]
    worker.send(3, b"good\n", session=(SESSION, 1, 1))
    worker.send(4, b"y\n", output=99, session=(NO_SESSION, 0, 1))
    rig.turn()
    assert rig.lines() == b"good\n"


def test_a_full_disk_keeps_every_line_and_answers_nothing(rig: Rig, full: set[str], tmp_path: Path) -> None:
    """No pipe is read meanwhile; when there is room again, all are written once, in order."""
    worker = rig.attach()
    rig.turn()
    worker.answers()
    full |= {"writev", "pwritev"}
    worker.send(1, b"one\n")
    rig.turn()
    worker.send(2, b"two\n")
    rig.turn()
    counters = rig.board.slot(WRITER_SLOT)
    assert worker.answers() == []
    assert counters[Field.PAUSED] == 1
    assert rig.lines() == b""
    full.clear()
    rig.writer._backoff.worked()
    rig.writer._try_again()
    rig.turn()
    assert worker.answers()[-1] == (COMMITTED, 2)
    assert counters[Field.PAUSED] == 0
    assert rig.lines() == b"one\ntwo\n"


def test_a_stop_on_a_full_disk_ends_with_a_loss_that_is_said(
    tmp_path: Path, full: set[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """After a bounded time: the status is that of lines that were left unwritten."""
    monkeypatch.setattr(logging.getLogger("prefork_logd"), "propagate", True)
    monkeypatch.setattr(module, "LAST_TRY_S", 0.0)
    rig = Rig(tmp_path)
    rig.start()
    worker = rig.attach()
    worker.send(1, b"12345\n")
    full |= {"writev", "pwritev"}
    rig.turn()
    worker.end()
    rig.tell(Drain(fast=False))
    rig.writer.loop._running = True
    rig.turn()
    assert not rig.writer.loop._running
    assert rig.writer._exit_status == LOST_STATUS
    assert "lost 6 bytes of lines, not written in time" in caplog.text
    rig.close()


def test_a_drained_writer_ends_with_its_last_worker(tmp_path: Path) -> None:
    """By itself, after everything in the pipes is written; it has said that it is ready."""
    rig = Rig(tmp_path)
    worker = rig.attach()
    worker.send(1, b"last\n")
    os.close(worker.batches_fd)
    rig.tell(Drain(fast=False))
    assert rig.writer.run() == 0
    assert rig.heard()[0] == {"type": "ready", "problem": "", "lacks_room": False}
    assert rig.lines() == b"last\n"
    assert rig.board.slot(WRITER_SLOT)[Field.PID] == os.getpid()
    assert worker.answers() == [(COMMITTED, 0)]
    os.close(worker.answers_fd)
    os.close(rig.writer._recovery._lock_fd)
    rig.writer._channel.close()
    rig.master.close()
    rig.writer.loop.close()


def test_an_orphan_ends_with_its_last_worker_too(tmp_path: Path) -> None:
    """The master has died: its end of the channel is closed."""
    rig = Rig(tmp_path)
    worker = rig.attach()
    worker.send(1, b"last\n")
    os.close(worker.batches_fd)
    rig.master.close()
    assert rig.writer.run() == 0
    assert rig.lines() == b"last\n"
    os.close(worker.answers_fd)
    os.close(rig.writer._recovery._lock_fd)
    rig.writer._channel.close()
    rig.writer.loop.close()


def test_a_retired_writer_commits_and_leaves_the_rest_to_its_successor(rig: Rig) -> None:
    """It does not wait for workers."""
    worker = rig.attach()
    worker.send(1, b"line\n")
    rig.turn()
    rig.tell(Retire())
    rig.writer.loop._running = True
    rig.turn()
    assert not rig.writer.loop._running
    assert worker.answers()[-1] == (COMMITTED, 1)
    assert rig.writer._exit_status == 0


def test_workers_wait_while_another_writer_has_the_outputs(tmp_path: Path) -> None:
    """The problem is told; when it has gone, they are served without being attached again."""
    (tmp_path / WRITER_LOCK).touch()
    with (tmp_path / WRITER_LOCK).open("a") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        rig = Rig(tmp_path)
        assert "another writer" in rig.writer._recover()
        worker = rig.attach()
        worker.send(1, b"early\n")
        rig.tell(Reopen(3))
        rig.turn()
        assert worker.answers() == []
        (reopened,) = rig.heard()
        assert (reopened["type"], reopened["number"]) == ("reopened", 3)
        assert "another writer" in reopened["problems"][0]
    rig.writer._try_again()
    rig.turn()
    assert worker.answers()[-1] == (COMMITTED, 1)
    assert rig.lines() == b"early\n"
    rig.close()


def test_a_configuration_is_taken_with_its_outputs(rig: Rig) -> None:
    """Confirmed by its generation, with the problems of outputs that cannot be opened."""
    worker = rig.attach()
    (rig.state_dir / "bad").mkdir()
    toml = ONE + '[[output]]\nname = "three"\npath = "three.jsonl"\n[[output]]\nname = "bad"\npath = "bad"\n'
    rig.tell(Configure(), rig.configuration(toml, 2, (1, 7, 8)).to_file())
    rig.turn()
    (answer,) = rig.heard()
    assert (answer["type"], answer["generation"]) == ("configured", 2)
    assert [problem for problem in answer["problems"] if "bad" in problem]
    worker.send(1, b"x\n", output=7)
    rig.turn()
    assert rig.lines("three.jsonl") == b"x\n"


def test_outputs_are_reopened(rig: Rig) -> None:
    """A file that was renamed keeps its lines, and new ones go into a new file."""
    worker = rig.attach()
    worker.send(1, b"old\n")
    rig.turn()
    (rig.state_dir / "one.jsonl").rename(rig.state_dir / "one.1")
    rig.tell(Reopen(1))
    rig.turn()
    assert rig.heard() == [{"type": "reopened", "number": 1, "problems": []}]
    worker.send(2, b"new\n")
    rig.turn()
    assert (rig.lines("one.1"), rig.lines()) == (b"old\n", b"new\n")


@pytest.mark.parametrize("message", [Attach(1), WakeupFd(0), Configure()])
def test_a_message_without_its_descriptors_ends_the_writer(
    rig: Rig, message: AnyMessage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The kernel has dropped them, for there was no room: the next writer gets them again."""
    monkeypatch.setattr(logging.getLogger("prefork_logd"), "propagate", True)
    rig.tell(message)
    rig.writer.loop._running = True
    rig.turn(1)
    assert not rig.writer.loop._running
    assert rig.writer._exit_status == ExitStatus.FAILURE
    assert "out of file descriptors" in caplog.text


def test_a_message_for_another_child_is_logged(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And nothing else."""
    monkeypatch.setattr(logging.getLogger("prefork_logd"), "propagate", True)
    rig.tell(Ping())
    rig.turn()
    assert "a message of the master cannot be used and is ignored (Ping)" in caplog.text
    worker = rig.attach()
    worker.send(1, b"x\n")
    rig.turn()
    assert rig.lines() == b"x\n"
