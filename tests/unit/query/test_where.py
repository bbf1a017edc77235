"""Conditions on one field: their syntax, and the meaning that every store is held to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefork_logd.query import where
from tests.support.strategies import bounded, plain, texts
from tests.unit.query.test_filters import RECORD

EITHER: tuple[where.Operator, where.Operator] = ("=", "!=")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("extra.item=42", True),
        ("extra.item=42.0", True),
        ("extra.item=43", False),
        ("extra.item!=43", True),
        ("extra.text=42", True),
        ("extra.text=42.0", False),
        ("extra.item>9", True),
        ("extra.text>9", False),
        ("extra.item<=42", True),
        ("extra.item<42", False),
        ("extra.ratio>=5e-1", True),
        ("extra.ok=true", True),
        ("extra.ok=1", False),
        ("extra.ok>0", False),
        ("extra.none=null", True),
        ("extra.absent=null", False),
        ("extra.absent!=x", True),
        ("extra.absent<x", False),
        ('extra."a.b"=dot', True),
        ("extra.list.0=1", True),
        ("extra.list.1.x=y", True),
        ("extra.list.2=1", False),
        ("extra.list=1", False),
        ("message~stock for", True),
        ("message~STOCK", False),
        ("levelno>=30", True),
        ("name=shop.cart", True),
        ("message=Low stock for item A-2207: Grüße aus München", True),
        ("name>shop", True),
    ],
)
def test_conditions_on_fields(text: str, found: bool) -> None:
    """Numbers as numbers, texts as texts, constants by their names, and nothing across kinds."""
    assert where.meets(RECORD, where.parse(text)) is found


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("trace_id=1", "did you mean extra.trace_id"),
        ("levelnum=1", "did you mean extra.levelnum or .*levelno"),
        ("extra=1", "name one of its keys"),
        ("extra.trace_id", "is not a condition"),
        ("=1", "is not a condition"),
        ("extra..x=1", "is not a condition"),
        ('extra."=1', "is not a condition"),
    ],
)
def test_a_condition_that_is_none_says_so(text: str, says: str) -> None:
    """What is wrong comes with what to write instead."""
    with pytest.raises(ValueError, match=says):
        where.parse(text)


@pytest.mark.slow
@bounded
@given(plain, st.sampled_from(["=", "!=", "<", "<=", ">", ">=", "~"]), texts)
def test_any_value_can_be_compared(value: object, operator: where.Operator, operand: str) -> None:
    """No value and no operand raises, and `!=` is the opposite of `=`."""
    one = where.compares(value, where.Condition(("extra", "x"), operator, operand))
    assert one in {True, False}
    equal, unequal = (where.compares(value, where.Condition(("x",), which, operand)) for which in EITHER)
    assert equal is not unequal
    if isinstance(value, str):
        assert where.compares(value, where.Condition(("x",), "=", value))


@pytest.mark.parametrize(
    ("text", "path", "operator", "operand"),
    [
        ("name=a", ("name",), "=", "a"),
        ("name =a", ("name",), "=", "a"),
        ("name=", ("name",), "=", ""),
        ("name==a", ("name",), "=", "=a"),
        ("name!=a", ("name",), "!=", "a"),
        ("lineno<=5", ("lineno",), "<=", "5"),
        ("lineno<-5", ("lineno",), "<", "-5"),
        ("lineno>=5", ("lineno",), ">=", "5"),
        ("message~a=b", ("message",), "~", "a=b"),
        ("message=two\nlines", ("message",), "=", "two\nlines"),
        ('extra."a.b".c=1', ("extra", "a.b", "c"), "=", "1"),
        ('extra."=<>!~ "=1', ("extra", "=<>!~ "), "=", "1"),
        ('"name"=1', ("name",), "=", "1"),
        ("extra.Größe=1", ("extra", "Größe"), "=", "1"),
    ],
)
def test_a_condition_is_a_path_an_operator_and_the_rest(
    text: str, path: tuple[str, ...], operator: str, operand: str
) -> None:
    """The first operator counts; everything behind it is the operand, as it is written."""
    assert where.parse(text) == (path, operator, operand)


@pytest.mark.parametrize("text", ['extra."a"b=1', "extra.=1", ".extra=1", "extra.a.=1", "name", "", "na me=1", '""=1'])
def test_a_path_that_is_none_is_not_guessed(text: str) -> None:
    """Nothing of it is left out."""
    with pytest.raises(ValueError, match="is not a condition"):
        where.parse(text)


@pytest.mark.parametrize(
    ("operand", "number"),
    [
        ("0", 0),
        ("-0", 0),
        ("-17", -17),
        ("0.5", 0.5),
        ("1e3", 1000.0),
        ("1E-3", 0.001),
        ("9" * 1000, 10**1000 - 1),
        ("9" * 1001, None),
        ("1e9999", None),
        ("01", None),
        ("+1", None),
        (".5", None),
        ("5.", None),
        ("0x10", None),
        ("1_000", None),
        ("nan", None),
        ("inf", None),
        (" 1", None),
        ("1\n", None),
        ("\u0661", None),
        ("\u00b2", None),
    ],
)
def test_an_operand_is_a_number_as_json_writes_it(operand: str, number: float | None) -> None:
    """No other spelling, and none that is slow to read."""
    found = where.Condition(("extra", "x"), "=", operand).number
    assert found == number
    assert type(found) is type(number)


@pytest.mark.parametrize(
    ("value", "operand"),
    [
        (9_007_199_254_740_993, "9007199254740993"),
        (0.1, "0.1"),
        (1e300, "1e300"),
        (-5, "-5.0"),
        (10**1000 - 1, "9" * 1000),
    ],
)
def test_numbers_are_compared_exactly(value: float, operand: str) -> None:
    """Integers are not rounded to a double, and none is too large to be compared."""
    results = {
        operator: where.compares(value, where.Condition(("x",), operator, operand))
        for operator in ("=", "!=", "<", "<=", ">", ">=")
    }
    assert results == {"=": True, "!=": False, "<": False, "<=": True, ">": False, ">=": True}
    if isinstance(value, int):
        assert not where.compares(value + 1, where.Condition(("x",), "=", operand))


@pytest.mark.parametrize("index", ["-1", "1e0", "\u00b2", "\u0661", "9" * 9, "9" * 5000, "x", "1.0"])
def test_a_key_that_is_no_index_finds_nothing_in_a_list(index: str) -> None:
    """However long it is."""
    record = {"extra": {"list": ["a", "b"]}}
    assert not where.meets(record, where.Condition(("extra", "list", index), "=", "a"))
    assert where.meets(record, where.Condition(("extra", "list", index), "!=", "a"))


def test_texts_are_ordered_by_code_points() -> None:
    """Not by a language, and not as numbers."""
    ordered = ["", "10", "9", "A", "a", "z", "\u00e4", "\uffff", "\U00010000"]
    for index, low in enumerate(ordered):
        for high in ordered[index + 1 :]:
            assert where.compares(low, where.Condition(("x",), "<", high))
            assert where.compares(high, where.Condition(("x",), ">", low))
