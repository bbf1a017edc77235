"""Answers which times a range of time stands for now, and makes searches lasting.

Does not know how times are written (query/times.py).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from prefork_logd.errors import QueryCancelledError, QueryMemoryError, QueryTimeoutError, StoreError
from prefork_logd.query.lasting import Lasting, make_lasting
from prefork_logd.web.api.answers import LastingSearch, Range
from prefork_logd.web.api.endpoint import Asked, Call
from prefork_logd.web.api.parameters import SEARCH, SINCE, UNTIL, ZONE, read_time, read_zone

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefork_logd.query.filters import Filters
    from prefork_logd.web.search_pool import Lease


async def absolute(asked: Asked) -> Range:
    """Return a range as seconds since 1970."""
    now, zone = time.time(), read_zone(asked.values["tz"])
    return Range(read_time(asked.values, "since", now, zone), read_time(asked.values, "until", now, zone))


async def lasting(asked: Asked) -> LastingSearch:
    """Return a search that finds the same records later."""
    now, zone, q = time.time(), read_zone(asked.values["tz"]), asked.values["q"] or ""
    since, until = read_time(asked.values, "since", now, zone), read_time(asked.values, "until", now, zone)
    if until is not None:
        return LastingSearch(q, since, until)
    found = await until_now(asked, asked.store, q, asked.filters, now)
    return LastingSearch(found.q, since, found.until)


async def until_now(
    asked: Asked, store: str | None, q: str, filters: Callable[[Lease], Filters], now: float
) -> Lasting:
    """Return the query and the end of a search without an end, for its records of now. Raises as SearchPool.run does.

    If the store cannot be searched, such as one without a record, the end is now.
    """

    def freeze(lease: Lease) -> Lasting:
        return make_lasting(lease.search(), q, filters(lease), now)

    pool, deadline_s = asked.context.searches, asked.deadline_s()
    try:
        return await pool.run(freeze, store=store, deadline_s=deadline_s, gone=asked.gone, visitor=asked.visitor)
    except (QueryTimeoutError, QueryCancelledError, QueryMemoryError):
        raise
    except StoreError:
        return Lasting(q, now)


CALLS = (
    Call(
        path="/range",
        summary="Read a range of time: `today` and other relative times become absolute ones.",
        handle=absolute,
        answer=Range,
        parameters=(SINCE, UNTIL, ZONE),
    ),
    Call(
        path="/lasting",
        summary="Make a search lasting: its times become absolute, and records that arrive later are left out.",
        handle=lasting,
        answer=LastingSearch,
        parameters=SEARCH,
    ),
)
