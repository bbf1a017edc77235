"""Searching a SQLite store finds what the rules of `query` find, whichever index leads there."""

import json
import sqlite3
import time
import tracemalloc

import pytest
from hypothesis import given, settings

from prefork_logd.cli import print_records
from prefork_logd.errors import StoreError
from prefork_logd.query import tree
from prefork_logd.query.filters import Filters
from prefork_logd.query.where import parse_words
from prefork_logd.stores.sqlite.search import SqliteSearch
from prefork_logd.stores.sqlite.store import SqliteStore, day_files
from tests.support.searching import DAY, START, Stored, check, filters, make_lines
from tests.support.strategies import bounded
from tests.unit.stores.sqlite.test_store import JOURNAL, block, line, refuse


@pytest.fixture(scope="module", params=["indexed", "half", "waiting", "no full text"])
def found(request, tmp_path_factory):
    """Return (lines, a search of a store with them) for each state that the indexes may be in."""
    path = tmp_path_factory.mktemp("search") / "records.db"
    lines = make_lines()
    store = SqliteStore(path, full_text=request.param != "no full text")
    store.open(JOURNAL)
    store.write([block(0, lines[:250])], refuse)
    if request.param in {"indexed", "half"}:
        for day in store._days.values():
            day.index(1, everything=True)
    store.write([block(250, lines[250:])], refuse)
    if request.param in {"indexed", "no full text"}:
        for day in store._days.values():
            day.index(1, everything=True)
    search = SqliteSearch(path)
    yield Stored(lines, search)
    search.close()
    store.close()


def test_no_filter_finds_everything(found):
    """All records, as they were stored, in order."""
    check(found, Filters())


@pytest.mark.slow
@settings(bounded, max_examples=25)
@given(filters)
def test_every_filter_finds_what_the_matcher_finds(found, wanted):
    """Lines, their order, counts and histogram, whatever is combined."""
    check(found, wanted)


def test_span(found):
    """The first and the last time of all files."""
    search = found.search
    least, most = search.span()
    assert least <= START
    assert most == pytest.approx(START + 2 * DAY + 399, abs=10)


def test_a_store_without_files_says_so(tmp_path):
    """There is nothing to search yet."""
    with pytest.raises(StoreError, match="nothing stored yet"):
        SqliteSearch(tmp_path / "records.db")


def test_a_search_sees_one_state_while_records_come_in(tmp_path):
    """A reader keeps to what it saw first, and does not hold up the writer."""
    path = tmp_path / "records.db"
    store = SqliteStore(path)
    store.open(JOURNAL)
    store.write([block(0, [line(0)])], refuse)
    search = SqliteSearch(path)
    assert search.count(Filters()) == 1
    for number in range(1, 50):
        store.write([block(number, [line(number)])], refuse)
        assert (search.count(Filters()), len(list(search.lines(Filters())))) == (1, 1)
    again = SqliteSearch(path)
    assert again.count(Filters()) == 50
    for one in (again, search, store):
        one.close()


def test_a_file_that_is_no_database_is_a_store_error(tmp_path):
    """Garbage under a day's name is told with its path; an empty file, which a crash may leave, is nothing."""
    (tmp_path / "records-2026-11-22.db").touch()
    SqliteSearch(tmp_path / "records.db").close()
    (tmp_path / "records-2026-11-23.db").write_bytes(b"garbage" * 1000)
    with pytest.raises(StoreError, match=r"records-2026-11-23.db: file is not a database"):
        SqliteSearch(tmp_path / "records.db")
    store = SqliteStore(tmp_path / "records.db")
    with pytest.raises(StoreError, match="move the file away"):
        store.open(JOURNAL)


def test_ten_thousand_records_of_one_place_stream(tmp_path):
    """The first record comes at once, without the others being read."""
    path = tmp_path / "records.db"
    store = SqliteStore(path)
    store.open(JOURNAL)
    now = time.time()
    store.write([block(0, [line(number, now + number / 1000, name="shop") for number in range(10_000)])], refuse)
    store._days[day_files(path)[0][0]].index(1, everything=True)
    store.close()
    search = SqliteSearch(path)
    steps = []
    search._readers[0]._db.set_progress_handler(lambda: steps.append(1), 100)
    for wanted in (Filters(), Filters(tree=tree.logger("shop")), Filters(tree=parse_words("record"))):
        stream = search.lines(wanted)
        assert json.loads(next(stream))["message"] == "record 0"
        stream.close()
    assert len(steps) < 1000
    search.close()
    with sqlite3.connect(day_files(path)[0][1]) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    db.close()


@pytest.mark.slow
@pytest.mark.parametrize("form", print_records.FORMATS)
@pytest.mark.parametrize("order", ["oldest", "newest"])
def test_a_query_takes_the_memory_of_a_few_records(tmp_path, form, order):
    """However many match, by each way to them: those that follow are read when they are wanted."""
    path = tmp_path / "records.db"
    store = SqliteStore(path)
    store.open(JOURNAL)
    lines = [line(number, levelno=20 + number % 2 * 20, msg=f"disk {number} " + "x" * 500_000) for number in range(60)]
    store.write([block(0, lines)], refuse)
    store._days[day_files(path)[0][0]].index(1, everything=True)
    store.close()
    del lines
    search = SqliteSearch(path)
    for node, count in ((tree.EVERYTHING, 60), (tree.level_from(40), 30), (parse_words("disk"), 60)):
        tracemalloc.start()
        try:
            lines = search.lines(Filters(tree=node, order=order))
            printed = sum(1 for _ in print_records.format_lines(form, lines, 100, coloured=False))
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert printed == count + (form in ("csv", "table")) or (form, printed) == ("csv", count)
        assert peak < 8_000_000
    search.close()
