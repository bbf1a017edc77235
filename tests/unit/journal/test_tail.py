"""The end of the record log, of which only committed records are read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefork_logd.journal.record_log import POSITION_FILE
from prefork_logd.journal.tail import RecordTail
from tests.support.record_logs import Log, block

if TYPE_CHECKING:
    from pathlib import Path


def test_a_position_that_cannot_be_read_for_a_moment_shows_nothing_twice(tmp_path: Path) -> None:
    """Only a smaller number is another journal."""
    tail = RecordTail(tmp_path, print)
    tail._number = 5
    assert [*tail.read_new_lines()] == []
    (tmp_path / POSITION_FILE).write_bytes(b"\1")
    assert [*tail.read_new_lines()] == []
    assert tail._number == 5


class CommittedLog(Log):
    """A log whose writer publishes the number after the last committed record."""

    def commit(self) -> None:
        super().commit()
        (self.directory / POSITION_FILE).write_bytes(self.log.next.to_bytes(8, "little"))


def numbers(first: int, stop: int) -> list[bytes]:
    """Return the lines of these records."""
    return [b"%d\n" % number for number in range(first, stop)]


def test_it_goes_back_by_records_and_reads_to_the_end(tmp_path: Path) -> None:
    """At least as far as asked for; it reports when nothing is before that."""
    log = CommittedLog(tmp_path)
    log.add([10] * 8)
    tail = RecordTail(tmp_path, print)
    for count in (0, 1, 15, 79):
        assert tail.rewind(count) is (count == 0)
        assert [*tail.read_lines()][-count or 80 :] == numbers(80 - count, 80)
    assert tail.rewind(80) is True
    assert [*tail.read_lines()] == numbers(0, 80)
    assert [*tail.read_lines()] == []
    log.log.close()


def test_only_committed_records_are_new(tmp_path: Path) -> None:
    """Each once."""
    log = CommittedLog(tmp_path)
    log.add([3])
    tail = RecordTail(tmp_path, print)
    tail.rewind(0)
    assert [*tail.read_new_lines()] == []
    log.add([2, 5])
    assert [*tail.read_new_lines()] == numbers(3, 10)
    log.log.append([block(10, 4)], 1)
    assert [*tail.read_new_lines()] == []
    log.commit()
    assert [*tail.read_new_lines()] == numbers(10, 14)
    log.log.close()


def test_another_journal_is_read_from_its_start(tmp_path: Path) -> None:
    """Its numbers are smaller."""
    (tmp_path / "old").mkdir()
    (tmp_path / "new").mkdir()
    for name, count in (("old", 20), ("new", 4)):
        log = CommittedLog(tmp_path / name)
        log.add([count])
        log.log.close()
    (tmp_path / "old").rename(tmp_path / "journal")
    tail = RecordTail(tmp_path / "journal", print)
    tail.rewind(0)
    (tmp_path / "journal").rename(tmp_path / "gone")
    (tmp_path / "new").rename(tmp_path / "journal")
    assert [*tail.read_new_lines()] == numbers(0, 4)
