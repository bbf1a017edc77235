"""A writer that does not write: clients wait, memory stays bounded, nothing spins, nothing is lost."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import pytest

from tests.support.harness import wait_for
from tests.support.load import Load
from tests.support.procfs import cpu_s, rss_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.harness import Collector

    Maker = Callable[..., Collector]


def all_pause(collector: Collector) -> bool:
    """Tell whether every worker has stopped reading."""
    return all(child["paused"] for child in collector.status()["children"] if child["kind"] == "worker")


@pytest.mark.slow
def test_stopped_writer_under_full_load(make_collector: Maker) -> None:
    """A writer that is stopped for a while costs neither memory nor CPU nor a record."""
    collector = make_collector("", "--workers", "2").start()
    assert collector.process is not None
    pids = [collector.process.pid, *(child["pid"] for child in collector.status()["children"])]
    writer = collector.child("writer")
    with Load(collector, rate=None) as load:
        load.wait_for_more(2000)
        before_bytes = sum(map(rss_bytes, pids))
        os.kill(writer, signal.SIGSTOP)
        wait_for(lambda: all_pause(collector), "every worker pauses")
        sent, before_s, began_s = load.total(), sum(map(cpu_s, pids)), time.monotonic()
        highest_bytes = 0
        while (passed_s := time.monotonic() - began_s) < 5:
            highest_bytes = max(highest_bytes, sum(map(rss_bytes, pids)))
            wait_for(lambda until_s=passed_s + 0.2: time.monotonic() - began_s > until_s, "the next look")
        # Each worker may hold limits.queue_bytes (8 MiB) of lines, and what one read more than that has brought.
        assert highest_bytes - before_bytes < 2 * (8 << 20) + (24 << 20)
        assert sum(map(cpu_s, pids)) - before_s < 0.02 * 5 + 0.05
        # What is sent meanwhile is no more than the kernel's buffers of four connections take.
        assert load.total() - sent < 4 * 20_000
        os.kill(writer, signal.SIGCONT)
        wait_for(lambda: not any(child["paused"] for child in collector.status()["children"]), "reading goes on")
        load.wait_for_more(2000)
        load.check(collector.state_dir / "records.jsonl")
    assert [child["pid"] for child in collector.status()["children"]] == pids[1:]
    assert collector.stop() == 0
    assert "ERROR" not in collector.log


def test_stopped_writer_that_is_killed(collector: Collector) -> None:
    """A writer that was stopped until everyone paused, and is then killed, has lost and doubled nothing."""
    writer = collector.child("writer")
    with Load(collector, rate=None) as load:
        load.wait_for_more(2000)
        os.kill(writer, signal.SIGSTOP)
        wait_for(lambda: all_pause(collector), "every worker pauses")
        os.kill(writer, signal.SIGKILL)
        wait_for(lambda: collector.child("writer") != writer, "another writer")
        load.wait_for_more(1000)
        load.check(collector.state_dir / "records.jsonl")
    assert collector.stop() == 0


def test_small_queue_is_kept_to(make_collector: Maker) -> None:
    """`limits.queue_bytes` bounds what a worker holds, and nothing gets stuck between its two marks."""
    collector = make_collector("[limits]\nqueue_bytes = 262_144\n", "--workers", "1").start()
    writer, worker = collector.child("writer"), collector.child("worker", 1)
    with Load(collector, 8, rate=None) as load:
        load.wait_for_more(1000)
        before_bytes = rss_bytes(worker)
        for _ in range(5):
            os.kill(writer, signal.SIGSTOP)
            wait_for(lambda: all_pause(collector), "the worker pauses")
            assert rss_bytes(worker) - before_bytes < 8 << 20
            os.kill(writer, signal.SIGCONT)
            load.wait_for_more(1000)
        load.check(collector.state_dir / "records.jsonl")
    assert collector.stop() == 0
