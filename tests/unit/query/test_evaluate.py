"""What each node of a query means for a record."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefork_logd.query.evaluate import compares, matches
from prefork_logd.query.fingerprints import fingerprint
from prefork_logd.query.tree import EVERYTHING, NOTHING, And, Compare, Has, InGroup, Not, Or, Words, level_is, logger
from tests.support.queries import RECORD
from tests.support.strategies import bounded, plain, texts

ITEM = Compare(("extra", "item"), "=", "42")
OTHER = Compare(("extra", "item"), "=", "43")


@pytest.mark.parametrize(
    ("node", "found"),
    [
        (EVERYTHING, True),
        (NOTHING, False),
        (And((ITEM, OTHER)), False),
        (Or((OTHER, ITEM)), True),
        (Not(OTHER), True),
        (Not(Compare(("extra", "absent"), ">", "1")), True),
        (Words(("low", "stock")), True),
        (Words(("stock", "low")), False),
        (Words(("grüsse",)), True),
        (Words(("space",), fields=("message",)), False),
        (Words(("space",), fields=("exc_text",)), True),
        (Words(("münch",)), False),
        (Words(("münch",), is_prefix=True), True),
        (Words(("münchen", "oserror")), False),
        (Has(("extra", "item")), True),
        (Has(("extra", "none")), False),
        (Has(("extra", "absent")), False),
        (Has(("lineno",)), False),
        (Has(("extra", "list", "1", "x")), True),
        (Compare(("message",), "~", "stock for"), True),
        (Compare(("message",), "~", "STOCK"), False),
        (Compare(("message",), "^=", "Low"), True),
        (Compare(("message",), "^=", "low"), False),
        (Compare(("message",), "=~", r"item A-\d+:"), True),
        (Compare(("message",), "=~", "(?i)LOW STOCK"), True),
        (Compare(("message",), "=~", "^stock"), False),
        (Compare(("extra", "item"), "=~", "4"), False),
        (Compare(("extra", "item"), "^=", "4"), False),
        (Compare(("extra", "item"), "~", "4"), False),
        (Compare(("levelno",), ">=", "30"), True),
        (logger("shop"), True),
        (logger("shop.cart"), True),
        (logger("shop.c"), False),
        (InGroup(fingerprint(RECORD) or ""), True),
        (InGroup("g1:0123456789abcdef"), False),
    ],
)
def test_nodes(node: And, found: bool) -> None:
    """Each kind of node, met and not met."""
    assert matches(node, RECORD) is found


@pytest.mark.parametrize("operator", ["=", "<", "<=", ">", ">="])
@pytest.mark.parametrize("number", [-5, 0, 5, 30])
@pytest.mark.parametrize("levelno", [None, 0, -5, 10, 30])
def test_a_record_without_a_level_counts_as_0(operator: str, number: int, levelno: int | None) -> None:
    """For every comparison of levels."""
    record = {"created": 0.0} | ({} if levelno is None else {"levelno": levelno})
    want = matches(Compare(("levelno",), operator, str(number)), {"levelno": levelno or 0})  # type: ignore[arg-type]
    assert matches(level_is(operator, number), record) is want  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.slow
@bounded
@given(plain, st.sampled_from(["=", "<", "<=", ">", ">=", "~", "^="]), texts)
def test_any_value_can_be_compared(value: object, operator: str, operand: str) -> None:
    """No value and no operand raises, and a text is equal to itself."""
    assert compares(value, Compare(("x",), operator, operand)) in {True, False}  # type: ignore[arg-type]
    if isinstance(value, str):
        assert compares(value, Compare(("x",), "=", value))


def test_a_regular_expression_takes_linear_time() -> None:
    """One for which Python's `re` would need longer than the age of the universe."""
    started = time.monotonic()
    assert not matches(Compare(("message",), "=~", "(a*)*(a*)*(a|aa)*$b"), {"message": "a" * 50_000 + "c"})
    assert time.monotonic() - started < 5


def test_a_text_with_lone_surrogates_can_be_searched() -> None:
    """Each counts as a question mark."""
    assert matches(Compare(("message",), "=~", r"^\?a$"), {"message": "\udcffa"})
