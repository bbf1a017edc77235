"""A page that cannot give its memory back ends; one that can goes on."""

from __future__ import annotations

import asyncio
import mmap
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from prefork_logd.processes.search_limits import ALLOCATOR
from prefork_logd.processes.web import memory
from prefork_logd.processes.web.memory import MemoryWatch, data_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

QUERIES = """
import duckdb
from prefork_logd.processes.web.memory import data_bytes
for _ in range(2):
    with duckdb.connect(":memory:", config={"memory_limit": "300MiB", "threads": 2}) as connection:
        connection.execute("SET enable_progress_bar = false")
        connection.execute("CREATE TABLE t AS SELECT md5(i::VARCHAR) || repeat('x', 200) AS s FROM range(400000) r(i)")
        connection.execute("SELECT count(DISTINCT s) FROM t").fetchall()
print(data_bytes())
"""
"""A program whose queries take about 200 MiB, and which prints what it holds at its end."""


def watch(used: Iterator[int], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the calls of a watch over a process that uses so much of 1,000 bytes, after a request has failed."""
    monkeypatch.setattr(memory, "LOOK_S", 0.001)
    calls: list[str] = []

    async def main() -> None:
        made = MemoryWatch(1000, lambda: calls.append("free"), lambda: calls.append("end"), lambda: next(used))
        made.request_failed()
        made.request_failed()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        assert len(tasks) <= 1
        await asyncio.gather(*tasks)

    asyncio.run(main())
    return calls


def test_memory_that_is_not_given_back_ends_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """After some looks, each with a try to free some."""
    assert watch(iter(lambda: 700, None), monkeypatch) == ["free"] * memory.LOOKS + ["end"]


def test_memory_that_is_given_back_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """And a request that fails for another reason is not looked at."""
    assert watch(iter((900, 900, 500)), monkeypatch) == ["free", "free"]
    assert watch(iter((500, 500)), monkeypatch) == []


def test_data_is_measured() -> None:
    """It grows with what is allocated."""
    before = data_bytes()
    # An anonymous mapping: an allocator may have as much left from tests before.
    with mmap.mmap(-1, 64 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS):
        assert data_bytes() - before >= 64 << 20


@pytest.mark.slow
def test_duckdb_gives_its_memory_back() -> None:
    """With the setting of its allocator; without, the limit of the kernel would count all that was ever used."""
    environment = {**os.environ, "DUCKDB_JE_MALLOC_CONF": ALLOCATOR}
    done = subprocess.run([sys.executable, "-c", QUERIES], env=environment, capture_output=True, check=True)
    assert int(done.stdout) < 150 << 20
