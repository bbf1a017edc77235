"""The commit, step by step: whatever the writer is about to do when it dies, each record is stored once."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from tests.system.session_client import Faithful
from tests.system.tracer import kill_at, needs_strace, traced

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.system.harness import Collector

_MESSAGE = re.compile(rb'"message":"([a-z0-9]+)-(\d{7})"')


def check(directory: Path, faithful: list[Faithful]) -> None:
    """See that each record of each client is in the files once, each file whole, and in order."""
    found: dict[str, list[int]] = {}
    for path in directory.glob("*.jsonl*"):
        if path.name == "rejected.jsonl":
            continue
        data = path.read_bytes()
        assert not data or data.endswith(b"\n"), f"{path.name} ends in a torn line"
        for line in data.splitlines():
            json.loads(line)
        inside: dict[str, list[int]] = {}
        for name, number in _MESSAGE.findall(data):
            inside.setdefault(name.decode(), []).append(int(number))
        for name, numbers in inside.items():
            assert numbers == sorted(numbers), f"{path.name}: {name} out of order"
            found.setdefault(name, []).extend(numbers)
    for client in faithful:
        numbers = found.pop(client.name, [])
        assert sorted(numbers) == list(range(1, client.sent + 1)), f"{client.name} of {client.sent}"
    assert not found


@pytest.fixture
def faithful(collector: Collector) -> Iterator[Faithful]:
    client = Faithful(collector, "a")
    yield client
    client.close()


@needs_strace
@pytest.mark.parametrize(("syscall", "most"), [("writev", 3), ("fdatasync", 4), ("pwrite64", 3)])
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
    check(collector.state_dir, [faithful])
