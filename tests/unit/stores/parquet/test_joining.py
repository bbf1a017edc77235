"""Files whose row groups are copied into one file have the same records as before, for every reader of Parquet."""

import contextlib
import os

import pytest

from prefork_logd.errors import StoreError
from prefork_logd.query.parse import make_filters
from prefork_logd.query.written import Written
from prefork_logd.stores.parquet import engine, joining, merging, segments
from prefork_logd.stores.parquet.index import add_index, read_index
from prefork_logd.stores.parquet.merging import Merger
from prefork_logd.stores.parquet.search import open_search
from tests.support.parquet_store import NOON, lines_of, written


@pytest.fixture(autouse=True)
def _small_groups(monkeypatch):
    """Take every row group for a large one, and make them small."""
    monkeypatch.setattr(joining, "LEAST_ROWS", 1)


@pytest.fixture
def rewritten(monkeypatch):
    """Return a list that gets the parts of each file that DuckDB writes again."""
    calls = []
    records_of = merging._records_of
    monkeypatch.setattr(merging, "_records_of", lambda paths: calls.append([*paths]) or records_of(paths))
    return calls


def merge(store):
    """Merge all segments of a store; return the new one."""
    return Merger(store._directory, 64 << 20).merge(segments.find_segments(store._root))


def columns_of(paths):
    """Return all columns of all rows of files, and where each column of each row group is smallest and largest."""
    with contextlib.closing(engine.connect(64 << 20, 1)) as connection:
        listed = engine.text_list(paths)
        rows = connection.execute(f"SELECT * FROM read_parquet({listed}) ORDER BY number").fetchall()
        statistics = connection.execute(
            "SELECT path_in_schema, num_values, stats_min_value, stats_max_value, stats_null_count, encodings, "
            f"total_compressed_size FROM parquet_metadata({listed})"
        ).fetchall()
    return rows, statistics


def index_of(path):
    """Return head and counts of the index of a file."""
    fd = os.open(path, os.O_RDONLY)
    try:
        found = read_index(fd)
        return found.head, found.counts
    finally:
        os.close(fd)


def test_joined_files_have_the_same_rows_and_statistics(tmp_path, rewritten):
    """To the row group; twice, so that a joined file is joined again."""
    store, lines = written(tmp_path, [300, 20, 1, 70])
    parts = segments.find_segments(tmp_path)
    before = columns_of(part.path for part in parts)
    first = Merger(store._directory, 64 << 20).merge(parts[:2])
    assert columns_of([first.path, *(part.path for part in parts[2:])]) == before
    joined = merge(store)
    assert rewritten == []
    assert columns_of([joined.path]) == before
    assert lines_of(tmp_path) == lines
    assert not [*tmp_path.glob("*/.*")]


def test_bloom_filters_of_joined_files_are_found(tmp_path):
    """DuckDB looks into them by their offsets; a wrong one is an error or a wrong answer."""
    store, lines = written(tmp_path, [300, 300])
    merge(store)
    with contextlib.closing(open_search(store._settings)) as search:
        assert search.count(make_filters(Written("logger:shop.orders"))) == 600
        assert search.count(make_filters(Written("logger:none"))) == 0
        assert [*search.lines(make_filters(Written('message="record 450"')))] == [lines[450]]


def test_the_index_of_a_joined_file_is_that_of_its_parts(tmp_path):
    """Ends, counts and filters."""
    store, _ = written(tmp_path, [300, 100])
    parts = [index_of(one.path) for one in segments.find_segments(tmp_path)]
    head, counts = index_of(merge(store).path)
    assert (head.records, head.odd, head.groups) == (400, 80, 2)
    assert (head.least, head.greatest) == (NOON, NOON + 399 / 1e3)
    assert counts == [(int(NOON) // 60, 20, 320)]
    assert head.pieces == [piece for part, _ in parts for piece in part.pieces]
    assert [(one.first, one.next) for one in head.filters] == [(0, 300), (300, 400)]
    with contextlib.closing(open_search(store._settings)) as search:
        assert search.count(make_filters(Written("n=7 record"))) == 1


def test_small_row_groups_are_written_again(tmp_path, monkeypatch, rewritten):
    """Those beside each other together; large ones are copied as they are."""
    monkeypatch.setattr(joining, "LEAST_ROWS", 50)
    store, lines = written(tmp_path, [100, 3, 4, 100, 60, 5])
    joined = merge(store)
    assert [len(paths) for paths in rewritten] == [2, 1]
    assert index_of(joined.path)[0].groups == 5
    assert lines_of(tmp_path) == lines
    assert not [*tmp_path.glob("*/.*")]


def test_files_with_other_columns_are_written_again(tmp_path, rewritten):
    """Another version of DuckDB, or of the collector, may have written them."""
    store, lines = written(tmp_path, [30, 20])
    parts = segments.find_segments(tmp_path)
    with contextlib.closing(engine.connect(64 << 20, 1)) as connection:
        copy = parts[0].path.with_suffix(".copy")
        source = f"SELECT *, 1 AS more FROM read_parquet({engine.text(str(parts[0].path))})"
        connection.execute(f"COPY ({source}) TO {engine.text(str(copy))} (FORMAT parquet)")
        add_index(connection, str(copy), [])
        copy.rename(parts[0].path)
    merge(store)
    assert len(rewritten) == 1
    assert lines_of(tmp_path) == lines


@pytest.mark.parametrize("place", [10, -5_000, -10])
def test_a_damaged_part_is_never_copied(tmp_path, place):
    """One octet of its columns, or its footer: the part is named, and is found damaged when it is looked at."""
    store, _ = written(tmp_path, [300, 100])
    bad = segments.find_segments(tmp_path)[1]
    octets = bytearray(bad.path.read_bytes())
    octets[place if place > 0 else max(4, len(octets) + place)] ^= 0x55
    bad.path.write_bytes(octets)
    with pytest.raises(StoreError, match=bad.path.name):
        merge(store)
    with pytest.raises(StoreError, match=bad.path.name):
        merging.check(bad)
    assert not [*tmp_path.glob("*/.*")]


def test_a_stopped_merge_ends_between_two_pieces(tmp_path):
    """The caller's error ends it."""
    _, _ = written(tmp_path, [3, 3])

    def stop():
        raise KeyboardInterrupt

    paths = [one.path for one in segments.find_segments(tmp_path)]
    target = tmp_path / "target"
    target.touch()
    with pytest.raises(KeyboardInterrupt):
        joining.join(paths, target, stop)
