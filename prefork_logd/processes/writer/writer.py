"""Runs the writer: the one process that appends to the outputs.

Owns the turn, and the retries after a failed commit. Does not parse lines, and knows workers only as senders of
batches. commit_steps.py has the steps of a commit, sessions.py the sessions of clients.

In a turn batches are read from the ready pipes, their lines are appended to the outputs in as few system calls as
possible, the commit entry is written, and each worker gets the number of its last committed batch. When an output
cannot be written (disk full or nearly so, file system read-only, I/O error), no pipe is read: the pipes fill, the
workers pause, the clients wait. The append is tried again until it works; the partial bytes of a failed one are cut off
at once.
"""

from __future__ import annotations

import gc
import math
import os
import time
from typing import TYPE_CHECKING

from prefork_logd.config.values import format_count
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
    Stopping,
    WakeupFd,
)
from prefork_logd.ipc.scoreboard import WRITER_SLOT, Field, Scoreboard
from prefork_logd.net.loop import Loop, Timer
from prefork_logd.processes.fork import LOST_STATUS
from prefork_logd.processes.writer.commit_steps import CommitSteps
from prefork_logd.processes.writer.free_space import FreeSpace
from prefork_logd.processes.writer.outputs import Outputs
from prefork_logd.processes.writer.record_log import REMOVE_EVERY_S, RecordLogWriter
from prefork_logd.processes.writer.recovery import OTHER_WRITER_S, Recovery
from prefork_logd.processes.writer.sessions import WriterSessions
from prefork_logd.system.backoff import Backoff
from prefork_logd.system.log import LOGGER, log_unexpected, reopen_own

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from prefork_logd.ipc.batch import Batch
    from prefork_logd.journal.commit_entry import Committed
    from prefork_logd.journal.journal import Journal

TURN_BYTES = 4 << 20
"""Lines gathered before they are appended."""
FIRST_RETRY_S, LONGEST_RETRY_S = 0.05, 1.0
LAST_TRY_S = 1.0
"""How long an output that cannot be written may take once all workers have ended."""
ORPHAN_S = 1.8
"""How long a writer goes on after its master's death: a little longer than the workers."""
EXPIRE_EVERY_S = 3600.0


class Writer:
    """The writer process."""

    def __init__(
        self, board: Scoreboard, channel: socket.socket, configurations: Sequence[Configuration], run: int
    ) -> None:
        """Write under the last of `configurations`; workers may still have lines for the outputs of earlier ones.

        `run` is the master's; the journal's entries about workers of another run are ignored.
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
        """The problem of the recovery."""
        self._waiting: list[tuple[Attach, list[int]]] = []
        """Attach messages that arrived before the recovery was done."""
        self._sessions = WriterSessions()
        self._free_space = FreeSpace(board.journal, self._record_log.wake_stores, configurations[-1].settings)
        self._commit_steps = CommitSteps(self._outputs, self._record_log, self._recovery, self._free_space)
        self._must_sync = False
        """Whether gathered lines will be acknowledged to a client."""
        self._synced = configurations[-1].settings.server.durability == "synced"
        self._logged_errno: int | None = None
        self._gathered_bytes = 0
        self._oldest = 0
        """The oldest generation that a worker may still have lines of."""
        self._blocked = False
        self._backoff = Backoff(FIRST_RETRY_S, LONGEST_RETRY_S)
        self._postponed: dict[BatchReceiver, None] = {}
        self._ending, self._exit_status = False, 0
        self._rotation_timer: Timer | None = None
        self._rotation_s = math.inf
        self._removal: Timer | None = None
        self.loop.after_turn(self._end_turn)

    def run(self) -> int:
        """Work until the master ends the writer, or the last worker has gone; return the exit status."""
        gc.freeze()
        self._counters[Field.PID] = os.getpid()
        self._channel.send(_ready(self._recover(OTHER_WRITER_S), self._recovery))
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
        """Open the outputs, and cut off uncommitted bytes; return the problem, empty for none.

        While it fails, no pipe is read, as with an output that cannot be written.
        """
        problem = self._recovery.advance(self._configurations, wait_s)
        if not self._recovery.done:
            self._problem = problem
            self._block()
            return problem
        self._sessions.begin(self._journal.sessions)
        self._sessions.configure(self._configurations[-1].settings.limits)
        # Not at a start: clients that were alive when the collector ended must have time to reconnect.
        self.loop.later(EXPIRE_EVERY_S, self._expire_sessions)
        waiting, self._waiting = self._waiting, []
        for message, fds in waiting:
            self._attach(message, fds)
        return ""

    def _recover_again(self) -> None:
        """Try the failed recovery once more; log a change."""
        before = self._problem
        problem = self._recover()
        if problem and problem != before:
            LOGGER.error("%s; clients wait until it works again", problem)
        elif not problem:
            LOGGER.warning("journal: recovered; clients go on")

    def _expire_sessions(self) -> None:
        """Forget sessions that no client has used for long; called every EXPIRE_EVERY_S."""
        self._sessions.expire()
        self.loop.later(EXPIRE_EVERY_S, self._expire_sessions)

    # Messages of the master

    def _handle_message(self, message: AnyMessage, fds: list[int]) -> None:
        match message:
            case Attach() | WakeupFd() | Configure() if len(fds) < _DESCRIPTORS[type(message)]:
                # The kernel drops descriptors above the process's limit (recvmsg(2), MSG_CTRUNC). The next writer gets
                # them again.
                LOGGER.error("out of file descriptors; raise the limit (ulimit -n, LimitNOFILE=)")
                self._exit_status = ExitStatus.FAILURE
                self.loop.stop()
            case Attach():
                if self._recovery.done:
                    self._attach(message, fds)
                else:
                    self._waiting.append((message, fds))
            case WakeupFd(store_id):
                self._record_log.set_waker(store_id, fds[0])
            case Configure():
                self._configure(Configuration.from_file(fds[0]))
            case Reopen(number):
                reopen_own()
                # Before the recovery no output is open: each will be opened by its path, so none needs a reopening.
                problems = self._outputs.reopen() if self._recovery.done else [self._problem]
                self._channel.send(Reopened(number, tuple(problems)))
            case Forget(generation):
                self._oldest = generation
            case Retire():
                # Like a death, but after a commit: the workers keep the lines that are not committed.
                if not self._blocked:
                    self._commit()
                self.loop.stop()
            case Stopping():
                self._free_space.is_ending = True
            case Drain():
                # Sent when all workers have ended, which waited for the commit of their lines already.
                self._end_within(LAST_TRY_S)
            case _:
                log_unexpected(message, "the master")

    def _attach(self, message: Attach, fds: list[int]) -> None:
        """Read a worker's batches from now on."""
        committed = self._recovery.unattached.pop(message.worker, 0)
        shared = shared_memory.look_into(fds[2]) if len(fds) > 2 else None
        self._sources[message.worker] = BatchReceiver(self, message.worker, (fds[0], fds[1]), committed, shared)

    def _configure(self, configuration: Configuration) -> None:
        """Take a configuration; before the end of the recovery it becomes part of that."""
        if self._recovery.done:
            problems = _take(configuration, self._outputs, self._record_log, self._journal.committed)
        else:
            self._configurations = (*self._configurations, configuration)
            problems = [self._problem]
        self._synced = configuration.settings.server.durability == "synced"
        self._sessions.configure(configuration.settings.limits)
        self._free_space.configure(configuration.settings)
        self._channel.send(Configured(configuration.generation, tuple(problems)))

    def _orphaned(self) -> None:
        """End with the last pipe, after the master's death: the workers end by themselves.

        An output that cannot be written gets no extra time: another collector may wait for the lock.
        """
        self._end_within(ORPHAN_S)

    def _end_within(self, duration_s: float) -> None:
        """End with the last pipe, at the latest after this time."""
        self._ending = self._free_space.is_ending = True
        has_any = self._recovery.done or self._waiting
        self.loop.later(duration_s if has_any else 0.0, self._give_up)

    def _give_up(self) -> None:
        if self._gathered_bytes:
            LOGGER.error("lost %s of lines, not written in time", format_count(self._gathered_bytes, "byte"))
            self._exit_status = LOST_STATUS
        self.loop.stop()

    # Batches of workers

    @property
    def full(self) -> bool:
        """Whether no more lines may be read before the next append."""
        return self._blocked or self._gathered_bytes >= TURN_BYTES or self._outputs.is_full

    def postpone(self, source: BatchReceiver) -> None:
        """Read a source again after this turn, or once the outputs can be written again."""
        if self._blocked:
            self._postponed[source] = None
        elif not source.queued:
            source.queued = True
            self.loop.again(source)

    def add_batch(self, source: BatchReceiver, batch: Batch) -> None:
        """Gather the lines of a batch, except those of refused groups."""
        for group in batch.groups:
            if group.session != NO_SESSION:
                output_ids = (segment.output for segment in group.segments)
                if not all(output_id == RECORDS or self._outputs.has(output_id) for output_id in output_ids):
                    # A dead worker's lines for an output that was removed since. The client sends the records again,
                    # and another worker makes lines for the present outputs.
                    self._sessions.refuse(source, group)
                    continue
                if not self._sessions.accept(source, group):
                    continue
                self._must_sync = True
            for output_id, lines, data, file, peer in group.segments:
                if output_id == RECORDS:
                    self._record_log.add_runs(group.session, group.runs, lines, data)
                    self._gathered_bytes += len(data)
                    continue
                try:
                    self._outputs.add_lines(output_id, file, lines, data, peer)
                except KeyError:
                    LOGGER.error("lost %s for an output that has been removed", format_count(lines, "line"))
                    continue
                self._gathered_bytes += len(data)
        self._sessions.add_opens(source, batch.opens)

    # The commit

    def _end_turn(self) -> None:
        if not self._blocked:
            self._commit()
        if not self._blocked:
            # Every gathered or appended line is committed now.
            self._outputs.forget(self._oldest)
            self._rotate()
            self._remove_records()
        if self._ending and not self._sources and not self._blocked:
            self.loop.stop()

    def _commit(self) -> None:
        """Write the gathered lines, and answer the workers; lines that cannot be written stay gathered.

        The order matters: lines, sync, journal, sync, and the answers last. Another try skips the steps that are done.
        """
        changed = [source for source in self._sources.values() if source.taken > source.committed or source.ended]
        if not changed and not self._sessions.has_opens:
            return
        begun_ns = time.monotonic_ns()
        try:
            batches = {source.worker: source.taken for source in self._sources.values() if not source.ended}
            nbytes = self._gathered_bytes
            done = self._commit_steps.write(batches, nbytes=nbytes, must_sync=self._must_sync, is_synced=self._synced)
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
        Scoreboard.count_commit(self._counters, time.monotonic_ns() - begun_ns)
        self._answer_workers(changed)

    def _answer_workers(self, changed: list[BatchReceiver]) -> None:
        """Send the workers their committed batches, the refused groups, and the requested epochs."""
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
            LOGGER.error("journal: %s; new clients wait until it works again", error)
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
        """Rotate the outputs that are due; between commits, so that a record is wholly in one file."""
        deadline_s = self._outputs.rotate()
        if deadline_s != self._rotation_s:
            self._rotation_s = deadline_s
            if self._rotation_timer is not None:
                self._rotation_timer.cancel()
            if deadline_s < math.inf:
                self._rotation_timer = self.loop.later(max(0.0, deadline_s - time.monotonic()), _nothing)

    def _remove_records(self) -> None:
        """Remove segments that every store has passed; check again later if others remain."""
        self._record_log.remove_passed()
        if self._record_log.has_finished and (self._removal is None or not self._removal.pending):
            self._removal = self.loop.later(2 * REMOVE_EVERY_S, _nothing)


_DESCRIPTORS: dict[type, int] = {Attach: 2, WakeupFd: 1, Configure: 1}
"""The least number of descriptors of a message."""


def _ready(problem: str, recovery: Recovery) -> Ready:
    """Return the writer's first message: the problem of the recovery, and the outputs that could not be opened."""
    problems = [problem, *recovery.problems] if problem else recovery.problems
    return Ready("; ".join(problems), recovery.lacks_room and not recovery.problems)


def _take(
    configuration: Configuration, outputs: Outputs, record_log: RecordLogWriter, committed: Committed
) -> list[str]:
    """Let the outputs and the record log take a configuration; return the problems."""
    problems = outputs.configure(configuration)
    try:
        record_log.configure(configuration, committed)
    except OutputError as error:
        problems.append(f"journal: {error}")
    return problems


def _nothing() -> None:
    """Do nothing: the timer wakes the loop, and due work is done at the end of its turn."""
