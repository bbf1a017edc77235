"""The log of published ranges: what it has said it keeps comes back, whatever happens to its file."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any

import pytest

from prefork_logd.errors import StoreError
from prefork_logd.stores.nats import publish_log
from prefork_logd.stores.nats.publish_log import PublishedRange, PublishLog
from tests.support import procfs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

JOURNAL = "ab" * 16


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of a file in a directory that is not there yet."""
    return tmp_path / "state" / "nats.window"


@pytest.fixture
def log(path: Path) -> Iterator[PublishLog]:
    """Return an empty log that begins at 100."""
    log = PublishLog(path, JOURNAL, 0.0)
    log.begin(100)
    yield log
    log.close()


def cut(log: PublishLog, *sizes: int) -> list[PublishedRange]:
    """Add ranges of these sizes."""
    ranges, first = [], log.end
    for size in sizes:
        ranges.append(PublishedRange(first, first + size))
        first += size
    log.cut(ranges)
    return ranges


def ack(log: PublishLog, *ranges: PublishedRange) -> None:
    """Acknowledge ranges, each with sequences that follow from its first number."""
    for published in ranges:
        published.low, published.high = published.first + 1000, published.end + 999
    log.acked(ranges)


def read(path: Path, journal: str = JOURNAL) -> tuple[int, bool, list[tuple[int, int, int, int]]]:
    """Return what a new process finds in the file."""
    log = PublishLog(path, journal, 5.0)
    found = [(published.first, published.end, published.low, published.high) for published in log]
    assert all(published.acked_s == 5.0 for published in log)
    log.close()
    return log.base, log.is_new, found


def test_a_file_that_is_missing_is_a_new_log(path: Path) -> None:
    """Reading it makes nothing."""
    log = PublishLog(path, JOURNAL, 0.0)
    assert (log.is_new, log.base, log.end, log.wanted, len(log)) == (True, 0, 0, 0, 0)
    assert log.at(0) is None
    assert not path.parent.exists()


def test_ranges_come_back_with_their_bounds_and_sequences(log: PublishLog, path: Path) -> None:
    """Those that are not acknowledged have none, and the first of them is wanted."""
    assert read(path) == (100, False, [])
    first, second, third = cut(log, 5, 1, 7)
    ack(log, first, third)
    assert read(path) == (100, False, [(100, 105, 1100, 1104), (105, 106, 0, 0), (106, 113, 1106, 1112)])
    assert (log.wanted, log.end, len(log)) == (105, 113, 3)
    assert log.at(105) is second
    assert log.at(104) is None
    ack(log, second)
    assert log.wanted == log.end == 113


def test_what_is_settled_is_forgotten(log: PublishLog, path: Path) -> None:
    """Whole ranges that are acknowledged, up to the first that is not."""
    first, second, third = cut(log, 5, 5, 5)
    ack(log, first, third)
    log.settle(104)
    assert (log.base, len(log)) == (100, 3)
    log.settle(105)
    assert (log.base, len(log)) == (105, 2)
    log.settle(10_000)
    assert (log.base, len(log)) == (105, 2)
    ack(log, second)
    log.settle(10_000)
    assert (log.base, log.end, log.wanted, len(log)) == (115, 115, 115, 0)
    assert read(path) == (115, False, [])


def test_a_log_may_begin_again(log: PublishLog, path: Path) -> None:
    """Elsewhere, and without what it had."""
    cut(log, 5, 5)
    log.begin(7)
    assert read(path) == (7, False, [])
    cut(log, 3)
    assert read(path) == (7, False, [(7, 10, 0, 0)])


def test_the_file_of_another_journal_or_version_is_none(log: PublishLog, path: Path) -> None:
    """It is replaced with the first entry."""
    cut(log, 5)
    assert read(path, "cd" * 16) == (0, True, [])
    data = path.read_bytes()
    for place in range(8):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        assert read(path) == (0, True, [])
    other = PublishLog(path, "cd" * 16, 0.0)
    other.begin(3)
    other.close()
    assert read(path, "cd" * 16) == (3, False, [])
    assert read(path) == (0, True, [])


def test_a_changed_byte_ends_the_log_before_its_entry(log: PublishLog, path: Path) -> None:
    """Nothing behind it is believed, and no altered bound is."""
    ranges = cut(log, 5, 6, 7)
    entries = [(published.first, published.end, 0, 0) for published in ranges]
    data = path.read_bytes()
    for place in range(24, len(data)):
        path.write_bytes(data[:place] + bytes([data[place] ^ 0x80]) + data[place + 1 :])
        whole = (place - 24) // 36
        assert read(path) == ((100, False, entries[: whole - 1]) if whole else (0, True, []))


@pytest.mark.parametrize("torn", [0, 1, 10])
def test_a_disk_that_is_full_tears_no_entry(
    log: PublishLog, path: Path, monkeypatch: pytest.MonkeyPatch, torn: int
) -> None:
    """It is an error with the file's name; the next entry brings those that were not written."""
    cut(log, 5)
    real = os.write

    def full(fd: int, data: bytes) -> int:
        if not torn:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(fd, data[:torn])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(StoreError, match=f"{path}: cannot write it: No space left on device"):
            cut(log, 6)
    assert read(path) == (100, False, [(100, 105, 0, 0)])
    cut(log, 7)
    assert read(path) == (100, False, [(100, 105, 0, 0), (105, 111, 0, 0), (111, 118, 0, 0)])


@pytest.mark.parametrize("call", ["open", "replace", "fdatasync"])
def test_a_new_file_replaces_the_old_one_or_leaves_it(path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """Whichever call fails, and with no descriptor left over."""
    log = PublishLog(path, JOURNAL, 0.0)
    log.begin(100)
    cut(log, 5)
    before = path.read_bytes()

    def fail(*_: Any, **__: Any) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    descriptors = procfs.descriptors(os.getpid())
    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(StoreError, match="cannot write it: Input/output error"):
            log.begin(7)
    assert path.read_bytes() == before
    assert procfs.descriptors(os.getpid()) == descriptors - 1
    log.begin(7)
    assert read(path) == (7, False, [])
    log.close()


def test_a_file_that_cannot_be_read_is_an_error(path: Path) -> None:
    """An empty log in its place would give published ranges other bounds."""
    path.mkdir(parents=True)
    with pytest.raises(StoreError, match=f"{path}: cannot read it: Is a directory"):
        PublishLog(path, JOURNAL, 0.0)


def test_the_file_stays_short(log: PublishLog, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many ranges come and go; nothing is lost when it is written anew."""
    monkeypatch.setattr(publish_log, "_SLACK", 10)
    for _ in range(100):
        ranges = cut(log, 1, 1)
        ack(log, *ranges)
        log.settle(log.end)
        assert path.stat().st_size <= 24 + 36 * (10 + 2 * 2 + 2)
    cut(log, 4)
    assert read(path) == (300, False, [(300, 304, 0, 0)])


def test_a_directory_that_was_moved_is_not_made_again(log: PublishLog, path: Path) -> None:
    """It may be the state directory, and a new one would be in its way back; the log goes on when it is back."""
    cut(log, 3)
    path.parent.rename(path.parent.with_name("moved"))
    log.close()
    with pytest.raises(StoreError, match="cannot write it: No such file or directory"):
        cut(log, 4)
    assert not path.parent.exists()
    path.parent.with_name("moved").rename(path.parent)
    cut(log, 5)
    assert read(path) == (100, False, [(100, 103, 0, 0), (103, 107, 0, 0), (107, 112, 0, 0)])


def test_only_its_owner_may_read_it(log: PublishLog, path: Path) -> None:
    """Whatever the umask is."""
    assert path.stat().st_mode & 0o077 == 0
    assert path.parent.stat().st_mode & 0o077 == 0
