"""Lines on stderr: each kind once, and again only after a connection has worked."""

from __future__ import annotations

import logging
import sys

import pytest

from prefork_logd.handlers import _notices
from prefork_logd.handlers._notices import Notices, printable, report_failure


def test_a_kind_is_said_once_until_a_session_and_a_minute_have_passed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr(_notices, "monotonic", lambda: now[0])
    notices = Notices("host:1")
    assert not notices.has_said()
    notices.say_once("a", "first")
    notices.say_once("a", "second")
    notices.forget()
    notices.say_once("a", "third")
    now[0] += 61
    notices.say_once("a", "fourth")
    notices.forget()
    notices.say_once("a", "fifth")
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["prefork_logd.handlers: host:1 first", "prefork_logd.handlers: host:1 fifth"]
    assert notices.has_said("a")
    assert notices.has_said()


def test_the_reason_is_told_while_there_is_no_connection() -> None:
    notices = Notices("host:1")
    assert notices.because() == ""
    notices.trouble = "cannot be reached"
    assert notices.because() == " (cannot be reached)"
    notices.is_sending = True
    assert notices.because() == ""
    notices.is_sending = False
    notices.forget()
    assert notices.because() == ""


def test_nothing_is_said_where_logging_is_silenced(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    Notices("host:1").say_once("a", "text")
    report_failure()
    assert capsys.readouterr().err == ""


def test_a_stderr_that_cannot_be_written_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed:
        def write(self, _: str) -> None:
            raise ValueError("closed")

    monkeypatch.setattr(sys, "stderr", Closed())
    notices = Notices("host:1")
    notices.say_once("a", "text")
    assert notices.has_said("a")
    monkeypatch.setattr(sys, "stderr", None)
    notices.say_once("b", "text")
    report_failure()
    assert notices.has_said("b")


class Kept(logging.Handler):
    """Keeps what is logged, and has trouble itself, as a handler of ours would."""

    def __init__(self, notices: Notices) -> None:
        super().__init__()
        self.notices, self.records = notices, [""]

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(f"{record.levelname} {record.name} {record.getMessage()}")
        self.notices.say_once("dropping", "records are dropped")
        self.notices.warn()
        raise ValueError("of a filter")


def test_what_was_said_is_logged_once_without_a_loop(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("prefork_logd.handlers")
    notices = Notices("host:1")
    notices.say_once("dropping", "records are dropped")
    kept = Kept(notices)
    logger.addHandler(kept)
    try:
        notices.warn()
        notices.warn()
    finally:
        logger.removeHandler(kept)
    assert kept.records == ["", "WARNING prefork_logd.handlers host:1 records are dropped"]
    assert "of a filter" in capsys.readouterr().err


def test_nothing_is_logged_where_nothing_listens(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else logging would print the line a second time."""
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    notices = Notices("host:1")
    notices.say_once("away", "no connection")
    notices.warn()
    assert capsys.readouterr().err.count("no connection") == 1
    assert not notices.warnings


def test_texts_from_the_network_are_printable_and_short() -> None:
    assert printable("no \x1b[31m\n\u2603") == "no \\x1b[31m\\n\\u2603"
    assert len(printable("x" * 5000)) == 255
