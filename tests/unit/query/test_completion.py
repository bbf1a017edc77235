"""The place at a caret, and values as they are written into a query."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefork_logd.query.completion import MOST_CHARACTERS, Place, find_place, short_field, written_value
from prefork_logd.query.filters import Filters
from prefork_logd.query.language import MOST_CHARACTERS as MOST_QUERY
from prefork_logd.query.language import parse


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("|", Place("field", 0, 0, "")),
        ("ten|", Place("field", 0, 3, "ten")),
        ("te|nant", Place("field", 0, 6, "te")),
        ("te|nant:north", Place("field", 0, 6, "te", "", has_operator=True)),
        ("tenant:|", Place("value", 7, 7, "", "tenant")),
        ("a tenant:nor|", Place("value", 9, 12, "nor", "tenant")),
        ("tenant:no|rth b", Place("value", 7, 12, "no", "tenant")),
        ("extra.status >= 5|", Place("value", 16, 17, "5", "extra.status")),
        ('tenant:"no r|', Place("value", 7, 12, "no r", "tenant")),
        (r'tenant:"a\"b|"', Place("value", 7, 13, 'a"b', "tenant")),
        ("level:(ERROR OR W|", Place("value", 16, 17, "W", "level")),
        ("level:(ERROR OR |", Place("value", 16, 16, "", "level")),
        ("level:(ERROR) x|", Place("field", 14, 15, "x")),
        ("(a OR (b c|", Place("field", 9, 10, "c")),
        ("-ten|", Place("field", 1, 4, "ten")),
        ("tenant: |", Place("field", 8, 8, "")),
        ('"a key".b=x|', Place("value", 10, 11, "x", '"a key".b')),
        ("std::vec|", Place("field", 0, 8, "std::vec")),
        ("a) b|", Place("field", 3, 4, "b")),
    ],
)
def test_the_place_at_the_caret(text: str, place: Place) -> None:
    """Fields stand before an operator, values behind it or in the parentheses of a field."""
    caret = text.index("|")
    assert find_place(text.replace("|", ""), caret) == place


@given(
    st.text(st.sampled_from('ab1 ()":=<>~!-."\\*@\n\0é\udcff'), max_size=40) | st.text(max_size=40), st.integers(-3, 45)
)
def test_any_text_has_a_place(text: str, position: int) -> None:
    """The place is around the caret."""
    found = find_place(text, position)
    caret = max(0, min(position, len(text)))
    assert 0 <= found.start <= caret <= found.stop <= len(text)
    assert bool(found.field) == (found.kind == "value")


def test_a_long_text_takes_little_time() -> None:
    """The time grows with the length, not faster."""
    began = time.process_time()
    for text in (
        'a:"' * 5000,
        "(" * MOST_QUERY,
        "a.b." * 4000,
        '"' * MOST_QUERY,
        "- " * 8000,
        '"a' * 8000,
        "a:(" * 5000,
        '"a".' * 4000,
    ):
        find_place(text, len(text))
    assert time.process_time() - began < 0.4


@given(
    st.text(max_size=MOST_CHARACTERS)
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
)
def test_a_written_value_finds_its_record(value: Any) -> None:
    """What is offered is a query of one comparison, which the record with the value meets."""
    written = written_value(value)
    assert written is not None
    record = {"created": 1.0, "extra": {"tenant": value}}
    for operator in ("=", ":"):
        assert Filters(tree=parse(f"tenant{operator}{written}", now=2.0)).matches(record)


@pytest.mark.parametrize("value", [None, [], {}, float("inf"), "x" * (MOST_CHARACTERS + 1)])
def test_what_cannot_be_written(value: Any) -> None:
    """Lists, objects and long texts are not offered."""
    assert written_value(value) is None


@pytest.mark.parametrize(
    ("field", "short"),
    [
        ("extra.tenant", "tenant"),
        ("extra.http.status", "http.status"),
        ("extra.service", "extra.service"),
        ("extra.level", "extra.level"),
        ('extra."a key"', 'extra."a key"'),
        ("extra.Message", "extra.Message"),
        ("name", "name"),
    ],
)
def test_extra_is_left_out_where_it_can_be(field: str, short: str) -> None:
    """A key that is called like a field keeps its `extra.`."""
    assert short_field(field) == short
