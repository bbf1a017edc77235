"""Declares the contract for reading records back from a store.

Owns the calls of a query to a store, and the types of the answers. Does not know any store. Searching needs no running
collector, and does not disturb one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from prefork_logd.query.conditions import Field
    from prefork_logd.query.filters import Filters
    from prefork_logd.query.statistics import Statistics


class Bar(NamedTuple):
    """Number of records of one level in one slot of time."""

    slot: int
    """0 for the first slot."""
    levelno: int
    """0 for records without a level."""
    count: int  # type: ignore[assignment]  # hides tuple.count, which is not used here


class RecordId(NamedTuple):
    """The name of a stored record, which never changes."""

    journal: str
    """The id of the journal that the record came through: 32 hexadecimal digits."""
    number: int
    """The record's number in that journal."""

    def __str__(self) -> str:
        return f"{self.journal}-{self.number}"

    @classmethod
    def parse(cls, text: str) -> RecordId:
        """Return the id of a text. Raises ValueError with a sentence for the user."""
        match = re.fullmatch(r"([0-9a-f]{32})-(\d{1,18})", text, re.ASCII)
        if match is None:
            raise ValueError(f"{text!r} is not the id of a record; write one as `query --ids` prints it")
        return cls(match[1], int(match[2]))


class Cursor(NamedTuple):
    """A place in the order of records: by `created`, then by number, then by journal."""

    created: float
    id: RecordId

    def __str__(self) -> str:
        return f"{self.created!r}_{self.id}"

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """Return the cursor of a text. Raises ValueError with a sentence for the user."""
        match = re.fullmatch(r"(\d{1,10}(?:\.\d{1,17})?(?:e-?\d{1,3})?)_(.*)", text, re.ASCII)
        if match is None:
            raise ValueError(f"{text!r} is not a cursor; take the one of the page before")
        return cls(float(match[1]), RecordId.parse(match[2]))


class Found(NamedTuple):
    """A record that was found."""

    id: RecordId
    created: float
    line: bytes
    """The stored line."""

    @property
    def cursor(self) -> Cursor:
        """The record's own place."""
        return Cursor(self.created, self.id)


class Page(NamedTuple):
    """Records in order."""

    records: list[Found]
    cursor: Cursor | None
    """The place behind the last record; None if there are no more."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of each call of a search."""

    deadline_s: float = 3600.0
    """Time after which a call raises QueryTimeoutError; without a user who can interrupt it, it should be short."""
    most_records: int | None = None
    """Number of the newest matching records that facets, statistics, fields and patterns look at; None: no bound.

    It is a bound of the costs: of more than 10,000 records it may be missed by a few in a hundred. Coverage is exact.
    """


class Coverage(NamedTuple):
    """The records that an answer is about."""

    records: int
    is_complete: bool
    """Whether these are all records that match, not only the newest ones."""


class FacetValue(NamedTuple):
    """How often a field has a value."""

    value: Any
    """A JSON value. Numbers that are equal are one value."""
    count: int  # type: ignore[assignment]  # hides tuple.count, which is not used here


class Facet(NamedTuple):
    """The values of one field."""

    field: str
    """The field as it was written."""
    values: list[FacetValue]
    """The most frequent ones, in falling order of their counts."""
    others: int
    """Number of records with another value than these."""
    missing: int
    """Number of records without the field, or with null."""


class FieldFound(NamedTuple):
    """A field that records have."""

    field: str
    """As it is written in a query."""
    types: dict[str, int]
    """Number of records with a value of each type: text, number, boolean, object, list."""

    @property
    def records(self) -> int:
        """Number of records with the field."""
        return sum(self.types.values())


class Pattern(NamedTuple):
    """A form that several messages share."""

    text: str
    """The message with placeholders such as <number> (patterns.py)."""
    count: int  # type: ignore[assignment]  # hides tuple.count, which is not used here
    first: float
    """Least `created`."""
    last: float
    """Greatest `created`."""
    example: str
    """The beginning of the newest of the messages."""


class Facets(NamedTuple):
    """Facets, and the records that they are about."""

    facets: list[Facet]
    coverage: Coverage


class Fields(NamedTuple):
    """Fields, the most frequent first, and the records that were looked at."""

    fields: list[FieldFound]
    coverage: Coverage


class Table(NamedTuple):
    """The answer to a question for statistics."""

    columns: list[str]
    """Those of `by`, then the aggregates, as they were written."""
    rows: list[list[Any]]
    """JSON values; None where there is no value. The row with the largest first aggregate comes first."""
    left_out: int
    """Number of groups that are not in `rows`."""
    coverage: Coverage


class Patterns(NamedTuple):
    """Patterns, the most frequent first, and the records that they are about."""

    patterns: list[Pattern]
    others: int
    """Number of records whose pattern is not in the list."""
    coverage: Coverage


def levels_by_name(pairs: Iterable[tuple[str | None, int | None]]) -> dict[str, int]:
    """Return the number of each level name, in capitals; of several numbers the least, so that a filter finds all."""
    levels: dict[str, int] = {}
    for name, levelno in pairs:
        if isinstance(name, str) and name and levelno is not None:
            key = name.strip().upper()
            levels[key] = min(levels.get(key, levelno), levelno)
    return levels


@runtime_checkable
class AnswersSql(Protocol):
    """Optional: a search with a database in which `records` can be queried by SQL."""

    def database(self, target: str = "") -> AbstractContextManager[Any]:
        """Give the database, which can write the file `target` and reach no other (stores/parquet/sql.py)."""


@runtime_checkable
class ReportsProblems(Protocol):
    """Optional: a search that goes on without what it cannot read."""

    problems: list[str]
    """A sentence about each part that could not be read, so far."""


@runtime_checkable
class FindsNeighbours(Protocol):
    """Optional: a search that finds the neighbours of a record in one call (context.around)."""

    def around(self, record: RecordId, same: str | None, before: int, after: int) -> list[Found]:
        """Return a record and its neighbours, in order of time. Raises ValueError, StoreError."""


@runtime_checkable
class EndsLate(Protocol):
    """Optional: a search that cannot end some calls soon after they are cancelled, or their time is over."""

    def ends_late(self, filters: Filters) -> bool:
        """Tell whether a call with these filters may be such a call (stores/apart.py)."""


def problems_of(search: Search) -> list[str]:
    """Return sentences about what a search could not read; empty without ReportsProblems."""
    return search.problems if isinstance(search, ReportsProblems) else []


class Search(Protocol):
    """A store opened for reading.

    Every method raises StoreError if it cannot be read now, QueryTimeoutError after `limits.deadline_s`, and
    QueryCancelledError if another thread called `cancel`.
    """

    limits: Limits
    """Bounds of the calls that follow."""

    def lines(self, filters: Filters) -> Iterator[bytes]:
        """Yield the stored line of each matching record, with the filters' order and limit.

        Holds a few records in memory, at most 64 of the largest, however many match.
        """

    def page(self, filters: Filters, cursor: Cursor | None = None) -> Page:
        """Return matching records with their ids, `filters.limit` at most (50 without a limit), in `filters.order`.

        They begin behind `cursor`. Records that arrive meanwhile move no record from one page to another.
        """

    def get(self, record: RecordId) -> Found | None:
        """Return one record; None if it is not in the store, or no longer."""

    def count(self, filters: Filters) -> int:
        """Return how many records match; `limit` and `order` are ignored."""

    def span(self) -> tuple[float, float] | None:
        """Return the least and the greatest `created` of all records; None without a record."""

    def histogram(self, filters: Filters, start: float, slot_s: float, slots: int) -> list[Bar]:
        """Return the number of matching records in each of `slots` slots of time from `start` on, no empty ones."""

    def facets(self, filters: Filters, fields: Sequence[Field], top: int) -> Facets:
        """Return the `top` most frequent values of each field among the matching records."""

    def fields(self, filters: Filters) -> Fields:
        """Return the fields that the matching records have, of the newest ones if there are many."""

    def stats(self, filters: Filters, statistics: Statistics) -> Table:
        """Return aggregates of the matching records, by groups (statistics.py)."""

    def patterns(self, filters: Filters, top: int) -> Patterns:
        """Return the `top` most frequent forms of the messages of the matching records."""

    def levels(self) -> dict[str, int]:
        """Return the levels that records carry by name, in capitals: all of them, or those of the latest records."""

    def cancel(self) -> None:
        """Make the running call of another thread raise QueryCancelledError; never raises."""

    def close(self) -> None:
        """Release every resource; never raises."""
