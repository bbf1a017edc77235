"""Runs the writer: the one process that appends to the outputs.

Owns the turn, and what happens when a commit fails. Does not look into lines, and knows workers only as sources of
batches. The steps of a commit are commit_steps.py's, and the sessions of clients writer_sessions.py's.

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
from prefork_logd.ipc import shared_memory
from prefork_logd.ipc.batch import NO_SESSION, RECORDS
from prefork_logd.ipc.batch_receiver import BatchReceiver
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
from prefork_logd.net.loop import Loop, Timer
from prefork_logd.processes.fork import LOST_STATUS
from prefork_logd.processes.writer.commit_steps import CommitSteps
from prefork_logd.processes.writer.outputs import Outputs
from prefork_logd.processes.writer.record_log import REMOVE_EVERY_S, RecordLogWriter
from prefork_logd.processes.writer.recovery import OTHER_WRITER_S, Recovery
from prefork_logd.processes.writer.sessions import WriterSessions
from prefork_logd.system.backoff import Backoff
from prefork_logd.system.log import LOGGER, reopen_own

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from prefork_logd.ipc.batch import Batch
    from prefork_logd.journal.journal import Journal

TURN_BYTES = 4 << 20
"""Lines gathered before they are appended."""
FIRST_RETRY_S, LONGEST_RETRY_S = 0.05, 1.0
LAST_TRY_S = 1.0
"""How long an output that cannot be written may take once all workers have ended."""
ORPHAN_S = 1.8
"""How long a writer goes on without its master: a little longer than the workers do."""
EXPIRE_EVERY_S = 3600.0


class Writer:
    """The writer's life."""

    def __init__(
        self, board: Scoreboard, channel: socket.socket, configurations: Sequence[Configuration], run: int
    ) -> None:
        """Write under the last of `configurations`; workers may still have lines for the outputs of earlier ones.

        `run` is the master's: what the journal says of another run's workers counts no more.
        """
        self.loop = Loop()
        self._counters = board.slot(WRITER_SLOT)
        self._channel = Channel(self.loop, channel, self._handle_message, self._orphaned)
        self._configurations = configurations
        self._outputs = Outputs(board)
        self._record_log = RecordLogWriter(board)
        self._sources: dict[int, BatchReceiver] = {}
        self._recovery = Recovery(configurations[-1].settings.server.state_dir, self._outputs, self._record_log, run)
        self._problem = ""
        """Why nothing can be written yet."""
        self._waiting: list[tuple[Attach, list[int]]] = []
        """Workers that came before the recovery was done."""
        self._sessions = WriterSessions()
        self._commit_steps = CommitSteps(self._outputs, self._record_log, self._recovery)
        self._must_sync = False
        """Whether something was gathered that is to be acknowledged."""
        self._synced = configurations[-1].settings.server.durability == "synced"
        self._logged_errno: int | None = None
        self._gathered_bytes = 0
        self._oldest = 0
        """Generation before which no configuration counts any more."""
        self._blocked = False
        self._backoff = Backoff(FIRST_RETRY_S, LONGEST_RETRY_S)
        self._postponed: dict[BatchReceiver, None] = {}
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
        self._sessions.begin(self._journal.sessions)
        self._sessions.configure(self._configurations[-1].settings.limits)
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

    def _expire_sessions(self) -> None:
        """Forget sessions that no client has used for long, now and then."""
        self._sessions.expire()
        self.loop.later(EXPIRE_EVERY_S, self._expire_sessions)

    # Messages of the master

    def _handle_message(self, message: AnyMessage, fds: list[int]) -> None:
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
                LOGGER.error("unexpected %s from the master", type(message).__name__)

    def _attach(self, message: Attach, fds: list[int]) -> None:
        """Read a worker's batches from now on."""
        committed = self._recovery.unattached.pop(message.worker, 0)
        shared = shared_memory.look_into(fds[2]) if len(fds) > 2 else None
        self._sources[message.worker] = BatchReceiver(self, message.worker, (fds[0], fds[1]), committed, shared)

    def _configure(self, configuration: Configuration) -> None:
        """Take up a configuration; one that comes before the recovery is done is part of it."""
        if self._recovery.done:
            problems = self._outputs.configure(configuration)
            problems += self._record_log.configure(configuration, self._journal.committed)
        else:
            self._configurations = (*self._configurations, configuration)
            problems = [self._problem]
        self._synced = configuration.settings.server.durability == "synced"
        self._sessions.configure(configuration.settings.limits)
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

    def postpone(self, source: BatchReceiver) -> None:
        """Read a source again after this turn, or once the outputs can be written again."""
        if self._blocked:
            self._postponed[source] = None
        elif not source.queued:
            source.queued = True
            self.loop.again(source)

    def add_batch(self, source: BatchReceiver, batch: Batch) -> None:
        """Gather the lines of a batch, but for those of sessions that are refused."""
        for group in batch.groups:
            if group.session != NO_SESSION:
                places = (segment.output for segment in group.segments)
                if not all(place == RECORDS or self._outputs.has(place) for place in places):
                    # Of a worker that died with lines for an output that has been taken away since; sent again, they
                    # are made for those there are.
                    self._sessions.refuse(source, group)
                    continue
                if not self._sessions.accept(source, group):
                    continue
                self._must_sync = True
            for place, lines, data in group.segments:
                if place == RECORDS:
                    self._record_log.add_runs(group.session, group.runs, lines, data)
                    self._gathered_bytes += len(data)
                    continue
                try:
                    self._outputs.at(place).add_lines(lines, data)
                except KeyError:
                    LOGGER.error("%d lines were made for an output that is no more, and are lost", lines)
                    continue
                self._gathered_bytes += len(data)
        self._sessions.add_opens(source, batch.opens)

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
        if not changed and not self._sessions.has_opens:
            return
        try:
            batches = {source.worker: source.taken for source in self._sources.values() if not source.ended}
            done = self._commit_steps.write(
                batches, has_lines=bool(self._gathered_bytes), must_sync=self._must_sync, is_synced=self._synced
            )
        except OutputError as error:
            done = False
            if error.errno != self._logged_errno:
                self._logged_errno = error.errno
                LOGGER.error("journal: %s; clients wait until it works again", error)
        if not done:
            self._block()
            return
        if self._logged_errno is not None:
            self._logged_errno = None
            LOGGER.warning("journal: written again")
        self._gathered_bytes = 0
        self._must_sync = False
        self._answer_workers(changed)

    def _answer_workers(self, changed: list[BatchReceiver]) -> None:
        """Tell the workers what is committed, what was refused, and the epochs they asked for."""
        self._sessions.answer_refusals()
        for source in changed:
            if source.ended:
                del self._sources[source.worker]
                source.close()
            else:
                source.commit()
        try:
            self._sessions.answer_opens(self._commit_steps.write_sessions)
        except OutputError as error:
            LOGGER.error("journal: %s; clients that have just come wait until it works again", error)
            self._block()
        self._sessions.report_forgotten()

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
