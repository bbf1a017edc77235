"""Decides which batches of sessions the writer accepts, and answers requests for sessions.

Owns the answers that wait for a commit, and the clock of sessions. journal/sessions.py knows which number comes next.
Does not know outputs or pipes.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

from prefork_logd.config.values import format_count
from prefork_logd.errors import OutputError
from prefork_logd.inputs.session.messages import label
from prefork_logd.ipc.batch import opened, refused
from prefork_logd.journal.sessions import Verdict
from prefork_logd.system.log import RateLimitedLog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from prefork_logd.config.server import LimitSettings
    from prefork_logd.ipc.batch import Group, Open
    from prefork_logd.journal.sessions import Sessions

FORGOT_EVERY_S = 600.0
"""Limits the log lines about forgotten sessions."""


class Asker(Protocol):
    """The writer's end of the pipes to one worker (batch_receiver.py)."""

    ended: bool

    def answer(self, data: bytes) -> None:
        """Send an answer to the worker."""


class WriterSessions:
    """The sessions of clients, as the writer commits them."""

    def __init__(self) -> None:
        self._sessions: Sessions | None = None
        """None until the journal is recovered."""
        self._ran_before_s = 0.0
        """How long the collector had run when the monotonic clock was 0."""
        self._retention_s = 0
        self._notices = RateLimitedLog()
        self._forgot = RateLimitedLog(burst=1, per_second=1 / FORGOT_EVERY_S)
        self._refusals: list[tuple[Asker, Group]] = []
        self._opens: list[tuple[Asker, Open]] = []

    @property
    def _known(self) -> Sessions:
        assert self._sessions is not None  # noqa: S101 - for the type checker: nothing is read before the recovery
        return self._sessions

    def begin(self, sessions: Sessions) -> None:
        """Take the sessions of the recovered journal."""
        self._sessions = sessions
        self._ran_before_s = sessions.now_s - time.monotonic()

    def configure(self, limits: LimitSettings) -> None:
        """Set the limits for sessions."""
        self._retention_s = limits.session_retention_s
        if self._sessions is not None:
            self._sessions.most = limits.max_sessions

    def expire(self) -> None:
        """Forget sessions that no client has used for long."""
        self._known.expire(self._ran_s(), self._retention_s)

    def _ran_s(self) -> int:
        """Return the collector's running time in seconds since its journal began."""
        return int(self._ran_before_s + time.monotonic())

    # Batches

    def accept(self, source: Asker, group: Group) -> bool:
        """Return whether the lines of a group are accepted; they are then part of the next commit."""
        verdict = self._known.accepts(group.session, group.epoch, group.first, group.last, group.floor)
        if verdict is Verdict.NEXT:
            records = max((segment.lines for segment in group.segments), default=0)
            self._known.commit(group.session, group.epoch, group.last, self._ran_s(), records, group.peer)
            return True
        if verdict is not Verdict.REPEATED:
            self.refuse(source, group)
        return False

    def refuse(self, source: Asker, group: Group) -> None:
        """Answer after the next commit that a group was left out."""
        self._refusals.append((source, group))

    def answer_refusals(self) -> None:
        """Send the workers the refusals since the last commit."""
        for source, group in self._refusals:
            source.answer(refused(group))
        self._refusals = []

    # New epochs

    @property
    def has_opens(self) -> bool:
        """Whether requests for sessions wait."""
        return bool(self._opens)

    def add_opens(self, source: Asker, opens: Iterable[Open]) -> None:
        """Answer these requests for sessions after the next commit."""
        self._opens += [(source, request) for request in opens]

    def answer_opens(self, commit: Callable[[], None]) -> None:
        """Give each requested session a new epoch, and answer once `commit` has written it.

        The epoch must be in the journal before the answer, or a later writer would accept late lines of the old epoch.
        Raises the OutputError of `commit`; then the requests are kept.
        """
        if not self._opens:
            return
        opens, self._opens = self._opens, []
        now_s = self._ran_s()
        answers = []
        for source, request in opens:
            given = self._known.open(request.session, request.first, now_s)
            if given.skipped:
                self._notices.warning(
                    "session %s goes on after a gap of %s, for which its client has acknowledgements",
                    label(request.session),
                    format_count(given.skipped, "number"),
                )
            answers.append((source, opened(request.session, request.token, given.epoch, given.committed)))
        try:
            # A session without a record is not stored, so it needs no commit.
            if self._known.is_changing:
                commit()
        except OutputError:
            self._opens = opens
            raise
        for source, answer in answers:
            if not source.ended:
                source.answer(answer)

    def report_forgotten(self) -> None:
        """Log the number of sessions that were forgotten because there were too many."""
        forgotten, self._known.forgotten = self._known.forgotten, 0
        if forgotten:
            self._forgot.warning(
                "forgot %s, the shortest of the address with the most; limits.max_sessions is %d",
                format_count(forgotten, "session"),
                self._known.most,
            )
