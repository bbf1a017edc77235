"""Questions for statistics: their syntax, and what each aggregate is."""

from __future__ import annotations

import statistics as reference

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefork_logd.query.evaluate import MISSING
from prefork_logd.query.language import parse_field
from prefork_logd.query.long_values import key_of
from prefork_logd.query.statistics import Accumulator, Aggregate, Statistics, parse
from tests.support.strategies import bounded

NUMBER = parse_field("extra.n")


def result(text: str, values: list[object]) -> float | None:
    """Return the one aggregate of a question for values of its field."""
    accumulator = Accumulator(parse(text).aggregates[0])
    for value in values:
        accumulator.add(value)
    return accumulator.result()


def test_the_syntax() -> None:
    """Aggregates, then fields behind `by`, with commas; names may be quoted."""
    name, key = parse_field("name"), parse_field('extra."a, by b"')
    assert parse("count") == Statistics((Aggregate("count", "count"),))
    assert parse(' count , p95( extra.n )  by  name, extra."a, by b" ') == Statistics(
        (Aggregate("count", "count"), Aggregate("p95(extra.n)", "percentile", NUMBER, 0.95)), (name, key)
    )
    assert parse("median(n), count(n)").aggregates[0].fraction == 0.5
    assert parse("count, avg(n) by name").columns == ["name", "count", "avg(n)"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "'' is not an aggregate; write count, distinct"),
        ("count,", "'' is not an aggregate"),
        ("mode(n)", "is not an aggregate; write .* or p95 of a field"),
        ("p101(n)", "is not an aggregate"),
        ("p95", "of which field\\? write p95\\(FIELD\\)"),
        ("sum()", "of which field"),
        ("count by name by level", "`by` stands twice"),
        ("count by", "is not an aggregate"),
        ("count by a b", "'a b' is not a field"),
        ("count(a=1)", "'a=1' is not a field"),
        (", ".join(["count"] * 17), "at most 16 aggregates and 4 fields"),
        ("count by a, b, c, d, e", "at most 16 aggregates and 4 fields"),
    ],
)
def test_errors_say_what_to_write(text: str, says: str) -> None:
    """In a sentence for the user."""
    with pytest.raises(ValueError, match=says):
        parse(text)


def test_what_counts() -> None:
    """Numbers alone, for most aggregates; every value other than null for two."""
    values = [1, 2.5, True, "3", None, MISSING, [4], 1.0]
    assert result("count", values) == 8
    assert result("count(n)", values) == 6
    assert result("distinct(n)", values) == 5
    assert result("sum(n)", values) == 4.5
    assert result("avg(n)", values) == 1.5
    assert (result("min(n)", values), result("max(n)", values)) == (1.0, 2.5)
    assert [result(f"{name}(n)", ["x", None]) for name in ("sum", "avg", "min", "max", "p50")] == [None] * 5


@bounded
@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=30))
def test_percentiles_are_those_of_the_standard_library(values: list[float]) -> None:
    """Interpolated linearly, from the least to the greatest value."""
    wanted = reference.quantiles(values, n=20, method="inclusive")
    for index, value in enumerate(wanted, 1):
        assert result(f"p{5 * index}(n)", list(values)) == pytest.approx(value, abs=1e-6)
    assert result("p0(n)", list(values)) == min(values)
    assert result("p100(n)", list(values)) == max(values)


def test_equal_numbers_are_one_value() -> None:
    """Whatever their spelling; other values are told apart by their kind."""
    assert key_of(1) == key_of(1.0)
    assert len({key_of(value) for value in (1, "1", True, [1], {"a": 1})}) == 5
