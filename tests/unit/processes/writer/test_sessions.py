"""The writer's sessions: each number is taken once, and nothing is answered before its commit."""

from __future__ import annotations

from typing import Any

import pytest

from prefork_logd.config.server import LimitSettings
from prefork_logd.errors import OutputError
from prefork_logd.ipc.batch import OPENED, REFUSED, Answer, Group, Open, Segment, read_answers
from prefork_logd.journal.sessions import Sessions
from prefork_logd.processes.writer.sessions import WriterSessions

SESSION = b"s" * 16


class Source:
    """A worker's pipes that keep what is answered."""

    def __init__(self) -> None:
        self.ended = False
        self.said = b""

    def answer(self, data: bytes) -> None:
        self.said += data

    @property
    def answers(self) -> list[Answer]:
        return read_answers(self.said)[0]


@pytest.fixture
def sessions() -> WriterSessions:
    made = WriterSessions()
    made.begin(Sessions())
    made.configure(LimitSettings())
    return made


def _group(epoch: int, first: int, last: int, session: bytes = SESSION) -> Group:
    return Group(session, epoch, first, last, [Segment(1, last - first + 1, memoryview(b"x\n"))], [], 1)


def _open(sessions: WriterSessions, session: bytes = SESSION) -> int:
    source = Source()
    sessions.add_opens(source, [Open(7, session, 1)])
    sessions.answer_opens(lambda: None)
    (answer,) = source.answers
    assert (answer.kind, answer.a) == (OPENED, 7)
    return answer.b


def test_numbers_are_taken_once(sessions: WriterSessions) -> None:
    """A repetition is left out without a word; what is out of order is refused after the commit."""
    source, epoch = Source(), _open(sessions)
    assert sessions.accept(source, _group(epoch, 1, 3))
    assert not sessions.accept(source, _group(epoch, 1, 3))
    assert not sessions.accept(source, _group(epoch, 9, 9))
    assert source.answers == []
    sessions.answer_refusals()
    assert source.answers == [Answer(REFUSED, SESSION, epoch, 9, 9)]
    sessions.answer_refusals()
    assert len(source.answers) == 1


def test_an_older_epoch_is_refused(sessions: WriterSessions) -> None:
    """Its client has gone to another worker."""
    source, old = Source(), _open(sessions)
    assert sessions.accept(source, _group(old, 1, 3))
    new = _open(sessions)
    assert new > old
    assert not sessions.accept(source, _group(old, 4, 4))
    assert sessions.accept(source, _group(new, 4, 4))


def test_a_session_is_answered_after_its_commit(sessions: WriterSessions) -> None:
    """A commit that fails leaves the request for the next one; a worker that has ended gets no answer."""
    sessions.accept(Source(), _group(_open(sessions), 1, 3))
    sessions._known.settle()
    source, gone = Source(), Source()
    gone.ended = True
    sessions.add_opens(source, [Open(1, SESSION, 1)])
    sessions.add_opens(gone, [Open(2, SESSION, 1)])

    def fail() -> None:
        assert source.said == b""
        raise OutputError("journal", "write", OSError(28, "No space left on device"))

    with pytest.raises(OutputError):
        sessions.answer_opens(fail)
    assert sessions.has_opens
    assert source.said == b""
    commits: list[Any] = []
    sessions.answer_opens(lambda: commits.append(source.said))
    assert commits == [b""]
    assert not sessions.has_opens
    assert [(answer.kind, answer.a, answer.c) for answer in source.answers] == [(OPENED, 1, 3)]
    assert gone.said == b""


def test_limits_before_the_recovery() -> None:
    """They count once the journal is there."""
    sessions = WriterSessions()
    sessions.configure(LimitSettings(max_sessions=1))
    journal = Sessions()
    sessions.begin(journal)
    sessions.configure(LimitSettings(max_sessions=5))
    assert journal.most == 5


def test_forgotten_sessions_are_logged(sessions: WriterSessions, caplog: pytest.LogCaptureFixture) -> None:
    """Once, with the limit that they exceeded: one address may have nine tenths of it, so one of two here."""
    sessions._known.most = 2
    for number in range(3):
        name = bytes([number]) * 16
        sessions.accept(Source(), _group(_open(sessions, name), 1, 1, name))
        sessions._known.settle()
    sessions.report_forgotten()
    sessions.report_forgotten()
    assert caplog.text.count("forgot 2 sessions") == 1
    assert "limits.max_sessions is 2" in caplog.text
