"""The record log: what is committed is read, each record once and in order; what is damaged is said."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefork_logd.journal import record_log
from prefork_logd.journal.commit_entry import NOTHING, Committed
from prefork_logd.journal.identity import IDENTITY_FILE
from prefork_logd.journal.record_block import HEADER_BYTES, Header, decode_header, encode_header
from prefork_logd.journal.record_log import LEAP, Gathered, RecordLog
from prefork_logd.journal.record_reader import RecordReader
from prefork_logd.journal.record_segments import segment_paths
from prefork_logd.system import libc

if TYPE_CHECKING:
    from collections.abc import Sequence

SEGMENT = 600


def block(first: int, count: int) -> Gathered:
    """Return records that say their numbers."""
    return Gathered(bytes(16), ((first + 1, count),), count, b"".join(b"%d\n" % n for n in range(first, first + count)))


class Log:
    """A log with the commits that the writer would make."""

    def __init__(self, directory: Path, segment_bytes: int = SEGMENT) -> None:
        self.directory = directory
        self.committed = NOTHING
        self.segment_bytes = segment_bytes
        self.log = RecordLog(directory, segment_bytes, NOTHING)
        self.commit()

    def commit(self) -> None:
        """Commit what was appended."""
        self.log.committed()
        self.committed = Committed(self.committed.turn + 1, self.log.lengths(), {}, self.log.next)

    def add(self, counts: Sequence[int]) -> None:
        """Append blocks of so many records, each in a commit of its own."""
        for count in counts:
            self.log.rotate()
            self.log.append([block(self.log.next, count)], 1)
            self.commit()

    def again(self) -> None:
        """Recover from the last commit."""
        self.log.close()
        self.log = RecordLog(self.directory, self.segment_bytes, self.committed)
        self.commit()


def read(directory: Path, until: int, start: int = 0) -> tuple[list[int], RecordReader]:
    """Return the numbers that the readable lines say, and the reader."""
    reader = RecordReader(directory)
    reader.seek(start)
    found: list[int] = []
    while (entry := reader.read(until)) is not None:
        numbers = [int(line) for line in entry.lines.split()]
        assert numbers == list(range(entry.first, entry.first + entry.records))
        assert entry.runs == ((entry.first + 1, entry.records),)
        found += numbers
    reader.close()
    return found, reader


@pytest.fixture
def log(tmp_path: Path) -> Log:
    """Return a log in an empty directory."""
    return Log(tmp_path)


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 40), max_size=25), st.data())
def test_every_committed_record_is_read_once(
    tmp_path_factory: pytest.TempPathFactory, counts: list[int], data: st.DataObject
) -> None:
    """From any number on, over segments and recoveries; what was not committed is never seen."""
    log = Log(tmp_path_factory.mktemp("log"))
    for count in counts:
        log.add([count])
        step = data.draw(st.sampled_from(["", "again", "uncommitted"]))
        if step == "uncommitted":
            log.log.append([block(log.log.next, 3)], 1)
            found, _ = read(log.directory, log.committed.records)
            assert found == list(range(log.committed.records))
        if step:
            log.again()
    total = sum(counts)
    assert log.log.next == total
    start = data.draw(st.integers(0, total))
    found, reader = read(log.directory, total, start)
    assert found[-(total - start) :] == list(range(start, total)) if start < total else not found
    assert not reader.problems
    assert log.log.total[0] == total
    log.log.close()


def test_a_segment_goes_when_it_is_passed(log: Log) -> None:
    """And none before."""
    log.add([40] * 10)
    firsts = [first for first, _ in segment_paths(log.directory)]
    assert len(firsts) > 3
    assert log.log.remove_below(firsts[2] - 1) == 1
    assert log.log.remove_below(firsts[2]) == 1
    assert log.log.remove_below(10**6) == len(firsts) - 3
    assert [first for first, _ in segment_paths(log.directory)] == [firsts[-1]]
    found, _ = read(log.directory, 400)
    assert found == list(range(firsts[-1], 400))


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


def test_numbers_leap_after_a_boot(log: Log, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What a store may know of, and the journal not, is never numbered again; nothing counts as lost for it."""
    log.add([5])
    boot = tmp_path / "boot"
    boot.write_text("another")
    monkeypatch.setattr(record_log, "BOOT_ID", boot)
    journal = log.log.journal
    log.again()
    assert log.log.next == 5 + LEAP
    assert log.log.journal == journal
    log.add([2])
    found, reader = read(log.directory, 7 + LEAP)
    assert found == [0, 1, 2, 3, 4, 5 + LEAP, 6 + LEAP]
    assert not reader.lost
    assert log.log.total[0] == 7
    log.again()
    assert log.log.next == 7 + LEAP


def test_without_any_commit_nothing_is_numbered_twice(log: Log) -> None:
    """When the commits are lost, whole segments stay, and numbers leap."""
    log.add([5])
    log.committed = NOTHING
    log.again()
    assert log.log.next == 5 + LEAP
    assert read(log.directory, log.log.next)[0] == [0, 1, 2, 3, 4]


def test_after_a_sync_that_failed_another_segment_begins(log: Log) -> None:
    """It has again what was not committed, and the old one has it no more."""
    log.add([5])
    log.log.append([block(5, 5)], 1)
    log.log.abandon()
    assert log.log.next == 5
    log.add([5])
    assert read(log.directory, 10)[0] == list(range(10))


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


def test_the_disk_begins_to_write_before_a_segment_ends(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """Piece by piece, from where it was told last or synced; a new segment begins at its beginning."""
    begun: list[tuple[int, int]] = []
    monkeypatch.setattr(record_log, "WRITTEN_BYTES", 150)
    monkeypatch.setattr(record_log, "begin_writing", lambda _, start, nbytes: begun.append((start, start + nbytes)))
    ends = []
    for _ in range(4):
        log.add([40])
        ends.append(log.log.length)
    assert begun == [(0, ends[0]), (ends[0], ends[1]), (ends[1], ends[2]), (0, ends[3])]
    log.log.sync()
    log.add([5])
    assert begun[4:] == []
    log.add([40])
    assert begun[4:] == [(ends[3], log.log.length)]
    assert read(log.directory, log.log.next)[0] == list(range(log.log.next))


def test_a_file_that_cannot_be_written_early_is_written_later(tmp_path: Path) -> None:
    """It is a hint to the kernel; a real file takes it, and a descriptor that is none harms nobody."""
    path = tmp_path / "file"
    path.write_bytes(b"x" * 10_000)
    with path.open("rb+") as file:
        libc.begin_writing(file.fileno(), 0, 10_000)
    libc.begin_writing(-1, 0, 10_000)
    assert path.read_bytes() == b"x" * 10_000


def test_a_header_comes_back_or_is_refused() -> None:
    """A damaged one is no header."""
    header = Header(b"j" * 16, 1, 2, 3)
    data = encode_header(header)
    assert decode_header(data) == header
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 1
        with pytest.raises(ValueError, match=r"damaged|version"):
            decode_header(bytes(changed))


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
