"""Runs searches in threads: a few at once, each with a deadline, and cancelled when its client has gone.

Owns the opened stores. Does not know requests, or what is searched for.

A search reads a store as it was when it was opened. It is used again while the journal has not grown, and otherwise for
a moment that is longer the more the opening has cost: the end of a busy journal may have many records.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from prefork_logd.config.paths import JOURNAL_DIRECTORY
from prefork_logd.errors import QueryCancelledError, QueryMemoryError, QueryTimeoutError, too_heavy
from prefork_logd.journal.record_log import POSITION_FILE
from prefork_logd.query.search import Limits
from prefork_logd.stores.apart import open_killable
from prefork_logd.stores.registry import choose_store
from prefork_logd.web.places import BusyError, Places

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator

    from prefork_logd.config.settings import Settings
    from prefork_logd.query.search import Search

MOST_WAITING = 32
"""Searches that wait for a place, half of them of one visitor; further ones are refused at once."""
WAIT_S = 3.0
"""Longest wait for a place."""
STREAMS = 2
"""Exports that run at once, besides the searches, each of another visitor."""
QUEUED_PIECES = 4
FRESH_S = 10.0
"""Time after which an opened store is not used again, even if the journal has not grown."""
STALE_FACTOR = 10
"""An opened store is used again for so many times what its opening took of the processor."""
MOST_STALE_S = 5.0
CANCEL_EVERY_S = 0.05
MOST_RECORDS = 1_000_000
"""Records that facets, statistics, fields and patterns look at."""

T = TypeVar("T")


class Lease:
    """A search for the calls of one request, which share one deadline."""

    def __init__(self, search: Search, deadline_s: float, most_records: int | None) -> None:
        self._search = search
        self._deadline_s = deadline_s
        self._ends_s = time.monotonic() + deadline_s
        self._most_records = most_records
        self.is_cancelled = False

    def search(self) -> Search:
        """Return the search for the next call, with the time that is left as its deadline.

        Raises QueryTimeoutError, QueryCancelledError.
        """
        left = self._ends_s - time.monotonic()
        if self.is_cancelled:
            raise QueryCancelledError
        if left <= 0:
            raise QueryTimeoutError(self._deadline_s)
        self._search.limits = Limits(left, self._most_records)
        return self._search

    def cancel(self) -> None:
        """Make the running call, and every later one, raise QueryCancelledError."""
        self.is_cancelled = True
        self._search.cancel()


@dataclass(eq=False)
class _Opened:
    search: Search
    at_s: float
    position: bytes
    cost_s: float
    """Processor time of the opening."""

    def serves(self, position: bytes) -> bool:
        """Tell whether the search may be used now that the journal has come to this position."""
        age_s = time.monotonic() - self.at_s
        return age_s < (FRESH_S if position == self.position else min(MOST_STALE_S, STALE_FACTOR * self.cost_s))


class SearchPool:
    """The opened stores of one collector."""

    def __init__(self, settings: Settings, *, wait_s: float = WAIT_S, most_waiting: int = MOST_WAITING) -> None:
        """Open no store yet."""
        at_once = settings.web.searches
        self._settings = settings
        self._journal = Path(settings.server.state_dir) / JOURNAL_DIRECTORY
        self._places = Places(at_once, wait_s=wait_s, most_waiting=most_waiting)
        self._stream_places = Places(STREAMS, wait_s=wait_s, most_waiting=most_waiting, most_of_one=1)
        self._threads = ThreadPoolExecutor(at_once + STREAMS, "search")
        self._idle: dict[str, list[_Opened]] = defaultdict(list)

    async def run(
        self,
        work: Callable[[Lease], T],
        *,
        store: str | None = None,
        deadline_s: float,
        most_records: int | None = MOST_RECORDS,
        gone: Callable[[], Awaitable[object]] | None = None,
        visitor: str = "",
    ) -> T:
        """Return the result of `work`, called in a thread with a store opened (None: the first that can be searched).

        `gone` returns when nobody waits for the result any more: the search is cancelled then. Raises BusyError,
        StoreError with QueryTimeoutError and QueryCancelledError, and what `work` raises.
        """
        return await self._run(self._places, visitor, work, store, deadline_s, most_records, gone)

    async def _run(
        self,
        places: Places,
        visitor: str,
        work: Callable[[Lease], T],
        store: str | None,
        deadline_s: float,
        most_records: int | None,
        gone: Callable[[], Awaitable[object]] | None = None,
    ) -> T:
        name = choose_store(self._settings, store).name
        async with places.place(visitor):
            leases: list[Lease] = []
            try:
                job = asyncio.get_running_loop().run_in_executor(
                    self._threads, self._work, work, name, deadline_s, most_records, leases
                )
            except RuntimeError as error:
                # There is no room for the stack of a thread, until another search has ended.
                raise BusyError from error
            watch: asyncio.Future[Any] | None = asyncio.ensure_future(gone()) if gone is not None else None
            waited: list[asyncio.Future[Any]] = [job] if watch is None else [job, watch]
            try:
                await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
                if not job.done():
                    await _cancelled(job, leases)
            except asyncio.CancelledError:
                await asyncio.shield(_cancelled(job, leases))
                # Nobody waits for it; an error that nobody has seen would be logged as a bug.
                job.exception()
                raise
            finally:
                if watch is not None:
                    watch.cancel()
                asyncio.get_running_loop().call_later(FRESH_S, self._close_old)
            return job.result()

    async def stream(
        self,
        work: Callable[[Lease], Iterator[bytes]],
        *,
        store: str | None = None,
        deadline_s: float,
        visitor: str = "",
    ) -> AsyncGenerator[bytes]:
        """Yield what the iterator of `work` yields in a thread, a few pieces ahead. Raises as `run` does. Close it."""
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[bytes] = asyncio.Queue(QUEUED_PIECES)

        def produce(lease: Lease) -> None:
            for piece in work(lease):
                if lease.is_cancelled:
                    raise QueryCancelledError
                asyncio.run_coroutine_threadsafe(queue.put(piece), loop).result()

        job = asyncio.ensure_future(self._run(self._stream_places, visitor, produce, store, deadline_s, None))
        try:
            while not job.done() or not queue.empty():
                piece = asyncio.ensure_future(queue.get())
                waited: list[asyncio.Future[Any]] = [piece, job]
                await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
                if piece.done():
                    yield piece.result()
                    continue
                piece.cancel()
            job.result()
        finally:
            job.cancel()
            while not job.done():
                # The thread may wait for room.
                while not queue.empty():
                    queue.get_nowait()
                await asyncio.wait([job], timeout=CANCEL_EVERY_S)
            if not job.cancelled():
                job.exception()

    def _work(
        self, work: Callable[[Lease], T], name: str, deadline_s: float, most_records: int | None, leases: list[Lease]
    ) -> T:
        opened = self._take(name)
        is_good = False
        try:
            lease = Lease(opened.search, deadline_s, most_records)
            leases.append(lease)
            result = work(lease)
            is_good = not lease.is_cancelled
        except ValueError:
            is_good = True
            raise
        except MemoryError as error:
            raise QueryMemoryError(too_heavy(name, "web.memory_bytes bounds the page")) from error
        finally:
            if is_good:
                self._idle[name].append(opened)
            else:
                opened.search.close()
        return result

    def _take(self, name: str) -> _Opened:
        """Return an opened store that is up to date. Raises StoreError."""
        position = self._position()
        with contextlib.suppress(IndexError):
            while True:
                opened = self._idle[name].pop()
                if opened.serves(position):
                    return opened
                opened.search.close()
        settings = choose_store(self._settings, name)
        began_s, at_s = time.thread_time(), time.monotonic()
        search = open_killable(settings, self._journal)
        return _Opened(search, at_s, position, time.thread_time() - began_s)

    def _close_old(self) -> None:
        """Close the stores that are not used again: their files may have been removed, and take room until then."""
        self.close_idle(FRESH_S)

    def close_idle(self, age_s: float = 0.0) -> None:
        """Close the stores of this age that no search uses now."""
        for some in self._idle.values():
            for opened in some[:]:
                if time.monotonic() >= opened.at_s + age_s:
                    with contextlib.suppress(ValueError):  # a thread has taken it meanwhile
                        some.remove(opened)
                        opened.search.close()

    def _position(self) -> bytes:
        """Return the journal's number of records; empty without a journal."""
        try:
            return (self._journal / POSITION_FILE).read_bytes()[:8]
        except OSError:
            return b""

    def close(self) -> None:
        """Close every store, once the searches that run have ended."""
        self._threads.shutdown()
        for opened in (one for some in self._idle.values() for one in some):
            opened.search.close()
        self._idle.clear()


async def _cancelled(job: asyncio.Future[T], leases: list[Lease]) -> None:
    """Cancel a search until it has ended: a call that had not begun yet would not notice."""
    while not job.done():
        for lease in leases:
            lease.cancel()
        await asyncio.wait([job], timeout=CANCEL_EVERY_S)
