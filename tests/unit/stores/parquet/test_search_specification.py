"""A search of the Parquet store finds what the specification finds, whatever is asked."""

import contextlib

import pytest
from hypothesis import given, settings

from prefork_logd.query.filters import Filters
from prefork_logd.query.tree import Compare, Has
from prefork_logd.stores.parquet.search import open_search
from tests.support.parquet_store import JOURNAL, make_store
from tests.support.searching import Stored, check, check_analysis, filters, make_lines
from tests.support.stores import block, never
from tests.support.strategies import bounded

CONDITIONS = [
    Compare(("message",), "^=", "order"),
    Compare(("lineno",), "<", "3.5"),
    Compare(("lineno",), ">=", "3.5"),
    Compare(("extra", "id"), "=", "true"),
    Compare(("extra", "id"), "=", "null"),
    Compare(("extra", "id"), "=", 'q"\\' * 2_500),
    Compare(("extra", "id"), "=", "9007199254740993"),
    Compare(("extra", "id"), ">", "1e300"),
    Has(("extra", "id")),
    Has(("extra", "a/b~c")),
]
"""Conditions that have a case of their own in SQL; few generated queries have them."""


@pytest.mark.slow
@pytest.mark.parametrize("condition", CONDITIONS, ids=range(len(CONDITIONS)))
def test_each_condition_finds_what_the_matcher_finds(found, condition):
    """Of texts, numbers and keys that SQL and JSON spell otherwise."""
    check(found, Filters(tree=condition))


@pytest.mark.slow
@settings(bounded, max_examples=30)
@given(filters)
def test_every_filter_finds_what_the_matcher_finds(found, wanted):
    """Lines, their order, counts and histogram, whatever is combined."""
    check(found, wanted)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """Return lines that columns hold exactly, and a search of a store with them."""
    lines = [one for one in make_lines() if rb"\ud" not in one]
    store = make_store(tmp_path_factory.mktemp("records"))
    store.open(JOURNAL)
    store.write([block(0, lines[:200])], never)
    store.write([block(200, lines[200:])], never)
    with contextlib.closing(open_search(store._settings)) as opened:
        yield Stored(lines, opened)


@pytest.mark.slow
@settings(bounded, max_examples=12)
@given(filters)
def test_pages_and_analyses_are_those_of_the_specification(plain, wanted):
    """Pages, facets, statistics, fields and patterns."""
    check_analysis(plain, wanted)
