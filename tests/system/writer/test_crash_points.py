"""The commit, step by step: whatever the writer is about to do when it dies, each record is stored once."""

from __future__ import annotations

import re
import signal
import threading
from typing import TYPE_CHECKING

import pytest

from tests.support import power
from tests.support.harness import wait_for
from tests.support.session_client import FAITHFUL_MESSAGE, Faithful, check_each_once
from tests.support.tracer import fail_at, kill_at, needs_strace, traced

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.harness import Collector


@pytest.fixture
def faithful(collector: Collector) -> Iterator[Faithful]:
    client = Faithful(collector, "a")
    yield client
    client.close()


@needs_strace
@pytest.mark.parametrize(("syscall", "most"), [("writev", 3), ("fdatasync", 4), ("pwrite64", 3), ("pwritev2", 4)])
def test_the_writer_killed_at_each_step_of_a_commit(
    collector: Collector, faithful: Faithful, tmp_path: Path, syscall: str, most: int
) -> None:
    """Killed before its N-th call of a kind: nothing acknowledged is lost, nothing comes twice."""
    for when in range(1, most + 1):
        faithful.log(3, batch=1)
        before = collector.child("writer")
        with traced(before, tmp_path / "trace", *kill_at(syscall, when)) as tracer:
            faithful.log(10, batch=2)
            assert tracer.has_ended, f"{syscall} was not called {when} times"
        assert collector.child("writer") != before
    assert collector.stop() == 0
    check_each_once(collector.state_dir, [faithful])


@needs_strace
@pytest.mark.parametrize(("syscall", "when"), [("rename", 1), ("openat", 2), ("openat", 3), ("fsync", 1)])
def test_the_writer_killed_while_it_rotates(
    make_collector: Callable[..., Collector], tmp_path: Path, syscall: str, when: int
) -> None:
    """Its own rotation cut short anywhere costs no record, and stores none twice."""
    (tmp_path / "logs").mkdir()
    path = tmp_path / "logs" / "all.jsonl"
    collector = make_collector(
        f'[[output]]\npath = "{path}"\nrotate_bytes = 2000\nkeep = 0\n', "--workers", "1"
    ).start()
    client = Faithful(collector, "a")
    try:
        client.log(20)
        with traced(collector.child("writer"), tmp_path / "trace", *kill_at(syscall, when)) as tracer:
            client.log(60)
            assert tracer.has_ended, f"{syscall} was not called {when} times"
        client.log(20)
    finally:
        client.close()
    assert collector.stop() == 0
    check_each_once(path.parent, [client])


@needs_strace
@pytest.mark.parametrize("syscall", ["ftruncate", "fallocate", "pwrite64", "fdatasync", "fsync", "unlink"])
def test_the_writer_killed_while_it_recovers(
    collector: Collector, faithful: Faithful, tmp_path: Path, syscall: str
) -> None:
    """Killed between lines and commit, then twice in its recovery: the third one puts everything right."""
    faithful.log(5)
    assert collector.process is not None
    master, first = collector.process.pid, collector.child("writer")

    def restarts() -> int:
        return sum(child["restarts"] for child in collector.status()["children"] if child["kind"] == "writer")

    thread = threading.Thread(target=faithful.log, args=(10,))
    with traced(master, tmp_path / "children", *kill_at(syscall, 1)):
        with traced(first, tmp_path / "trace", *kill_at("pwrite64", 1)) as tracer:
            thread.start()
            wait_for(lambda: tracer.has_ended, "the first death")
        wait_for(lambda: restarts() >= 2, "two deaths in recovery")
    thread.join()
    assert collector.stop() == 0
    check_each_once(collector.state_dir, [faithful])


@needs_strace
def test_no_acknowledgement_comes_before_its_sync(collector: Collector, faithful: Faithful, tmp_path: Path) -> None:
    """Between the lines and the word to the worker lie a sync of the output, the commit, and a sync of the journal."""
    faithful.log(1)
    options = ("-y", "-s", "60", "-e", "trace=writev,pwrite64,fdatasync,write")
    with traced(collector.child("writer"), tmp_path / "trace", *options) as tracer:
        faithful.log(40, batch=2)
    steps = "".join(
        code
        for line in tracer.lines()
        for pattern, code in (
            (r"writev\(.*records\.jsonl", "L"),
            (r"fdatasync\(.*records\.jsonl.* = 0", "S"),
            (r"pwrite64\(.*\.journal", "J"),
            (r"fdatasync\(.*\.journal.* = 0", "F"),
            (r'write\(.*pipe:.*"\\1\\0', "A"),
        )
        if re.search(pattern, line)
    )
    assert len(re.findall("L", steps)) >= 20
    assert re.fullmatch("(LSJFA)+", steps), steps


@needs_strace
@pytest.mark.parametrize("when", [1, 2, 3, 4])
def test_a_sync_that_fails_acknowledges_nothing(
    collector: Collector, faithful: Faithful, tmp_path: Path, when: int
) -> None:
    """After one EIO, of the output or of the journal, everything is in the old file or the new one, once."""
    faithful.log(5)
    with traced(collector.child("writer"), tmp_path / "trace", *fail_at("fdatasync", when, "EIO")):
        faithful.log(20)
    faithful.log(5)
    assert "Input/output error" in collector.log or when % 2 == 0
    assert bool(list(collector.state_dir.glob("records.jsonl.failed-*"))) is (when % 2 == 1)
    assert collector.stop() == 0
    check_each_once(collector.state_dir, [faithful])


@needs_strace
def test_a_sync_that_fails_where_no_new_file_can_be_made(
    collector: Collector, faithful: Faithful, tmp_path: Path
) -> None:
    """Nothing is acknowledged until there is a new file, though the old one would take a second sync."""
    faithful.log(5)
    inject = ("fdatasync:error=EIO:when=1", "rename:error=EROFS:when=1..3")
    options = [option for what in inject for option in ("-e", f"inject={what}")]
    with traced(collector.child("writer"), tmp_path / "trace", "-e", "trace=fdatasync,rename", *options):
        faithful.log(20)
    assert collector.log.count("cannot begin a new file") == 1
    assert collector.stop() == 0
    check_each_once(collector.state_dir, [faithful])


def _journal(collector: Collector) -> Path:
    (path,) = (collector.state_dir / "journal").iterdir()
    return path


def _flip_in_the_middle(data: bytearray) -> None:
    end = len(data.rstrip(b"\0"))
    data[end // 2] ^= 0x04


def _zero_a_block(data: bytearray) -> None:
    end = len(data.rstrip(b"\0"))
    data[end // 3 : end // 2] = bytes(end // 2 - end // 3)


def _damage_the_header(data: bytearray) -> None:
    data[:16] = b"\xff" * 16


def _tear_the_tail(data: bytearray) -> None:
    end = len(data.rstrip(b"\0"))
    data[end : end + 20] = b"PLJE" + b"\x50" * 16


@pytest.mark.parametrize(
    "damage", [_flip_in_the_middle, _zero_a_block, _damage_the_header, _tear_the_tail], ids=lambda d: d.__name__
)
def test_a_damaged_journal_costs_no_record(
    collector: Collector, faithful: Faithful, damage: Callable[[bytearray], None]
) -> None:
    """The collector starts, says what it passed over, and goes on where it was."""
    faithful.log(40, batch=1)
    faithful.close()
    address = collector.bind[0]
    assert collector.stop(signal.SIGQUIT) == 0
    path = _journal(collector)
    data = bytearray(path.read_bytes())
    damage(data)
    path.write_bytes(data)
    collector._flags = ("--workers", "2", "--bind", address)
    collector.start()
    assert f"journal: {path}" in collector.log
    faithful.log(10)
    assert collector.stop() == 0
    check_each_once(collector.state_dir, [faithful])


def test_a_missing_journal_is_told_and_costs_no_record(collector: Collector, faithful: Faithful) -> None:
    """What was acknowledged stays, and the client goes on after it."""
    faithful.log(10)
    faithful.close()
    address = collector.bind[0]
    assert collector.stop() == 0
    _journal(collector).unlink()
    collector._flags = ("--workers", "2", "--bind", address)
    collector.start()
    assert "sessions start again" in collector.log
    faithful.log(10)
    assert collector.stop() == 0
    check_each_once(collector.state_dir, [faithful])


@needs_strace
@pytest.mark.parametrize("syscall", ["openat", "fallocate", "pwrite64", "fsync", "unlink"])
def test_the_writer_killed_while_it_begins_a_journal_file(
    collector: Collector, faithful: Faithful, tmp_path: Path, syscall: str
) -> None:
    """Killed before its N-th call of a kind, for every N until it is through: the file before it, or the new one."""
    for when in range(1, 4):
        faithful.log(3)
        writer = collector.child("writer")
        with traced(writer, tmp_path / "trace", *_begin_and_kill(syscall, when)) as tracer:
            faithful.log(4, batch=1)
            died = tracer.has_ended
        if not died:
            break
        wait_for(lambda before=writer: collector.child("writer") != before, "another writer")
    assert when > 1, f"{syscall} was never called"
    assert collector.stop() == 0
    check_each_once(collector.state_dir, [faithful])


def _begin_and_kill(syscall: str, when: int) -> tuple[str, ...]:
    """Let the first sync of the journal fail, for a new file is then begun, and kill the writer in that."""
    # The output's sync is the first fdatasync, the journal's the second.
    fail = "fdatasync:error=EIO:when=2"
    kill = f"{syscall}:signal=SIGKILL:when={when}"
    return ("-e", f"trace={syscall},fdatasync", "-e", f"inject={fail}", "-e", f"inject={kill}")


@needs_strace
def test_no_client_hears_of_a_record_before_its_sync(collector: Collector, tmp_path: Path) -> None:
    """Through writer and worker: what an ACK covers is by then in outputs and journal, both synced since."""
    client = Faithful(collector, "a")
    client.log(1)
    client.close()
    children = [option for pid in collector.worker_pids().values() for option in ("-p", str(pid))]
    with traced(collector.child("writer"), tmp_path / "trace", *power.OPTIONS, *children) as tracer:
        client.log(60, batch=2)
    client.close()
    written = synced = entered = committed = acknowledged = 0
    for step in power.read_trace(tracer.lines(), collector.state_dir):
        if step.path.endswith("records.jsonl"):
            if step.kind == "write":
                written = max([written, *(int(number) for _, number in FAITHFUL_MESSAGE.findall(step.data))])
            elif step.kind == "sync":
                synced = written
        elif step.path.endswith(".journal"):
            if step.kind == "write":
                entered = synced
            elif step.kind == "sync":
                committed = entered
        elif step.kind == "ack":
            assert step.at <= committed, f"{step.at} was acknowledged, and only {committed} are on the disk"
            acknowledged += 1
    assert acknowledged >= 20
    assert collector.stop() == 0
    check_each_once(collector.state_dir, [client])
