"""Answers why a query may have found nothing.

Does not know what is wrong with a query (query/hints.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefork_logd.query.hints import hints_of
from prefork_logd.web.api.analysis import FIELD_RECORDS
from prefork_logd.web.api.answers import Hint, Hints
from prefork_logd.web.api.endpoint import Asked, Call
from prefork_logd.web.api.parameters import DEADLINE, QUERY, SINCE, STORE, UNTIL, ZONE, make_filters

if TYPE_CHECKING:
    from prefork_logd.web.search_pool import Lease


async def hints(asked: Asked) -> Hints:
    """Return hints about a query."""

    def work(lease: Lease) -> Hints:
        # All records of the range, within the bounds of a share link.
        filters = make_filters({**asked.values, "q": ""}, lambda: lease.search().levels(), asked.bounds)
        found = hints_of(asked.values["q"], lease.search(), filters)
        return Hints([Hint(*one) for one in found])

    return await asked.search(work, FIELD_RECORDS)


CALLS = (
    Call(
        path="/hints",
        summary="Say why a query may have found nothing: misspelt fields and values, words meant as operators.",
        handle=hints,
        answer=Hints,
        parameters=(QUERY, SINCE, UNTIL, ZONE, STORE, DEADLINE),
    ),
)
