"""Searches the store of a collector on another host: the search contract over the HTTP API.

Owns which call answers which question. Does not know stores; a query is sent as text (query/as_text.py).
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import msgspec

from prefork_logd.errors import StoreError
from prefork_logd.query.search import (
    Bar,
    Coverage,
    Cursor,
    Facet,
    Facets,
    FacetValue,
    FieldFound,
    Fields,
    Found,
    Limits,
    Page,
    Pattern,
    Patterns,
    RecordId,
    Table,
)
from prefork_logd.web.client.connection import local_zone

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from prefork_logd.query.conditions import Field
    from prefork_logd.query.filters import Filters
    from prefork_logd.query.statistics import Statistics
    from prefork_logd.web.client.connection import ApiConnection

T = TypeVar("T")
_EVENT = re.compile(rb'\{"id":(?:null|"([0-9a-f]{32}-\d{1,18})"),"record":(\{.*\})\}', re.DOTALL)
"""Not read as JSON: the record's bytes are kept as they are."""
_PAGE = 1000
"""Most records of a page of the API."""


class FoundRecord(msgspec.Struct):
    """A record as the API sends it."""

    id: str
    created: float
    record: msgspec.Raw

    def found(self) -> Found:
        """Return it as a search has it, with its stored line byte for byte."""
        return Found(RecordId.parse(self.id), self.created, bytes(self.record) + b"\n")


class TailEvent(NamedTuple):
    """An event of a tail (docs/api.md)."""

    kind: str
    data: bytes
    id: str
    """Where the tail goes on behind this event; empty: behind the one before."""


class _Records(msgspec.Struct):
    records: list[FoundRecord]
    cursor: str | None
    problems: list[str] = []


class _Around(msgspec.Struct):
    before: list[FoundRecord]
    record: FoundRecord
    after: list[FoundRecord]


class RemoteSearch:
    """A store of another collector. The tree of filters is not used: `text` is the same query."""

    def __init__(self, api: ApiConnection, text: str, store: str | None = None) -> None:
        """Search for the records of a query text in a store (None: the first that can be searched)."""
        self.limits = Limits()
        self.problems: list[str] = []
        self._api = api
        self._text = text
        self._store = store
        self._zone = local_zone()

    def lines(self, filters: Filters) -> Iterator[bytes]:
        """Yield the stored line of each matching record. Raises StoreError, also for an answer that ends early."""
        if filters.limit == 0:
            return
        parameters = {**self._parameters(filters), "order": filters.order, "limit": filters.limit, "format": "jsonl"}
        with self._api.open("/export", parameters) as response:
            yield from self._api.lines_of(response)

    def page(self, filters: Filters, cursor: Cursor | None = None) -> Page:
        """Return matching records with their ids."""
        limit = 50 if filters.limit is None else min(filters.limit, _PAGE)
        if not limit:
            return Page([], None)
        parameters = {
            **self._parameters(filters),
            "order": filters.order,
            "limit": limit,
            "cursor": cursor and str(cursor),
        }
        answer = self._decoded(self._api.read("/records", parameters), _Records)
        self.problems = answer.problems
        following = Cursor.parse(answer.cursor) if answer.cursor else None
        return Page([one.found() for one in answer.records], following)

    def get(self, record: RecordId) -> Found | None:
        """Return one record. Raises StoreError if it is not there: the answer has the reason."""
        return self._decoded(self._api.read(f"/records/{record}", {"store": self._store}), FoundRecord).found()

    def around(self, record: RecordId, same: str | None, before: int, after: int) -> list[Found]:
        """Return a record and its neighbours."""
        parameters = {"store": self._store, "same": same, "before": before, "after": after}
        answer = self._decoded(self._api.read(f"/records/{record}/around", parameters), _Around)
        return [one.found() for one in (*answer.before, answer.record, *answer.after)]

    def count(self, filters: Filters) -> int:
        """Return how many records match."""
        return int(self._api.get("/count", self._parameters(filters))["count"])

    def span(self) -> tuple[float, float] | None:
        """Return the least and the greatest `created` of all records."""
        ends = []
        for order in ("oldest", "newest"):
            answer = self._api.get("/records", {"store": self._store, "order": order, "limit": 1})
            ends += [one["created"] for one in answer["records"]]
        return (ends[0], ends[1]) if len(ends) == 2 else None

    def histogram(self, filters: Filters, start: float, slot_s: float, slots: int) -> list[Bar]:
        """Return the number of matching records in each slot."""
        # The bounds of the answer are those of the slots; the filters' own are conditions.
        bounds = [f'created>="{filters.since!r}"'] if filters.since is not None else []
        bounds += [f'created<"{filters.until!r}"'] if filters.until is not None else []
        text = " ".join([*bounds, f"({self._text})" if bounds and self._text else self._text])
        span = {"since": _at(start), "until": _at(start + slots * slot_s), "slots": slots}
        answer = self._api.get("/histogram", {**self._parameters(None), "q": text, **span})
        counts: dict[tuple[int, int], int] = {}
        for bar in answer["bars"]:
            at = math.floor((answer["start"] + bar["slot"] * answer["slot_s"] - start) / slot_s + 1e-9)
            key = (min(max(at, 0), slots - 1), bar["levelno"])
            counts[key] = counts.get(key, 0) + bar["count"]
        return [Bar(slot, levelno, count) for (slot, levelno), count in sorted(counts.items())]

    def facets(self, filters: Filters, fields: Sequence[Field], top: int) -> Facets:
        """Return the most frequent values of fields."""
        asked = {"field": [field.written for field in fields], "top": top}
        answer = self._api.get("/facets", {**self._parameters(filters), **asked})
        found = [
            Facet(one["field"], [FacetValue(**value) for value in one["values"]], one["others"], one["missing"])
            for one in answer["facets"]
        ]
        return Facets(found, Coverage(**answer["coverage"]))

    def fields(self, filters: Filters) -> Fields:
        """Return the fields that the matching records have."""
        answer = self._api.get("/fields", self._parameters(filters))
        found = [FieldFound(one["field"], one["types"]) for one in answer["fields"]]
        return Fields(found, Coverage(**answer["coverage"]))

    def stats(self, filters: Filters, statistics: Statistics) -> Table:
        """Return aggregates of the matching records."""
        answer = self._api.get("/stats", {**self._parameters(filters), "stats": _written(statistics)})
        return Table(answer["columns"], answer["rows"], answer["left_out"], Coverage(**answer["coverage"]))

    def patterns(self, filters: Filters, top: int) -> Patterns:
        """Return the most frequent forms of messages."""
        answer = self._api.get("/patterns", {**self._parameters(filters), "top": top})
        found = [Pattern(**one) for one in answer["patterns"]]
        return Patterns(found, answer["others"], Coverage(**answer["coverage"]))

    def levels(self) -> dict[str, int]:
        """Return the levels that a query may name."""
        answer = self._api.get("/levels", {"store": self._store})
        return {one["name"]: one["levelno"] for one in answer["levels"]}

    def latest(self, filters: Filters, count: int) -> list[Found]:
        """Return the newest matching records, at most `count`, in order of time."""
        newest: list[Found] = []
        cursor: Cursor | None = None
        while len(newest) < count:
            page = self.page(replace(filters, order="newest", limit=min(count - len(newest), _PAGE)), cursor)
            newest += page.records
            cursor = page.cursor
            if cursor is None:
                break
        return newest[::-1]

    def events(self, filters: Filters, after: str) -> Iterator[TailEvent]:
        """Yield each event of the tail behind the event with this id (empty: from now on), until the connection ends.

        Raises StoreError, ProcessError, ValueError.
        """
        kind, data, event_id = "message", b"", ""
        with self._api.open("/tail", {**self._parameters(filters), "after": after}) as response:
            for line in self._api.lines_of(response):
                name, _, value = line.rstrip(b"\r\n").partition(b":")
                if name == b"event":
                    kind = value.strip().decode()
                elif name == b"data":
                    data = value.strip()
                elif name == b"id":
                    event_id = value.strip().decode("ascii", "replace")
                elif not name and not value and data:
                    yield TailEvent(kind, data, event_id)
                    kind, data, event_id = "message", b"", ""

    def cancel(self) -> None:
        """Do nothing: a command that is interrupted closes its connection, which cancels the search."""

    def close(self) -> None:
        """Do nothing: each call has a connection of its own."""

    def _decoded(self, data: bytes, kind: type[T]) -> T:
        """Return an answer with records, each of them byte for byte."""
        try:
            return msgspec.json.decode(data, type=kind)
        except msgspec.MsgspecError:
            # msgspec refuses a lone surrogate, which a message may hold: each line has to be fetched by itself.
            return msgspec.convert(self._with_lines(json.loads(data)), kind)

    def _with_lines(self, value: Any) -> Any:
        """Return an answer with the stored line in the place of each record."""
        if isinstance(value, list):
            return [self._with_lines(one) for one in value]
        if not isinstance(value, dict):
            return value
        if "id" in value:
            line = self._api.read(f"/records/{value['id']}/line", {"store": self._store})
            return {**value, "record": msgspec.Raw(line.rstrip(b"\r\n"))}
        return {key: self._with_lines(one) for key, one in value.items()}

    def _parameters(self, filters: Filters | None) -> dict[str, Any]:
        bounds = {} if filters is None else {"since": _at(filters.since), "until": _at(filters.until)}
        return {"q": self._text, "tz": self._zone, "store": self._store, **bounds}


def _written(statistics: Statistics) -> str:
    aggregates = ", ".join(one.written for one in statistics.aggregates)
    groups = ", ".join(field.written for field in statistics.by)
    return f"{aggregates} by {groups}" if groups else aggregates


def _at(seconds: float | None) -> str | None:
    """Return a time as the API takes it, exactly."""
    if seconds is None:
        return None
    text = repr(float(seconds))
    return f"@{seconds:.6f}" if "e" in text else f"@{text}"


def record_of(data: bytes) -> tuple[RecordId | None, bytes]:
    """Return the id and the line of an event `record`; a collector without a store has no ids. Raises StoreError."""
    match = _EVENT.fullmatch(data)
    if match is None:
        raise StoreError("the page has sent an event that holds no record; it may be of another version")
    return RecordId.parse(match[1].decode()) if match[1] else None, match[2] + b"\n"


def value_of(data: bytes) -> dict[str, Any]:
    """Return the object of another event of a tail. Raises StoreError for data that is none."""
    try:
        return msgspec.json.decode(data, type=dict[str, Any])
    except msgspec.MsgspecError as error:
        raise StoreError(f"the page has sent an event that cannot be read: {error}") from error
