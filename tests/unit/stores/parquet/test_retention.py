"""Which records are removed: the oldest ones, by age or size, and never on the word of a clock that was just set."""

import os
import time
import types

from prefork_logd.stores.parquet import retention, segments
from prefork_logd.stores.parquet.retention import Retention, choose_above, choose_expired, choose_for_space
from prefork_logd.stores.parquet.segments import Directory
from tests.support.parquet_store import JOURNAL, segment, some

NOON = 1_795_521_600.0
DAY = 86_400.0


def test_a_day_expires_as_a_whole():
    """When its last record is older than the bound."""
    found = [*some(1), *some(1, "2026-11-25", 1)]
    assert choose_expired(found, NOON + DAY * 7.4, 7 * DAY) == []
    assert choose_expired(found, NOON + DAY * 7.6, 7 * DAY) == found[:1]
    assert choose_expired(found, NOON + DAY * 700, 0) == []


def test_the_oldest_go_first():
    """As few as the bound needs; of one day, those written first."""
    found = [
        *some(1, "2026-11-25", 2, nbytes=5),
        *some(1, first=1, written_s=9, nbytes=5),
        *some(1, written_s=1, nbytes=5),
    ]
    assert choose_above(found, 15) == []
    assert choose_above(found, 14) == [found[2]]
    assert choose_above(found, 5) == [found[2], found[1]]
    assert choose_above(found, 0) == []


def test_a_nearly_full_disk_costs_the_oldest():
    """As many as make room; all of them, if that is not enough."""
    found = [*some(3, nbytes=5)]
    assert choose_for_space(found, 100, 100) == []
    assert choose_for_space(found, 99, 100) == found[:1]
    assert choose_for_space(found, 94, 100) == found[:2]
    assert choose_for_space(found, 0, 100) == found


def test_free_space_is_that_of_the_disk(tmp_path, monkeypatch, caplog):
    """The bound is at most a twentieth of it."""
    caplog.set_level("INFO")
    old(tmp_path)
    disk = types.SimpleNamespace(f_bavail=49, f_frsize=1, f_blocks=1000)
    monkeypatch.setattr(os, "statvfs", lambda path: disk)
    bounds = Retention(Directory(tmp_path), 0, 0, 1_000_000_000)
    bounds.apply()
    assert [one.first for one in segments.find_files(tmp_path)] == [1]
    assert "only 0 MB of the disk are free" in caplog.text
    disk.f_bavail = 50
    bounds.apply()
    assert len(segments.find_files(tmp_path)) == 1


def old(root):
    """Make a segment of 1970, and one of today."""
    segment(root, 0, 1, "1970-01-02")
    segment(root, 1, 2, time.strftime("%Y-%m-%d", time.gmtime()))


def test_age_counts_while_the_clock_is_steady(tmp_path, monkeypatch, caplog):
    """An hour after the start, and an hour after each step; the log says what went."""
    old(tmp_path)
    now, ahead = [1000.0], [5.0]
    monkeypatch.setattr(retention.time, "monotonic", lambda: now[0])
    caplog.set_level("INFO")
    bounds = Retention(Directory(tmp_path), 30 * DAY, 0, ahead=lambda: ahead[0])
    for passed_s, step_s, left in ((0, 0, 2), (3599, 0, 2), (0, 3600, 2), (3599, 0, 2), (1, 10, 1)):
        now[0] += passed_s
        ahead[0] += step_s
        bounds.apply()
        assert len(segments.find_files(tmp_path)) == left
    assert "removed 1 file, 0.0 MB of 1970-01-02: older than retain" in caplog.text


def test_size_counts_at_once(tmp_path):
    """The position stays, even when nothing is left."""
    old(tmp_path)
    bounds = Retention(Directory(tmp_path), 0, 15)
    bounds.apply()
    assert [one.first for one in segments.find_files(tmp_path)] == [1]
    Retention(Directory(tmp_path), 0, 1).apply()
    assert segments.find_files(tmp_path) == []
    assert segments.positions(tmp_path, []) == {JOURNAL: 2}


def test_damaged_files_are_within_the_bounds(tmp_path, monkeypatch):
    """They take room, and go with the others of their day."""
    old(tmp_path)
    directory = Directory(tmp_path)
    for one in segments.find_files(tmp_path):
        directory.put_aside(one)
    segment(tmp_path, 2, 3, "1970-01-02")
    assert len(segments.damaged_files(tmp_path)) == 2
    Retention(directory, 0, 10_000).apply()
    assert len(segments.damaged_files(tmp_path)) == 2
    now = [1000.0]
    monkeypatch.setattr(retention.time, "monotonic", lambda: now[0])
    bounds = Retention(directory, 30 * DAY, 0, ahead=lambda: 5.0)
    now[0] += 3600
    bounds.apply()
    assert [path.parent.name for path in segments.damaged_files(tmp_path)] == [time.strftime("%Y-%m-%d", time.gmtime())]
    assert segments.find_files(tmp_path) == []
    Retention(directory, 0, 1).apply()
    assert segments.damaged_files(tmp_path) == []
