"""Searching a SQLite store finds what the rules of `query` find, whichever index leads there."""

import json
import sqlite3
import time
import tracemalloc
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefork_logd.cli import print_records
from prefork_logd.errors import StoreError
from prefork_logd.query import fulltext, where
from prefork_logd.query.filters import Filters
from prefork_logd.stores.sqlite.search import SqliteSearch
from prefork_logd.stores.sqlite.store import SqliteStore, day_files
from tests.support.strategies import bounded
from tests.unit.stores.sqlite.test_store import DAY, JOURNAL, NOON, block, line, refuse

MESSAGES = [
    "order A-2207 accepted", "Order refused: Grüße", "GRÜẞE aus İstanbul", "disk full", "", "a\0b", "x \udcff y",
    "order_a accepted/refused", "\u017ftock low", "日本 order", "the disk is full of orders",
]  # fmt: skip
NAMES = ["shop", "shop.cart", "shopping", "shop.cart.item", "", "root\udc80"]
LEVELS = [10, 20, 30, 40, 50, None, -5, 25]
EXTRAS = [{}, {"id": 1}, {"id": "1"}, {"id": 1.0}, {"id": True}, {"o": {"p": "q"}}, {"id": None, "\udcff": 10**40}]


def make_lines(count=400):
    """Return the lines of a mixed lot over three days, some with the same time."""
    lines = []
    for number in range(count):
        received = NOON + (number * 3 // count) * DAY + number
        created = received - number % 7 * 1000.5 if number % 5 else NOON
        level = LEVELS[number % len(LEVELS)]
        values = {
            "name": NAMES[number % len(NAMES)], "levelno": level, "lineno": number % 9, "created": created,
            "msg": MESSAGES[number % len(MESSAGES)], **EXTRAS[number % len(EXTRAS)],
        }  # fmt: skip
        if number % 13 == 0:
            values["exc_text"] = "Traceback:\nOSError: disk order"
        lines.append(line(number, received, **values))
    return lines


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
    yield lines, search
    search.close()
    store.close()


def check(found, filters):
    """Check every answer of a search against the matcher."""
    lines, search = found
    records = [(json.loads(one), one) for one in lines]
    want = sorted(one for record, one in records if filters.matches(record))
    for order in ("oldest", "newest"):
        got = list(search.lines(replace(filters, order=order)))
        assert sorted(got) == want
        times = [round(json.loads(one)["created"], 3) for one in got]
        assert times == sorted(times, reverse=order == "newest")
        assert list(search.lines(replace(filters, order=order, limit=3))) == got[:3]
    assert search.count(filters) == len(want)
    start, slot_s, slots = NOON - DAY, DAY / 4, 20
    bars = {}
    for record, _ in records:
        if filters.matches(record):
            key = (int((record["created"] - start) / slot_s), record.get("levelno", 0))
            bars[key] = bars.get(key, 0) + 1
    inside = {key: count for key, count in bars.items() if 0 <= key[0] < slots}
    assert {(slot, level): count for slot, level, count in search.histogram(filters, start, slot_s, slots)} == inside


times = st.none() | st.sampled_from(
    [0.0, NOON - 2000, NOON, NOON + 1, NOON + 0.0000005, NOON + DAY, NOON + 3 * DAY, 1e10]
)
greps = st.sampled_from(
    ["order", "ORDER accepted", '"order accepted"', "grüße", "ord*", "disk full", '"disk full"', "İstanbul", "stock",
     "a-2207", "日本", "b", "oserror", "nothing", "order disk", '"full of ord*"']
)  # fmt: skip
conditions = st.sampled_from(
    ["extra.id=1", "extra.id!=1", "extra.o.p=q", "extra.id>0", "lineno>=5", "message~order", "extra.id=true",
     "peer~192",      "received>0",
     "time~2026-11-23", "extra.absent=1", "name=shop", 'extra."\udcff">5', "exc_text!=null"]
)  # fmt: skip
filters = st.builds(
    Filters,
    since=times, until=times,
    level=st.none() | st.sampled_from([0, 5, 20, 21, 50, 99]),
    loggers=st.sampled_from([(), ("shop",), ("shop.cart", "root\udc80"), ("nobody",)]),
    grep=st.just(()) | st.just(()) | greps.map(fulltext.parse),
    where=st.just(()) | st.just(()) | st.lists(conditions.map(where.parse), max_size=2).map(tuple),
)  # fmt: skip


def test_no_filter_finds_everything(found):
    """All records, as they were stored, in order."""
    check(found, Filters())


@pytest.mark.slow
@settings(bounded, max_examples=80)
@given(filters)
def test_every_filter_finds_what_the_matcher_finds(found, wanted):
    """Lines, their order, counts and histogram, whatever is combined."""
    check(found, wanted)


def test_span(found):
    """The first and the last time of all files."""
    _, search = found
    least, most = search.span()
    assert least <= NOON
    assert most == pytest.approx(NOON + 2 * DAY + 399, abs=10)


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
    for wanted in (Filters(), Filters(loggers=("shop",)), Filters(grep=fulltext.parse("record"))):
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
    for wanted, count in ((Filters(), 60), (Filters(level=40), 30), (Filters(grep=fulltext.parse("disk")), 60)):
        tracemalloc.start()
        try:
            lines = search.lines(replace(wanted, order=order))
            printed = sum(1 for _ in print_records.format_lines(form, lines, 100, coloured=False))
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert printed == count + (form in ("csv", "table")) or (form, printed) == ("csv", count)
        assert peak < 8_000_000
    search.close()
