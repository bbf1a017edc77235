"""A condition is applied to each kind of place in which records are, and to no line beside the columns."""

import contextlib

import pytest

from prefork_logd.config.stores.parquet import ParquetStoreSettings
from prefork_logd.query.filters import Filters
from prefork_logd.query.parse import make_filters
from prefork_logd.query.written import Written
from prefork_logd.stores.parquet import contents as contents_module
from prefork_logd.stores.parquet import engine, joining, schema, segments, word_filter
from prefork_logd.stores.parquet import index as indexes
from prefork_logd.stores.parquet.contents import Contents
from prefork_logd.stores.parquet.filters_sql import time_bounds
from prefork_logd.stores.parquet.merging import Merger
from prefork_logd.stores.parquet.needs import Every, Some
from prefork_logd.stores.parquet.search import ParquetSearch
from prefork_logd.stores.parquet.snapshot import Snapshot
from tests.support.parquet_store import JOURNAL, NOON, make_store
from tests.support.record_logs import write_log
from tests.support.stores import block, line, never


@pytest.fixture
def contents(tmp_path):
    """Return the contents of a store with a file of exact lines, one with another line, and two in the journal."""
    store = make_store(tmp_path / "records")
    store.open(JOURNAL)
    lines = [line(NOON + at, msg="\udcff" if at in (3, 5) else str(at), lineno=at) for at in range(6)]
    store.write([block(0, lines[:2])], never)
    store.write([block(2, lines[2:4])], never)
    journal = tmp_path / "journal"
    journal.mkdir()
    write_log(journal, JOURNAL, lines)
    settings = ParquetStoreSettings(path=str(tmp_path / "records"))
    with (
        contextlib.closing(Snapshot(settings, journal, never)) as snapshot,
        contextlib.closing(engine.connect(64 << 20, 1)) as connection,
    ):
        yield Contents(snapshot, connection), connection


@pytest.mark.parametrize(("lines", "wanted"), [("with", [1, 3, 5]), ("without", [1]), ("only", [3, 5])])
def test_lines_beside_columns_are_asked_for_apart(contents, lines, wanted):
    """The condition does not apply to them, for Python judges them."""
    found, connection = contents
    statement = found.select("lineno", "lineno = 1", time_bounds(Filters(until=NOON + 9), None, None), lines)
    assert sorted(row[0] for row in connection.execute(statement).fetchall()) == wanted
    statement = found.select("lineno", "true", time_bounds(Filters(until=NOON + 3), None, None), lines)
    assert all(row[0] < 3 for row in connection.execute(statement).fetchall())


def test_a_file_of_exact_lines_is_read_without_a_look_at_them(contents):
    """So DuckDB can leave out row groups by their statistics."""
    found, connection = contents
    statement = found.select("lineno", "lineno = 1")
    assert statement.partition(" UNION ALL ")[0].endswith("WHERE lineno = 1")
    assert statement.count("line IS NULL AND lineno = 1") == statement.count("line IS NOT NULL") == 2
    assert connection.execute(f"SELECT count(*) FROM ({statement})").fetchall() == [(3,)]


def test_the_ends_are_those_of_files_and_journal(contents):
    """By statistics, where there are some."""
    assert contents[0].ends() == (NOON, NOON + 5, 6)


@pytest.fixture
def worded(tmp_path, monkeypatch):
    """Return a function that opens the contents of a store with 40 records, a word of its own in each of four parts.

    The first three parts are merged, and the second of them has no filter. Each part has a record with its line beside
    its columns.
    """
    store = make_store(tmp_path)
    store.open(JOURNAL)
    for at in range(4):
        lines = [line(NOON + at, msg=f"part{at}", lineno=at, id="same") for _ in range(9)]
        lines.append(line(NOON + at, msg="\udcff", lineno=7))
        with monkeypatch.context() as patch:
            if at == 1:
                patch.setattr(word_filter, "MOST_WORDS", 1)
            store.write([block(at * 10, lines)], never)
    Merger(store._directory, 64 << 20).merge(segments.find_segments(tmp_path)[:3])
    with (
        contextlib.closing(Snapshot(store._settings, None, never)) as snapshot,
        contextlib.closing(engine.connect(64 << 20, 1)) as connection,
    ):
        yield lambda: (Contents(snapshot, connection), connection)


@pytest.mark.parametrize(
    ("needed", "parts"),
    [
        (b"part0", [0, 1]),
        (b"part1", [1]),
        (b"part2", [1, 2]),
        (b"part3", [1, 3]),
        (b"same", [0, 1, 2, 3]),
        (b"none", [1]),
        (Some((b"part0", b"part3")), [0, 1, 3]),
        (Every((b"part0", b"part3")), [1]),
        (Every((b"part2", b"same")), [1, 2]),
    ],
)
def test_filters_leave_out_parts_without_a_word(worded, needed, parts):
    """Those of a merged file, too; records without a filter are read."""
    contents, connection = worded()
    for _ in range(2):
        statement = contents.select("lineno", "true", needed=needed)
        found = connection.execute(f"SELECT lineno, count(*) FROM ({statement}) GROUP BY ALL ORDER BY ALL").fetchall()
        assert found == [*((at, 9) for at in parts), (7, 4)]


def test_of_many_ranges_whole_files_are_read(worded, monkeypatch):
    """Of a file without the words only the lines beside columns."""
    monkeypatch.setattr(contents_module, "MOST_RANGES", 0)
    contents, connection = worded()
    statement = contents.select("lineno", "true", needed=b"part2")
    assert connection.execute(f"SELECT count(*) FROM ({statement})").fetchall() == [(31,)]


@pytest.mark.parametrize("least_rows", [1, 30_000], ids=["large row groups", "small ones"])
def test_files_without_a_later_column_are_read_and_merged(tmp_path, monkeypatch, least_rows):
    """An earlier version has written them, with an index; new files beside them have the column."""
    monkeypatch.setattr(joining, "LEAST_ROWS", least_rows)
    store = make_store(tmp_path)
    store.open(JOURNAL)
    lines = [line(NOON + at, msg=f"word{at}") for at in range(6)]
    lines[4] = lines[4].replace(b',"peer":', b',"peer_name":"web-7","peer":')
    with monkeypatch.context() as earlier:
        earlier.setattr(schema, "COLUMNS", tuple(name for name in schema.COLUMNS if name != "peer_name"))
        earlier.setattr(indexes, "MAGIC", indexes.OLD_MAGIC)
        store.write([block(0, lines[:2])], never)
        store.write([block(2, lines[2:4])], never)
    settings = store._settings

    def check(count):
        with contextlib.closing(ParquetSearch(settings)) as search:
            assert [*search.lines(make_filters(Written("")))] == lines[:count]
            assert [*search.lines(make_filters(Written("word2")))] == [lines[2]]
            named = [*search.lines(make_filters(Written("peer_name:web-7")))]
            assert named == [one for one in lines[:count] if b"web-7" in one]
            assert search.span() == (NOON, NOON + count - 1)

    check(4)
    assert Merger(store._directory, 64 << 20).merge(segments.find_segments(tmp_path)) is not None
    check(4)
    store.write([block(4, lines[4:])], never)
    check(6)
    assert Merger(store._directory, 64 << 20).merge(segments.find_segments(tmp_path)) is not None
    check(6)
    (merged,) = segments.find_segments(tmp_path)
    assert joining.has_current_columns(merged.path)


def test_files_of_another_program_are_read_and_merged(tmp_path):
    """They have no index; the merged file has one."""
    store = make_store(tmp_path)
    store.open(JOURNAL)
    lines = [line(NOON + at, msg=f"word{at}" + (" \udcff" if at == 2 else "")) for at in range(4)]
    store.write([block(0, lines[:2])], never)
    store.write([block(2, lines[2:])], never)
    with contextlib.closing(engine.connect(64 << 20, 1)) as connection:
        for part in segments.find_segments(tmp_path):
            copy = part.path.with_suffix(".copy")
            source = f"read_parquet({engine.text(str(part.path))})"
            connection.execute(f"COPY (FROM {source}) TO {engine.text(str(copy))} (FORMAT parquet)")
            copy.rename(part.path)

    def check():
        with contextlib.closing(ParquetSearch(store._settings)) as search:
            assert [*search.lines(make_filters(Written("word3")))] == [lines[3]]
            assert [*search.lines(make_filters(Written("word2")))] == [lines[2]]
            assert search.span() == (NOON, NOON + 3)
            assert [tuple(bar) for bar in search.histogram(make_filters(Written("")), NOON, 60.0, 1)] == [(0, 20, 4)]

    check()
    assert Merger(store._directory, 64 << 20).merge(segments.find_segments(tmp_path)) is not None
    check()
