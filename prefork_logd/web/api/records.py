"""Answers calls for records: pages of them, one with its neighbours, and their number.

Does not know how a store finds them.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from starlette.responses import Response

from prefork_logd.query.context import SAME, same_as
from prefork_logd.query.search import Cursor, Found, RecordId, problems_of
from prefork_logd.query.tree import all_of
from prefork_logd.records.stored import read_fields
from prefork_logd.web.api.answers import Around, Count, FoundRecord, Records, found_record
from prefork_logd.web.api.endpoint import HEADERS, Asked, Call, NotFoundError
from prefork_logd.web.api.parameters import DEADLINE, ORDER, SEARCH, STORE, Parameter, ParameterError

if TYPE_CHECKING:
    from prefork_logd.query.filters import Filters, Order
    from prefork_logd.web.search_pool import Lease

FIRST_RECORDS = 50
"""Records that are read before it is known how large they are."""
MOST_BYTES = 8 << 20
"""Bytes of lines after which a page ends, even with fewer records than asked for."""

MOST_AROUND = 500
"""Neighbours on each side."""

LIMIT = Parameter(name="limit", meaning="Most records.", kind="whole number", default=50, least=1, most=1000)
ONE = (STORE, DEADLINE)
SAME_AS = Parameter(name="same", meaning="Only neighbours of the same one.", kind="choice", choices=SAME)
BEFORE = Parameter(
    name="before", meaning="Number of earlier records.", kind="whole number", default=10, most=MOST_AROUND
)
AFTER = Parameter(name="after", meaning="Number of later records.", kind="whole number", default=10, most=MOST_AROUND)
CURSOR = Parameter(name="cursor", meaning="The `cursor` of the page before.", most=200)


async def records(asked: Asked) -> Records:
    """Return a page of records."""
    began = time.monotonic()
    try:
        cursor = Cursor.parse(asked.values["cursor"]) if asked.values["cursor"] else None
    except ValueError as error:
        raise ParameterError("cursor", str(error)) from None

    def work(lease: Lease) -> Records:
        found, following = read_page(lease, asked.filters(lease), cursor)
        problems = [*problems_of(lease.search())]
        took_s = time.monotonic() - began
        return Records([found_record(one) for one in found], following and str(following), problems, round(took_s, 4))

    return await asked.search(work)


def read_page(lease: Lease, filters: Filters, cursor: Cursor | None) -> tuple[list[Found], Cursor | None]:
    """Return `filters.limit` records, or fewer if they are large, and the place behind them (None: the end)."""
    found: list[Found] = []
    left, nbytes = filters.limit or FIRST_RECORDS, 0
    wanted = min(left, FIRST_RECORDS)
    while True:
        page = lease.search().page(replace(filters, limit=wanted), cursor)
        for one in page.records:
            found.append(one)
            nbytes += len(one.line)
            if nbytes >= MOST_BYTES:
                return found, one.cursor if page.cursor or one is not page.records[-1] else None
        cursor, left = page.cursor, left - len(page.records)
        room = (MOST_BYTES - nbytes) * len(found) // max(1, nbytes)
        if cursor is None or left <= 0 or room <= 0:
            return found, cursor
        wanted = min(left, room)


async def record(asked: Asked) -> FoundRecord:
    """Return one record."""
    return found_record(await find(asked))


async def line(asked: Asked) -> Response:
    """Return the stored line of a record, byte for byte."""
    return Response((await find(asked)).line, headers=HEADERS, media_type="application/json")


async def find(asked: Asked) -> Found:
    """Return the record whose id is in the path. Raises NotFoundError, ParameterError, StoreError."""
    return await asked.search(lambda lease: _get(asked, lease))


def _get(asked: Asked, lease: Lease) -> Found:
    """Return the record whose id is in the path. Raises NotFoundError, ParameterError, StoreError."""
    try:
        wanted = RecordId.parse(asked.request.path_params["id"])
    except ValueError as error:
        raise ParameterError("id", f"id: {error}") from None
    found = lease.search().get(wanted)
    if found is None or (asked.bounds is not None and not asked.filters(lease).matches(read_fields(found.line))):
        raise NotFoundError(f"record {wanted}: it is not in the store, or no longer")
    return found


async def around(asked: Asked) -> Around:
    """Return a record with its neighbours."""
    same, before, after = (asked.values[name] for name in ("same", "before", "after"))

    def work(lease: Lease) -> Around:
        middle = _get(asked, lease)
        wanted = asked.filters(lease)
        if same is not None:
            try:
                node = same_as(read_fields(middle.line), same)
            except ValueError as error:
                raise ParameterError("same", str(error)) from None
            wanted = replace(wanted, tree=all_of((wanted.tree, node)))
        earlier, later = (
            read_page(lease, replace(wanted, order=order, limit=limit), middle.cursor)[0] if limit else []
            for order, limit in _sides(before, after)
        )
        return Around([*map(found_record, reversed(earlier))], found_record(middle), [*map(found_record, later)])

    return await asked.search(work)


def _sides(before: int, after: int) -> tuple[tuple[Order, int], tuple[Order, int]]:
    return ("newest", before), ("oldest", after)


async def count(asked: Asked) -> Count:
    """Return the number of matching records."""
    return await asked.search(lambda lease: Count(lease.search().count(asked.filters(lease))))


CALLS = (
    Call(
        path="/records",
        summary="Find records, a page at a time.",
        handle=records,
        answer=Records,
        parameters=(*SEARCH, ORDER, LIMIT, CURSOR),
    ),
    Call(
        path="/records/{id}",
        summary="Get one record by its id.",
        handle=record,
        answer=FoundRecord,
        parameters=ONE,
    ),
    Call(
        path="/records/{id}/line",
        summary="Get the stored line of a record, byte for byte.",
        handle=line,
        answer="application/json",
        parameters=ONE,
    ),
    Call(
        path="/records/{id}/around",
        summary="Get a record with the records before and after it.",
        handle=around,
        answer=Around,
        parameters=(*ONE, SAME_AS, BEFORE, AFTER),
    ),
    Call(path="/count", summary="Count the records that match.", handle=count, answer=Count, parameters=SEARCH),
)
