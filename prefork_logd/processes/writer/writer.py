"""The writer: the one process that appends to the outputs.

Owns the turn and the commit. Does not look into lines, and knows workers only as sources of batches.

The turn: batches are read from the pipes that are ready, their lines are appended to the outputs in as few system calls
as possible, the commit entry is written, and each worker is told how far its batches are committed. When an output
cannot be written (disk full, file system read-only, I/O error), nothing more is read: the pipes fill, the workers
pause, the clients wait. The append is tried again until it works; what stays behind of a failed one is cut off at once.
"""

from __future__ import annotations

import gc
import math
import os
import time
from typing import TYPE_CHECKING

from prefork_logd.errors import ExitStatus, OutputError
from prefork_logd.inputs.session.messages import label
from prefork_logd.ipc import shared_memory
from prefork_logd.ipc.batch import NO_SESSION, RECORDS, opened, refused
from prefork_logd.ipc.batch_receiver import Source
from prefork_logd.ipc.channel import Channel
from prefork_logd.ipc.configuration import Configuration
from prefork_logd.ipc.messages import (
    AnyMessage,
    Attach,
    Configure,
    Configured,
    Drain,
    Forget,
    Ready,
    Reopen,
    Reopened,
    Retire,
    WakeupFd,
)
from prefork_logd.ipc.scoreboard import WRITER_SLOT, Field, Scoreboard
from prefork_logd.journal.commit_entry import Committed
from prefork_logd.journal.sessions import Verdict
from prefork_logd.net.loop import Loop, Timer
from prefork_logd.processes.fork import LOST_STATUS
from prefork_logd.processes.writer.outputs import Outputs
from prefork_logd.processes.writer.record_log import REMOVE_EVERY_S, RecordLogWriter
from prefork_logd.processes.writer.recovery import OTHER_WRITER_S, Recovery
from prefork_logd.system.backoff import Backoff
from prefork_logd.system.log import LOGGER, Limited, reopen_own

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from prefork_logd.ipc.batch import Batch, Group, Open
    from prefork_logd.journal.journal import Journal

TURN_BYTES = 4 << 20
"""Lines gathered before they are appended."""
FIRST_RETRY_S, LONGEST_RETRY_S = 0.05, 1.0
LAST_TRY_S = 1.0
"""How long an output that cannot be written may take once all workers have ended."""
ORPHAN_S = 1.8
"""How long a writer goes on without its master: a little longer than the workers do."""
EXPIRE_EVERY_S = 3600.0
FORGOT_EVERY_S = 600.0
"""Limits the log lines about forgotten sessions."""


class Writer:
    """The writer's life."""

    def __init__(
        self,
        board: Scoreboard,
        channel: socket.socket,
        configurations: Sequence[Configuration],
        run: int,
    ) -> None:
        """Write under the last of `configurations`; workers may still have lines for the outputs of earlier ones.

        `run` is the master's: what the journal says of another run's workers counts no more.
        """
        self.loop = Loop()
        self._counters = board.slot(WRITER_SLOT)
        self._channel = Channel(self.loop, channel, self._told, self._orphaned)
        self._configurations = configurations
        self._outputs = Outputs(board)
        self._record_log = RecordLogWriter(board)
        self._sources: dict[int, Source] = {}
        self._recovery = Recovery(configurations[-1].settings.server.state_dir, self._outputs, self._record_log, run)
        self._problem = ""
        """Why nothing can be written yet."""
        self._waiting: list[tuple[Attach, list[int]]] = []
        """Workers that came before the recovery was done."""
        self._ran_before_s = 0.0
        """How long the collector had run when the monotonic clock was 0."""
        self._notices = Limited()
        self._forgot = Limited(burst=1, per_second=1 / FORGOT_EVERY_S)
        self._refusals: list[tuple[Source, Group]] = []
        self._opens: list[tuple[Source, Open]] = []
        self._must_sync = False
        """Whether something was gathered that is to be acknowledged."""
        self._synced = configurations[-1].settings.server.durability == "synced"
        self._told_errno: int | None = None
        self._gathered_bytes = 0
        self._oldest = 0
        """Generation before which no configuration counts any more."""
        self._blocked = False
        self._backoff = Backoff(FIRST_RETRY_S, LONGEST_RETRY_S)
        self._postponed: dict[Source, None] = {}
        self._ending = False
        self._exit_status = 0
        self._rotation_timer: Timer | None = None
        self._rotation_s = math.inf
        self._removal: Timer | None = None
        self.loop.after_turn(self._end_turn)

    def run(self) -> int:
        """Work until told to end; return the exit status."""
        gc.freeze()
        self._counters[Field.PID] = os.getpid()
        problem = self._recover(OTHER_WRITER_S)
        self._channel.send(Ready("; ".join(filter(None, (problem, *self._recovery.problems)))))
        self.loop.run()
        self._outputs.close()
        self._record_log.close()
        if self._recovery.done:
            self._journal.close()
        return self._exit_status

    @property
    def _journal(self) -> Journal:
        return self._recovery.journal

    def _recover(self, wait_s: float = 0.0) -> str:
        """Open the outputs, and cut off uncommitted bytes; return the problem if that fails.

        While something is, nothing is read, as with an output that cannot be written.
        """
        problem = self._recovery.advance(self._configurations, wait_s)
        if not self._recovery.done:
            self._problem = problem
            self._block()
            return problem
        self._ran_before_s = self._journal.sessions.now_s - time.monotonic()
        self._bound_sessions(self._configurations[-1])
        # Never at a start: clients that were alive when the collector ended have to come back first.
        self.loop.later(EXPIRE_EVERY_S, self._expire_sessions)
        waiting, self._waiting = self._waiting, []
        for message, fds in waiting:
            self._attach(message, fds)
        return ""

    def _recover_again(self) -> None:
        """Try the failed start once more; log a change."""
        before = self._problem
        problem = self._recover()
        if problem and problem != before:
            LOGGER.error("%s; clients wait until it works again", problem)
        elif not problem:
            LOGGER.warning("journal: recovered; clients go on")

    def _bound_sessions(self, configuration: Configuration) -> None:
        """Take the limits for sessions."""
        limits = configuration.settings.limits
        self._retention_s = limits.session_retention_s
        if self._recovery.done:
            self._journal.sessions.most = limits.max_sessions

    def _expire_sessions(self) -> None:
        """Forget sessions that nobody has used for long, now and then."""
        self._journal.sessions.expire(self._ran_s(), self._retention_s)
        self.loop.later(EXPIRE_EVERY_S, self._expire_sessions)

    # What the master says

    def _told(self, message: AnyMessage, fds: list[int]) -> None:
        match message:
            case Attach() | WakeupFd() | Configure() if len(fds) < _DESCRIPTORS[type(message)]:
                # The kernel passes none to a process that has no room for them (recvmsg(2), MSG_CTRUNC): the writer
                # after this one gets them again.
                LOGGER.error("out of file descriptors; raise the limit (ulimit -n, LimitNOFILE=)")
                self._exit_status = ExitStatus.FAILURE
                self.loop.stop()
            case Attach():
                if self._recovery.done:
                    self._attach(message, fds)
                else:
                    self._waiting.append((message, fds))
            case WakeupFd(place):
                self._record_log.set_waker(place, fds[0])
            case Configure():
                self._configure(Configuration.from_file(fds[0]))
            case Reopen(number):
                reopen_own()
                # An output that is not recovered yet is opened later, at the place to which its path leads then.
                problems = self._outputs.reopen() if self._recovery.done else [self._problem]
                self._channel.send(Reopened(number, tuple(problems)))
            case Forget(generation):
                self._oldest = generation
            case Retire():
                # As if it had died, but after a commit: what could not be written stays with the workers.
                if not self._blocked:
                    self._commit()
                self.loop.stop()
            case Drain():
                # The workers have gone, and waited for long.
                self._end_within(LAST_TRY_S)
            case _:
                LOGGER.error("cannot make sense of a %s", type(message).__name__)

    def _attach(self, message: Attach, fds: list[int]) -> None:
        """Read a worker's batches from now on."""
        committed = self._recovery.unattached.pop(message.worker, 0)
        shared = shared_memory.look_into(fds[2]) if len(fds) > 2 else None
        self._sources[message.worker] = Source(self, message.worker, (fds[0], fds[1]), committed, shared)

    def _configure(self, configuration: Configuration) -> None:
        """Take up a configuration; one that comes before the recovery is done is part of it."""
        if self._recovery.done:
            problems = self._outputs.configure(configuration)
            problems += self._record_log.configure(configuration, self._journal.committed)
        else:
            self._configurations = (*self._configurations, configuration)
            problems = [self._problem]
        self._synced = configuration.settings.server.durability == "synced"
        self._bound_sessions(configuration)
        self._channel.send(Configured(configuration.generation, tuple(problems)))

    def _orphaned(self) -> None:
        """End with the last pipe, for the master is dead: the workers end by themselves.

        An output that cannot be written is not waited for: another collector may be waiting for the lock.
        """
        self._end_within(ORPHAN_S)

    def _end_within(self, duration_s: float) -> None:
        """End with the last pipe, or after a while."""
        self._ending = True
        has_any = self._recovery.done or self._waiting
        self.loop.later(duration_s if has_any else 0.0, self._give_up)

    def _give_up(self) -> None:
        if self._gathered_bytes:
            LOGGER.error("%d bytes of lines could not be written in time and are lost", self._gathered_bytes)
            self._exit_status = LOST_STATUS
        self.loop.stop()

    # What workers send

    @property
    def full(self) -> bool:
        """Whether no more lines are to be read before the next append."""
        return self._blocked or self._gathered_bytes >= TURN_BYTES

    def postpone(self, source: Source) -> None:
        """Read a source again after this turn, or once the outputs can be written again."""
        if self._blocked:
            self._postponed[source] = None
        elif not source.queued:
            source.queued = True
            self.loop.again(source)

    def take(self, source: Source, batch: Batch) -> None:
        """Gather the lines of a batch, but for those of sessions that are not to be taken (sessions.py says which)."""
        sessions = self._journal.sessions
        for group in batch.groups:
            if group.session != NO_SESSION:
                places = (segment.output for segment in group.segments)
                if not all(place == RECORDS or self._outputs.has(place) for place in places):
                    # Of a worker that died with lines for an output that has been taken away since; sent again, they
                    # are made for those there are.
                    self._refusals.append((source, group))
                    continue
                verdict = sessions.accepts(group.session, group.epoch, group.first, group.last, group.floor)
                if verdict is Verdict.NEXT:
                    records = max((segment.lines for segment in group.segments), default=0)
                    sessions.commit(group.session, group.epoch, group.last, self._ran_s(), records, group.peer)
                    self._must_sync = True
                else:
                    if verdict is not Verdict.REPEATED:
                        self._refusals.append((source, group))
                    continue
            for place, lines, data in group.segments:
                if place == RECORDS:
                    self._record_log.take(group.session, group.runs, lines, data)
                    self._gathered_bytes += len(data)
                    continue
                try:
                    self._outputs.at(place).take(lines, data)
                except KeyError:
                    LOGGER.error("%d lines were made for an output that is no more, and are lost", lines)
                    continue
                self._gathered_bytes += len(data)
        self._opens += [(source, request) for request in batch.opens]

    # The commit

    def _end_turn(self) -> None:
        if not self._blocked:
            self._commit()
        if not self._blocked:
            # Nothing is gathered now, and nothing appended that is not committed.
            self._outputs.forget(self._oldest)
            self._rotate()
            self._remove_records()
        if self._ending and not self._sources and not self._blocked:
            self.loop.stop()

    def _commit(self) -> None:
        """Bring what was gathered into the files, and tell the workers; what cannot be written stays gathered.

        The order is what makes a commit: lines, sync, journal, sync, and only then a word to anyone. Each step that was
        done is passed over when the whole is tried again.
        """
        changed = [source for source in self._sources.values() if source.taken > source.committed or source.ended]
        if not changed and not self._opens:
            return
        try:
            done = self._write()
        except OutputError as error:
            done = False
            if error.errno != self._told_errno:
                self._told_errno = error.errno
                LOGGER.error("journal: %s; clients wait until it works again", error)
        if not done:
            self._block()
            return
        if self._told_errno is not None:
            self._told_errno = None
            LOGGER.warning("journal: written again")
        self._gathered_bytes = 0
        self._must_sync = False
        self._tell(changed)

    def _write(self) -> bool:
        """Write what was gathered, and the commit; return whether the outputs took it.

        Raises OutputError if the journal did not.
        """
        if self._gathered_bytes:
            if not self._record_log.prepare():
                return False
            self._outputs.find()
            known, found = self._journal.committed, self._lengths()
            if not found.keys() <= known.files.keys():
                # A file that was opened since has to be known before anything is appended: else its tail would stay.
                # Of one known already, more may be in it than is committed, if another output was in the way.
                files = known.files | found | known.files
                announced = Committed(known.turn, files, known.batches, known.records)
                self._journal.announce(announced, sync=self._synced)
            known = self._journal.committed
            self._recovery.intent.announce(known.turn + 1, self._outputs.reach(known.files) | self._record_log.reach())
            if not (self._record_log.append() and self._outputs.append()):
                return False
        sync = self._must_sync and self._synced
        if sync and not (self._record_log.sync() and self._outputs.sync()):
            return False
        batches = {worker: source.taken for worker, source in self._sources.items() if not source.ended}
        entry = self._entry(self._recovery.unattached | batches)
        self._journal.commit(entry, sync=sync)
        self._recovery.intent.copy(entry.turn, self._journal.entry)
        self._outputs.committed()
        self._record_log.committed()
        return True

    def _lengths(self) -> dict[tuple[int, int], int]:
        return self._outputs.lengths() | self._record_log.lengths()

    def _entry(self, batches: dict[int, int]) -> Committed:
        known = self._journal.committed
        return Committed(known.turn + 1, self._lengths(), batches, self._record_log.next_number(known.records))

    def _tell(self, changed: list[Source]) -> None:
        """Tell the workers what is committed, what was refused, and the epochs they asked for."""
        for source, group in self._refusals:
            source.answer(refused(group))
        self._refusals = []
        for source in changed:
            if source.ended:
                del self._sources[source.worker]
                source.close()
            else:
                source.commit()
        if self._opens:
            self._open_sessions()
        forgotten, self._journal.sessions.forgotten = self._journal.sessions.forgotten, 0
        if forgotten:
            self._forgot.warning(
                "%d sessions were forgotten, the shortest of the address that has most; limits.max_sessions is %d",
                forgotten,
                self._journal.sessions.most,
            )

    def _open_sessions(self) -> None:
        """Give each session that was asked for a new epoch.

        It is in the journal before anyone hears of it, or a writer to come would take late lines of the old one.
        """
        sessions = self._journal.sessions
        opens, self._opens = self._opens, []
        now_s = self._ran_s()
        answers = []
        for source, request in opens:
            given = sessions.open(request.session, request.first, now_s)
            if given.skipped:
                self._notices.warning(
                    "session %s goes on %d numbers after the last one known here; its client has acknowledgements",
                    label(request.session),
                    given.skipped,
                )
            answers.append((source, opened(request.session, request.token, given.epoch, given.committed)))
        try:
            # A session without a record is not remembered, and changes nothing on disk.
            if sessions.is_changing:
                self._journal.commit(self._entry(self._journal.committed.batches), sync=False)
        except OutputError as error:
            LOGGER.error("journal: %s; clients that have just come wait until it works again", error)
            self._opens = opens
            self._block()
            return
        for source, answer in answers:
            if not source.ended:
                source.answer(answer)

    def _ran_s(self) -> int:
        """Return for how many seconds the collector has run since its journal began."""
        return int(self._ran_before_s + time.monotonic())

    def _block(self) -> None:
        """Read nothing until the outputs can be written again."""
        self._blocked = True
        self._counters[Field.PAUSED] = 1
        self.loop.later(self._backoff.failed(), self._try_again)

    def _try_again(self) -> None:
        self._blocked = False
        if not self._recovery.done:
            self._recover_again()
        if not self._blocked:
            self._commit()
        if self._blocked:
            return
        self._backoff.worked()
        self._counters[Field.PAUSED] = 0
        postponed, self._postponed = self._postponed, {}
        for source in postponed:
            self.postpone(source)

    def _rotate(self) -> None:
        """Rotate what is due, between commits: a record is then wholly in one file."""
        deadline_s = self._outputs.rotate()
        if deadline_s != self._rotation_s:
            self._rotation_s = deadline_s
            if self._rotation_timer is not None:
                self._rotation_timer.cancel()
            if deadline_s < math.inf:
                self._rotation_timer = self.loop.later(max(0.0, deadline_s - time.monotonic()), _nothing)

    def _remove_records(self) -> None:
        """Remove what every store has; come back for what they have not passed yet."""
        self._record_log.remove_passed()
        if self._record_log.has_finished and (self._removal is None or not self._removal.pending):
            self._removal = self.loop.later(2 * REMOVE_EVERY_S, _nothing)


_DESCRIPTORS: dict[type, int] = {Attach: 2, WakeupFd: 1, Configure: 1}
"""How many come with a message at least."""


def _nothing() -> None:
    """Wake the loop: what is due is done at the end of its turn."""
