"""A reader of the record log returns each committed record once, in order, and tells which ones are damaged."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from prefork_logd.journal import record_log, record_reader
from prefork_logd.journal.identity import IDENTITY_FILE
from prefork_logd.journal.record_block import HEADER_BYTES
from prefork_logd.journal.record_log import LEAP, Gathered
from prefork_logd.journal.record_reader import RecordReader
from prefork_logd.journal.record_segments import segment_paths
from tests.support.record_logs import Log, block, read

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def log(tmp_path: Path) -> Log:
    """Return a log in an empty directory."""
    return Log(tmp_path)


@pytest.mark.parametrize("place", range(0, 1800, 18))
def test_a_changed_byte_costs_its_block_and_is_said(tmp_path: Path, place: int) -> None:
    """Whatever byte it is: no altered record is taken for one, and the rest comes."""
    log = Log(tmp_path, 2000)
    log.add([10] * 40)
    path = segment_paths(tmp_path)[0][1]
    data = bytearray(path.read_bytes())
    data[place] ^= 0x41
    path.write_bytes(data)
    found, reader = read(tmp_path, 400)
    lost = set(range(400)) - set(found)
    assert found == sorted(set(found))
    assert len(lost) <= 10
    assert reader.lost == len(lost)
    assert reader.problems


def test_a_lost_end_of_a_segment_is_said_and_passed_over(log: Log) -> None:
    """The next segment says how many there were."""
    log.add([10] * 60)
    path = segment_paths(log.directory)[1][1]
    path.write_bytes(path.read_bytes()[: HEADER_BYTES + 100])
    found, reader = read(log.directory, 600)
    assert len(found) + reader.lost == 600
    assert "cannot be read, and are passed over" in reader.problems[0]


def test_what_was_read_before_a_restart_does_not_wait(log: Log) -> None:
    """Wherever reading goes on, the bytes before that place are counted; then the same records come."""
    log.add([7, 3, 5, 20, 1] * 4)
    total = log.log.total
    for start in range(145):
        reader = RecordReader(log.directory)
        reader.seek(start)
        reader.pass_over(144)
        before = reader.total
        assert before[0] == start
        found, _ = read(log.directory, 144, start)
        assert found == list(range(min(found, default=start), 144))
        again = []
        while (entry := reader.read(144)) is not None:
            again += [int(line) for line in entry.lines.splitlines()]
        assert again == found
        if start == 144:
            assert before == total
        assert before[1] <= total[1]
        reader.close()


def test_what_is_not_committed_is_not_passed_over(log: Log) -> None:
    """It may be cut off and written anew: a reader that waits there finds what was written last."""
    log.add([5])
    reader = RecordReader(log.directory)
    reader.seek(5)
    reader.pass_over(5)
    assert reader.total == log.log.total
    reader.seek(5)
    reader.pass_over(0)
    assert reader.total[1] < log.log.total[1]
    log.add([2])
    entry = reader.read(7)
    assert entry is not None
    assert entry.first == 5
    reader.close()


def test_a_number_that_was_left_out_is_no_record(log: Log) -> None:
    """A reader that begins with one has the records before it behind it, and those after it to come."""
    log.add([5])
    # As somebody does whose store has more of this journal than the journal.
    (log.directory / IDENTITY_FILE).unlink()
    log.again()
    assert log.log.next == 5 + LEAP * 2 * record_log.COPY_LEAPS
    log.add([2])
    reader = RecordReader(log.directory)
    reader.seek(5 + LEAP)
    reader.pass_over(log.log.next)
    assert reader.total[0] == 5
    entry = reader.read(log.log.next)
    assert entry is not None
    assert entry.records == 2
    assert reader.total == log.log.total
    reader.close()


def test_a_reader_sees_the_segment_that_takes_anothers_name(log: Log) -> None:
    """A writer that died before its first commit leaves a file that its successor makes anew."""
    reader = RecordReader(log.directory)
    reader.seek(0)
    assert reader.read(0) is None
    log.log.append([block(0, 3)], 1)
    log.again()
    log.add([4])
    entry = reader.read(4)
    assert entry is not None
    assert entry.lines == b"0\n1\n2\n3\n"
    reader.close()


def test_what_was_read_beyond_the_commit_is_read_anew(log: Log) -> None:
    """A killed writer's tail, already in a reader's memory, gives way to what was committed in its place."""
    log.add([5])
    stale = Gathered(bytes(16), ((6, 5),), 5, b"stale\n" * 5)
    log.log.append([stale, stale], 1)
    reader = RecordReader(log.directory)
    reader.seek(0)
    first = reader.read(5)
    assert first is not None
    assert first.first + first.records == 5
    assert reader.read(5) is None
    log.again()
    log.log.append([Gathered(bytes(16), ((6, 5),), 5, b"fresh\n" * 5)], 1)
    log.commit()
    second = reader.read(log.committed.records)
    assert second is not None
    assert bytes(second.lines) == b"fresh\n" * 5
    assert reader.read(log.committed.records) is None
    assert not reader.problems
    reader.close()
    log.log.close()


def test_nothing_is_there(tmp_path: Path) -> None:
    """A directory that is missing, or has no segment, is looked at again with each read."""
    reader = RecordReader(tmp_path / "none")
    reader.seek(7)
    assert (reader.next, reader.is_open) == (7, False)
    assert reader.read(100) is None
    assert reader.peek_time_ns(100) == 0
    reader.pass_over(100)
    reader.close()
    (tmp_path / "none").mkdir()
    log = Log(tmp_path / "none")
    log.add([10])
    entry = reader.read(10)
    assert entry is not None
    assert (entry.first, entry.records) == (0, 10)
    reader.close()


def test_a_number_that_has_gone_is_the_oldest_that_is_there(log: Log) -> None:
    """Segments that every store has passed are removed; a reader from before them goes on behind them."""
    log.add([40] * 10)
    first = segment_paths(log.directory)[3][0]
    log.log.remove_below(first)
    found, reader = read(log.directory, 400, 0)
    assert found == list(range(first, 400))
    assert (reader.lost, reader.problems) == (0, [])


def test_a_block_is_returned_when_all_of_it_is_committed(log: Log) -> None:
    """Not before, whatever number within it is given."""
    log.add([5, 5])
    reader = RecordReader(log.directory)
    reader.seek(0)
    assert [reader.read(until) for until in range(5)] == [None] * 5
    entry = reader.read(5)
    assert entry is not None
    assert (entry.first, entry.records, reader.next) == (0, 5, 5)
    assert [reader.read(until) for until in (0, 5, 9)] == [None] * 3
    entry = reader.read(10)
    assert entry is not None
    assert (entry.first, reader.next) == (5, 10)
    reader.close()


def test_looking_ahead_changes_nothing(log: Log) -> None:
    """The time of the next block, or 0 where there is none."""
    log.log.append([block(0, 2)], 123)
    log.commit()
    log.log.append([block(2, 2)], 456)
    log.commit()
    reader = RecordReader(log.directory)
    assert reader.peek_time_ns(4) == 0
    reader.seek(0)
    times = []
    while (time_ns := reader.peek_time_ns(4)) != 0:
        assert reader.peek_time_ns(4) == time_ns
        times.append(time_ns)
        assert reader.read(4) is not None
    assert times == [123, 456]
    assert reader.total == log.log.total
    reader.close()


def test_a_block_larger_than_a_read_is_read_whole(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the small ones around it."""
    monkeypatch.setattr(record_reader, "READ_BYTES", 256)
    log.add([1, 2000, 1, 1, 1])
    found, reader = read(log.directory, 2004)
    assert found == list(range(2004))
    assert not reader.problems


def test_the_next_whole_block_is_found_wherever_it_begins(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its mark may lie across the end of a read."""
    log.add([5, 5, 5])
    path = segment_paths(log.directory)[0][1]
    data = bytearray(path.read_bytes())
    data[HEADER_BYTES + 4] ^= 1
    path.write_bytes(data)
    for nbytes in range(68, 90):
        monkeypatch.setattr(record_reader, "READ_BYTES", nbytes)
        found, reader = read(log.directory, 15)
        assert found == list(range(5, 15))
        assert reader.lost == 5
        assert reader.problems == ["records 0 to 4 cannot be read, and are passed over"]


def test_lines_that_look_like_a_block_are_lines(log: Log) -> None:
    """A client may send the mark, or a whole block: behind a damaged place none of it becomes records."""
    inner = segment_paths(log.directory)[0][1]
    log.add([3])
    copied = inner.read_bytes()[HEADER_BYTES:]
    log.log.append([Gathered(bytes(16), ((4, 1),), 1, copied.replace(b"\n", b" ") + b"\n")], 1)
    log.commit()
    log.add([3])
    data = bytearray(inner.read_bytes())
    data[HEADER_BYTES + len(copied) + 4] ^= 1
    inner.write_bytes(data)
    found, reader = read(log.directory, 7)
    assert found == [0, 1, 2, 4, 5, 6]
    assert reader.lost == 1


def test_a_damaged_header_costs_no_record(log: Log) -> None:
    """The name of the file has the number that the checksums of its blocks need."""
    log.add([40] * 3)
    path = segment_paths(log.directory)[0][1]
    path.write_bytes(b"XXXX" + path.read_bytes()[4:])
    found, reader = read(log.directory, 120)
    assert found == list(range(120))
    assert reader.problems == [f"{path}: its header is damaged"]
    assert reader.lost == 0


def test_a_removed_segment_between_two_others_is_lost_and_said(log: Log) -> None:
    """The ordinals tell how many records it had."""
    log.add([40] * 8)
    segments = segment_paths(log.directory)
    segments[1][1].unlink()
    gone = segments[2][0] - segments[1][0]
    found, reader = read(log.directory, 320)
    assert found == [*range(segments[1][0]), *range(segments[2][0], 320)]
    assert reader.lost == gone
