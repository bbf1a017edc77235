"""Answers the call that shows new records as they come, as Server-Sent Events.

Owns how a tail goes on after a break: with the record behind the last one that was seen, from the journal, else from
the store. An id comes with the first event, so a break before the first record loses none either. Does not know how the
events of new records are made (live.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from prefork_logd.config.paths import JOURNAL_DIRECTORY
from prefork_logd.config.values import format_count
from prefork_logd.errors import NotARecord, StoreError
from prefork_logd.query.store_filter import describe, tree_of
from prefork_logd.query.tree import Compare, all_of
from prefork_logd.records.stored import read_fields
from prefork_logd.stores.registry import choose_store
from prefork_logd.web.api.endpoint import Asked, Call
from prefork_logd.web.api.parameters import DEADLINE, QUERY, SINCE, STORE, UNTIL, ZONE, Parameter, ParameterError
from prefork_logd.web.api.records import read_page
from prefork_logd.web.api.streamed import Streamed
from prefork_logd.web.following import PastRecords
from prefork_logd.web.live import record_event
from prefork_logd.web.positions import Position

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

    from starlette.responses import Response

    from prefork_logd.query.filters import Filters
    from prefork_logd.query.search import Found
    from prefork_logd.web.live import Viewer
    from prefork_logd.web.search_pool import Lease

RETRY = b"retry: 1000\n\n"
"""Milliseconds after which a browser connects again."""
MOST_RESUMED = 1_000_000
"""Records of the journal that are looked at to go on."""
MOST_STORED = 20_000
"""Records of the store that are read to go on."""
STORED_BYTES = 16 << 20
LATE_S = 60.0
"""Records that arrived at about the same time may have been committed in another order."""
READ_AT_ONCE = 2
_PAGE = 1_000

AFTER = Parameter(
    name="after", meaning="Id of the last event that was seen; the header `Last-Event-ID` has the same.", most=64
)


async def tail(asked: Asked) -> Response:
    """Return the events of new records."""
    after = asked.values["after"] or asked.request.headers.get("last-event-id")
    try:
        last = Position.parse(after) if after else None
    except ValueError as error:
        raise ParameterError("after", f"after: {error}") from None
    filters = replace(await asked.filters_of_tail(), limit=None)
    name, words = "", ""
    if asked.store is not None:
        # The journal has the records of every store.
        store = choose_store(asked.context.settings, asked.store)
        name, words = store.name, describe(store)
        filters = replace(filters, tree=all_of((filters.tree, tree_of(store))))
    watching = asked.context.live.watching(filters, asked.visitor)
    viewer = await watching.__aenter__()

    async def events() -> AsyncGenerator[bytes]:
        yield RETRY + start_event(viewer if last is None else None, name, words)
        if last is not None:
            async for data in _missed(asked, viewer, last):
                yield data
        async for data in viewer.events():
            yield data

    return Streamed(events(), "text/event-stream", lambda: watching.__aexit__(None, None, None))


def start_event(viewer: Viewer | None, store: str, words: str) -> bytes:
    """Return the first event: the position of a viewer who begins, and the store whose filter is applied, in words."""
    name = b""
    if viewer is not None and viewer.journal:
        name = b"id: %b\n" % str(Position(viewer.journal, viewer.position, int(time.time()))).encode()
    data = json.dumps({"store": store or None, "filter": words}).encode()
    return b"event: start\n%bdata: %b\n\n" % (name, data)


def gap_event(message: str) -> bytes:
    """Return the event about records that are not shown."""
    return b"event: gap\ndata: %b\n\n" % json.dumps({"message": message}).encode()


async def _missed(asked: Asked, viewer: Viewer, last: Position) -> AsyncGenerator[bytes]:
    """Yield the events between the place that a client has seen and the first one of the viewer."""
    start, stop = last.number, viewer.position
    if last.journal != viewer.journal:
        yield gap_event("the journal is another one than that of the last record; earlier records are not shown")
        return
    if stop - start > MOST_RESUMED:
        yield gap_event(
            f"{format_count(stop - start, 'record')} came meanwhile, too many to be shown here; search for them"
        )
        return
    while True:
        async with contextlib.aclosing(_between(asked, viewer.filters, last, start, stop)) as missed:
            async for data in missed:
                yield data
        start, following = stop, await viewer.catch_up()
        if following is None:
            return
        stop = following


async def _between(asked: Asked, filters: Filters, last: Position, start: int, stop: int) -> AsyncGenerator[bytes]:
    """Yield the events of the matching records between two numbers."""
    if start >= stop:
        return
    directory = asked.context.state_dir / JOURNAL_DIRECTORY
    # Held for a piece only: a client that reads slowly keeps nobody waiting.
    places = _reading(asked)
    async with places:
        past = await asyncio.to_thread(PastRecords, directory, start, stop)
    try:
        if past.start > start:
            yield await _stored(asked, filters, last, min(past.start, stop))
        while True:
            async with places:
                piece = await asyncio.to_thread(past.read)
                events = await asyncio.to_thread(_events, filters, last.journal, piece)
            if not piece:
                return
            if events:
                yield events
    finally:
        past.close()


def _reading(asked: Asked) -> asyncio.Semaphore:
    """Return the places for reading what tails have missed."""
    state = asked.request.app.state
    if not hasattr(state, "reading"):
        state.reading = asyncio.Semaphore(READ_AT_ONCE)
    places: asyncio.Semaphore = state.reading
    return places


def _events(filters: Filters, journal: str, lines: list[tuple[int | None, bytes]]) -> bytes:
    return b"".join(record_event(journal, number, line) for number, line in lines if _meets(filters, line))


def _meets(filters: Filters, line: bytes) -> bool:
    try:
        return filters.matches(read_fields(line))
    except NotARecord:
        return False


async def _stored(asked: Asked, filters: Filters, last: Position, stop: int) -> bytes:
    """Return the events of records that are in the store, but in the journal no longer."""

    def work(lease: Lease) -> bytes:
        reached_s = _reached_s(lease, last)
        if reached_s is None:
            return gap_event("the last record is not in the store any more; records behind it are not shown")
        recent = Compare(("received",), ">=", repr(reached_s - LATE_S))
        wanted = replace(filters, tree=all_of((filters.tree, recent)), order="oldest", limit=_PAGE)
        found: list[Found] = []
        nbytes = 0
        for one in _pages(lease, wanted):
            if one.id.journal == last.journal and last.number <= one.id.number < stop:
                nbytes += len(one.line)
                if len(found) == MOST_STORED or nbytes > STORED_BYTES:
                    return gap_event(f"more than {format_count(len(found), 'record')} came meanwhile; search for them")
                found.append(one)
        found.sort(key=lambda one: one.id.number)
        return b"".join(record_event(one.id.journal, one.id.number, one.line) for one in found)

    try:
        return await asked.context.searches.run(
            work, store=asked.store, deadline_s=asked.deadline_s(), most_records=None, visitor=asked.visitor
        )
    except StoreError as error:
        return gap_event(f"records in the store could not be read: {error}")


def _reached_s(lease: Lease, last: Position) -> float | None:
    """Return a time, in seconds since 1970, by which records before a position were received; None: unknown."""
    if last.reached_s is not None:
        return last.reached_s
    seen = lease.search().get(last.before)
    if seen is None:
        return None
    received: float = read_fields(seen.line).get("received", seen.created)
    return received


def _pages(lease: Lease, filters: Filters) -> Iterator[Found]:
    cursor = None
    while True:
        found, cursor = read_page(lease, filters, cursor)
        yield from found
        if cursor is None:
            return


CALLS = (
    Call(
        path="/tail",
        summary="Watch new records (Server-Sent Events).",
        handle=tail,
        answer="text/event-stream",
        parameters=(QUERY, SINCE, UNTIL, ZONE, STORE, DEADLINE, AFTER),
    ),
)
