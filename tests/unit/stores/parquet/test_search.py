"""A search of the Parquet store finds what the rules of `query` find, in segments and in the journal alike."""

import contextlib
import json
import os
import threading
import time
from collections import Counter

import pytest

from prefork_logd.config.stores.parquet import ParquetStoreSettings
from prefork_logd.errors import QueryCancelledError, QueryTimeoutError, StoreError
from prefork_logd.query.filters import Filters
from prefork_logd.query.language import parse, parse_field
from prefork_logd.query.patterns import pattern_of
from prefork_logd.query.search import Limits, RecordId
from prefork_logd.query.statistics import parse as parse_statistics
from prefork_logd.query.tree import EVERYTHING, Compare, level_from
from prefork_logd.stores.parquet import analysis as parquet_analysis
from prefork_logd.stores.parquet import engine, segments, slices, snapshot
from prefork_logd.stores.parquet import search as parquet_search
from prefork_logd.stores.parquet.search import open_search
from tests.support import procfs
from tests.support.parquet_store import JOURNAL, NOON, make_store, numbered, written
from tests.support.record_logs import write_log
from tests.support.searching import DAY, START, check
from tests.support.stores import block, line, never


def test_no_filter_finds_everything(found):
    """All records, as they were stored, in order."""
    check(found, Filters())


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


def test_patterns_have_records_with_a_line_beside_their_columns(found):
    """Those that match, in the place that their time gives them."""
    records = [json.loads(one) for one in found.lines]
    for tree in (EVERYTHING, level_from(30), Compare(("message",), "~", "\udcff")):
        wanted = Filters(tree=tree)
        counts = Counter(pattern_of(record.get("message", "")) for record in records if wanted.matches(record))
        answer = found.search.patterns(wanted, 1_000)
        assert {one.text: one.count for one in answer.patterns} == counts
        assert answer.coverage == (counts.total(), True)
    found.search.limits = Limits(most_records=7)
    try:
        newest = sorted((record["created"] for record in records), reverse=True)[:7]
        answer = found.search.patterns(Filters(), 1_000)
        assert answer.coverage == (7, False)
        assert min(one.first for one in answer.patterns) == newest[-1]
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


def test_a_search_over_large_texts_is_cancelled_between_blocks(tmp_path):
    """Sixteen expressions over texts of a megabyte, the slowest query that there may be, end before their time."""
    store = make_store(tmp_path)
    store.open(JOURNAL)
    for number in range(12):
        text = "".join(f"{number * at * 7919 % 999_983:x} " for at in range(170_000))
        store.write([block(number, [line(NOON + number, msg=text)])], never)
    store.close()
    slow = parse(" OR ".join(f'message=~"(a|b|c)+[d-f]*{number}(g|h)[0-9]+z{{4}}"' for number in range(16)), now=NOON)
    with contextlib.closing(open_search(store._settings)) as search:
        began = time.monotonic()
        assert search.count(Filters(tree=slow)) == 0
        assert search.count(Filters()) == 12
        whole_s = time.monotonic() - began
        timer = threading.Timer(whole_s / 10, search.cancel)
        began = time.monotonic()
        timer.start()
        with pytest.raises(QueryCancelledError):
            search.count(Filters(tree=slow))
        assert time.monotonic() - began < whole_s * 0.7
        timer.join()


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

    with contextlib.closing(open_search(store._settings)) as search:
        search.count(Filters())
    before = procfs.descriptors(os.getpid())
    for _ in range(3):
        with contextlib.closing(open_search(store._settings)) as search:
            search.count(Filters())
    assert procfs.descriptors(os.getpid()) == before


def test_few_records_that_may_match_are_read_once(tmp_path, monkeypatch):
    """If no more than a slice may have the word, the matching ones are not counted before."""
    store = make_store(tmp_path)
    store.open(JOURNAL)
    lines = [line(NOON + at, msg=f"order {at}", lineno=at) for at in range(200)]
    store.write([block(0, lines)], never)
    with contextlib.closing(open_search(store._settings)) as search:
        asked = []
        fetch = search._fetch

        def note(select, *rest, **named):
            asked.append(select)
            return fetch(select, *rest, **named)

        monkeypatch.setattr(search, "_fetch", note)
        wanted = Filters(tree=parse('"order 7" OR lineno=9', now=0.0))
        assert [*search.lines(wanted)] == [lines[7], lines[9]]
        assert [one[:5] for one in asked] == ['"crea']
        asked.clear()
        monkeypatch.setattr(parquet_search, "SLICE", 199)
        assert [*search.lines(wanted)] == [lines[7], lines[9]]
        assert [one[:5] for one in asked] == ["count", '"crea']
