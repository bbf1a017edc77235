"""Runs a shipper: writes the committed records of the journal to one store, in order, each once.

Owns when to read, write, wait and try again. Knows its store only by the contract in stores/base.py, and never reads
beyond the records that the writer has published as committed.

A shipper whose store has every record sleeps until the writer wakes it, once for all records until it sleeps again.
Then it gathers a batch for a short time, and writes it. A store that fails is closed and opened again later, with
back-off and jitter; the store returns the position to continue from.

No error of a store ends a shipper. For one that is not a StoreError, suspects.py finds the record that causes it.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import time
from typing import TYPE_CHECKING

from prefork_logd.config.paths import JOURNAL_DIRECTORY, dead_letters_path
from prefork_logd.errors import StoreError, describe_unexpected, file_problem
from prefork_logd.ipc.channel import Channel
from prefork_logd.ipc.messages import AnyMessage, Drain, Ready, Reopen, StatusReport
from prefork_logd.ipc.scoreboard import OPENED, SHIPPER_SLOT, Field, JournalField, Scoreboard, StoreField
from prefork_logd.journal.identity import IDENTITY_FILE
from prefork_logd.journal.record_reader import RecordReader
from prefork_logd.net.loop import READ, Loop, Timer
from prefork_logd.processes.shipper.record_batch import RecordBatch
from prefork_logd.processes.shipper.refusals import Refusals
from prefork_logd.processes.shipper.store_lock import StoreLock
from prefork_logd.processes.shipper.suspects import Suspects
from prefork_logd.processes.shipper.trouble import Trouble
from prefork_logd.stores.base import details_of, first_needed, is_lagging
from prefork_logd.stores.registry import make_store
from prefork_logd.system import libc
from prefork_logd.system.log import LOGGER, log_unexpected, reopen_own

if TYPE_CHECKING:
    import socket
    from pathlib import Path

    from prefork_logd.config.stores.kinds import AnyStoreSettings
    from prefork_logd.stores.base import Block, Store

NICENESS = 15
"""Ingest comes first: records that wait for a shipper are on disk, those that wait for a worker are in clients."""
LONGEST_UNMAINTAINED_S = 3600.0
LONGEST_LAG_S = 1.0
"""The same for a store whose maintenance frees the journal."""
LOW_SPACE_S = 1.0
"""The time between two calls of maintenance while a disk is nearly full: it may make room."""
DRAIN_S = 2.0
"""How long a shipper goes on with the journal's records during a stop."""
OTHER_SHIPPER_S = 0.05
JOURNAL_S = 2.0
"""How long the writer may take to open the journal before the shipper reports a problem."""


class Shipper:
    """A shipper's life.

    Longer than other classes: each step, and what its failure means, is decided by the state of the same batch.
    """

    def __init__(
        self,
        board: Scoreboard,
        channel: socket.socket,
        state_dir: Path,
        store_id: int,
        settings: AnyStoreSettings,
        waker: int,
    ) -> None:
        """Ship to the store with this number on the scoreboard; `waker` is the eventfd(2) that the writer has, too."""
        self.loop = Loop()
        self._board = board
        self._journal = board.journal
        self._counters = board.store(store_id)
        self._slot = board.slot(SHIPPER_SLOT + store_id)
        self._channel = Channel(self.loop, channel, self._handle_message, self.loop.stop)
        self._state_dir = state_dir
        self._settings = settings
        self._waker = waker
        self._reader = RecordReader(state_dir / JOURNAL_DIRECTORY)
        self._batch = RecordBatch(settings, self._reader, self._note_oldest)
        self._store: Store | None = None
        self._maintain_at_s, self._maintained_s = 0.0, -LOW_SPACE_S
        self._timer: Timer | None = None
        self._trouble = Trouble(settings.name)
        self._suspects = Suspects()
        letters_path = dead_letters_path(state_dir, settings.name)
        self._refusals = Refusals(settings, letters_path, self._counters, self._suspects)
        self._is_maintaining = False
        self._position = 0
        """The store's position when it was opened."""
        self._counted = 1 << 64
        """Records that the store refuses are counted as lost up to this number; above all numbers if there are none."""
        self._behind = 0
        """Number of records that waited when the store was opened."""
        self._sent_report = StatusReport("")
        self._lock = StoreLock(state_dir / JOURNAL_DIRECTORY / f"store-{settings.name}.lock")
        self._began_s = time.monotonic()
        self._queued = False
        self._ending = False

    def run(self) -> int:
        """Work until the master ends the shipper; return the exit status."""
        # A store's library may hang in a call: only this signal ends such a shipper after its master's death.
        libc.signal_on_parent_death(signal.SIGKILL)
        os.nice(NICENESS)
        gc.freeze()
        self._slot[Field.PID] = os.getpid()
        self._counters[StoreField.WAITING] = 0
        self.loop.add(self._waker, self, READ)
        self._channel.send(Ready())
        self._go_on()
        self.loop.run()
        self._close()
        return 0

    def _handle_message(self, message: AnyMessage, _fds: list[int]) -> None:
        match message:
            case Drain(fast):
                self._ending = True
                self.loop.later(0 if fast else DRAIN_S, self.loop.stop)
                if self._trouble.problem:
                    self.loop.stop()
                self._go_on()
            case Reopen():
                reopen_own()
            case _:
                log_unexpected(message, "the master")

    # Waking and waiting

    def ready(self, _events: int, /) -> None:
        """Take the next step: the writer has committed records, or this shipper has another turn."""
        self._queued = False
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._waker)
        if self._timer is None or not self._timer.pending or not self._trouble.problem:
            self._work()

    def _go_on(self) -> None:
        if not self._queued:
            self._queued = True
            self.loop.again(self)

    def _later(self, delay_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.later(delay_s, self._work)

    def _work(self) -> None:
        """Take one step: open, write a batch, maintain, or wait. After any error of the store it is tried again."""
        if self._timer is not None:
            self._timer.cancel()
        try:
            if self._store is None:
                self._lock.require_place()
            if not self._lock.acquire():
                self._later(OTHER_SHIPPER_S)
                return
            if self._store is None and not self._open():
                return
            self._step()
        except StoreError as error:
            self._fail(self._lock.missed or str(error))
        except OSError as error:
            self._fail(self._lock.missed or file_problem(error))
        except Exception as error:  # noqa: BLE001 - an error of a store must not be the end of its shipper
            self._fail(f"unexpected {describe_unexpected(error)}")

    def _step(self) -> None:
        until = self._journal[JournalField.NUMBER]
        if self._journal[JournalField.DISKS] and time.monotonic() >= self._maintained_s + LOW_SPACE_S:
            # Before a write, which may fail for lack of the space that this makes.
            self._maintain()
        if self._counted < self._position:
            # The journal was set back: the store takes these records for ones that it has already.
            self._counters[StoreField.LOST] += max(0, min(until, self._position) - self._counted)
            self._counted = max(self._counted, min(until, self._position))
        self._gather(until)
        now_s = time.monotonic()
        is_full = self._batch.is_full
        if self._batch.blocks:
            waited_s = now_s - self._batch.since_s
            may_wait = not is_full and not self._ending and self._suspects.most is None
            if may_wait and waited_s < self._settings.batch_time_s:
                self._later(self._settings.batch_time_s - waited_s)
                return
            if not self._write():
                return
        elif self._suspects.waiting:
            self._judge()
        elif self._counters[StoreField.ORDINAL] != self._reader.total[0] or self._lags():
            self._publish_position()
        longest_s = LONGEST_LAG_S if is_lagging(self._store) else LONGEST_UNMAINTAINED_S
        if now_s >= self._maintain_at_s + longest_s:
            self._maintain()
        if is_full or self._batch.blocks:
            self._go_on()
        else:
            self._idle(until)

    def _idle(self, until: int) -> None:
        """Sleep until woken, or until maintenance is due; for when every record below `until` is in the store."""
        if self._ending and self._journal[JournalField.NUMBER] == until:
            self.loop.stop()
            return
        if time.monotonic() >= self._maintain_at_s:
            self._maintain()
        # No record waits, so no write can prove that the store works: a successful open counts instead.
        self._record_success(in_maintenance=False)
        self._counters[StoreField.SINCE_MS] = 0
        self._counters[StoreField.WAITING] = 1
        self._board.barrier()
        if self._journal[JournalField.NUMBER] != until:
            self._counters[StoreField.WAITING] = 0
            self._go_on()
            return
        self._later(max(0.0, self._maintain_at_s - time.monotonic()))

    # The store

    def _open(self) -> bool:
        """Open the store, and begin at its position; return False if there is no journal yet.

        Raises StoreError, OSError.
        """
        high, low = self._journal[JournalField.ID_HIGH], self._journal[JournalField.ID_LOW]
        if not high and not low:
            # The writer has not recovered its journal yet, and a store knows a journal by its identity.
            if not self._ending and time.monotonic() < self._began_s + JOURNAL_S:
                self._later(OTHER_SHIPPER_S)
                return False
            raise StoreError("the journal is not open; see the writer's log lines")
        journal = f"{high:016x}{low:016x}"
        store = make_store(self._settings)
        self._store = store
        self._refusals.open(journal)
        position = self._position = store.open(journal)
        self._batch.begin(position, self._journal[JournalField.NUMBER])
        if self._reader.next > position > 0 and not self._settings.is_filtered:
            lost = self._reader.next - position
            LOGGER.warning(
                "store %s: needs record %d, which is no longer in the journal", self._settings.name, position
            )
            self._counters[StoreField.LOST] += lost
        self._note_set_back(position)
        self._maintain_at_s = time.monotonic()
        self._publish_position()
        self._behind = self._journal[JournalField.ORDINAL] - self._counters[StoreField.ORDINAL]
        self._send_report()
        return True

    def _note_set_back(self, position: int) -> None:
        """Log it if a store has record numbers above the journal's, and count the records lost by that."""
        began = self._counters[StoreField.BEGAN]
        # At the first opening since the start, records that were numbered before the opening count, too.
        number = began - 1 if 0 < began < OPENED else self._journal[JournalField.NUMBER]
        self._counters[StoreField.BEGAN] = OPENED
        if position > number:
            LOGGER.error(
                "store %s: has records up to number %d of this journal, which has only %d: the journal was set back; "
                "new records are refused, and counted as lost, until it reaches that number; to begin a new numbering, "
                "stop the collector, remove %s and start it",
                self._settings.name, position, number, self._state_dir / JOURNAL_DIRECTORY / IDENTITY_FILE,
            )  # fmt: skip
            self._counted = min(self._counted, number)

    def _send_report(self) -> None:
        """Send the master the report for `status`, if it has changed."""
        report = StatusReport(self._trouble.problem, details_of(self._store))
        if report != self._sent_report:
            self._sent_report = report
            self._channel.send(report)

    def _note_oldest(self, time_ns: int) -> None:
        self._counters[StoreField.SINCE_MS] = time_ns // 1_000_000

    def _gather(self, until: int) -> None:
        """Read blocks until the batch is full, or none is left. Raises StoreError."""
        self._batch.gather(until, self._position, self._suspects)
        for problem in self._reader.problems:
            LOGGER.error("store %s: journal: %s", self._settings.name, problem)
        self._reader.problems.clear()
        self._counters[StoreField.LOST] += self._reader.lost
        self._reader.lost = 0
        if not self._reader.is_open and self._reader.next < until:
            raise StoreError(f"journal: no segment has record {self._reader.next}, which the store needs")

    def _write(self) -> bool:
        """Write the batch, or a part of it; return whether that worked. Raises StoreError, OSError."""
        assert self._store is not None  # noqa: S101 - for the type checker
        now, later = self._suspects.next_blocks(self._batch.blocks)
        self._refusals.keep_suspects()
        try:
            self._store.write(now, self._refusals.refuse)
        except (StoreError, OSError):
            raise
        except Exception as error:  # noqa: BLE001 - one record may cause it, and must not cost the others
            self._suspect(now, error)
            return False
        records = sum(block.count for block in now)
        self._refusals.confirm_suspects()
        self._suspects.written(records, self._settings.batch_records)
        self._counters[StoreField.RECORDS] += records
        self._batch.keep(later)
        if not later:
            self._publish_position()
        self._record_success(in_maintenance=False)
        return True

    # Records that cause unexpected errors

    def _suspect(self, blocks: list[Block], error: Exception) -> None:
        """Go on with fewer records, or without the one that was written alone. Raises StoreError."""
        what = describe_unexpected(error)
        if self._suspects.most is None:
            LOGGER.warning("store %s: %s; searching for the record that causes it", self._settings.name, what)
        is_proven = self._suspects.failed(blocks, error, f"unexpected {what}")
        if is_proven:
            self._refusals.keep_suspects()
            self._refusals.confirm_suspects()
        if self._suspects.is_stuck:
            self._refusals.withdraw_suspects(in_vain=True)
            raise StoreError(f"every record causes an unexpected {what}")
        self._close()
        self._go_on()

    def _judge(self) -> None:
        """Decide about suspects that no other record follows. Raises StoreError."""
        _, reason = next(reversed(self._suspects.waiting.values()))
        if not self._suspects.judge_alone():
            self._refusals.withdraw_suspects(in_vain=True)
            raise StoreError(reason)
        self._refusals.keep_suspects()
        self._refusals.confirm_suspects()
        self._publish_position()

    def _publish_position(self) -> None:
        """Publish the store's position on the scoreboard."""
        counters = self._counters
        if not self._batch.blocks:
            counters[StoreField.ORDINAL], counters[StoreField.OFFSET] = self._reader.total
        counters[StoreField.POSITION] = self._needed()
        counters[StoreField.READY] = 1

    def _needed(self) -> int:
        """Return the number of the first record that the store may still need."""
        if self._batch.blocks or self._suspects.waiting:
            return self._counters[StoreField.POSITION]
        return first_needed(self._store, self._reader.next)

    def _lags(self) -> bool:
        return self._counters[StoreField.POSITION] != self._needed()

    def _maintain(self) -> None:
        assert self._store is not None  # noqa: S101 - for the type checker
        self._is_maintaining = True
        self._maintained_s = time.monotonic()
        self._maintain_at_s = time.monotonic() + max(0.01, self._store.maintain())
        self._is_maintaining = False
        self._record_success(in_maintenance=True)
        self._send_report()
        if self._lags():
            self._publish_position()

    def _record_success(self, *, in_maintenance: bool) -> None:
        """End the trouble that a successful write, or maintenance, disproves."""
        if self._trouble.problem and self._trouble.in_maintenance == in_maintenance:
            self._trouble.end(self._behind)
            self._counters[StoreField.FAILING] = 0
            self._send_report()

    def _fail(self, problem: str) -> None:
        """Close the store, report the problem, and try again later."""
        self._refusals.withdraw_suspects()
        self._close()
        delay_s = self._trouble.begin(problem, in_maintenance=self._is_maintaining)
        self._is_maintaining = False
        self._counters[StoreField.FAILING] = 1
        self._send_report()
        if self._ending:
            self.loop.stop()
            return
        if not self._counters[StoreField.SINCE_MS]:
            self._counters[StoreField.SINCE_MS] = time.time_ns() // 1_000_000
        self._later(delay_s)

    def _close(self) -> None:
        store, self._store = self._store, None
        self._batch.keep([])
        self._reader.close()
        if store is not None:
            with contextlib.suppress(Exception):
                store.close()
