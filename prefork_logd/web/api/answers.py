"""Declares the forms of answers: what is sent as JSON, and what the OpenAPI document describes.

Does not know requests or stores.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from prefork_logd.query import search


class Error(msgspec.Struct, omit_defaults=True):
    """The error, with its remedy."""

    message: str
    """A sentence with the remedy."""
    parameter: str | None = None
    """The parameter that is wrong."""
    column: int | None = None
    """Its place in the query, in characters (code points) from 1."""


class Problem(msgspec.Struct):
    """The answer to a request that failed."""

    error: Error


class FoundRecord(msgspec.Struct):
    """A record that was found."""

    id: str
    """It never changes."""
    created: float
    """Seconds since 1970."""
    record: msgspec.Raw
    """The stored line (docs/record.md)."""


class Records(msgspec.Struct):
    """A page of records."""

    records: list[FoundRecord]
    cursor: str | None
    """The parameter `cursor` for the next page; null at the last page."""
    problems: list[str]
    """A sentence for each part of the store that could not be read."""
    took_s: float


class Around(msgspec.Struct):
    """A record with its neighbours, in order of time."""

    before: list[FoundRecord]
    record: FoundRecord
    after: list[FoundRecord]


class Count(msgspec.Struct):
    """A number of records."""

    count: int


class Coverage(msgspec.Struct):
    """The records that an answer is about."""

    records: int
    is_complete: bool
    """Whether these are all records that match, not only the newest ones."""


class Bar(msgspec.Struct):
    """Number of records of one level in one slot."""

    slot: int
    """0 for the first slot."""
    levelno: int
    """0 for records without a level."""
    count: int


class Histogram(msgspec.Struct):
    """Numbers of records over time."""

    start: float
    """Beginning of slot 0, in seconds since 1970."""
    slot_s: float
    slots: int
    bars: list[Bar]
    """Those with a record, in order of time."""


class FacetValue(msgspec.Struct):
    """How often a field has a value."""

    value: Any
    count: int


class Facet(msgspec.Struct):
    """The most frequent values of one field."""

    field: str
    values: list[FacetValue]
    others: int
    """Number of records with another value."""
    missing: int
    """Number of records without the field."""


class Facets(msgspec.Struct):
    """Facets of one or more fields."""

    facets: list[Facet]
    coverage: Coverage


class FieldFound(msgspec.Struct):
    """A field that records have."""

    field: str
    """As it is written in a query."""
    records: int
    """Number of records with the field."""
    types: dict[str, int]
    """Number of records with a value of each type: text, number, boolean, object, list."""


class Fields(msgspec.Struct):
    """Fields, the most frequent first."""

    fields: list[FieldFound]
    coverage: Coverage


class Table(msgspec.Struct):
    """Aggregates by groups."""

    columns: list[str]
    """The fields of `by`, then the aggregates."""
    rows: list[list[Any]]
    """Sorted by the first aggregate, the largest at the top; null stands for no value."""
    left_out: int
    """Number of groups that are not in `rows`."""
    coverage: Coverage
    groups: int
    """Number of the fields of `by`."""


class Pattern(msgspec.Struct):
    """A form that several messages share."""

    text: str
    """The message with placeholders such as <number>."""
    count: int
    first: float
    """Least `created`."""
    last: float
    """Greatest `created`."""
    example: str
    """The beginning of the newest of the messages."""


class Patterns(msgspec.Struct):
    """Patterns, the most frequent first."""

    patterns: list[Pattern]
    others: int
    """Number of records with another pattern."""
    coverage: Coverage


class Level(msgspec.Struct):
    """A name of a level."""

    name: str
    levelno: int


class Levels(msgspec.Struct):
    """The levels that a query may name, by their numbers."""

    levels: list[Level]


class Item(msgspec.Struct):
    """One way to go on with a query."""

    text: str
    """Takes the place of the text between `from` and `to`."""
    kind: str
    """field, value, operator or word."""
    count: int | None
    """Number of records with it among those that were looked at; null if it is not known."""


class Completion(msgspec.Struct, rename={"start": "from", "stop": "to"}):
    """Ways to go on with a query at the caret."""

    start: int
    """In characters (code points), from 0."""
    stop: int
    items: list[Item]


class Hint(msgspec.Struct):
    """Something about a query that may not be as it is meant."""

    column: int
    """In characters (code points), from 1."""
    message: str
    query: str
    """The whole query as it may be meant; empty if nothing is known."""


class Hints(msgspec.Struct):
    """Why a query may have found nothing."""

    hints: list[Hint]


class Command(msgspec.Struct):
    """A command for a shell."""

    command: str


class Disk(msgspec.Struct):
    """A file system that the collector writes to."""

    path: str
    """A directory on it."""
    purposes: list[str]
    """The uses of this disk: state_dir, output NAME, store NAME."""
    total_bytes: int
    free_bytes: int
    """For users other than root."""


class Retention(msgspec.Struct):
    """The bounds of one store."""

    store: str
    bounds: dict[str, Any]
    """Settings of the store that bound what it keeps."""


class RejectedBy(msgspec.Struct):
    """Newest rejected records of one client."""

    client: str
    """Its address without the port."""
    reason: str
    count: int


class DroppedBy(msgspec.Struct):
    """Records that one client has reported as dropped."""

    client: str
    count: int
    latest: float
    """Time of the newest report, in seconds since 1970."""
    detail: str
    """The newest report: the times of the dropped records, and the client's reason."""


class Status(msgspec.Struct):
    """The state of the collector."""

    collector: dict[str, Any]
    """The document of `prefork-logd status --json` (docs/operating.md)."""
    disks: list[Disk]
    retention: list[Retention]
    rejected_by: list[RejectedBy]
    """By client and reason, of the newest entries in rejected.jsonl."""
    dropped_by: list[DroppedBy]
    """By client, of the newest entries in rejected.jsonl."""


class Configuration(msgspec.Struct):
    """The configuration in effect."""

    path: str | None
    """The configuration file; null without one."""
    toml: str
    """All settings, defaults included, without secrets."""


class Rejected(msgspec.Struct):
    """Rejected records, the newest first."""

    entries: list[dict[str, Any]]
    """Entries of rejected.jsonl: time, peer, reason, detail and the first bytes; of a gap the client and the count."""


class Range(msgspec.Struct):
    """A range of time."""

    since: float | None
    """In seconds since 1970; null: no bound."""
    until: float | None


class LastingSearch(msgspec.Struct):
    """A search that finds the same records later."""

    q: str
    """The query; with a bound of `received` where records have a time in the future."""
    since: float | None
    """In seconds since 1970; null: no bound."""
    until: float | None


class Share(msgspec.Struct):
    """A link to the records of one query."""

    url: str
    """Path on this server; the link is its address with the path."""
    expires: float
    """In seconds since 1970."""


class Session(msgspec.Struct):
    """Who asks."""

    user: str
    role: str
    """viewer or admin."""
    csrf: str
    """The header `X-CSRF-Token` of requests that change something."""
    server_time: float
    timezone: str
    """The server's time zone, such as `Europe/Rome` or `UTC+05:30`."""


def found_record(found: search.Found) -> FoundRecord:
    """Return a found record as it is sent."""
    return FoundRecord(str(found.id), found.created, msgspec.Raw(found.line.rstrip(b"\r\n")))


def coverage(of: search.Coverage) -> Coverage:
    """Return a coverage as it is sent."""
    return Coverage(of.records, of.is_complete)
