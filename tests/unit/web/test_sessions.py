"""Sessions are found by a secret id, end, and are bounded; their file survives, or is as good as none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from prefork_logd.web.page_files import PageFiles
from prefork_logd.web.sessions import FILE, MOST_OF_A_USER, Sessions

if TYPE_CHECKING:
    from pathlib import Path


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def files(tmp_path: Path) -> PageFiles:
    return PageFiles(tmp_path)


def test_a_session_lives_as_long_as_it_may(files: PageFiles) -> None:
    clock = Clock()
    sessions = Sessions(files, 60, clock)
    name = sessions.begin("ada", "password", "mark")
    clock.now += 59
    found = Sessions(files, 60, clock).find(name)
    assert found is not None
    assert (found.user, found.by, found.mark) == ("ada", "password", "mark")
    assert Sessions(files, 30, clock).find(name) is None
    clock.now += 2
    assert sessions.find(name) is None
    sessions.begin("ben", "token")
    assert len(sessions._sessions) == 1


def test_a_user_has_a_bounded_number(files: PageFiles) -> None:
    """The oldest ends; those of others stay."""
    clock = Clock()
    sessions = Sessions(files, 1e6, clock)
    other = sessions.begin("ben", "token")
    names = []
    for _ in range(MOST_OF_A_USER + 3):
        clock.now += 1
        names.append(sessions.begin("ada", "token"))
    assert [sessions.find(name) is not None for name in names] == [False] * 3 + [True] * MOST_OF_A_USER
    assert sessions.find(other) is not None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"a":1}', b"\xff"])
def test_a_damaged_file_logs_everybody_out(files: PageFiles, content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """And nothing worse."""
    name = Sessions(files, 60).begin("ada", "token")
    files.path(FILE).write_bytes(content)
    sessions = Sessions(files, 60)
    assert sessions.find(name) is None
    assert ("log in again" in caplog.text) is bool(content)
    assert sessions.find(sessions.begin("ada", "token")) is not None


def test_a_session_that_cannot_be_kept_works(files: PageFiles, caplog: pytest.LogCaptureFixture) -> None:
    """Until the process ends: a full disk locks nobody out."""
    sessions = Sessions(files, 60)
    files.path(f"{FILE}.new").mkdir()
    assert sessions.find(sessions.begin("ada", "token")) is not None
    assert "lost at its restart" in caplog.text


def test_tokens_of_forms_belong_to_one_session(files: PageFiles) -> None:
    """And stay the same over a restart."""
    sessions = Sessions(files, 60)
    assert len({sessions.csrf(subject) for subject in ("a", "b", "proxy:a", "")}) == 4
    assert Sessions(files, 60).csrf("a") == sessions.csrf("a")
    assert Sessions(files, 60).label == sessions.label
    assert len(sessions.label) == 8


def test_a_session_that_has_ended_stays_so(files: PageFiles) -> None:
    """Also after a restart, though the file could not be written."""
    sessions = Sessions(files, 60)
    name = sessions.begin("ada", "token")
    files.path(f"{FILE}.new").mkdir()
    sessions.end(name)
    assert sessions.find(name) is None
    assert Sessions(files, 60).find(name) is None
