"""Finds the records around a record: those before and after it that came from the same place.

Owns which records belong together. Does not know stores: it asks any search for pages.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from prefork_logd.errors import StoreError
from prefork_logd.query import tree
from prefork_logd.query.evaluate import MISSING, value_at
from prefork_logd.query.filters import Filters
from prefork_logd.records.stored import read_fields

if TYPE_CHECKING:
    from collections.abc import Mapping

    from prefork_logd.query.search import Found, RecordId, Search
    from prefork_logd.query.tree import Node

Same = Literal["process", "thread", "task", "trace", "logger", "service"]
SAME: tuple[Same, ...] = ("process", "thread", "task", "trace", "logger", "service")

TRACE_KEYS = ("trace_id", "traceId", "otelTraceID", "dd.trace_id", "traceparent", "request_id")
"""Keys of `extra` that name the trace or request of a record; the first one that is there counts."""
_PLACE = ("host", "service", "process")
_FIELDS: dict[str, tuple[str, ...]] = {
    "process": _PLACE,
    "thread": (*_PLACE, "thread"),
    "task": (*_PLACE, "taskName"),
    "logger": ("name",),
    "service": ("service",),
}
_NEEDED = {"process": "process", "thread": "thread", "task": "taskName", "logger": "name", "service": "service"}


class Around(NamedTuple):
    """A record and its neighbours, in order of time."""

    records: list[Found]
    before: int
    """Number of records before the record itself."""


def same_as(record: Mapping[str, Any], same: Same) -> Node:
    """Return the condition that records are from the same place as one, given as the object in its line.

    Raises ValueError with a sentence for the user if the record does not have what is compared.
    """
    if same == "trace":
        for key in TRACE_KEYS:
            value = value_at(record, ("extra", key))
            if value not in (MISSING, None, ""):
                return _equal(("extra", key), value)
        raise ValueError(f"the record has no trace: none of extra.{', extra.'.join(TRACE_KEYS)}")
    if _NEEDED[same] not in record:
        raise ValueError(f"the record has no {_NEEDED[same]}; choose another of {', '.join(SAME)}")
    return tree.all_of(_equal((name,), record.get(name, MISSING)) for name in _FIELDS[same])


def around(search: Search, record: RecordId, same: Same | None, before: int, after: int) -> Around:
    """Return a record with so many records before and after it; of all records if `same` is None.

    Raises StoreError if the record is not there, ValueError as `same_as` does.
    """
    found = search.get(record)
    if found is None:
        raise StoreError(f"record {record}: it is not in the store, or no longer")
    node = tree.EVERYTHING if same is None else same_as(read_fields(found.line), same)
    wanted = Filters(tree=node)
    earlier = search.page(replace(wanted, order="newest", limit=before), found.cursor).records if before else []
    later = search.page(replace(wanted, order="oldest", limit=after), found.cursor).records if after else []
    return Around([*reversed(earlier), found, *later], len(earlier))


def _equal(path: tuple[str, ...], value: Any) -> Node:
    if value is MISSING:
        return tree.Not(tree.Has(path))
    if isinstance(value, bool):
        value = "true" if value else "false"
    return tree.Compare(path, "=", str(value))
