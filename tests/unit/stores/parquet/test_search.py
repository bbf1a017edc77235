"""A search of the Parquet store finds what the rules of `query` find, in segments and in the journal alike."""

import contextlib
import json
import random
import threading
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings

from prefork_logd.cli import print_records
from prefork_logd.config.stores.parquet import ParquetStoreSettings
from prefork_logd.errors import QueryCancelledError, QueryMemoryError, QueryTimeoutError, StoreError
from prefork_logd.query.filters import Filters
from prefork_logd.query.language import parse, parse_field
from prefork_logd.query.search import Limits, RecordId
from prefork_logd.query.statistics import parse as parse_statistics
from prefork_logd.query.tree import EVERYTHING, Compare, level_from
from prefork_logd.stores.parquet import analysis as parquet_analysis
from prefork_logd.stores.parquet import engine, segments, slices, snapshot
from prefork_logd.stores.parquet import search as parquet_search
from prefork_logd.stores.parquet.merging import Merger
from prefork_logd.stores.parquet.search import open_search
from tests.support.record_logs import write_log
from tests.support.searching import DAY, START, Stored, check, check_analysis, filters, make_lines
from tests.support.stores import block, line, never
from tests.support.strategies import bounded
from tests.unit.stores.parquet.test_store import JOURNAL, NOON, make_store, numbered, written


@pytest.fixture(scope="module", params=["segments", "merged, and the journal"])
def found(request, tmp_path_factory):
    """Return lines, and a search of a store with them, for each place in which they may be."""
    root = tmp_path_factory.mktemp("records")
    lines = make_lines()
    store = make_store(root)
    store.open(JOURNAL)
    journal = None
    if request.param == "segments":
        for first in range(0, 400, 100):
            store.write([block(first, lines[first : first + 100])], never)
    else:
        store.write([block(0, lines[:50])], never)
        store.write([block(50, lines[50:120])], never)
        Merger(store._directory, 64 << 20).merge(segments.find_segments(root))
        store.write([block(120, lines[120:250])], never)
        journal = tmp_path_factory.mktemp("journal")
        write_log(journal, JOURNAL, lines)
    with contextlib.closing(open_search(store._settings, journal)) as opened:
        yield Stored(lines, opened)


def test_no_filter_finds_everything(found):
    """All records, as they were stored, in order."""
    check(found, Filters())


@pytest.mark.slow
@settings(bounded, max_examples=60)
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


def test_analyses_count_records_with_a_line_beside_their_columns(found):
    """Those that match, and no others; a bound takes the newest, and says so."""
    records = [json.loads(one) for one in found.lines]
    for tree in (level_from(30), Compare(("message",), "~", "\udcff")):
        wanted = Filters(tree=tree)
        count = sum(map(wanted.matches, records))
        assert found.search.facets(wanted, (parse_field("level"),), 3).coverage == (count, True)
        assert found.search.stats(wanted, parse_statistics("count")).rows == [[count]]
    found.search.limits = Limits(most_records=7)
    try:
        assert found.search.facets(Filters(), (parse_field("level"),), 3).coverage == (7, False)
    finally:
        found.search.limits = Limits()


def test_a_large_bound_takes_about_the_newest(found, monkeypatch):
    """Records are not sorted then; the coverage is that of the records that were counted."""
    monkeypatch.setattr(parquet_analysis, "MOST_SORTED", 0)
    times = sorted((json.loads(one)["created"] for one in found.lines), reverse=True)
    found.search.limits = Limits(most_records=200)
    try:
        facets = found.search.facets(Filters(), (parse_field("created"),), 1_000)
        assert facets.coverage.records == pytest.approx(200, abs=20)
        assert not facets.coverage.is_complete
        seen = [value for value, count in facets.facets[0].values for _ in range(count)]
        assert sorted(seen, reverse=True) == times[: len(seen)]
        assert found.search.stats(Filters(), parse_statistics("count")).rows == [[facets.coverage.records]]
    finally:
        found.search.limits = Limits()


def test_a_record_is_found_by_its_id(found):
    """Each record of a page; an unknown number or journal is None."""
    for one in found.search.page(Filters(limit=500)).records[::37]:
        assert found.search.get(one.id) == one
    assert found.search.get(RecordId(JOURNAL, 400)) is None
    assert found.search.get(RecordId("ff" * 16, 0)) is None


def test_a_call_ends_at_its_deadline(tmp_path):
    """With a sentence for the user; the next call has a deadline of its own."""
    store, lines = written(tmp_path, [3])
    with contextlib.closing(open_search(store._settings)) as search:
        search.limits = Limits(deadline_s=0.0)
        with pytest.raises(QueryTimeoutError, match="took longer than 0 s"):
            search.count(Filters())
        search.limits = Limits()
        assert [*search.lines(Filters())] == lines


def test_a_call_is_cancelled_by_another_thread(tmp_path):
    """While DuckDB works, for as long as a query like this would take."""
    store, _ = written(tmp_path, [3])
    with contextlib.closing(open_search(store._settings)) as search:
        is_over = threading.Event()

        def cancel():
            while not is_over.wait(0.02):
                search.cancel()

        thread = threading.Thread(target=cancel)
        search._calls.begin(60.0)
        with pytest.raises(QueryCancelledError), search._calls.running(), engine.failing_as_store_error():  # noqa: PT012 - one call in two threads
            thread.start()
            search._connection.execute("SELECT sum(hash(range)) FROM range(1000000000000)").fetchall()
        is_over.set()
        thread.join()
        assert search.count(Filters()) == 3


def test_span_and_levels(found):
    """Those of all records."""
    assert found.search.span()[0] <= START
    assert found.search.span()[1] == pytest.approx(START + 2 * DAY + 399, abs=10)
    wanted = {(record.get("levelname"), record.get("levelno")) for record in map(json.loads, found.lines)}
    assert set(found.search.levels()) == {name.upper() for name, number in wanted if name and number is not None}


def test_lines_come_in_slices_of_time(tmp_path, monkeypatch):
    """In either order, each record once, with the times of a whole slice in one record or in many."""
    monkeypatch.setattr(slices, "FIRST_SLICE", 3)
    monkeypatch.setattr(slices, "SLICE", 10)
    store = make_store(tmp_path)
    store.open(JOURNAL)
    lines = [line(NOON + (at // 20) * 7.5, msg=str(at)) for at in range(200)]
    store.write([block(0, lines)], never)
    with contextlib.closing(open_search(store._settings)) as search:
        assert [*search.lines(Filters())] == lines
        assert [*search.lines(Filters(order="newest"))] == lines[::-1]
        part = Filters(since=NOON + 15, until=NOON + 45)
        assert [*search.lines(part)] == lines[40:120]
        monkeypatch.setattr(parquet_search, "_LIMITED", 5)
        assert [*search.lines(Filters(limit=30))] == lines[:30]


def test_a_limit_counts_only_what_python_accepts(tmp_path):
    """Records with a line beside their columns are judged one by one, behind the limit of a query."""
    store = make_store(tmp_path)
    store.open(JOURNAL)
    lines = [line(NOON + at, msg="\udcff", levelno=10 if at % 3 else 40) for at in range(30)]
    store.write([block(0, lines)], never)
    with contextlib.closing(open_search(store._settings)) as search:
        wanted = Filters(tree=level_from(30), limit=7)
        assert [*search.lines(wanted)] == lines[::3][:7]
        assert search.count(wanted) == 10


def test_an_empty_store(tmp_path):
    """One that was made has no records; one that was never made says so."""
    with pytest.raises(StoreError, match="nothing stored yet"):
        open_search(ParquetStoreSettings(path=str(tmp_path / "records")))
    store = make_store(tmp_path)
    store.open(JOURNAL)
    with contextlib.closing(open_search(store._settings)) as search:
        assert [*search.lines(Filters())] == []
        assert search.count(Filters()) == 0
        assert search.span() is None
        assert search.histogram(Filters(), 0.0, 1.0, 5) == []
        assert search.levels() == {}


def test_the_journal_alone_is_searched(tmp_path):
    """Before the first segment is written, every committed record is found."""
    journal = tmp_path / "journal"
    journal.mkdir()
    write_log(journal, JOURNAL, numbered(0, 5))
    with contextlib.closing(open_search(ParquetStoreSettings(path=str(tmp_path / "records")), journal)) as search:
        assert [*search.lines(Filters())] == numbered(0, 5)
        assert search.problems == []


def test_a_filtered_store_filters_the_journal(tmp_path):
    """What it does not get is not found while it is in the journal either."""
    journal = tmp_path / "journal"
    journal.mkdir()
    lines = [line(NOON + at, levelno=10 * at) for at in range(1, 6)]
    write_log(journal, JOURNAL, lines)
    chosen = ParquetStoreSettings(path=str(tmp_path / "records"), level="ERROR")
    with contextlib.closing(open_search(chosen, journal)) as search:
        assert [*search.lines(Filters())] == lines[3:]


def test_a_long_journal_goes_through_a_file(tmp_path, monkeypatch):
    """So the memory of a query does not depend on a store that is far behind."""
    monkeypatch.setattr(snapshot, "MEMORY_BYTES", 1000)
    monkeypatch.setattr(snapshot, "_PIECE_RECORDS", 10)
    journal = tmp_path / "journal"
    journal.mkdir()
    write_log(journal, JOURNAL, numbered(0, 100))
    with contextlib.closing(open_search(ParquetStoreSettings(path=str(tmp_path / "records")), journal)) as search:
        assert [*search.lines(Filters())] == numbered(0, 100)


def test_a_damaged_file_costs_its_own_records(tmp_path):
    """It is named with the range that is missing; the rest is found."""
    store, lines = written(tmp_path, [3, 4, 2])
    bad = segments.find_segments(tmp_path)[1]
    for octets in (b"PAR1" + bytes(100) + b"PAR1", b"", bad.path.read_bytes()[:-40]):
        bad.path.write_bytes(octets)
        with contextlib.closing(open_search(store._settings)) as search:
            assert [*search.lines(Filters())] == lines[:3] + lines[7:]
            assert search.count(Filters()) == 5
            (problem,) = search.problems
            assert str(bad.path) in problem
            assert "records 3 to 6 of that file are missing" in problem


def test_a_files_disappearance_disturbs_no_query(tmp_path):
    """It was opened when the search began."""
    store, lines = written(tmp_path, [3, 4])
    with contextlib.closing(open_search(store._settings)) as search:
        for one in segments.find_segments(tmp_path):
            one.path.unlink()
        assert [*search.lines(Filters())] == lines
        assert search.problems == []


def test_a_line_that_another_program_wrote_is_found(tmp_path):
    """With white space in JSON, other escapes, and keys in another order."""
    lines = [
        b'{"created":1.5,"time":"1970-01-01T00:00:01.500000Z","extra":{"a" : 1, "b": "\\u00e9"}}\n',
        b'{"extra":{"a":1,"b":"\xc3\xa9"},"created":2.50}\n',
    ]
    store = make_store(tmp_path)
    store.open(JOURNAL)
    store.write([block(0, lines)], never)
    with contextlib.closing(open_search(store._settings)) as search:
        for wanted in (Compare(("extra", "a"), "=", "1"), Compare(("extra", "b"), "=", "é")):
            assert [*search.lines(Filters(tree=wanted))] == lines


@pytest.mark.slow
@pytest.mark.parametrize("form", print_records.FORMATS)
@pytest.mark.parametrize("order", ["oldest", "newest"])
def test_a_query_takes_the_memory_of_a_few_records(tmp_path, form, order):
    """However many match, by each way to them: those that follow are read when they are wanted."""
    store = make_store(tmp_path)
    store.open(JOURNAL)
    some = [line(NOON + at, levelno=20 + at % 2 * 20, msg=f"disk {at} " + "x" * 500_000) for at in range(60)]
    store.write([block(0, some)], never)
    del some
    ways = (
        (EVERYTHING, None, 60),
        (level_from(40), None, 30),
        (parse("disk", now=0.0), None, 60),
        (EVERYTHING, 50, 50),
    )
    with contextlib.closing(open_search(store._settings)) as search:
        for tree, limit, count in ways:
            tracemalloc.start()
            try:
                found = search.lines(Filters(tree=tree, order=order, limit=limit))
                printed = sum(1 for _ in print_records.format_lines(form, found, 100, coloured=False))
                peak = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
            assert printed == count + (form in ("csv", "table")) or (form, printed) == ("csv", count)
            assert peak < 12_000_000


@pytest.mark.slow
@pytest.mark.parametrize("order", ["oldest", "newest"])
def test_records_that_are_too_large_for_the_memory_are_read_in_parts(tmp_path, monkeypatch, order):
    """Parts of time, or single records of a page; records of one time that are too many for it are an error."""
    chance = random.Random(1)
    lines = [line(NOON + at, msg=f"disk {at} " + chance.randbytes(100_000).hex()) for at in range(240)]
    store = make_store(tmp_path / "a")
    store.open(JOURNAL)
    for first in range(0, 240, 10):
        store.write([block(first, lines[first : first + 10])], never)
    monkeypatch.setattr(parquet_search, "MEMORY_BYTES", 32 << 20)
    monkeypatch.setattr(parquet_search.engine, "spill_directory", lambda: None)
    wanted = lines if order == "oldest" else lines[::-1]
    with contextlib.closing(open_search(store._settings)) as search:
        assert [*search.lines(Filters(order=order))] == wanted
        assert [*search.lines(Filters(order=order, tree=parse("disk", now=0.0)))] == wanted
        assert [one.line for one in search.page(Filters(order=order, limit=200)).records] == wanted[:200]
    store = make_store(tmp_path / "b")
    store.open(JOURNAL)
    same = [line(NOON, msg=chance.randbytes(100_000).hex()) for _ in range(240)]
    for first in range(0, 240, 10):
        store.write([block(first, same[first : first + 10])], never)
    with (
        contextlib.closing(open_search(store._settings)) as search,
        pytest.raises(QueryMemoryError, match="Out of Memory"),
    ):
        [*search.lines(Filters(order=order))]


def test_a_search_sees_one_state_while_records_come_in(tmp_path):
    """A reader keeps to what it saw first; the next one sees more."""
    store, lines = written(tmp_path, [3])
    with contextlib.closing(open_search(store._settings)) as search:
        for at in range(3, 8):
            store.write([block(at, numbered(at, 1))], never)
            assert (search.count(Filters()), [*search.lines(Filters())]) == (3, lines)
    with contextlib.closing(open_search(store._settings)) as again:
        assert again.count(Filters()) == 8


def test_a_users_text_is_no_sql(tmp_path):
    """Whatever is in a query."""
    store, _ = written(tmp_path, [3])
    with contextlib.closing(open_search(store._settings)) as search:
        for text in ("' OR true --", "$q0", "'; DROP TABLE x; --", '"', "\\", "\0"):
            for path in (("message",), ("extra", text), ("extra", "n")):
                assert search.count(Filters(tree=Compare(path, "=", text))) == 0


def test_no_descriptor_stays_open(tmp_path):
    """After a search, a failed one included."""
    store, _ = written(tmp_path, [1, 1])

    def opened():
        return len([*Path("/proc/self/fd").iterdir()])

    with contextlib.closing(open_search(store._settings)) as search:
        search.count(Filters())
    before = opened()
    for _ in range(3):
        with contextlib.closing(open_search(store._settings)) as search:
            search.count(Filters())
    assert opened() == before
