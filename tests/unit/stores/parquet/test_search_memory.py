"""A search takes a bounded memory, however large the records are, and however many match."""

import contextlib
import random
import tracemalloc

import pytest

from prefork_logd.cli import print_records
from prefork_logd.errors import QueryMemoryError
from prefork_logd.query.filters import Filters
from prefork_logd.query.language import parse, parse_field
from prefork_logd.query.statistics import parse as parse_statistics
from prefork_logd.query.tree import EVERYTHING, level_from
from prefork_logd.stores.parquet import search as parquet_search
from prefork_logd.stores.parquet.search import open_search
from tests.support.parquet_store import JOURNAL, NOON, make_store
from tests.support.stores import block, line, never

RECORD_BYTES = 250_000


def _filled(root, lines):
    """Return the settings of a store with ten of the lines in each segment."""
    store = make_store(root)
    store.open(JOURNAL)
    for first in range(0, len(lines), 10):
        store.write([block(first, lines[first : first + 10])], never)
    return store._settings


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """Return a store of 60 records that compress well."""
    lines = [line(NOON + at, levelno=20 + at % 2 * 20, msg=f"disk {at} " + "x" * RECORD_BYTES) for at in range(60)]
    store = make_store(tmp_path_factory.mktemp("records"))
    store.open(JOURNAL)
    store.write([block(0, lines)], never)
    return store._settings


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Return a store of 240 records of 200 KB, and their lines."""
    chance = random.Random(1)
    lines = [line(NOON + at, msg=f"disk {at} " + chance.randbytes(100_000).hex()) for at in range(240)]
    return _filled(tmp_path_factory.mktemp("records"), lines), lines


@pytest.mark.slow
@pytest.mark.parametrize("form", print_records.FORMATS)
@pytest.mark.parametrize("order", ["oldest", "newest"])
def test_a_query_takes_the_memory_of_a_few_records(few, form, order):
    """However many match, by each way to them: those that follow are read when they are wanted."""
    ways = (
        (EVERYTHING, None, 60),
        (level_from(40), None, 30),
        (parse("disk", now=0.0), None, 60),
        (EVERYTHING, 50, 50),
    )
    with contextlib.closing(open_search(few)) as search:
        for tree, limit, count in ways:
            tracemalloc.start()
            try:
                found = search.lines(Filters(tree=tree, order=order, limit=limit))
                printed = sum(1 for _ in print_records.format_lines(form, found, 100, coloured=False))
                peak = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
            assert printed == count + (form in ("csv", "table")) or (form, printed) == ("csv", count)
            assert peak < 26 * RECORD_BYTES


@pytest.fixture
def _little_memory(monkeypatch):
    """Give DuckDB little memory, and no place for temporary files."""
    monkeypatch.setattr(parquet_search, "MEMORY_BYTES", 32 << 20)
    monkeypatch.setattr(parquet_search.engine, "spill_directory", lambda: None)


@pytest.mark.slow
@pytest.mark.usefixtures("_little_memory")
@pytest.mark.parametrize("order", ["oldest", "newest"])
def test_records_that_are_too_large_for_the_memory_are_read_in_parts(many, order):
    """Parts of time, or single records of a page."""
    settings, lines = many
    wanted = lines if order == "oldest" else lines[::-1]
    with contextlib.closing(open_search(settings)) as search:
        assert [*search.lines(Filters(order=order))] == wanted
        assert [*search.lines(Filters(order=order, tree=parse("disk", now=0.0)))] == wanted
        assert [one.line for one in search.page(Filters(order=order, limit=200)).records] == wanted[:200]


@pytest.mark.slow
@pytest.mark.usefixtures("_little_memory")
def test_records_of_one_time_that_are_too_large_are_an_error(tmp_path):
    """They cannot be divided by time."""
    chance = random.Random(1)
    same = _filled(tmp_path, [line(NOON, msg=chance.randbytes(100_000).hex()) for _ in range(240)])
    with contextlib.closing(open_search(same)) as search, pytest.raises(QueryMemoryError, match="Out of Memory"):
        [*search.lines(Filters())]


@pytest.mark.slow
@pytest.mark.usefixtures("_little_memory")
def test_values_that_are_too_large_for_the_memory_are_counted(tmp_path):
    """By facets and statistics, of a column and of a field in `extra`; the answer has their beginnings."""
    texts = ["x" * 250_000 + f"{at % 30:02}" for at in range(120)]
    settings = _filled(tmp_path, [line(NOON + at, name=text, extra={"blob": text}) for at, text in enumerate(texts)])
    shown = "x" * 1_000 + "…"
    with contextlib.closing(open_search(settings)) as search:
        for name in ("name", "blob"):
            (facet,) = search.facets(Filters(), [parse_field(name)], 3).facets
            assert [tuple(value) for value in facet.values] == [(shown, 4)] * 3
            assert (facet.others, facet.missing) == (108, 0)
            table = search.stats(Filters(), parse_statistics(f"count, distinct({name}) by {name}"))
            assert table.rows == [[shown, 4, 1]] * 30
            assert table.coverage == (120, True)
