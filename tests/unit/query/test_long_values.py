"""Long values count whole, and are shown by their beginning."""

from __future__ import annotations

import json
from typing import Any

import pytest

from prefork_logd.query import analysis, long_values
from prefork_logd.query.language import parse_field
from prefork_logd.query.long_values import MOST_CHARACTERS, MOST_TEXT
from prefork_logd.query.statistics import parse


@pytest.mark.parametrize("value", ["", "x" * 1_000, 7, True, {"b": 1, "a": [None]}, ["x" * 990]])
def test_a_value_of_usual_length_is_itself(value: Any) -> None:
    """Its key gives it back."""
    assert long_values.shortened(value) is value
    assert long_values.value_of_key(long_values.key_of(value)) == value
    assert long_values.key_of_text(json.dumps(value)) == long_values.key_of(value)


@pytest.mark.parametrize("value", ["x" * 1_001, "é\n" * 90_000, ["y" * 2_000], {"a": "z" * 50_000}])
def test_a_long_value_is_shown_by_its_beginning(value: Any) -> None:
    """The same however it was read."""
    shown = long_values.value_of_key(long_values.key_of(value))
    assert shown == (value if isinstance(value, str) else json.dumps(value))[:MOST_CHARACTERS] + "…"
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False)):
        sent = text if len(text) <= MOST_TEXT else text[:MOST_TEXT] + "digest"
        assert long_values.value_of_key(long_values.key_of_text(sent)) == shown


@pytest.mark.parametrize("escaped", ['\\"', "\\\\", "\\u00e9", "\\ud83d\\ude42", "\\n", "a"])
@pytest.mark.parametrize("shift", range(13))
def test_a_text_that_is_cut_within_an_escape_is_read(escaped: str, shift: int) -> None:
    """Wherever the cut is, the beginning is that of the whole text."""
    text = f'"{"x" * shift}{escaped * MOST_TEXT}"'
    whole = json.loads(text)
    key = long_values.key_of_text(text[:MOST_TEXT] + "digest")
    assert long_values.value_of_key(key) == whole[:MOST_CHARACTERS] + "…"


def test_long_values_with_one_beginning_are_different() -> None:
    """In facets, groups and numbers of different values; their keys are short."""
    texts = ["x" * 100_000 + end for end in "aab"]
    records = [{"created": 0.0, "name": text} for text in texts]
    shown = "x" * MOST_CHARACTERS + "…"
    (facet,) = analysis.facets_of(records, [parse_field("name")], 10)
    assert [tuple(value) for value in facet.values] == [(shown, 2), (shown, 1)]
    assert analysis.stats_of(records, parse("count, distinct(name) by name"))[0] == [[shown, 2, 1], [shown, 1, 1]]
    assert analysis.stats_of(records, parse("distinct(name)"))[0] == [[2]]
    assert len(long_values.key_of(texts[0])) < 2 * MOST_CHARACTERS
    assert long_values.key_of_column(texts[0][:MOST_TEXT] + "one") != long_values.key_of_column(
        texts[0][:MOST_TEXT] + "other"
    )
