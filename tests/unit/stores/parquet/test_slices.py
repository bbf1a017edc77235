"""Ranges of time follow each other in order, and leave out no record."""

import itertools
import math

import pytest

from prefork_logd.query.filters import Filters
from prefork_logd.stores.parquet import slices
from prefork_logd.stores.parquet.slices import Ends, halved, reaches


@pytest.mark.parametrize("order", ["newest", "oldest"])
@pytest.mark.parametrize(
    "bounds", [{}, {"since": 30.0, "until": 70.0}, {"since": -5.0}, {"until": 1e9}, {"since": 99.0}]
)
def test_reaches_grow_and_cover_all_time(monkeypatch, order, bounds):
    """The first one begins at the end of time where the order begins, and each is longer than the one before."""
    monkeypatch.setattr(slices, "FIRST_REACH", 10)
    found = [*reaches(Ends(0.0, 100.0, 1000), Filters(order=order, **bounds))]
    sign = -1 if order == "newest" else 1
    inner = [edge for pair in found for edge in pair[::sign]]
    assert inner[0] is None
    assert inner[-1] is None
    edges = inner[1:-1:2]
    assert edges == inner[2:-1:2]
    widths = [sign * (after - before) for before, after in itertools.pairwise(edges)]
    assert all(width > 0 for width in widths)
    assert widths == sorted(widths)
    if edges and order == "newest":
        assert edges[0] == pytest.approx(min(bounds.get("until", 100.0), 100.0) - 1.0)


def test_reaches_begin_where_the_page_before_ended(monkeypatch):
    """In either direction."""
    monkeypatch.setattr(slices, "FIRST_REACH", 10)
    assert next(reaches(Ends(0.0, 100.0, 1000), Filters(order="newest"), 50.0)) == (49.0, None)
    assert next(reaches(Ends(0.0, 100.0, 1000), Filters(), 50.0)) == (None, 51.0)


def test_records_of_one_time_are_one_range():
    """There is nothing to divide."""
    assert [*reaches(Ends(5.0, 5.0, 10**9), Filters())] == [(None, None)]


@pytest.mark.parametrize("order", ["newest", "oldest"])
def test_slices_have_a_bounded_number_of_records(monkeypatch, order):
    """But for a slot that has more by itself."""
    monkeypatch.setattr(slices, "FIRST_SLICE", 4)
    monkeypatch.setattr(slices, "SLICE", 10)
    counts = [(0, 3), (1, 3), (2, 20), (5, 4), (6, 4), (7, 1)]
    found = [*slices.slices(100.0, 2.0, counts, order)]
    assert found[0][0 if order == "oldest" else 1] is None
    assert found[-1][1 if order == "oldest" else 0] is None
    sizes = [
        sum(count for slot, count in counts if (low or 0) <= 100 + 2 * slot < (high or 1e9)) for low, high in found
    ]
    assert sum(sizes) == 35
    assert sizes == ([1, 8, 20, 6] if order == "newest" else [3, 3, 20, 9])


@pytest.mark.parametrize("whole", [(None, None), (2.0, 9.0)])
def test_a_range_is_halved_between_its_records(whole):
    """In the order of the query; one moment cannot be halved."""
    low, high = whole
    assert halved(whole, 4.0, 8.0, "oldest") == ((low, 6.0), (6.0, high))
    assert halved(whole, 4.0, 8.0, "newest") == ((6.0, high), (low, 6.0))
    assert halved(whole, 4.0, math.nextafter(4.0, 5.0), "oldest") == ()
    assert halved(whole, 4.0, 4.0, "oldest") == ()
