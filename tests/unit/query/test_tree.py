"""The tree of a query: how nodes are put together, and which operands are numbers."""

from __future__ import annotations

import pytest

from prefork_logd.query.tree import (
    EVERYTHING,
    And,
    Compare,
    Has,
    Not,
    Or,
    Words,
    all_of,
    any_of,
    conjuncts,
    leaves,
    level_from,
    negated,
)

A, B, C = Has(("a",)), Words(("b",)), Compare(("c",), "=", "1")


def test_nested_nodes_of_one_kind_become_one() -> None:
    """And equal parts one part."""
    assert all_of([A, And((B, C)), A]) == And((A, B, C))
    assert any_of([A, Or((B, A))]) == Or((A, B))
    assert all_of([A]) == A
    assert all_of([]) == EVERYTHING == all_of([EVERYTHING, EVERYTHING])
    assert negated(Not(A)) == A
    assert negated(A) == Not(A)


def test_conjuncts_and_leaves() -> None:
    """What has to be met in any case, and every condition."""
    node = all_of([A, Or((B, Not(C)))])
    assert conjuncts(node) == (A, Or((B, Not(C))))
    assert conjuncts(A) == (A,)
    assert list(leaves(node)) == [A, B, C]


def test_the_level_of_a_flag() -> None:
    """0 is no threshold."""
    assert level_from(0) == EVERYTHING
    assert level_from(30) == Compare(("levelno",), ">=", "30")


@pytest.mark.parametrize(
    ("operand", "number"),
    [("-17", -17), ("0.5", 0.5), ("1e3", 1000.0), ("9" * 1000, 10**1000 - 1), ("9" * 1001, None), ("01", None),
     ("+1", None), (".5", None), ("nan", None), (" 1", None), ("1\n", None), ("\u0661", None)],
)  # fmt: skip
def test_an_operand_is_a_number_as_json_writes_it(operand: str, number: float | None) -> None:
    """No other spelling, and none that is slow to read; operators on text have no number."""
    found = Compare(("x",), "=", operand).number
    assert found == number
    assert type(found) is type(number)
    assert Compare(("x",), "~", operand).number is None
