"""Which records come from the same place as one."""

from __future__ import annotations

from typing import Any

import pytest

from prefork_logd.query.context import same_as
from prefork_logd.query.evaluate import matches

RECORD: dict[str, Any] = {
    "created": 1.0, "name": "shop", "host": "web-1", "process": 7, "thread": 9, "taskName": "Task-3",
    "service": "shop", "extra": {"trace_id": "5f0c", "request_id": "r"},
}  # fmt: skip


@pytest.mark.parametrize(
    ("same", "others", "strangers"),
    [
        ("process", [{"thread": 1}, {"name": "x"}], [{"process": 8}, {"host": "web-2"}, {"service": "cart"}]),
        ("thread", [{"taskName": "x"}], [{"thread": 1}, {"process": 8}]),
        ("task", [{"thread": 1}], [{"taskName": "Task-4"}, {"process": 8}]),
        ("logger", [{"process": 8}], [{"name": "shop.cart"}]),
        ("service", [{"process": 8}, {"name": "x"}, {"host": "web-2"}], [{"service": "cart"}]),
        ("trace", [{"process": 8}, {"name": "x"}], [{"extra": {"request_id": "r"}}, {"extra": {"trace_id": "6"}}]),
    ],
)
def test_same(same: Any, others: list[dict[str, Any]], strangers: list[dict[str, Any]]) -> None:
    """A process is one of its host and service; a thread or task is one of its process."""
    node = same_as(RECORD, same)
    assert matches(node, RECORD)
    assert all(matches(node, RECORD | other) for other in others)
    assert not any(matches(node, RECORD | other) for other in strangers)


def test_a_trace_may_have_other_names_and_kinds() -> None:
    """The first of the names that the record has."""
    record = {"created": 1.0, "extra": {"otelTraceID": 5, "request_id": "r"}}
    assert matches(same_as(record, "trace"), {"created": 2.0, "extra": {"otelTraceID": 5}})
    assert not matches(same_as(record, "trace"), {"created": 2.0, "extra": {"request_id": "r"}})


@pytest.mark.parametrize("same", ["process", "thread", "task", "trace", "logger", "service"])
def test_a_record_without_it_says_so(same: Any) -> None:
    """It has no neighbours of this kind."""
    with pytest.raises(ValueError, match="the record has no"):
        same_as({"created": 1.0}, same)
