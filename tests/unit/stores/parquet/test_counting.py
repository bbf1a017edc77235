"""Minutes are counted without a look at the records, where the condition and the slots allow it."""

import contextlib
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefork_logd.query.filters import Filters
from prefork_logd.query.language import parse
from prefork_logd.query.tree import EVERYTHING, NOTHING, level_from
from prefork_logd.stores.parquet.counting import is_about_levels, whole_minutes
from prefork_logd.stores.parquet.filters_sql import Bounds
from prefork_logd.stores.parquet.search import open_search
from tests.support.parquet_store import JOURNAL, NOON, make_store
from tests.support.stores import block, line, never
from tests.support.strategies import bounded


@pytest.mark.parametrize(
    ("tree", "is_so"),
    [
        (EVERYTHING, True),
        (NOTHING, True),
        (level_from(30), True),
        (parse("-level>=ERROR (level=INFO OR level:*)", now=0.0), True),
        (parse("level>=ERROR disk", now=0.0), False),
        (parse("logger:shop", now=0.0), False),
        (parse("extra.levelno=30", now=0.0), False),
    ],
)
def test_conditions_about_levels(tree, is_so):
    """However they are put together."""
    assert is_about_levels(tree) == is_so


@pytest.mark.parametrize(
    ("low", "high", "start", "slot_s", "wanted"),
    [
        (0.0, 600.0, 0.0, 60.0, (0, 10)),
        (1.0, 599.0, 0.0, 60.0, (1, 9)),
        (1.0, 119.0, 0.0, 60.0, None),
        (0.0, 600.0, 1.0, 60.0, None),
        (0.0, 600.0, 0.0, 30.0, None),
        (0.0, 1e300, 0.0, 60.0, None),
        (None, 600.0, 0.0, 60.0, None),
    ],
)
def test_whole_minutes(low, high, start, slot_s, wanted):
    """Those at the ends are counted by their records."""
    assert whole_minutes(Bounds(low, high), start, slot_s) == wanted


TIMES = [NOON + at * 13.7 for at in range(120)]
LEVELS = [(10, 20, 20, 30, 40, None)[at % 6] for at in range(120)]


@pytest.fixture(scope="module")
def search(tmp_path_factory):
    """Return a search of two files, in which every tenth record has its line beside its columns."""
    store = make_store(tmp_path_factory.mktemp("records"))
    store.open(JOURNAL)
    lines = [
        line(created, levelno=level, msg="\udcff" if at % 10 == 9 else "x")
        for at, (created, level) in enumerate(zip(TIMES, LEVELS, strict=True))
    ]
    store.write([block(0, lines[:50])], never)
    store.write([block(50, lines[50:])], never)
    with contextlib.closing(open_search(store._settings)) as opened:
        yield opened


@bounded
@given(
    st.none() | st.integers(-50, 1700),
    st.none() | st.integers(-50, 1700),
    st.sampled_from([60.0, 300.0, 7.0]),
    st.sampled_from([EVERYTHING, level_from(30), parse("-level:*", now=0.0)]),
)
def test_bars_are_those_of_the_records(search, since, until, slot_s, tree):
    """Whatever the bounds cut off."""
    wanted = Filters(
        tree=tree,
        since=None if since is None else NOON + since,
        until=None if until is None else NOON + until,
    )
    bars = Counter()
    for created, level in zip(TIMES, LEVELS, strict=True):
        record = {"created": created} if level is None else {"created": created, "levelno": level}
        if wanted.matches(record) and (slot := int((created - NOON) // slot_s)) < 25:
            bars[slot, level or 0] += 1
    found = search.histogram(wanted, NOON, slot_s, 25)
    assert {(bar.slot, bar.levelno): bar.count for bar in found} == bars


def test_rows_are_read_only_at_the_ends(search, monkeypatch):
    """Of a range of whole minutes none but those beside their columns."""
    bounds = []
    select = search._contents.select
    monkeypatch.setattr(
        search._contents,
        "select",
        lambda *given: bounds.append((given[2].low, given[2].high, given[5])) or select(*given),
    )
    assert sum(bar.count for bar in search.histogram(Filters(), NOON, 60.0, 30)) == 120
    search.histogram(Filters(since=NOON + 90), NOON, 60.0, 30)
    assert bounds == [
        (NOON, NOON + 1800, set()),
        (None, None, None),
        (NOON + 90, NOON + 120, None),
        (NOON + 120, NOON + 1800, set()),
        (NOON + 90, None, None),
    ]
