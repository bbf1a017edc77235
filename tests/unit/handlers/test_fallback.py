"""When a receiver gets plain frames: only where that is allowed, and no collector has ever answered."""

from __future__ import annotations

from typing import Any

import pytest

from prefork_logd.handlers import _fallback
from prefork_logd.handlers._fallback import Fallback
from prefork_logd.handlers._notices import Notices
from prefork_logd.handlers._options import Options


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Give the time, to be changed."""
    time = [100.0]
    monkeypatch.setattr(_fallback, "monotonic", lambda: time[0])
    return time


def make(**arguments: Any) -> tuple[Fallback, Notices]:
    notices = Notices("host:1")
    return Fallback(Options("host", 1, **arguments), notices), notices


def test_plain_frames_are_spoken_for_longer_each_time(now: list[float]) -> None:
    fallback, _ = make(fallback=True)
    for seconds in (5, 10, 20, 40, 80, 160, 300, 300):
        assert fallback.speak_plain("answers no HELLO")
        now[0] += seconds - 0.1
        assert fallback.is_due()
        now[0] += 0.2
        assert not fallback.is_due()
    fallback.note_session()
    assert not fallback.is_plain
    assert fallback.speak_plain("again")
    now[0] += 5.1
    assert not fallback.is_due()


def test_without_leave_or_after_a_collector_has_answered_no_plain_frame_is_spoken(now: list[float]) -> None:
    fallback, _ = make()
    assert not fallback.speak_plain("answers no HELLO")
    fallback, _ = make(fallback=True)
    fallback.has_collector = True
    assert not fallback.speak_plain("answers no HELLO")
    assert not fallback.note_silent_close()
    fallback.reset()
    assert fallback.has_collector


def test_the_third_close_in_a_row_is_a_plain_receivers(now: list[float]) -> None:
    fallback, _ = make(fallback=True)
    assert [fallback.note_silent_close() for _ in range(2)] == [True, True]
    assert not fallback.is_plain
    fallback.note_unreachable()
    assert [fallback.note_silent_close() for _ in range(2)] == [True, True]
    assert not fallback.is_plain
    assert fallback.note_silent_close()
    assert fallback.is_plain


def test_where_it_is_not_allowed_the_third_close_is_said_and_waited_for(
    now: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    fallback, notices = make()
    assert [fallback.note_silent_close() for _ in range(3)] == [True, True, False]
    assert notices.trouble == "closes the connection without an answer"
    assert "fallback=True would send plain frames" in capsys.readouterr().err
