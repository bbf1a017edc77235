"""Records are read as they are committed, each once, with their numbers."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from prefork_logd.config.paths import JOURNAL_DIRECTORY
from prefork_logd.errors import ProcessError
from prefork_logd.web import following
from prefork_logd.web.following import (
    JournalFollower,
    OutputFollower,
    PastRecords,
    committed,
    journal_id,
    open_follower,
)
from tests.support.page import make_settings
from tests.support.record_logs import GrowingLog
from tests.support.stores import numbered

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

JOURNAL = "fedcba9876543210" * 2


@pytest.fixture
def log(tmp_path: Path) -> Iterator[GrowingLog]:
    """Return the journal of a state directory."""
    with contextlib.closing(GrowingLog(tmp_path / JOURNAL_DIRECTORY, JOURNAL, 2_000)) as made:
        yield made


def test_a_journal_is_followed_from_its_end(log: GrowingLog, tmp_path: Path) -> None:
    """Each record comes once, over the ends of segments, too."""
    log.add(numbered(0, 5))
    directory = tmp_path / JOURNAL_DIRECTORY
    with contextlib.closing(JournalFollower(directory)) as follower:
        assert (follower.journal, follower.position) == (JOURNAL, 5)
        assert follower.read().lines == []
        for first in range(5, 45, 4):
            log.add(numbered(first, 4))
        assert follower.read().lines == [*zip(range(5, 45), numbered(5, 40), strict=True)]
        assert follower.read().lines == []
        assert follower.position == 45


def test_a_follower_far_behind_passes_records_over(
    log: GrowingLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says how many; a piece has a bounded size."""
    with contextlib.closing(JournalFollower(tmp_path / JOURNAL_DIRECTORY)) as follower:
        monkeypatch.setattr(following, "MOST_BEHIND", 20)
        for first in range(0, 100, 10):
            log.add(numbered(first, 10))
        found = follower.read()
        assert found.passed_over == 90
        assert [number for number, _ in found.lines] == [*range(90, 100)]
        monkeypatch.setattr(following, "PIECE_BYTES", 1)
        log.add(numbered(100, 5))
        log.add(numbered(105, 5))
        assert [number for number, _ in follower.read().lines] == [*range(100, 105)]
        assert follower.position == 105
        assert [number for number, _ in follower.read().lines] == [*range(105, 110)]


def test_another_journal_is_read_from_its_beginning(log: GrowingLog, tmp_path: Path) -> None:
    """A number before the last one means that another journal has taken its place."""
    directory = tmp_path / JOURNAL_DIRECTORY
    log.add(numbered(0, 9))
    with contextlib.closing(JournalFollower(directory)) as follower:
        log.close()
        for path in directory.iterdir():
            path.unlink()
        with contextlib.closing(GrowingLog(directory, "0" * 32)) as other:
            other.add(numbered(0, 2))
            assert [number for number, _ in follower.read().lines] == [0, 1]
            assert follower.journal == "0" * 32


def test_an_output_is_followed_without_a_store(tmp_path: Path) -> None:
    """Its records have no numbers."""
    settings = make_settings(tmp_path, "store = []")
    path = tmp_path / "records.jsonl"
    path.write_bytes(b"".join(numbered(0, 3)))
    with contextlib.closing(open_follower(settings)) as follower:
        assert isinstance(follower, OutputFollower)
        assert follower.journal == ""
        with path.open("ab") as file:
            file.write(b"".join(numbered(3, 2)))
        assert follower.read().lines == [(None, line) for line in numbered(3, 2)]
        assert follower.read().lines == []


def test_there_may_be_nothing_to_follow(tmp_path: Path, log: GrowingLog) -> None:
    """The error names the settings; with a journal it is followed."""
    settings = make_settings(tmp_path, 'store = []\n[[output]]\npath = "a.txt"\nformat = "text"\n')
    with pytest.raises(ProcessError, match="neither a store nor an output"):
        open_follower(settings)
    with contextlib.closing(open_follower(make_settings(tmp_path))) as follower:
        assert isinstance(follower, JournalFollower)
    log.add(numbered(0, 1))


def test_past_records_are_read_between_two_numbers(log: GrowingLog, tmp_path: Path) -> None:
    """Neither before nor behind them, also within a block; what was removed is left out."""
    for first in range(0, 60, 6):
        log.add(numbered(first, 6))
    directory = tmp_path / JOURNAL_DIRECTORY
    for start, stop in ((0, 60), (7, 54), (8, 8), (59, 60), (60, 60), (70, 80)):
        with contextlib.closing(PastRecords(directory, start, stop)) as past:
            found: list[int | None] = []
            while piece := past.read():
                found += [number for number, _ in piece]
        assert found == [*range(start, min(stop, 60))]
    log.log.remove_below(30)
    with contextlib.closing(PastRecords(directory, 0, 60)) as past:
        assert 0 < past.start <= 30
        assert past.read()[0][0] == past.start


def test_the_state_of_a_missing_journal(tmp_path: Path) -> None:
    """There is neither a number nor an id."""
    assert committed(tmp_path) is None
    assert journal_id(tmp_path) == ""
