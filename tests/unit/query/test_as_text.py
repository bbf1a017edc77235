"""The flags, written as a query, find the same records as the flags themselves."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefork_logd.query.as_text import query_text, quoted
from prefork_logd.query.parse import make_filters
from prefork_logd.query.written import Written

RECORDS: list[dict[str, Any]] = [
    {"created": 1.0, "name": "shop", "levelno": 20, "message": "disk full on user-19022", "host": "h1"},
    {"created": 2.0, "name": "shop.cart", "levelno": 30, "message": 'said "no" \\ twice', "service": "api"},
    {"created": 3.0, "name": "shopping", "levelno": 45, "message": "full disk", "extra": {"a.b": 1, "a": {"b": 2}}},
    {"created": 4.0, "name": "x", "message": "OR", "extra": {"level": "5", "key with space": "v:1", "n": 1.5}},
    {"created": 5.0, "name": "level", "levelno": 10, "message": "not found", "environment": "AND", "process": 7},
]


@pytest.mark.parametrize(
    "flags",
    [
        {},
        {"level": "warning"},
        {"level": "AUDIT"},
        {"level": "25"},
        {"loggers": ["shop"]},
        {"loggers": ["shop.cart", "x", "level"]},
        {"grep": ["full disk"]},
        {"grep": ['"disk full"', "user-19022 !"]},
        {"grep": ["OR"]},
        {"grep": ["dis*"]},
        {"service": "api"},
        {"environment": "AND"},
        {"host": 'h1"'},
        {"conditions": ["levelno>=30", "name!=shopping"]},
        {"conditions": ["extra.a.b=2"]},
        {"conditions": ['extra."a.b"=1']},
        {"conditions": ['extra."key with space"=v:1']},
        {"conditions": ["extra.level=5", "extra.n>1"]},
        {"conditions": ['message~"no"', "message~\\"]},
        {"conditions": ["message="]},
        {"text": "disk OR twice", "level": "INFO"},
        {"text": "shop full OR (level>=ERROR)", "loggers": ["shopping"], "grep": ["disk"]},
    ],
    ids=str,
)
def test_a_query_finds_what_the_flags_find(flags: dict[str, Any]) -> None:
    """Levels that records carry are known to both."""
    carried = {"AUDIT": 45}
    by_flags = make_filters(Written(**flags), carried=lambda: carried)
    by_text = make_filters(Written(query_text(Written(**flags))), carried=lambda: carried)
    assert [by_text.matches(record) for record in RECORDS] == [by_flags.matches(record) for record in RECORDS]


@pytest.mark.parametrize("flags", [{"grep": ["!"]}, {"conditions": ["x"]}, {"conditions": ["none=1"]}])
def test_flags_that_are_refused_are_refused_here(flags: dict[str, Any]) -> None:
    """With the same sentence."""
    with pytest.raises(ValueError) as expected:
        make_filters(Written(**flags))
    with pytest.raises(ValueError) as found:
        query_text(Written(**flags))
    assert str(found.value) == str(expected.value)


@given(st.text(max_size=20))
def test_every_text_can_be_quoted(text: str) -> None:
    """No text ends its quotes, or is changed by them."""
    filters = make_filters(Written(f"extra.key={quoted(text)}"))
    assert filters.matches({"created": 1.0, "extra": {"key": text}})
    assert not filters.matches({"created": 1.0, "extra": {"key": f"{text}x"}})
