"""The names of segments: which of them count, and how they come and go."""

import fcntl
import os

import pytest

from prefork_logd.stores.parquet import segments
from prefork_logd.stores.parquet.segments import Directory
from tests.support.parquet_store import JOURNAL, segment

OTHER = "cd" * 16


def test_found_in_the_order_of_days_journals_and_numbers(tmp_path):
    """And nothing else: no temporary, damaged, foreign or linked file, and no directory of another name."""
    wanted = [segment(tmp_path, 0, 9, "2026-11-28"), segment(tmp_path, 9, 12), segment(tmp_path, 100, 101)]
    wanted.append(segment(tmp_path, 0, 7, journal=OTHER))
    segment(tmp_path, 0, 5, "lost+found")
    day = tmp_path / "2026-11-29"
    for name in (
        f".{JOURNAL}-1-2.parquet.7.tmp",
        f"{JOURNAL}-1-2.parquet.damaged",
        "x.parquet",
        f"{JOURNAL}-5-5.parquet",
    ):
        (day / name).write_bytes(b"x")
    (day / f"{JOURNAL}-200-300.parquet").symlink_to(wanted[0].path)
    (day / f"{JOURNAL}-300-400.parquet").mkdir()
    (tmp_path / "2026-11-30").symlink_to(day)
    assert segments.find_files(tmp_path) == wanted
    assert segments.find_files(tmp_path / "missing") == []


def test_a_segment_within_another_is_ignored(tmp_path):
    """Whether its range is the same, a part, or an end of it; another journal's is not."""
    merged = segment(tmp_path, 0, 30)
    parts = [segment(tmp_path, 0, 10), segment(tmp_path, 10, 20), segment(tmp_path, 20, 30)]
    others = [segment(tmp_path, 30, 40), segment(tmp_path, 5, 20, journal=OTHER)]
    wanted, covered = segments.split_covered(segments.find_files(tmp_path))
    assert wanted == [merged, *others]
    assert covered == parts


def test_positions_outlive_their_segments(tmp_path):
    """What is removed is not asked for again: of each journal the largest number counts."""
    directory = Directory(tmp_path)
    one, two, other = segment(tmp_path, 0, 10), segment(tmp_path, 10, 25), segment(tmp_path, 0, 7, journal=OTHER)
    directory.remove([one])
    assert not (tmp_path / segments.POSITIONS_FILE).exists()  # the newest is still there
    directory.remove([two, other])
    assert segments.find_files(tmp_path) == []
    assert not (tmp_path / "2026-11-29").exists()
    assert segments.positions(tmp_path, []) == {JOURNAL: 25, OTHER: 7}
    assert segments.positions(tmp_path, [segment(tmp_path, 25, 30)]) == {JOURNAL: 30, OTHER: 7}
    (tmp_path / segments.POSITIONS_FILE).write_bytes(b"{")
    assert segments.positions(tmp_path, []) == {}


def test_a_segment_is_published_whole(tmp_path):
    """Under its name it has the content, the mode and the time, whatever the umask."""
    directory = Directory(tmp_path / "records")
    before = os.umask(0o077)
    try:
        directory.make()
        path = segments.segment_path(directory.root, "2026-11-29", JOURNAL, 0, 5)
        temporary = directory.temporary(path)
    finally:
        os.umask(before)
    assert segments.find_files(directory.root) == []
    temporary.write_bytes(b"whole")
    directory.publish(temporary, path, 1_700_000_000.0)
    (found,) = segments.find_files(directory.root)
    assert (found.nbytes, found.written_s) == (5, 1_700_000_000.0)
    assert path.stat().st_mode & 0o777 == segments.MODE
    assert path.parent.stat().st_mode & 0o777 == directory.root.stat().st_mode & 0o777 == segments.DIRECTORY_MODE


def test_what_a_killed_process_left_is_removed(tmp_path):
    """The files of a process that runs, and those that are not ours, stay."""
    directory = Directory(tmp_path)
    day = tmp_path / "2026-11-29"
    day.mkdir()
    gone = 2**22 + 1  # above the largest number of a process
    left = [day / f".a.parquet.{gone}.tmp", day / f".b.parquet.{os.getpid()}.tmp", tmp_path / f".merge.{gone}.tmp"]
    kept = [day / f".c.parquet.{os.getppid()}.tmp", day / ".swap.tmp", tmp_path / ".x"]
    for path in (*left[:2], *kept):
        path.write_bytes(b"x")
    left[2].mkdir()
    (left[2] / "spilled").write_bytes(b"x")
    directory.clear_temporary()
    assert [path.exists() for path in (*left, *kept)] == [False] * 3 + [True] * 3


def test_a_damaged_file_is_put_aside(tmp_path):
    """It keeps its name, with a word behind it, and does not count any more."""
    directory = Directory(tmp_path)
    one = segment(tmp_path, 0, 10)
    aside = directory.put_aside(one)
    assert segments.find_files(tmp_path) == []
    assert segments.damaged_files(tmp_path) == [aside]
    assert aside.name == f"{one.path.name}.damaged"


def test_errors_name_the_path(tmp_path):
    """A directory in which nothing can be made is a StoreError for the shipper, which tries again."""
    (tmp_path / "file").write_bytes(b"")
    with (
        pytest.raises(segments.StoreError, match="file"),
        segments.failing_as_store_error(tmp_path),
    ):
        Directory(tmp_path / "file" / "records").make()


@pytest.mark.timeout(20)
def test_who_may_only_read_the_directory_keeps_no_one_out(tmp_path):
    """The lock is that of a file that only the owner of the directory may open, also if root has made it."""
    root = tmp_path / "records"
    root.mkdir()
    if not os.geteuid():
        os.chown(root, 65534, 65534)
    reader = os.open(root, os.O_RDONLY)
    try:
        fcntl.flock(reader, fcntl.LOCK_EX)
        with Directory(root).locked():
            lock = root / segments.LOCK_FILE
            assert (lock.stat().st_uid, lock.stat().st_mode & 0o777) == (root.stat().st_uid, 0o600)
            with lock.open("rb") as other, pytest.raises(BlockingIOError):
                fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(reader)
