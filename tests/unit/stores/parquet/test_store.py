"""The Parquet store: each record once, in the directory of its day, whatever happens in between."""

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefork_logd.errors import StoreError
from prefork_logd.records.record import make_record
from prefork_logd.records.render import render_json
from prefork_logd.stores.parquet import segments, store
from tests.support.corpus import corpus_lines
from tests.support.odd_lines import records as odd_records
from tests.support.parquet_store import DAY, JOURNAL, NOON, lines_of, make_store, numbered, written
from tests.support.stores import block, line, never
from tests.support.strategies import attributes, bounded


def names(root):
    """Return (day, first, next) of each segment."""
    return [(one.day, one.first, one.next) for one in segments.find_files(root)]


def test_a_batch_is_a_segment_named_by_its_range(tmp_path):
    """In the directory of the UTC day of `received`; the position is what the newest name says."""
    made = make_store(tmp_path / "records")
    assert made.open(JOURNAL) == 0
    lines = numbered(0, 5)
    made.write([block(0, lines[:2]), block(2, lines[2:])], never)
    made.write([block(5, numbered(5, 1))], never)
    assert names(tmp_path / "records") == [("2026-11-24", 0, 5), ("2026-11-24", 5, 6)]
    assert lines_of(tmp_path / "records") == numbered(0, 6)
    assert make_store(tmp_path / "records").open(JOURNAL) == 6
    assert make_store(tmp_path / "records").open("ff" * 16) == 0


def test_records_that_are_there_are_left_out(tmp_path):
    """A batch that is repeated, wholly or in part, adds what is new."""
    made = make_store(tmp_path)
    made.open(JOURNAL)
    made.write([block(0, numbered(0, 4))], never)
    made.write([block(0, numbered(0, 4))], never)
    made.write([block(2, numbered(2, 4))], never)
    assert names(tmp_path) == [("2026-11-24", 0, 4), ("2026-11-24", 4, 6)]
    assert lines_of(tmp_path) == numbered(0, 6)


def test_numbers_that_are_passed_over_belong_to_the_next_segment(tmp_path):
    """A range has no hole, so a merged segment can cover its parts."""
    made = make_store(tmp_path)
    made.open(JOURNAL)
    made.write([block(7, numbered(7, 1)), block(20, numbered(20, 2))], never)
    assert names(tmp_path) == [("2026-11-24", 0, 22)]
    assert lines_of(tmp_path) == [*numbered(7, 1), *numbered(20, 2)]


def test_a_batch_over_midnight_is_a_segment_for_each_day(tmp_path):
    """Each goes on where the one before it ended."""
    made = make_store(tmp_path)
    made.open(JOURNAL)
    lines = [line(received, msg=str(received)) for received in (NOON, NOON + DAY, NOON + DAY + 1, NOON, NOON + 3 * DAY)]
    made.write([block(0, lines[:3]), block(3, lines[3:])], never)
    assert names(tmp_path) == [
        ("2026-11-24", 0, 1), ("2026-11-24", 3, 4), ("2026-11-25", 1, 3), ("2026-11-27", 4, 5),
    ]  # fmt: skip
    assert sorted(lines_of(tmp_path)) == sorted(lines)


def test_a_batch_that_changes_its_day_all_the_time_is_few_segments(tmp_path):
    """As an import of old files is; the rest is in the directory of its latest day."""
    made = make_store(tmp_path)
    made.open(JOURNAL)
    lines = [line(NOON + DAY * (at % 20), msg=str(at)) for at in range(200)]
    made.write([block(0, lines)], never)
    assert len(names(tmp_path)) == store.MOST_DAYS
    assert names(tmp_path)[-1] == ("2026-12-13", 7, 200)
    assert sorted(lines_of(tmp_path)) == sorted(lines)
    assert made.open(JOURNAL) == 200


@pytest.mark.parametrize("step", ["temporary", "publish", "rename", "sync"])
@pytest.mark.parametrize("at", [0, 1])
def test_a_writer_that_is_killed_at_any_step(tmp_path, monkeypatch, step, at):
    """Of either of two segments: whatever is sent again from the position on is stored once."""
    made = make_store(tmp_path)
    made.open(JOURNAL)
    lines = [line(received, msg=str(received)) for received in (NOON, NOON + 1, NOON + DAY)]
    calls = iter(range(10))

    def killing(real, *, after=False):
        def call(*arguments, **named):
            is_now = next(calls) == at
            if is_now and not after:
                raise KeyboardInterrupt
            result = real(*arguments, **named)
            if is_now:
                raise KeyboardInterrupt
            return result

        return call

    with monkeypatch.context() as patched:
        if step == "rename":
            patched.setattr(segments.Path, "rename", killing(segments.Path.rename))
        elif step == "sync":
            patched.setattr(made._directory, "publish", killing(made._directory.publish, after=True))
        else:
            patched.setattr(made._directory, step, killing(getattr(made._directory, step)))
        with pytest.raises(KeyboardInterrupt):
            made.write([block(0, lines)], never)
    again = make_store(tmp_path)
    position = again.open(JOURNAL)
    if position < 3:
        again.write([block(position, lines[position:])], never)
    assert sorted(lines_of(tmp_path)) == sorted(lines)
    assert not [*tmp_path.glob("*/.*")]


def test_a_disk_that_fails_is_a_store_error_and_loses_nothing(tmp_path, monkeypatch):
    """The shipper tries again; no temporary file stays."""
    made = make_store(tmp_path)
    made.open(JOURNAL)

    def full(*_):
        raise OSError(28, "No space left on device", str(tmp_path))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(StoreError, match="No space left on device"):
            made.write([block(0, numbered(0, 3))], never)
    assert names(tmp_path) == []
    assert not [*tmp_path.glob("*/.*")]
    made.write([block(0, numbered(0, 3))], never)
    assert lines_of(tmp_path) == numbered(0, 3)


def test_a_directory_that_cannot_be_made_is_a_store_error(tmp_path):
    """The path is named."""
    (tmp_path / "records").write_bytes(b"")
    with pytest.raises(StoreError, match="records"):
        make_store(tmp_path / "records" / "below").open(JOURNAL)


def test_odd_lines_come_back_byte_for_byte(tmp_path):
    """Lone surrogates, integers of any size, deep nesting, every control character."""
    lines = [one for one in odd_records() if len(one) < 1 << 20]
    made = make_store(tmp_path)
    made.open(JOURNAL)
    made.write([block(0, lines)], never)
    assert sorted(lines_of(tmp_path)) == sorted(lines)


@pytest.mark.slow
def test_every_record_of_the_corpus_comes_back_byte_for_byte(tmp_path):
    """All that was accepted from a client, hostile records included."""
    lines = corpus_lines()
    made = make_store(tmp_path)
    made.open(JOURNAL)
    made.write([block(0, lines[:300]), block(300, lines[300:])], never)
    assert sorted(lines_of(tmp_path)) == sorted(lines)


@pytest.mark.slow
@settings(bounded, max_examples=20)
@given(st.lists(attributes, min_size=1, max_size=8))
def test_any_record_comes_back_byte_for_byte(tmp_path_factory, many):
    """Any values in any field."""
    root = tmp_path_factory.mktemp("records")
    lines = [render_json(make_record(values, "peer", NOON)) for values in many]
    made = make_store(root)
    made.open(JOURNAL)
    made.write([block(0, lines)], never)
    assert sorted(lines_of(root)) == sorted(lines)


def test_a_record_of_ten_megabytes(tmp_path):
    """Longer than DuckDB's reader expects an object to be."""
    long = line(NOON, msg="x" * 10_000_000)
    made = make_store(tmp_path)
    made.open(JOURNAL)
    made.write([block(0, [long, *numbered(1, 1)])], never)
    assert lines_of(tmp_path) == [long, *numbered(1, 1)]


def test_what_is_no_record_is_refused(tmp_path):
    """With its number; a batch of nothing else makes no segment."""
    made = make_store(tmp_path)
    made.open(JOURNAL)
    refused = []
    made.write([block(0, [b"{}\n"])], lambda *one: refused.append(one))
    assert names(tmp_path) == []
    made.write([block(1, [b'{"created":"x"}\n', *numbered(2, 1)])], lambda *one: refused.append(one))
    assert [one[:2] for one in refused] == [(0, b"{}\n"), (1, b'{"created":"x"}\n')]
    assert names(tmp_path) == [("2026-11-24", 0, 3)]
    assert lines_of(tmp_path) == numbered(2, 1)


def test_status_says_what_there_is(tmp_path):
    """Files, bytes and days."""
    made, _ = written(tmp_path, [2, 1])
    found = made.status()
    assert (found["segments"], found["damaged"]) == (2, 0)
    assert found["bytes"] == sum(one.nbytes for one in segments.find_files(tmp_path))
    assert found["summary"].endswith("2026-11-24 to 2026-11-24")
    assert "warnings" not in found


def test_maintenance_removes_and_merges(tmp_path):
    """Old days become one file each; what is beyond the bound of bytes goes, oldest first."""
    made, lines = written(tmp_path, [2, 2])
    made.write([block(4, numbered(4, 1, NOON + DAY))], never)
    while made.maintain() < store.IDLE_S:
        made._merger._thread.join()
    assert names(tmp_path) == [("2026-11-24", 0, 4), ("2026-11-25", 4, 5)]
    assert lines_of(tmp_path) == [*lines, *numbered(4, 1, NOON + DAY)]
    small = make_store(tmp_path, retain_bytes=segments.find_files(tmp_path)[1].nbytes)
    small.open(JOURNAL)
    small.maintain()
    assert names(tmp_path) == [("2026-11-25", 4, 5)]


@settings(bounded, max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 4), st.sampled_from([0, 1, 2]), st.booleans()), min_size=1, max_size=5))
def test_any_batches_and_restarts(tmp_path_factory, batches):
    """Each record is there once, and the position is the number after the last one."""
    root = tmp_path_factory.mktemp("records")
    made = make_store(root)
    made.open(JOURNAL)
    lines, first = [], 0
    for count, day, is_restart in batches:
        some = numbered(first, count, NOON + DAY * day)
        made.write([block(first, some)], never)
        if is_restart:
            made.close()
            made = make_store(root)
            assert made.open(JOURNAL) == first + count
        lines += some
        first += count
    assert sorted(lines_of(root)) == sorted(lines)
