"""An index has the facts about a file's records; a file without a whole one is read without it."""

import contextlib
import os

import pytest

from prefork_logd.stores.parquet import engine, index, segments
from prefork_logd.stores.parquet.index import joined, read_index
from tests.support.parquet_store import JOURNAL, NOON, make_store, written
from tests.support.stores import block, line, never

MINUTE = int(NOON) // 60


@contextlib.contextmanager
def opened(path):
    """Give the index of a file."""
    fd = os.open(path, os.O_RDONLY)
    try:
        yield read_index(fd)
    finally:
        os.close(fd)


def one_file(root, lines):
    """Return the path of a segment with these lines."""
    store = make_store(root)
    store.open(JOURNAL)
    store.write([block(0, lines)], never)
    return segments.find_segments(root)[0].path


def test_the_facts_are_those_of_the_records(tmp_path):
    """Counted by minute and level, without records that have a line beside their columns."""
    lines = [
        line(NOON + 59.9, levelno=20), line(NOON + 60, levelno=20), line(NOON + 61, levelno=40),
        line(NOON + 5, levelno=20), line(NOON + 7, msg="\udcff"), b'{"created":%d}\n' % (NOON + 130),
    ]  # fmt: skip
    with opened(one_file(tmp_path, lines)) as found:
        head = found.head
        assert (head.records, head.odd, head.groups) == (6, 2, 1) or (head.records, head.odd, head.groups) == (6, 1, 1)
        assert (head.least, head.greatest) == (NOON + 5, NOON + 130)
        counts = {(minute - MINUTE, level): count for minute, level, count in found.counts}
        assert counts.items() >= {(0, 20): 2, (1, 20): 1, (1, 40): 1}.items()
        (one,) = head.filters
        assert (one.first, one.next) == (0, 6)
        assert found.finder(one)(b"hello")
        assert not found.finder(one)(b"elsewhere")


def test_the_filter_of_a_segment_has_its_own_words_only(tmp_path):
    """Of a batch over several days, whose blocks end anywhere."""
    store = make_store(tmp_path)
    store.open(JOURNAL)
    days = (0, 0, 1, 1, 1, 2, 0)
    lines = [line(NOON + day * 86_400, msg=f"only{at}") for at, day in enumerate(days)]
    store.write([block(5, lines[:4]), block(9, lines[4:6]), block(20, lines[6:])], never)
    seen = []
    for path in sorted(one.path for one in segments.find_segments(tmp_path)):
        with opened(path) as found:
            (one,) = found.head.filters
            words = [at for at in range(len(days)) if found.finder(one)(f"only{at}".encode())]
            seen.append((path.parent.name, one.first, one.next, words))
    assert seen == [
        ("2026-11-24", 0, 7, [0, 1]), ("2026-11-24", 20, 21, [6]), ("2026-11-25", 7, 10, [2, 3, 4]),
        ("2026-11-26", 10, 20, [5]),
    ]  # fmt: skip


def test_times_that_are_no_times_are_not_counted(tmp_path):
    """Another program may have written them."""
    with contextlib.closing(engine.connect(64 << 20, 1)) as connection:
        for created in ("1e300", "'nan'"):
            path = str(tmp_path / "file")
            rows = f"SELECT {created}::DOUBLE AS created, 20 AS levelno, NULL AS line"
            connection.execute(f"COPY ({rows}) TO {engine.text(path)} (FORMAT parquet)")
            assert index.look_up(connection, path).counts is None


def test_counts_are_bounded(tmp_path, monkeypatch):
    """In a file, and in files together."""
    one = index.Facts(2, 0, 1.0, 2.0, 1, [(1, 20, 1), (2, None, 1)])
    other = index.Facts(3, 1, 0.5, 1.5, 2, [(1, 20, 2)])
    assert joined([one, other]) == index.Facts(5, 1, 0.5, 2.0, 3, [(1, 20, 3), (2, None, 1)])
    assert joined([one, other._replace(counts=None)]).counts is None
    monkeypatch.setattr(index, "MOST_COUNTS", 1)
    assert joined([one, other]).counts is None
    with opened(one_file(tmp_path, [line(NOON), line(NOON, levelno=30)])) as found:
        assert found.counts is None


def test_a_damaged_index_is_none(tmp_path):
    """Whichever octet of its head is wrong; of its counts, only these are missing."""
    written(tmp_path, [5])
    path = segments.find_segments(tmp_path)[0].path
    octets = path.read_bytes()
    with opened(path) as found:
        at, nbytes, _ = found.head.counts
    end = octets.rindex(index.MAGIC) + len(index.MAGIC)
    for place in range(at, end, 3):
        path.write_bytes(octets[:place] + bytes((octets[place] ^ 0x21,)) + octets[place + 1 :])
        with opened(path) as found:
            if place < at + nbytes:
                assert found.counts is None
            else:
                assert found is None


def test_a_segment_is_written_into_the_given_file(tmp_path):
    """It keeps its mode, and a killed process leaves no other file beside it."""
    path = tmp_path / ".temporary"
    path.touch(0o640)
    before = path.stat()
    with contextlib.closing(engine.connect(64 << 20, 1)) as connection:
        rows = "SELECT 1.5::DOUBLE AS created, 20 AS levelno, NULL::VARCHAR AS line"
        index.write_segment(connection, rows, str(path), [(0, 1, bytes(32))])
    after = path.stat()
    assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode)
    with opened(path) as found:
        assert found.counts == [(0, 20, 1)]


@pytest.mark.parametrize("octets", [b"", b"PAR1", b"x" * 100, b"\xff\xff\xff\xffPAR1", index.MAGIC + b"\0\0\0\0PAR1"])
def test_a_file_of_another_kind_has_none(tmp_path, octets):
    """However short."""
    path = tmp_path / "file"
    path.write_bytes(octets)
    with opened(path) as found:
        assert found is None
