"""The log says that the state directory has gone from its path, before commands and the journal fail on that."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

import pytest

from prefork_logd.config.paths import JOURNAL_DIRECTORY, PID_FILE
from prefork_logd.processes.master.place import CHECK_S, PlaceCheck
from prefork_logd.system.pid_lock import PidLock
from tests.support.children import FakeLoop
from tests.support.disks import mounted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[FakeLoop]:
    """Return the loop of a collector whose state directory is `state`."""
    (tmp_path / "state").mkdir()
    made = FakeLoop()
    with PidLock(tmp_path / "state" / PID_FILE) as lock:
        PlaceCheck(made.loop, lock)
        yield made


def _said(loop: FakeLoop, caplog: pytest.LogCaptureFixture) -> list[tuple[int, str]]:
    caplog.clear()
    loop.pass_s(3 * CHECK_S)
    return [(record.levelno, record.getMessage()) for record in caplog.records]


def test_a_directory_that_was_moved_is_an_error_until_it_is_back(
    loop: FakeLoop, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Each is said once, with the remedy."""
    assert _said(loop, caplog) == []
    (tmp_path / "state").rename(tmp_path / "moved")
    ((level, text),) = _said(loop, caplog)
    assert level == logging.ERROR
    assert text.startswith(f"{tmp_path}/state/{PID_FILE} is no longer the file of this collector: ")
    assert f"stop the collector by `kill {os.getpid()}`" in text
    assert _said(loop, caplog) == []
    (tmp_path / "moved").rename(tmp_path / "state")
    assert _said(loop, caplog) == [(logging.WARNING, f"{tmp_path}/state/{PID_FILE} is back")]


def test_a_file_in_the_way_to_the_directory(loop: FakeLoop, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is no failure of the check."""
    (tmp_path / "state").rename(tmp_path / "moved")
    (tmp_path / "state").touch()
    assert [level for level, _ in _said(loop, caplog)] == [logging.ERROR]


@pytest.mark.slow
def test_a_file_system_mounted_over_the_directory(
    loop: FakeLoop, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It hides the directory until it is unmounted."""
    with mounted(tmp_path / "state", "size=64k"):
        assert [level for level, _ in _said(loop, caplog)] == [logging.ERROR]
    assert [level for level, _ in _said(loop, caplog)] == [logging.WARNING]


def test_a_journal_that_was_removed_is_an_error(
    loop: FakeLoop, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Another directory at its place does not count; one that is not yet made is none."""
    journal = tmp_path / "state" / JOURNAL_DIRECTORY
    assert _said(loop, caplog) == []
    journal.mkdir()
    assert _said(loop, caplog) == []
    journal.rename(tmp_path / "moved")
    ((level, text),) = _said(loop, caplog)
    assert level == logging.ERROR
    assert text.startswith(f"{journal} was moved, removed or mounted over: ")
    journal.mkdir()
    assert _said(loop, caplog) == []
    journal.rmdir()
    (tmp_path / "moved").rename(journal)
    assert _said(loop, caplog) == [(logging.WARNING, f"{journal} is back")]
