"""The journal is damaged between two runs: it is told, the rest is delivered, and nothing altered counts."""

from __future__ import annotations

import random
import shutil
import signal
from typing import TYPE_CHECKING

import pytest

from prefork_logd.journal.commit_entry import Committed
from prefork_logd.journal.commit_segment import read_segment
from prefork_logd.journal.journal import Journal
from tests.support.session_client import Client, Faithful, check_each_once

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.harness import Collector

    Maker = Callable[..., Collector]

FLIPS = 200
ROOM_BYTES = 4_096


def _stopped(collector: Collector, faithful: Faithful) -> Path:
    """Let some records be acknowledged, stop the collector, and return its journal's file."""
    faithful.log(30, batch=1)
    faithful.close()
    address = collector.bind[0]
    assert collector.stop(signal.SIGQUIT) == 0
    collector._flags = ("--workers", "2", "--bind", address)
    (path,) = (collector.state_dir / "journal").iterdir()
    return path


def _last_entry(path: Path) -> tuple[bytearray, int, int]:
    data = bytearray(path.read_bytes())
    return data, data.rfind(b"PLJE"), len(data.rstrip(b"\0"))


def _tear(data: bytearray, start: int, end: int) -> None:
    data[(start + end) // 2 :] = bytes(len(data) - (start + end) // 2)


def _scramble(data: bytearray, start: int, end: int) -> None:
    data[start:end] = random.Random(1).randbytes(end - start)


def _zero(data: bytearray, start: int, end: int) -> None:
    data[start:end] = bytes(end - start)


@pytest.mark.parametrize("damage", [_tear, _scramble, _zero], ids=lambda damage: damage.__name__)
def test_the_last_entry_is_damaged(collector: Collector, damage: Callable[[bytearray, int, int], None]) -> None:
    """It is as if that turn had not been committed: its client sends it again, and everything is there once."""
    # One that still holds its last record, as one would whose acknowledgement was lost with the power.
    faithful = Faithful(collector, "a")
    path = _stopped(collector, faithful)
    data, start, end = _last_entry(path)
    damage(data, start, end)
    path.write_bytes(data)
    faithful.acknowledged -= 1
    collector.start()
    assert damage is _zero or f"journal: {path}" in collector.log
    faithful.log(10)
    faithful.close()
    assert collector.stop() == 0
    check_each_once(collector.state_dir, [faithful])


def _without_room(data: bytes) -> bytes:
    return data[: len(data.rstrip(b"\0")) + ROOM_BYTES]


def test_a_bit_flips_anywhere_in_the_journal(collector: Collector, tmp_path: Path) -> None:
    """Wherever it is, what is recovered is what was written at some moment, or is told to be missing."""
    faithful = Faithful(collector, "a")
    path = _stopped(collector, faithful)
    # A segment is made with room for megabytes. A few of its zeros are like all.
    genuine = _without_room(path.read_bytes())
    sequence = int(path.stem.rpartition("-")[2], 16)
    bodies = set(read_segment(path, sequence).bodies)
    assert len(bodies) > 30
    end = len(genuine) - ROOM_BYTES
    chance = random.Random(17)
    numbers = set()
    for place in sorted(chance.sample(range(8 * (end + 64)), FLIPS)):
        directory = tmp_path / "journal"
        directory.mkdir()
        data = bytearray(genuine)
        data[place // 8] ^= 1 << place % 8
        (directory / path.name).write_bytes(data)
        found = read_segment(directory / path.name, sequence)
        assert set(found.bodies) <= bodies, f"bit {place}: an altered entry counts"
        assert len(found.bodies) >= len(bodies) - 1, f"bit {place}: more than one entry is lost"
        assert found.problem, f"bit {place}: nothing is told"
        numbers |= {entry.committed for entry in Journal(directory).sessions._entries.values()}
        shutil.rmtree(directory)
    # One entry less at the end is the most that can be lost.
    assert numbers <= {29, 30}


def test_an_older_state_directory_is_noticed(make_collector: Callable[..., Collector], tmp_path: Path) -> None:
    """Copied while the collector runs, put back beside newer outputs: no acknowledged line is cut off."""
    path = tmp_path / "outputs" / "all.jsonl"
    collector = make_collector(f'[[output]]\npath = "{path}"\n', "--workers", "1").start()
    faithful = Faithful(collector, "a")
    faithful.log(10)
    shutil.copytree(collector.state_dir, tmp_path / "backup", ignore=shutil.ignore_patterns("*.sock"))
    faithful.log(10)
    faithful.close()
    address = collector.bind[0]
    assert collector.stop(signal.SIGQUIT) == 0
    shutil.rmtree(collector.state_dir)
    shutil.copytree(tmp_path / "backup", collector.state_dir)
    collector._flags = ("--workers", "1", "--bind", address)
    collector.start()
    assert collector.log.count("the state directory is older than this file") == 1
    faithful.log(10)
    faithful.close()
    assert collector.stop() == 0
    check_each_once(path.parent, [faithful])


@pytest.mark.parametrize("what", ["removed", "empty"])
def test_the_state_is_gone(collector: Collector, what: str) -> None:
    """Without its journal a collector says so, keeps what is stored, and goes on with each client where that is."""
    faithful = Faithful(collector, "a")
    path = _stopped(collector, faithful)
    if what == "removed":
        path.unlink()
    else:
        path.write_bytes(b"")
    collector.start()
    told = [line for line in collector.log.splitlines() if "WARNING" in line and "journal" in line]
    assert told, collector.log
    faithful.log(10)
    faithful.close()
    assert collector.stop() == 0
    check_each_once(collector.state_dir, [faithful])


def test_two_collectors_do_not_share_an_output(make_collector: Callable[..., Collector], tmp_path: Path) -> None:
    """With state directories of their own: the second one is refused, by whatever name it has the file."""
    path = tmp_path / "outputs" / "all.jsonl"
    (tmp_path / "link.jsonl").symlink_to(path)
    first = make_collector(f'[[output]]\npath = "{path}"\n', "--workers", "1").start()
    second = make_collector(f'[[output]]\npath = "{tmp_path}/link.jsonl"\n', name="other")
    with pytest.raises(AssertionError, match="another collector, or another output, has it open"):
        second.start()
    faithful = Faithful(first, "a")
    faithful.log(10)
    faithful.close()
    assert first.stop() == 0
    check_each_once(path.parent, [faithful])


def test_a_clock_that_was_put_right_forgets_no_session(make_collector: Maker) -> None:
    """A session was last used, by a wrong clock, decades ago: its client comes back, and nothing is stored twice."""
    collector = make_collector()
    session = b"clock".rjust(16)
    collector.state_dir.mkdir(mode=0o700, parents=True)
    journal = Journal(collector.state_dir / "journal")
    journal.begin(Committed(1, {}, {}))
    journal.sessions.commit(session, 1, 3, 1)
    journal.commit(Committed(2, {}, {}), sync=True)
    journal.close()
    collector.start()
    client = Client(collector)
    assert client.welcome(session) == 3
    client.close()
    assert collector.stop() == 0
