"""Searches in threads: few at once, ended when nobody waits, opened stores used again while they are up to date."""

from __future__ import annotations

import asyncio
import gc
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import msgspec
import pytest

from prefork_logd.config.paths import JOURNAL_DIRECTORY
from prefork_logd.config.web import WebSettings
from prefork_logd.errors import QueryCancelledError, QueryMemoryError, QueryTimeoutError, StoreError
from prefork_logd.journal.record_log import POSITION_FILE
from prefork_logd.query.filters import Filters
from prefork_logd.query.language import parse
from prefork_logd.query.search import Limits
from prefork_logd.web import search_pool
from prefork_logd.web.places import BusyError
from prefork_logd.web.search_pool import Lease, SearchPool
from tests.support.endless_search import Endless

if TYPE_CHECKING:
    from pathlib import Path

    from prefork_logd.config.settings import Settings
    from prefork_logd.query.search import Search


def _count(lease: Lease) -> int:
    return lease.search().count(Filters())


def test_a_search_is_run(settings: Settings) -> None:
    """The result comes back, and so does an error."""

    async def main() -> None:
        pool = SearchPool(settings)
        assert await pool.run(_count, deadline_s=10) == 120
        with pytest.raises(ZeroDivisionError):
            await pool.run(lambda _: 1 // 0, deadline_s=10)
        with pytest.raises(StoreError, match="no such store"):
            await pool.run(_count, store="other", deadline_s=10)
        pool.close()

    asyncio.run(main())


def test_an_opened_store_is_used_while_the_journal_stays(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a commit, some time, or an error the store is opened anew; after a commit not at once if that is dear."""
    monkeypatch.setattr(search_pool, "STALE_FACTOR", 0)
    journal = tmp_path / JOURNAL_DIRECTORY
    journal.mkdir()

    async def main() -> None:
        pool = SearchPool(settings)

        async def search() -> Search:
            return await pool.run(lambda lease: lease.search(), deadline_s=10)

        first = await search()
        assert await search() is first
        (journal / POSITION_FILE).write_bytes((7).to_bytes(8, "little"))
        second = await search()
        assert second is not first
        with pytest.raises(ZeroDivisionError):
            await pool.run(lambda _: 1 // 0, deadline_s=10)
        third = await search()
        assert third is not second
        monkeypatch.setattr(search_pool, "STALE_FACTOR", 1e9)
        (journal / POSITION_FILE).write_bytes((8).to_bytes(8, "little"))
        assert await search() is third
        monkeypatch.setattr(search_pool, "MOST_STALE_S", 0.0)
        assert await search() is not third
        third = await search()
        monkeypatch.setattr(search_pool, "FRESH_S", 0.0)
        assert await search() is not third
        pool.close()

    asyncio.run(main())


@pytest.mark.slow
def test_a_search_that_ends_late_gives_its_place_back_at_once(settings: Settings) -> None:
    """When its client has gone: its process is killed, and the next search works."""
    slow = Filters(tree=parse('message=~"(a|b)*a(a|b){200}"', now=0.0))

    async def main() -> None:
        pool = SearchPool(msgspec.structs.replace(settings, web=WebSettings(searches=1)))
        searches: list[Search] = []

        def work(lease: Lease) -> int:
            searches.append(lease.search())
            return searches[0].count(slow)

        async def gone() -> None:
            while not (searches and getattr(searches[0], "_process", None)):  # noqa: ASYNC110 - set by a thread
                await asyncio.sleep(0.01)

        with pytest.raises(QueryCancelledError):
            await pool.run(work, deadline_s=60, gone=gone)
        assert await pool.run(_count, deadline_s=10) == 120
        pool.close()

    asyncio.run(main())


def test_few_searches_run_at_once(settings: Settings) -> None:
    """Further ones wait, and are refused after a while, or at once if too many wait."""
    blocked = threading.Event()

    async def main() -> None:
        one = msgspec.structs.replace(settings, web=WebSettings(searches=1))
        pool = SearchPool(one, wait_s=0.05, most_waiting=1)
        running = asyncio.ensure_future(pool.run(lambda _: blocked.wait(30), deadline_s=30))
        await asyncio.sleep(0)
        waiting = asyncio.ensure_future(pool.run(_count, deadline_s=10))
        await asyncio.sleep(0)
        many = await asyncio.gather(*(pool.run(_count, deadline_s=10) for _ in range(10_000)), return_exceptions=True)
        assert {type(one) for one in many} == {BusyError}
        with pytest.raises(BusyError):
            await waiting
        blocked.set()
        assert await running
        assert await pool.run(_count, deadline_s=10) == 120
        pool.close()

    asyncio.run(main())


def test_a_thread_that_cannot_be_started_means_too_many_searches(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no memory for its stack until another search has ended; the place is free again."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def main() -> None:
        pool = SearchPool(settings)
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            for _ in range(3):
                with pytest.raises(BusyError):
                    await pool.run(_count, deadline_s=10)
        assert await pool.run(_count, deadline_s=10) == 120
        pool.close()

    asyncio.run(main())


def test_a_search_without_memory_is_too_heavy(settings: Settings) -> None:
    """Also where Python has no memory left, outside of the store's library."""

    def fill(_: Lease) -> None:
        raise MemoryError

    async def main() -> None:
        pool = SearchPool(settings)
        with pytest.raises(QueryMemoryError, match=r"parquet: .*; ask for a shorter range of time.*memory_bytes"):
            await pool.run(fill, deadline_s=10)
        assert await pool.run(_count, deadline_s=10) == 120
        pool.close()

    asyncio.run(main())


def test_a_search_ends_with_its_client(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the client has gone, or the task is cancelled, the search is cancelled, and its store closed."""
    problems: list[object] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, found: problems.append(found))
        for by_task in (False, True):
            search = Endless()
            monkeypatch.setattr(search_pool, "open_killable", lambda *_, found=search: found)
            pool = SearchPool(settings)

            async def gone(search: Endless = search, is_by_task: bool = by_task) -> None:
                await asyncio.to_thread(search.began.wait, 30)
                if is_by_task:
                    await asyncio.Event().wait()

            job = asyncio.ensure_future(pool.run(_count, deadline_s=30, gone=gone))
            await asyncio.to_thread(search.began.wait, 30)
            if by_task:
                job.cancel()
            with pytest.raises(asyncio.CancelledError if by_task else QueryCancelledError):
                await job
            assert search.is_closed
            pool.close()

    asyncio.run(main())
    gc.collect()
    assert problems == [], "an error of the search would be logged as a bug"


def test_the_calls_of_a_request_share_a_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each call gets the time that is left; afterwards, and once it is cancelled, there is none."""
    clock = SimpleNamespace(now_s=100.0)
    monkeypatch.setattr(search_pool, "time", SimpleNamespace(monotonic=lambda: clock.now_s))
    lease = Lease(cast("Search", Endless()), 10, 7)
    assert lease.search().limits == Limits(10, 7)
    clock.now_s += 4
    assert lease.search().limits == Limits(6, 7)
    clock.now_s += 6
    with pytest.raises(QueryTimeoutError, match="longer than 10 s"):
        lease.search()
    lease.cancel()
    with pytest.raises(QueryCancelledError):
        lease.search()
