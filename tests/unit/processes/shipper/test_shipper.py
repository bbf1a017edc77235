"""A shipper with a store that fails in every way: nothing ends it, nothing is lost, and one line says what is wrong."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from prefork_logd.config.paths import JOURNAL_DIRECTORY, dead_letters_path
from prefork_logd.config.stores.custom import CustomStoreSettings
from prefork_logd.errors import StoreError
from prefork_logd.ipc.scoreboard import JournalField, StoreField
from prefork_logd.journal.record_reader import RecordReader
from prefork_logd.processes.shipper import shipper as shippers
from prefork_logd.processes.shipper import suspects, trouble
from prefork_logd.processes.shipper.shipper import Shipper
from prefork_logd.stores.base import split_block
from prefork_logd.stores.dead_letters import read_letters
from prefork_logd.system.log import LOGGER
from tests.support.writer_log import PLACE, Writer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from prefork_logd.stores.base import Block

SETTINGS = CustomStoreSettings(name="archive", factory="a:b", batch_time="0s", batch_records=1000)


class FakeStore:
    """Keeps lines in a list, in one transaction a write, and fails on demand."""

    def __init__(self) -> None:
        self.lines: dict[int, bytes] = {}
        self.next = 0
        self.opens = self.writes = self.closes = 0
        self.fault: Callable[[bytes], None] = lambda _line: None
        """Called with each line; an exception of it ends the write."""
        self.faults: dict[str, Exception] = {}
        """Method to the exception that it raises."""

    def open(self, journal: str) -> int:
        """Say where to go on."""
        assert journal.strip("0")
        self.opens += 1
        self._fail("open")
        return self.next

    def write(self, blocks: Sequence[Block], refuse: Callable[[int, bytes, str], None]) -> None:
        """Keep the lines, or none of them."""
        self.writes += 1
        self._fail("write")
        new = {}
        for block in blocks:
            for number, line in enumerate(block.lines.splitlines(), block.first):
                if number >= self.next:
                    self.fault(line)
                    if b"refuse" in line:
                        refuse(number, line, "no such record here")
                    else:
                        new[number] = line
        self.lines |= new
        self.next = blocks[-1].first + blocks[-1].count

    def maintain(self) -> float:
        """Do nothing."""
        self._fail("maintain")
        return 3600.0

    def close(self) -> None:
        """Let go of nothing."""
        self.closes += 1
        self._fail("close")

    def _fail(self, method: str) -> None:
        if method in self.faults:
            raise self.faults[method]


class Rig:
    """A writer's record log, a shipper that is driven by hand, and its store."""

    def __init__(self, state_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.store = FakeStore()
        monkeypatch.setattr(shippers, "make_store", lambda _settings: self.store)
        monkeypatch.setattr(trouble, "FIRST_RETRY_S", 0.0)
        monkeypatch.setattr(trouble, "LONGEST_RETRY_S", 0.0)
        self.writer = Writer(state_dir)
        self.counters = self.writer.store
        self.letters_path = dead_letters_path(state_dir, "archive")
        self.waker = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.ours, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.shipper = Shipper(self.writer.board, self._theirs, state_dir, PLACE, SETTINGS, self.waker)

    def commit(self, *lines: bytes) -> None:
        """Let the writer commit lines, as one block."""
        joined = b"".join(line + b"\n" for line in lines)
        self.writer.record_log.add_runs(bytes(16), ((1, len(lines)),), len(lines), memoryview(joined))
        assert self.writer.turn(0)

    def work(self, turns: int = 200) -> None:
        """Let the shipper do so many steps; fewer when it sleeps with nothing left."""
        for _ in range(turns):
            self.shipper._work()
            if not self.shipper._queued and self.counters[StoreField.WAITING]:
                break
            self.counters[StoreField.WAITING] = 0

    @property
    def problem(self) -> str:
        """What `status` would show."""
        return self.shipper._trouble.problem

    def letters(self) -> list[tuple[int, str, bytes]]:
        """Return number, reason and record of each dead letter."""
        if not self.letters_path.exists():
            return []
        return [(it.number, it.reason, bytes(it.record)) for it in read_letters(self.letters_path)]

    def close(self) -> None:
        """Leave nothing open."""
        self.shipper._close()
        if self.shipper._lock.fd >= 0:
            os.close(self.shipper._lock.fd)
        self.shipper.loop.close() if hasattr(self.shipper.loop, "close") else None
        self.writer.record_log.close()
        self.ours.close()
        self._theirs.close()
        os.close(self.waker)


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    """Return a shipper and what is around it."""
    rig = Rig(tmp_path, monkeypatch)
    yield rig
    rig.store.faults.clear()
    rig.close()


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """Return what returns the lines of the collector's own log."""
    monkeypatch.setattr(LOGGER, "propagate", True)
    caplog.set_level(logging.INFO, LOGGER.name)
    return lambda: [record.getMessage() for record in caplog.records]


def numbered(count: int, poison: Sequence[int] = ()) -> list[bytes]:
    """Return so many lines, some of which are poison."""
    return [b'{"n":%d,"what":"%s"}' % (n, b"poison" if n in poison else b"good") for n in range(count)]


def raising(error: BaseException, word: bytes = b"poison") -> Callable[[bytes], None]:
    """Return a fault at lines with a word in them."""

    def fault(line: bytes) -> None:
        if word in line:
            raise error

    return fault


ERRORS = [
    ValueError("no"), RecursionError("too deep"), OverflowError("large"), UnicodeDecodeError("utf-8", b"x", 0, 1, "?"),
    KeyError("k"), TypeError("none"), AttributeError("gone"), MemoryError(), RuntimeError("boom"), Exception("what"),
]  # fmt: skip


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_a_record_that_the_store_cannot_take_costs_itself_alone(rig: Rig, error: Exception) -> None:
    """Whatever its code raises: the record is a dead letter with the reason, once; its neighbours are stored."""
    rig.store.fault = raising(error)
    lines = numbered(500, poison=(137,))
    rig.commit(*lines[:300])
    rig.commit(*lines[300:])
    rig.work()
    first = rig.writer.number() - 500
    assert sorted(rig.store.lines.values()) == sorted(line for line in lines if b"good" in line)
    ((number, reason, record),) = rig.letters()
    assert (number, record) == (first + 137, lines[137])
    assert type(error).__name__ in reason
    assert (rig.counters[StoreField.REFUSED], rig.counters[StoreField.RECORDS]) == (1, 499)
    assert rig.counters[StoreField.ORDINAL] == rig.writer.board.journal[JournalField.ORDINAL]
    assert not rig.problem
    assert rig.store.writes < 40


@pytest.mark.slow
@pytest.mark.parametrize("poison", [(0,), (499,), (0, 1, 2, 250, 251, 499), tuple(range(0, 100, 5)), range(10, 100)])
def test_any_number_of_such_records_anywhere(rig: Rig, poison: Sequence[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """At the ends, side by side, and more in a row than are believed at first."""
    monkeypatch.setattr(suspects, "FIRST_PAUSE_S", 0.0)
    monkeypatch.setattr(suspects, "LONGEST_PAUSE_S", 0.0)
    rig.shipper._suspects = rig.shipper._refusals._suspects = suspects.Suspects()
    rig.store.fault = raising(RuntimeError("boom"))
    lines = numbered(500, poison)
    rig.commit(*lines)
    rig.work(6000)
    assert sorted(rig.store.lines.values()) == sorted(line for line in lines if b"good" in line)
    assert [record for _, _, record in rig.letters()] == [lines[n] for n in poison]
    assert rig.counters[StoreField.REFUSED] == len(poison)
    assert not rig.problem
    # Full batches again.
    before = rig.store.writes
    rig.commit(*numbered(900))
    rig.work()
    rig.commit(*numbered(900))
    rig.work()
    assert rig.store.writes - before < 14


def test_a_lone_record_is_given_up_without_neighbours(rig: Rig) -> None:
    """An error that records cause does not wait for another record; records given up stay so."""
    rig.store.fault = raising(RecursionError("too deep"))
    rig.commit(*numbered(1, poison=(0,)))
    rig.work()
    assert len(rig.letters()) == 1
    assert not rig.problem
    # The store's position is before it still: another shipper refuses it again, and it is there once.
    rig.shipper._close()
    rig.shipper._suspects = rig.shipper._refusals._suspects = suspects.Suspects()
    rig.work()
    rig.commit(*numbered(3))
    rig.work()
    assert len(rig.letters()) == rig.counters[StoreField.REFUSED] == 1
    assert len(rig.store.lines) == 3


@pytest.mark.slow
@pytest.mark.parametrize("error", [RuntimeError("no connection"), ValueError("schema")])
def test_a_store_that_fails_at_everything_loses_nothing(rig: Rig, error: Exception) -> None:
    """All records wait, none is a dead letter; it is said once, and they are stored when it works again."""
    rig.store.fault = raising(error, b"n")
    rig.commit(*numbered(300))
    while not rig.problem:
        rig.work(1)
    rig.work(20)
    # A suspect is written down for as long as it is tried, and how far that has come depends on the clock.
    while rig.shipper._refusals._mark is not None:
        rig.work(1)
    assert rig.letters() == []
    assert str(error) in rig.problem
    assert rig.counters[StoreField.FAILING] == 1
    assert rig.counters[StoreField.REFUSED] == 0
    rig.store.fault = lambda _line: None
    rig.work()
    assert len(rig.store.lines) == 300
    assert not rig.problem


@pytest.mark.slow
def test_a_store_that_refuses_beside(rig: Rig) -> None:
    """The store's own refusals, and records that it fails at, are all dead letters, each once."""
    rig.store.fault = raising(KeyError("k"))
    rig.commit(*[b"refuse", b"poison", b"good", b"refuse", b"poison", b"refuse", b"good"] * 20)
    rig.work(2000)
    assert len(rig.store.lines) == 40
    assert len(rig.letters()) == len({number for number, _, _ in rig.letters()}) == 100
    assert rig.counters[StoreField.REFUSED] == 100


@pytest.mark.parametrize("method", ["open", "write", "maintain", "close"])
@pytest.mark.parametrize("error", [ValueError("odd"), OSError(errno.EIO, "Input/output error"), StoreError("away")])
def test_no_method_of_a_store_ends_its_shipper(rig: Rig, method: str, error: Exception) -> None:
    """It is tried again until it works."""
    rig.work()
    rig.shipper._close()
    rig.shipper._maintain_at_s = 0.0
    rig.store.faults[method] = error
    rig.commit(*numbered(20))
    for _ in range(100):
        rig.work(1)
        if rig.problem:
            break
    assert rig.problem or method == "close"
    rig.store.faults.clear()
    rig.shipper._maintain_at_s = 0.0
    rig.work()
    rig.shipper._maintain()
    assert len(rig.store.lines) == 20
    assert not rig.problem
    assert rig.letters() == []


def test_one_line_when_it_fails_and_one_when_a_write_is_done_again(rig: Rig, log: Callable[[], list[str]]) -> None:
    """A store that opens and cannot write stays in trouble, and waits longer each time."""
    rig.store.faults["write"] = StoreError("disk full")
    rig.commit(*numbered(5))
    rig.work(207)
    said = [line for line in log() if "archive" in line]
    assert said == ["store archive: disk full; tried again until it works"]
    assert rig.problem == "disk full"
    for number in range(100):
        rig.store.faults["write"] = StoreError(f"another {number}")
        rig.work(1)
    assert len([line for line in log() if "archive" in line]) <= trouble.MOST_LINES
    rig.store.faults.clear()
    rig.work()
    assert log()[-1] == "store archive: works again; it lags by 5 records"
    assert rig.counters[StoreField.FAILING] == 0


def test_a_store_that_fails_between_writes_stays_in_trouble(rig: Rig) -> None:
    """Writes that succeed do not hide that its maintenance fails."""
    rig.store.faults["maintain"] = StoreError("cannot drop")
    for _ in range(3):
        rig.shipper._maintain_at_s = 0.0
        rig.commit(*numbered(5))
        rig.work(3)
        assert rig.problem == "cannot drop"
    rig.store.faults.clear()
    rig.work()
    rig.shipper._maintain()
    assert not rig.problem


@pytest.mark.parametrize("number", [errno.EIO, errno.EMFILE, errno.EROFS, errno.ENOSPC, errno.EACCES])
def test_what_cannot_be_opened_is_tried_again(
    rig: Rig, number: int, monkeypatch: pytest.MonkeyPatch, log: Callable[[], list[str]]
) -> None:
    """The lock, the segments and the dead letters: said once, never taken for nothing to do, and mended by waiting."""
    real = os.open
    broken = {"what": ".lock"}

    def opened(path: Any, *rest: Any, **keys: Any) -> int:
        if broken["what"] and broken["what"] in str(path):
            raise OSError(number, os.strerror(number), str(path))
        return real(path, *rest, **keys)

    monkeypatch.setattr(os, "open", opened)
    rig.commit(*numbered(5), b"refuse")
    for what in (".lock", "dead-letters", ".segment"):
        broken["what"] = what
        rig.shipper._close()
        rig.shipper._refusals._letters = None
        rig.work(30)
        assert os.strerror(number) in rig.problem
        assert what in rig.problem
        assert rig.counters[StoreField.FAILING] == 1
        assert not rig.store.lines
        assert not rig.counters[StoreField.WAITING]
    assert len([line for line in log() if "archive" in line]) == 3
    broken["what"] = ""
    rig.work()
    assert len(rig.store.lines) == 5
    assert len(rig.letters()) == 1
    assert not rig.problem


def test_dead_letters_that_cannot_be_written_hold_the_store_back(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing passes a record that is kept nowhere: neither one that is refused, nor one that the store fails at."""

    def fail(fd: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for word in (b"refuse", b"poison"):
        rig.store.fault = raising(ValueError("no"))
        with monkeypatch.context() as patch:
            patch.setattr(os, "fdatasync", fail)
            before = len(rig.letters())
            rig.writer.record_log._log._unsynced = False
            number = rig.writer.number()
            joined = word + b"\ngood\n"
            rig.writer.record_log.add_runs(bytes(16), ((1, 2),), 2, memoryview(joined))
            assert rig.writer.record_log.append()
            rig.writer.record_log.committed()
            rig.work(60)
            assert "No space left" in rig.problem
            assert number not in rig.store.lines
            assert rig.store.next <= number
            assert len(rig.letters()) == before
        rig.work()
        assert not rig.problem
        assert rig.letters()[-1][0] == number
        assert number + 1 in rig.store.lines


def test_a_journal_that_is_not_open_is_not_a_journal(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its name is not known, so no store is asked for it: records would come twice under another."""
    monkeypatch.setattr(shippers, "JOURNAL_S", 0.0)
    kept = [rig.writer.board.journal[field] for field in (JournalField.ID_HIGH, JournalField.ID_LOW)]
    rig.writer.board.journal[JournalField.ID_HIGH] = rig.writer.board.journal[JournalField.ID_LOW] = 0
    rig.work(5)
    assert rig.store.opens == 0
    assert "journal is not open" in rig.problem
    rig.writer.board.journal[JournalField.ID_HIGH], rig.writer.board.journal[JournalField.ID_LOW] = kept
    rig.commit(*numbered(3))
    rig.work()
    assert len(rig.store.lines) == 3


def test_a_store_is_not_opened_while_the_state_directory_is_away(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would make a directory at the old path, which could then not be put back; records wait meanwhile."""
    rig.work()
    opened = []
    monkeypatch.setattr(shippers, "make_store", lambda _: opened.append(1) or rig.store)
    (tmp_path / JOURNAL_DIRECTORY).rename(tmp_path / "moved")

    def fail() -> None:
        raise StoreError("/state/records: No such file or directory; create it, or name another")

    with monkeypatch.context() as patch:
        patch.setattr(rig.shipper, "_step", fail)
        rig.shipper._work()
    assert "create it" not in rig.problem
    rig.work(5)
    assert "/journal: is missing; if it or the state directory was moved, put it back" in rig.problem
    assert not opened
    (tmp_path / "moved").rename(tmp_path / JOURNAL_DIRECTORY)
    rig.commit(*numbered(3))
    rig.work()
    assert (len(rig.store.lines), rig.problem) == (3, "")


def test_segments_that_are_gone_are_not_nothing_to_do(rig: Rig, tmp_path: Path) -> None:
    """Records are committed and none can be read: that is said, and the shipper does not sleep."""
    rig.commit(*numbered(3))
    hidden = tmp_path / "hidden"
    (tmp_path / JOURNAL_DIRECTORY).rename(hidden)
    (tmp_path / JOURNAL_DIRECTORY).mkdir()
    rig.work(10)
    assert "no segment" in rig.problem
    shutil.rmtree(tmp_path / JOURNAL_DIRECTORY)
    hidden.rename(tmp_path / JOURNAL_DIRECTORY)
    rig.work()
    assert len(rig.store.lines) == 3


def test_a_segment_that_cannot_be_read_is_tried_again(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """EIO in the middle of the work is the disk's trouble, not the end of the journal."""
    rig.work()

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    rig.commit(*numbered(3))
    with monkeypatch.context() as patch:
        patch.setattr(RecordReader, "_fill", fail)
        rig.work(20)
        assert "Input/output error" in rig.problem
    rig.work()
    assert len(rig.store.lines) == 3


def test_a_store_is_closed_at_the_end(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it holds open, such as a connection that a server would keep."""
    for name in ("libc.signal_on_parent_death", "os.nice", "gc.freeze"):
        monkeypatch.setattr(f"prefork_logd.processes.shipper.shipper.{name}", lambda *_: None)
    rig.commit(*numbered(1))
    rig.shipper.loop.later(0.05, rig.shipper.loop.stop)
    assert rig.shipper.run() == 0
    assert (rig.store.opens, rig.store.closes) == (1, 1)


def test_a_block_without_some_records() -> None:
    """A suspect is left out wherever it stands, and the numbers of the others stay."""
    from prefork_logd.stores.base import Block, Run

    block = Block(10, 6, bytes(16), (Run(5, 2), Run(20, 4)), b"a\nb\nc\nd\ne\nf\n")
    found = suspects.Suspects()
    for number in (10, 12, 13, 15, 99):
        found.waiting[number] = b"", ""
    parts = found.without(block)
    assert [(part.first, part.lines, part.runs) for part in parts] == [
        (11, b"b\n", (Run(6, 1),)), (14, b"e\n", (Run(22, 1),))
    ]  # fmt: skip
    assert split_block(block, 6) == (block, None)


def test_a_store_that_is_ahead_counts_what_it_will_not_take(rig: Rig, log: Callable[[], list[str]]) -> None:
    """Where a journal was set back unnoticed: the records whose numbers were given before are lost, and counted.

    Those, too, that came before the store was opened for the first time.
    """
    rig.commit(*numbered(5))
    rig.store.next = rig.writer.number() + 20
    rig.work()
    assert any("was set back" in line and "identity" in line for line in log())
    rig.commit(*numbered(8))
    rig.work()
    assert rig.counters[StoreField.LOST] == 13
    rig.shipper._close()
    rig.work()
    assert rig.counters[StoreField.LOST] == 13
    rig.commit(*numbered(30))
    rig.work()
    assert rig.counters[StoreField.LOST] == 25
    assert len(rig.store.lines) == 18
