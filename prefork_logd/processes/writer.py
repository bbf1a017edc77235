"""The writer: the one process that appends to the outputs.

Owns the turn and the commit. Does not look into lines, and knows workers only as sources of batches.

The turn: batches are read from the pipes that are ready, their lines are appended to the outputs in as few system calls
as possible, the commit entry is written, and each worker is told how far its batches are committed. When an output
cannot be written (disk full, file system read-only, I/O error), nothing more is read: the pipes fill, the workers
pause, the clients wait. The append is tried again until it works; what stays behind of a failed one is cut off at once.
"""

from __future__ import annotations

import fcntl
import gc
import math
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from prefork_logd.journal.commit import MAX_FILES, CommitCells, Committed
from prefork_logd.log import LOGGER, reopen_own
from prefork_logd.net.loop import Loop, Timer
from prefork_logd.processes import control
from prefork_logd.processes.children import LOST_STATUS
from prefork_logd.processes.sinks import Sinks
from prefork_logd.processes.source import Source
from prefork_logd.scoreboard import MAX_WORKERS, WRITER_SLOT, Field, Scoreboard
from prefork_logd.settings import WRITER_LOCK

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from prefork_logd.protocol.batch import Batch

TURN_BYTES = 4 << 20
"""Lines gathered before they are appended."""
FIRST_RETRY_S, LONGEST_RETRY_S = 0.05, 1.0
LAST_TRY_S = 1.0
"""How long an output that cannot be written may take once all workers have ended."""
ORPHAN_S = 1.8
"""How long a writer goes on without its master: a little longer than the workers do."""
OTHER_WRITER_S = 10.0
"""How long a writer that a dead master left behind may take to finish."""


class Writer:
    """The writer's life."""

    def __init__(
        self,
        board: Scoreboard,
        cells: CommitCells,
        channel: socket.socket,
        configurations: Sequence[control.Configuration],
    ) -> None:
        """Write under the last of `configurations`; workers may still have lines for the outputs of earlier ones."""
        self.loop = Loop()
        self._counters = board.slot(WRITER_SLOT)
        self._cells = cells
        self._channel = control.Channel(self.loop, channel, self._told, self._orphaned)
        self._configurations = configurations
        self._sinks = Sinks(board)
        self._sources: dict[int, Source] = {}
        self._committed = cells.read()
        self._unattached = dict(sorted(self._committed.batches.items())[-MAX_WORKERS:])
        """Last committed batch of each worker of the writer before this one, until it is connected to this one."""
        self._gathered_bytes = 0
        self._oldest = 0
        """Generation before which no configuration counts any more."""
        self._blocked = False
        self._retry_s = FIRST_RETRY_S
        self._postponed: dict[Source, None] = {}
        self._ending = False
        self._exit_status = 0
        self._rotation_timer: Timer | None = None
        self._rotation_s = math.inf
        self.loop.after_turn(self._end_turn)

    def run(self) -> int:
        """Work until told to end; return the exit status."""
        gc.freeze()
        self._counters[Field.PID] = os.getpid()
        problem = self._wait_for_other_writer()
        if not problem:
            for configuration in self._configurations:
                problem = "; ".join(self._sinks.configure(configuration))
            self._sinks.recover(self._committed)
        self._channel.send(control.Ready(problem))
        self.loop.run()
        self._sinks.close()
        return self._exit_status

    def _wait_for_other_writer(self) -> str:
        """Take the lock that makes this the only writer; return what is wrong if it cannot be had."""
        path = Path(self._configurations[-1].settings.server.state_dir) / WRITER_LOCK
        try:
            lock_fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            return f"{path}: cannot open it: {error.strerror}"
        deadline_s = time.monotonic() + OTHER_WRITER_S
        while True:
            try:
                fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline_s:
                    return f"{path}: another writer still holds the outputs; end it, then start again"
                time.sleep(0.01)
            else:
                return ""

    # What the master says

    def _told(self, message: control.AnyMessage, fds: list[int]) -> None:
        match message:
            case control.Attach(worker):
                committed = self._unattached.pop(worker, 0)
                self._sources[worker] = Source(self, worker, (fds[0], fds[1]), committed)
            case control.Configure():
                configuration = control.Configuration.from_file(fds[0])
                problems = self._sinks.configure(configuration)
                self._channel.send(control.Configured(configuration.generation, tuple(problems)))
            case control.Reopen(number):
                reopen_own()
                self._channel.send(control.Reopened(number, tuple(self._sinks.reopen())))
            case control.Forget(generation):
                self._oldest = generation
            case control.Drain():
                # The workers have gone, and waited for long.
                self._ending = True
                self.loop.later(LAST_TRY_S, self._give_up)
            case _:
                LOGGER.error("cannot make sense of a %s", type(message).__name__)

    def _orphaned(self) -> None:
        """End with the last pipe, for the master is dead: the workers end by themselves.

        An output that cannot be written is not waited for: another collector may be waiting for the lock.
        """
        self._ending = True
        self.loop.later(ORPHAN_S, self._give_up)

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

    def take(self, batch: Batch) -> None:
        """Gather the lines of a batch."""
        for place, lines, data in batch.segments:
            try:
                self._sinks.at(place).take(lines, data)
            except KeyError:
                # Of a worker that died with lines for an output that has been taken away since.
                LOGGER.error("%d lines were made for an output that is no more, and are lost", lines)
                continue
            self._gathered_bytes += len(data)

    # The commit

    def _end_turn(self) -> None:
        if not self._blocked:
            self._commit()
            # Nothing is gathered now.
            self._sinks.forget(self._oldest)
            self._rotate()
        if self._ending and not self._sources and not self._blocked:
            self.loop.stop()

    def _commit(self) -> None:
        """Bring what was gathered into the files, and tell the workers; what cannot be written stays gathered."""
        changed = [source for source in self._sources.values() if source.taken > source.committed or source.ended]
        if not changed:
            return
        if self._gathered_bytes:
            self._sinks.find()
            opened = self._sinks.lengths()
            if not opened.keys() <= self._committed.files.keys():
                # A file that was opened since has to be known before anything is appended: else its tail would stay.
                # Of one known already, more may be in it than is committed, if another output was in the way.
                # The oldest are left out if an output in the way is rotated thousands of times.
                files = dict(list((self._committed.files | opened | self._committed.files).items())[-MAX_FILES:])
                self._write_entry(files, self._committed.batches)
            if not self._sinks.append():
                self._block()
                return
        self._gathered_bytes = 0
        batches = {worker: source.taken for worker, source in self._sources.items() if not source.ended}
        self._write_entry(self._sinks.lengths(), self._unattached | batches)
        for source in changed:
            if source.ended:
                del self._sources[source.worker]
                source.close()
            else:
                source.commit()

    def _write_entry(self, files: dict[tuple[int, int], int], batches: dict[int, int]) -> None:
        self._committed = Committed(self._committed.turn + 1, files, batches)
        self._cells.write(self._committed)

    def _block(self) -> None:
        """Read nothing until the outputs can be written again."""
        self._blocked = True
        self._counters[Field.PAUSED] = 1
        self.loop.later(self._retry_s, self._try_again)
        self._retry_s = min(2 * self._retry_s, LONGEST_RETRY_S)

    def _try_again(self) -> None:
        self._blocked = False
        self._commit()
        if self._blocked:
            return
        self._retry_s = FIRST_RETRY_S
        self._counters[Field.PAUSED] = 0
        postponed, self._postponed = self._postponed, {}
        for source in postponed:
            self.postpone(source)

    def _rotate(self) -> None:
        """Rotate what is due, between commits: a record is then wholly in one file."""
        deadline_s = self._sinks.rotate()
        if deadline_s != self._rotation_s:
            self._rotation_s = deadline_s
            if self._rotation_timer is not None:
                self._rotation_timer.cancel()
            if deadline_s < math.inf:
                self._rotation_timer = self.loop.later(max(0.0, deadline_s - time.monotonic()), _nothing)


def _nothing() -> None:
    """Wake the loop: what is due is done at the end of its turn."""
