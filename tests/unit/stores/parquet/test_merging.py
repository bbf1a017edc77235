"""Which segments are merged, and that a merge changes nothing but the number of files."""

import contextlib
import threading
import time

import duckdb
import pytest

from prefork_logd.errors import StoreError
from prefork_logd.query.filters import Filters
from prefork_logd.stores.parquet import merging, segments
from prefork_logd.stores.parquet.merging import Merger, choose_parts
from tests.support.parquet_store import JOURNAL, NOON, lines_of, make_store, some, written

HOUR = 3600.0
DAY = 86_400.0


def test_a_day_that_is_over_becomes_one_segment():
    """Two minutes after its end: until then a late batch may come."""
    parts = some(3)
    assert choose_parts(parts, NOON + DAY / 2 + 60) == []
    assert choose_parts(parts, NOON + DAY / 2 + 121) == parts
    assert choose_parts(parts[:1], NOON + DAY) == []
    assert choose_parts([], NOON) == []


def test_an_hour_that_is_over_becomes_one_segment_if_it_has_many():
    """Few are left for the day's merge; the present hour's are left alone."""
    many, few = some(20), some(16)
    assert choose_parts(many, NOON + 600) == []
    assert choose_parts(many, NOON + HOUR + 121) == many
    assert choose_parts(few, NOON + HOUR + 121) == []
    both = some(20) + some(20, first=20, written_s=NOON + HOUR)
    assert choose_parts(both, NOON + HOUR + 600) == both[:20]


def test_only_neighbours_of_one_journal_and_day_are_merged():
    """Between others there may be a range that another day has."""
    parts = [*some(2), *some(2, first=5)]
    assert choose_parts(parts, NOON + DAY) == parts[:2]
    apart = [*some(1), *some(1, first=1, journal="cd" * 16), *some(1, first=1, day="2026-11-25")]
    assert choose_parts(apart, NOON + 3 * DAY) == []


def test_a_merge_is_bounded():
    """In bytes and in files; a large segment is not written again."""
    large = some(4, nbytes=merging.MOST_BYTES // 2)
    assert choose_parts(large, NOON + DAY) == large[:2]
    huge = [*some(1, nbytes=merging.MOST_BYTES), *some(2, first=1)]
    assert choose_parts(huge, NOON + DAY) == huge[1:]
    assert len(choose_parts(some(merging.MOST_PARTS + 5), NOON + DAY)) == merging.MOST_PARTS


def test_the_records_of_a_merged_segment_are_those_of_its_parts(tmp_path):
    """In their order, with numbers and odd lines; the parts are gone, and the time of the newest one stays."""
    store, lines = written(tmp_path, [3, 1, 4])
    before = segments.find_segments(tmp_path)
    merged = Merger(store._directory, 64 << 20).merge(before)
    assert segments.find_files(tmp_path) == [merged]
    assert (merged.first, merged.next, merged.written_s) == (0, 8, max(one.written_s for one in before))
    assert merged.path.stat().st_mode & 0o777 == segments.MODE
    assert lines_of(tmp_path) == lines
    assert store.open(JOURNAL) == 8


def test_a_merge_that_was_killed_before_the_parts_were_removed(tmp_path, monkeypatch):
    """The merged segment covers its parts; they go the next time."""
    store, lines = written(tmp_path, [3, 3])
    directory = store._directory
    monkeypatch.setattr(directory, "remove", lambda gone: None)
    merger = Merger(directory, 64 << 20, clock=lambda: NOON)
    merger.merge(segments.find_segments(tmp_path))
    assert len(segments.find_files(tmp_path)) == 3
    assert lines_of(tmp_path) == lines
    monkeypatch.undo()
    assert not merger.go_on()
    assert len(segments.find_files(tmp_path)) == 1
    assert lines_of(tmp_path) == lines


def test_a_merge_that_was_killed_earlier_leaves_the_parts(tmp_path, monkeypatch):
    """And a temporary file, which the next start removes."""
    store, lines = written(tmp_path, [3, 3])

    def killed(*_):
        raise KeyboardInterrupt

    for step in ("publish", "locked"):
        with monkeypatch.context() as patched:
            patched.setattr(store._directory, step, killed)
            with pytest.raises(KeyboardInterrupt):
                Merger(store._directory, 64 << 20).merge(segments.find_segments(tmp_path))
        assert len(segments.find_files(tmp_path)) == 2
        assert lines_of(tmp_path) == lines
    store.open(JOURNAL)
    assert not [*tmp_path.glob("*/.*")]


def test_a_damaged_part_is_put_aside_and_the_others_are_merged(tmp_path, caplog):
    """The log names it; its records are missing, and only they."""
    store, lines = written(tmp_path, [3, 2, 4, 2])
    found = segments.find_segments(tmp_path)
    octets = bytearray(found[1].path.read_bytes())
    octets[4:200] = bytes(196)
    found[1].path.write_bytes(octets)
    merger = Merger(store._directory, 64 << 20, clock=lambda: NOON + 2 * DAY)
    until = time.monotonic() + 30
    while merger.go_on() or merger._thread is not None:
        assert time.monotonic() < until
        merger._thread.join()
    left = segments.find_segments(tmp_path)
    assert [(one.first, one.next) for one in left] == [(0, 3), (5, 11)]
    assert segments.damaged_files(tmp_path) == [found[1].path.with_name(found[1].path.name + ".damaged")]
    assert "cannot be read" in caplog.text
    assert found[1].path.name in caplog.text
    assert lines_of(tmp_path) == lines[:3] + lines[5:]
    assert "1 damaged file," in store.status()["warnings"][0]


def test_a_failing_merge_pauses_and_says_why(tmp_path, monkeypatch, caplog):
    """A full disk, for example; the parts stay."""
    store, lines = written(tmp_path, [2, 2])

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store._directory, "temporary", full)
    merger = Merger(store._directory, 64 << 20, clock=lambda: NOON + 2 * DAY)
    assert merger.go_on()
    merger._thread.join()
    assert not merger.go_on()
    assert not merger.go_on()
    assert "cannot merge 2 files of 2026-11-24: [Errno 28] No space left on device" in caplog.text
    assert lines_of(tmp_path) == lines


@pytest.mark.parametrize("is_closed", [False, True], ids=["DuckDB works", "its connection was just closed"])
def test_a_merge_is_ended_at_once(tmp_path, monkeypatch, is_closed):
    """By `stop`; nothing is logged, and the parts stay."""
    store, lines = written(tmp_path, [2, 2])
    begun = threading.Event()

    class Endless:
        def __init__(self):
            self.ended = threading.Event()

        def execute(self, statement):
            begun.set()
            assert self.ended.wait(30)
            raise StoreError("interrupted")

        def interrupt(self):
            self.ended.set()
            if is_closed:
                raise duckdb.ConnectionException("Connection already closed!")

        def close(self):
            pass

    monkeypatch.setattr(merging.engine, "connect", lambda *_: Endless())
    merger = Merger(store._directory, 64 << 20, clock=lambda: NOON + 2 * DAY)
    assert merger.go_on()
    assert begun.wait(30)
    merger.stop()
    merger.stop()
    monkeypatch.undo()
    assert lines_of(tmp_path) == lines


def test_two_processes_do_not_change_a_directory_at_once(tmp_path):
    """An import waits while a segment gets its name."""
    store = make_store(tmp_path)
    store.open(JOURNAL)
    entered = threading.Event()

    def enter():
        with store._directory.locked():
            entered.set()

    with store._directory.locked():
        thread = threading.Thread(target=enter)
        thread.start()
        assert not entered.wait(0.05)
    assert entered.wait(30)
    thread.join()


def test_queries_are_not_disturbed_by_a_merge(tmp_path):
    """A search that was opened before it reads the parts, which have no names any more."""
    from prefork_logd.stores.parquet.search import open_search

    store, lines = written(tmp_path, [3, 3])
    with contextlib.closing(open_search(store._settings)) as search:
        Merger(store._directory, 64 << 20).merge(segments.find_segments(tmp_path))
        assert [*search.lines(Filters())] == lines
    assert lines_of(tmp_path) == lines
