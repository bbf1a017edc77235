"""The flags `--where` and `--grep`: their syntax, and the meaning that every store is held to."""

from __future__ import annotations

import pytest

from prefork_logd.query import where
from prefork_logd.query.evaluate import compares, matches
from prefork_logd.query.tree import Compare, Not, Words
from tests.support.queries import RECORD


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
    assert matches(where.parse_condition(text), RECORD) is found


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
        where.parse_condition(text)


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
    found = where.parse_condition(text)
    is_negated = operator == "!="
    want = Compare(path, "=" if is_negated else operator, operand)  # type: ignore[arg-type]
    assert found == (Not(want) if is_negated else want)


@pytest.mark.parametrize("text", ['extra."a"b=1', "extra.=1", ".extra=1", "extra.a.=1", "name", "", "na me=1", '""=1'])
def test_a_path_that_is_none_is_not_guessed(text: str) -> None:
    """Nothing of it is left out."""
    with pytest.raises(ValueError, match="is not a condition"):
        where.parse_condition(text)


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
    for operator, found in {"=": True, "<": False, "<=": True, ">": False, ">=": True}.items():
        assert compares(value, Compare(("x",), operator, operand)) is found  # type: ignore[arg-type]
    if isinstance(value, int):
        assert not compares(value + 1, Compare(("x",), "=", operand))


@pytest.mark.parametrize("index", ["-1", "1e0", "\u00b2", "\u0661", "9" * 9, "9" * 5000, "x", "1.0"])
def test_a_key_that_is_no_index_finds_nothing_in_a_list(index: str) -> None:
    """However long it is."""
    record = {"extra": {"list": ["a", "b"]}}
    assert not matches(Compare(("extra", "list", index), "=", "a"), record)
    assert matches(Not(Compare(("extra", "list", index), "=", "a")), record)


def test_texts_are_ordered_by_code_points() -> None:
    """Not by a language, and not as numbers."""
    ordered = ["", "10", "9", "A", "a", "z", "\u00e4", "\uffff", "\U00010000"]
    for index, low in enumerate(ordered):
        for high in ordered[index + 1 :]:
            assert compares(low, Compare(("x",), "<", high))
            assert compares(high, Compare(("x",), ">", low))


def test_words_of_one_item_are_a_phrase() -> None:
    """Items are separated by spaces; quotes keep spaces together; a star at the end is a prefix."""
    assert where.parse_words("user-19022") == Words(("user", "19022"))
    assert where.parse_words('"not found*"') == Words(("not", "found"), is_prefix=True)
    assert where.parse_words("-- stock") == Words(("stock",))
