"""Answers calls about records: bars over time, values of fields, aggregates, patterns and levels.

Does not know how a store computes them.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from prefork_logd.query import statistics
from prefork_logd.query.histogram import slots_for
from prefork_logd.query.language import parse_field
from prefork_logd.records.levels import LEVELS
from prefork_logd.web.api import answers
from prefork_logd.web.api.endpoint import Asked, Call
from prefork_logd.web.api.parameters import DEADLINE, SEARCH, STORE, Parameter, ParameterError, read_zone, top

if TYPE_CHECKING:
    from prefork_logd.query.conditions import Field
    from prefork_logd.query.filters import Filters
    from prefork_logd.web.search_pool import Lease

FIELD_RECORDS = 5_000
"""Newest records whose fields are listed: each is read in Python, which takes half a second for so many."""
PATTERN_RECORDS = 50_000
"""Newest messages that become patterns."""

SLOTS = Parameter(name="slots", meaning="Most slots, or one more.", kind="whole number", default=60, least=1, most=500)
STATS = Parameter(
    name="stats", meaning="Aggregates, such as `count, p95(extra.duration_ms) by name`.", most=4000, is_required=True
)
FIELD = Parameter(
    name="field", meaning="A field, as in a query; repeatable.", most=1000, most_values=20, is_required=True
)


async def histogram(asked: Asked) -> answers.Histogram:
    """Return the number of records in each slot of a range of time."""
    zone = read_zone(asked.values["tz"])

    def work(lease: Lease) -> answers.Histogram:
        filters = asked.filters(lease)
        start, stop = _range(filters, lease)
        begin, slot_s, slots = slots_for(start, max(start, stop), asked.values["slots"], zone)
        bars = lease.search().histogram(filters, begin, slot_s, slots)
        return answers.Histogram(begin, slot_s, slots, [answers.Bar(*bar) for bar in bars])

    return await asked.search(work)


def _range(filters: Filters, lease: Lease) -> tuple[float, float]:
    """Return the range of the histogram: from `since`, else the first record, to `until`, else now or the last one."""
    start, stop = filters.since, filters.until
    span = lease.search().span() if start is None or stop is None else None
    if start is None:
        start = span[0] if span else (stop or 0.0)
    if stop is None:
        stop = span[1] + 1e-6 if span else start
        stop = stop if filters.since is None else max(stop, time.time())
    return max(start, 0.0), stop


async def facets(asked: Asked) -> answers.Facets:
    """Return the most frequent values of some fields."""
    fields = [_field(text) for text in asked.values["field"]]

    def work(lease: Lease) -> answers.Facets:
        filters = asked.filters(lease)
        found = lease.search().facets(filters, fields, asked.values["top"])
        listed = [
            answers.Facet(
                facet.field, [answers.FacetValue(*value) for value in facet.values], facet.others, facet.missing
            )
            for facet in found.facets
        ]
        return answers.Facets(listed, answers.coverage(found.coverage))

    return await asked.search(work)


def _field(text: str) -> Field:
    try:
        return parse_field(text)
    except ValueError as error:
        raise ParameterError("field", f"field: {error}") from None


async def fields(asked: Asked) -> answers.Fields:
    """Return the fields that records have."""

    def work(lease: Lease) -> answers.Fields:
        filters = asked.filters(lease)
        found = lease.search().fields(filters)
        listed = [answers.FieldFound(one.field, one.records, one.types) for one in found.fields]
        return answers.Fields(listed, answers.coverage(found.coverage))

    return await asked.search(work, FIELD_RECORDS)


async def stats(asked: Asked) -> answers.Table:
    """Return aggregates of records."""
    try:
        question = statistics.parse(asked.values["stats"])
    except ValueError as error:
        raise ParameterError("stats", f"stats: {error}") from None

    def work(lease: Lease) -> answers.Table:
        filters = asked.filters(lease)
        table = lease.search().stats(filters, question)
        return answers.Table(
            table.columns, table.rows, table.left_out, answers.coverage(table.coverage), len(question.by)
        )

    return await asked.search(work)


async def patterns(asked: Asked) -> answers.Patterns:
    """Return the most frequent forms of messages."""

    def work(lease: Lease) -> answers.Patterns:
        filters = asked.filters(lease)
        found = lease.search().patterns(filters, asked.values["top"])
        listed = [answers.Pattern(*one) for one in found.patterns]
        return answers.Patterns(listed, found.others, answers.coverage(found.coverage))

    return await asked.search(work, PATTERN_RECORDS)


async def levels(asked: Asked) -> answers.Levels:
    """Return the known levels, and those that records carry; of a share link the known ones."""
    carried = {} if asked.bounds is not None else await asked.search(lambda lease: lease.search().levels())
    found = {**carried, **LEVELS}
    return answers.Levels([answers.Level(name, number) for name, number in sorted(found.items(), key=lambda x: x[1])])


CALLS = (
    Call(
        path="/histogram",
        summary="Count records by level in slots of time of a round length.",
        handle=histogram,
        answer=answers.Histogram,
        parameters=(*SEARCH, SLOTS),
    ),
    Call(
        path="/facets",
        summary="List the most frequent values of fields.",
        handle=facets,
        answer=answers.Facets,
        parameters=(*SEARCH, FIELD, top(10, "Most values of each field.")),
    ),
    Call(
        path="/fields",
        summary="List the fields that the newest records have.",
        handle=fields,
        answer=answers.Fields,
        parameters=SEARCH,
    ),
    Call(
        path="/stats",
        summary="Compute aggregates by groups.",
        handle=stats,
        answer=answers.Table,
        parameters=(*SEARCH, STATS),
    ),
    Call(
        path="/patterns",
        summary="List the most frequent forms of the newest messages.",
        handle=patterns,
        answer=answers.Patterns,
        parameters=(*SEARCH, top(20, "Most patterns.")),
    ),
    Call(
        path="/levels",
        summary="List the levels that a query may name.",
        handle=levels,
        answer=answers.Levels,
        parameters=(STORE, DEADLINE),
    ),
)
