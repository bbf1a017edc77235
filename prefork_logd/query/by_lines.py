"""Answers the questions of a search from the lines that match, for stores without a quicker way.

Owns how the newest records are picked, and the deadline. Does not know any store: it calls `lines` of the class that
inherits it. Such a store has no ids, so it has no pages.
"""

from __future__ import annotations

import itertools
import math
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

from prefork_logd.errors import QueryCancelledError, QueryTimeoutError, StoreError
from prefork_logd.query import analysis
from prefork_logd.query.search import Coverage, Facets, Fields, Limits, Patterns, Table
from prefork_logd.records.stored import read_fields

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from prefork_logd.query.conditions import Field
    from prefork_logd.query.filters import Filters
    from prefork_logd.query.search import Cursor, Found, Page, RecordId
    from prefork_logd.query.statistics import Statistics

_NONE = object()
SAMPLED_RECORDS = 20_000
"""Number of the newest records whose fields are looked at, without a smaller bound."""
SAMPLED_MESSAGES = 100_000
"""The same for patterns."""
SAMPLED_BYTES = 32 << 20
"""Most bytes of the lines whose fields are looked at: a line may have megabytes, and each is read in Python."""


class SearchByLines:
    """The part of a Search (query/search.py) that needs only its lines."""

    def __init__(self) -> None:
        self.limits = Limits()
        self._is_cancelled = False

    def lines(self, filters: Filters) -> Iterator[bytes]:
        """Yield the line of each matching record, with the filters' order and limit."""
        raise NotImplementedError

    def page(self, filters: Filters, cursor: Cursor | None = None) -> Page:
        """Raise StoreError: records have no ids here."""
        self._refuse(filters, cursor)

    def get(self, record: RecordId) -> Found | None:
        """Raise StoreError: records have no ids here."""
        self._refuse(record)

    def facets(self, filters: Filters, fields: Sequence[Field], top: int) -> Facets:
        """Return the most frequent values of each field."""
        records = self._newest(filters, self.limits.most_records)
        return Facets(analysis.facets_of(records, fields, top), records.coverage)

    def fields(self, filters: Filters) -> Fields:
        """Return the fields of the newest records."""
        records = self._newest(filters, self._sampled(SAMPLED_RECORDS), SAMPLED_BYTES)
        return Fields(analysis.fields_of(records), records.coverage)

    def stats(self, filters: Filters, statistics: Statistics) -> Table:
        """Return aggregates by groups."""
        records = self._newest(filters, self.limits.most_records)
        rows, left_out = analysis.stats_of(records, statistics)
        return Table(statistics.columns, rows, left_out, records.coverage)

    def patterns(self, filters: Filters, top: int) -> Patterns:
        """Return the most frequent forms of the newest messages."""
        records = self._newest_messages(filters, self._sampled(SAMPLED_MESSAGES))
        messages = ((record.get("message", ""), record["created"]) for record in records)
        found, others = analysis.patterns_of(messages, top)
        return Patterns(found, others, records.coverage)

    def _newest_messages(self, filters: Filters, most: int) -> Newest:
        """Return the newest records, of which `message` and `created` are wanted."""
        return self._newest(filters, most)

    def cancel(self) -> None:
        """End the running call of another thread."""
        self._is_cancelled = True

    def _sampled(self, most: int) -> int:
        return min(most, self.limits.most_records or most)

    def _newest(self, filters: Filters, most: int | None, most_bytes: float = math.inf) -> Newest:
        self._is_cancelled = False
        deadline_s = self.limits.deadline_s
        ends_s = time.monotonic() + deadline_s

        nbytes = 0

        def read() -> Iterator[dict[str, Any] | None]:
            nonlocal nbytes
            for line in self.lines(replace(filters, order="newest", limit=None if most is None else most + 1)):
                if self._is_cancelled:
                    raise QueryCancelledError
                if time.monotonic() > ends_s:
                    raise QueryTimeoutError(deadline_s)
                if nbytes >= most_bytes:
                    yield None
                    return
                nbytes += len(line)
                yield read_fields(line)

        return Newest(read(), most)

    @staticmethod
    def _refuse(*_: object) -> NoReturn:
        raise StoreError("a store of this type has no ids of records; use one of type parquet or postgresql")


class Newest:
    """The newest records, at most so many, and how many there were once they are read."""

    def __init__(self, records: Iterator[dict[str, Any] | None], most: int | None) -> None:
        """Take records, and None after the last one if there are more of them that are too much to read."""
        self._records = records
        self._most = most
        self._count = 0
        self._is_cut = False

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for record in itertools.islice(self._records, self._most):
            if record is None:
                self._is_cut = True
                return
            self._count += 1
            yield record

    @property
    def coverage(self) -> Coverage:
        """What was read; asked after the last record."""
        return Coverage(self._count, not self._is_cut and next(self._records, _NONE) is _NONE)
