"""Answers calls for records: pages of them, and their number.

Does not know how a store finds them.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from prefork_logd.query.search import Cursor, Found, problems_of
from prefork_logd.web.api.answers import Count, Records, found_record
from prefork_logd.web.api.endpoint import Asked, Call
from prefork_logd.web.api.parameters import ORDER, SEARCH, Parameter, ParameterError

if TYPE_CHECKING:
    from prefork_logd.query.filters import Filters
    from prefork_logd.web.search_pool import Lease

FIRST_RECORDS = 100
"""Records that are read before it is known how large they are."""
MOST_BYTES = 8 << 20
"""Bytes of lines after which a page ends, even with fewer records than asked for."""

LIMIT = Parameter(name="limit", meaning="Most records.", kind="whole number", default=50, least=1, most=1000)
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
        found += page.records
        nbytes += sum(len(one.line) for one in page.records)
        cursor, left = page.cursor, left - len(page.records)
        room = (MOST_BYTES - nbytes) * len(found) // max(1, nbytes)
        if cursor is None or left <= 0 or room <= 0:
            return found, cursor
        wanted = min(left, room)


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
    Call(path="/count", summary="Count the records that match.", handle=count, answer=Count, parameters=SEARCH),
)
