"""Facets, fields and statistics of records in memory."""

from __future__ import annotations

import pytest

from prefork_logd.query import analysis
from prefork_logd.query.language import parse, parse_field
from prefork_logd.query.patterns import MOST_CHARACTERS
from prefork_logd.query.search import Facet, FieldFound, Pattern
from prefork_logd.query.statistics import parse as parse_statistics

RECORDS = [
    {"created": 1.0, "name": "a", "levelno": 20, "extra": {"n": 1, "o": {"p": "x"}}},
    {"created": 2.0, "name": "a", "levelno": 40, "extra": {"n": 1.0, "o.p": "x", "a key": None}},
    {"created": 3.0, "name": "b", "levelno": 40, "extra": {"n": "1", "a key": [1], "o": {}}},
    {"created": 4.0, "levelno": 40},
]


def test_facets() -> None:
    """The most frequent values, how many others there are, and how many records have none."""
    fields = [parse_field(text) for text in ("name", "n", "o.p", "absent")]
    assert analysis.facets_of(RECORDS, fields, 1) == [
        Facet("name", [("a", 2)], 1, 1),  # type: ignore[list-item]
        Facet("n", [(1, 2)], 1, 1),  # type: ignore[list-item]
        Facet("o.p", [("x", 2)], 0, 2),  # type: ignore[list-item]
        Facet("absent", [], 0, 4),
    ]


def test_facets_of_very_many_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first ones are counted, and the others together."""
    monkeypatch.setattr(analysis, "MOST_VALUES", 2)
    records = [{"created": 0.0, "name": name} for name in "abcbdc"]
    assert analysis.facets_of(records, [parse_field("name")], 5) == [
        Facet("name", [("b", 2), ("a", 1)], 3, 0),  # type: ignore[list-item]
    ]


def test_statistics() -> None:
    """Groups in falling order of the first aggregate; a missing value is a group, too."""
    found = analysis.stats_of(RECORDS, parse_statistics("count, sum(n), max(levelno) by name"))
    assert found == ([["a", 2, 2.0, 40.0], ["b", 1, None, 40.0], [None, 1, None, 40.0]], 0)
    assert analysis.stats_of([], parse_statistics("count, avg(n)")) == ([[0, None]], 0)
    assert analysis.stats_of([], parse_statistics("count by name")) == ([], 0)


def test_no_more_than_so_many_groups() -> None:
    """The number of the others is given."""
    records = [{"created": 0.0, "lineno": number} for number in range(1_234)]
    rows, left_out = analysis.stats_of(records, parse_statistics("count by lineno"))
    assert (len(rows), left_out) == (1_000, 234)


def test_fields() -> None:
    """With the types of their values; inner keys of objects; null is no value."""
    assert analysis.fields_of(RECORDS) == [
        FieldFound("created", {"number": 4}),
        FieldFound("levelno", {"number": 4}),
        FieldFound("extra.n", {"number": 2, "text": 1}),
        FieldFound("name", {"text": 3}),
        FieldFound('extra."a key"', {"list": 1}),
        FieldFound('extra."o.p"', {"text": 1}),
        FieldFound("extra.o", {"object": 1}),
        FieldFound("extra.o.p", {"text": 1}),
    ]


def test_a_field_is_written_as_a_query_takes_it() -> None:
    """Its name finds the records that have it."""
    for odd in ("a key", "a.b", "-x", "0a", "x=y", "日", "level", "OR"):
        (field,) = analysis.fields_of([{"extra": {odd: 1}}])
        node = parse(f"{field.field}:*", now=0.0)
        assert analysis.value_of({"extra": {odd: 1}}, parse_field(field.field)) == 1
        assert node == parse(f"{field.field}:*", now=1.0)


def test_the_number_of_fields_is_bounded() -> None:
    """A client that makes up a name for each record costs no memory; the fields before it are counted on."""
    honest = [{"message": "m", "extra": {"status": 200}}]
    made_up = [{"extra": {f"key-{number}": {"inner": number}}} for number in range(2 * analysis.MOST_FIELDS)]
    found = analysis.fields_of([*honest, *made_up, *honest])
    assert len(found) <= analysis.MOST_FIELDS
    assert [(one.field, one.records) for one in found[:2]] == [("extra.status", 2), ("message", 2)]


def test_patterns() -> None:
    """With the first and last time, and the newest message."""
    messages = [("took 5 ms", 3.0), ("took 7 ms", 2.0), ("stopped", 1.0)]
    assert analysis.patterns_of(messages, 1) == ([Pattern("took <number> ms", 2, 2.0, 3.0, "took 5 ms")], 1)
    (long,) = analysis.patterns_of([("x" * 10_000, 1.0)], 5)[0]
    assert len(long.text) == len(long.example) == MOST_CHARACTERS
