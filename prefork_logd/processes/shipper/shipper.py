"""A shipper: hands what the journal has committed to one store, in order, each record once.

Owns when to read, to write, to wait and to try again. Knows its store only as stores/base.py says, and never reads
beyond what the writer has published as committed.

While everything is in the store the shipper sleeps, and the writer wakes it: once, for whatever has come until it
sleeps again. Then it gathers a batch, for a moment, and writes it. A store that fails is closed, and opened again after
a while, longer each time and never at the same moment as others; it says itself where to go on.

Nothing that a store raises ends a shipper: an error that is no StoreError is looked into record by record
(suspects.py).
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import time
from typing import TYPE_CHECKING

from prefork_logd.config.paths import JOURNAL_DIRECTORY, dead_letters_path
from prefork_logd.errors import StoreError, describe_unexpected
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
from prefork_logd.system.log import LOGGER, reopen_own

if TYPE_CHECKING:
    import socket
    from pathlib import Path

    from prefork_logd.config.stores.kinds import AnyStoreSettings
    from prefork_logd.stores.base import Block, Store

NICENESS = 15
"""Ingest comes first: what is late here waits on disk, what is late there waits in clients."""
LONGEST_UNMAINTAINED_S = 3600.0
LONGEST_LAG_S = 1.0
"""The same for a store that frees the journal only when it is maintained."""
DRAIN_S = 2.0
"""How long a stop lets a shipper go on with what the journal holds."""
OTHER_SHIPPER_S = 0.05
JOURNAL_S = 2.0
"""How long the writer may take to open the journal before that is called a problem."""


class Shipper:
    """A shipper's life.

    Longer than other classes: each step, and what its failure means, is decided by the state of the same batch.
    """

    def __init__(
        self,
        board: Scoreboard,
        channel: socket.socket,
        state_dir: Path,
        place: int,
        settings: AnyStoreSettings,
        waker: int,
    ) -> None:
        """Ship to the store at a place of the scoreboard; `waker` is the eventfd(2) that the writer has, too."""
        self.loop = Loop()
        self._board = board
        self._journal = board.journal
        self._counters = board.store(place)
        self._slot = board.slot(SHIPPER_SLOT + place)
        self._channel = Channel(self.loop, channel, self._handle_message, self.loop.stop)
        self._state_dir = state_dir
        self._settings = settings
        self._waker = waker
        self._reader = RecordReader(state_dir / JOURNAL_DIRECTORY)
        self._batch = RecordBatch(settings, self._reader, self._note_oldest)
        self._store: Store | None = None
        self._maintain_at_s = 0.0
        self._timer: Timer | None = None
        self._trouble = Trouble(settings.name)
        self._suspects = Suspects()
        letters_path = dead_letters_path(state_dir, settings.name)
        self._refusals = Refusals(settings.name, letters_path, self._counters, self._suspects)
        self._is_maintaining = False
        self._position = 0
        """What the store had when it was opened."""
        self._counted = 1 << 64
        """As far as records that the store will not take are counted; beyond every number where there are none."""
        self._behind = 0
        """How many records waited when the store was opened."""
        self._sent_report = StatusReport("")
        self._lock = StoreLock(state_dir / JOURNAL_DIRECTORY / f"store-{settings.name}.lock")
        self._began_s = time.monotonic()
        self._queued = False
        self._ending = False

    def run(self) -> int:
        """Work until report to end; return the exit status."""
        # A store's library may hang in a call: nothing but this ends such a shipper once its master is gone.
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

    def _handle_message(self, message: AnyMessage, fds: list[int]) -> None:  # noqa: ARG002 - none come
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
                LOGGER.error("unexpected %s from the master", type(message).__name__)

    # Waking and waiting

    def ready(self, events: int) -> None:  # noqa: ARG002 - the counters tell what there is
        """Go on: the writer has committed something, or it is this one's turn again."""
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
        """Do one step: open, write a batch, maintain, or wait. Whatever a store raises, it is tried again."""
        if self._timer is not None:
            self._timer.cancel()
        try:
            if not self._lock.acquire():
                self._later(OTHER_SHIPPER_S)
                return
            if self._store is None and not self._open():
                return
            self._step()
        except StoreError as error:
            self._fail(str(error))
        except OSError as error:
            self._fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        except Exception as error:  # noqa: BLE001 - an error of a store must not be the end of its shipper
            self._fail(f"unexpected {describe_unexpected(error)}")

    def _step(self) -> None:
        until = self._journal[JournalField.NUMBER]
        if self._counted < self._position:
            # Of a journal that was set back: the store takes them for records that it has.
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
        """Sleep until woken, or until maintenance is due: everything below `until` is in the store."""
        if self._ending and self._journal[JournalField.NUMBER] == until:
            self.loop.stop()
            return
        if time.monotonic() >= self._maintain_at_s:
            self._maintain()
        # Nothing waits, so no write can show that the store works: that it could be opened has to do.
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
        """Open the store and go on where it says; tell whether there is a journal yet. Raises StoreError, OSError."""
        high, low = self._journal[JournalField.ID_HIGH], self._journal[JournalField.ID_LOW]
        if not high and not low:
            # The writer has not recovered its journal yet: under no name it would be another one to the store.
            if not self._ending and time.monotonic() < self._began_s + JOURNAL_S:
                self._later(OTHER_SHIPPER_S)
                return False
            raise StoreError("the journal is not open; the writer's own line says why")
        journal = f"{high:016x}{low:016x}"
        store = make_store(self._settings)
        self._store = store
        self._refusals.open(journal)
        position = self._position = store.open(journal)
        self._batch.begin(position, self._journal[JournalField.NUMBER])
        if self._reader.next > position > 0 and not self._settings.is_filtered:
            lost = self._reader.next - position
            LOGGER.warning("store %s: wants record %d, which the journal has not kept", self._settings.name, position)
            self._counters[StoreField.LOST] += lost
        self._note_set_back(position)
        self._maintain_at_s = time.monotonic()
        self._publish_position()
        self._behind = self._journal[JournalField.ORDINAL] - self._counters[StoreField.ORDINAL]
        self._send_report()
        return True

    def _note_set_back(self, position: int) -> None:
        """See whether a store has records that this journal has not numbered; log it, and count from where on."""
        began = self._counters[StoreField.BEGAN]
        # At the first opening since the collector was started, what was numbered before it came counts, too.
        number = began - 1 if 0 < began < OPENED else self._journal[JournalField.NUMBER]
        self._counters[StoreField.BEGAN] = OPENED
        if position > number:
            LOGGER.error(
                "store %s: has records up to number %d of this journal, which had %d: it was set back; new records are "
                "refused, and counted as lost, until it has got there; stop, remove %s and start to number anew",
                self._settings.name, position, number, self._state_dir / JOURNAL_DIRECTORY / IDENTITY_FILE,
            )  # fmt: skip
            self._counted = min(self._counted, number)

    def _send_report(self) -> None:
        """Let the master know what `status` shows, when it has changed."""
        report = StatusReport(self._trouble.problem, details_of(self._store))
        if report != self._sent_report:
            self._sent_report = report
            self._channel.send(report)

    def _note_oldest(self, time_ns: int) -> None:
        self._counters[StoreField.SINCE_MS] = time_ns // 1_000_000

    def _gather(self, until: int) -> None:
        """Read blocks until they are a batch, or there are no more. Raises StoreError."""
        self._batch.gather(until, self._position, self._suspects)
        for problem in self._reader.problems:
            LOGGER.error("store %s: journal: %s", self._settings.name, problem)
        self._reader.problems.clear()
        self._counters[StoreField.LOST] += self._reader.lost
        self._reader.lost = 0
        if not self._reader.is_open and self._reader.next < until:
            raise StoreError(f"journal: no segment is there, and record {self._reader.next} is wanted")

    def _write(self) -> bool:
        """Write the batch, or a part of it; tell whether that was done. Raises StoreError, OSError."""
        assert self._store is not None  # noqa: S101 - for the type checker
        now, later = self._suspects.next_blocks(self._batch.blocks)
        self._refusals.keep_suspects()
        try:
            self._store.write(now, self._refusals.refuse)
        except (StoreError, OSError):
            raise
        except Exception as error:  # noqa: BLE001 - one record, not its neighbours, may be too much for a store
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

    # Records that the store's code fails at

    def _suspect(self, blocks: list[Block], error: Exception) -> None:
        """Go on with fewer records, or without the one that was handed over alone. Raises StoreError."""
        what = describe_unexpected(error)
        if self._suspects.most is None:
            LOGGER.warning("store %s: %s; the record that causes it is looked for", self._settings.name, what)
        is_proven = self._suspects.failed(blocks, error, f"unexpected {what}")
        if is_proven:
            self._refusals.keep_suspects()
            self._refusals.confirm_suspects()
        if self._suspects.is_stuck:
            self._refusals.withdraw_suspects(in_vain=True)
            raise StoreError(f"every record leads to an unexpected {what}")
        self._close()
        self._go_on()

    def _judge(self) -> None:
        """Decide about suspects after which there is no record to try. Raises StoreError."""
        _, reason = next(reversed(self._suspects.waiting.values()))
        if not self._suspects.judge_alone():
            self._refusals.withdraw_suspects(in_vain=True)
            raise StoreError(reason)
        self._refusals.keep_suspects()
        self._refusals.confirm_suspects()
        self._publish_position()

    def _publish_position(self) -> None:
        """Say how far the store is."""
        counters = self._counters
        if not self._batch.blocks:
            counters[StoreField.ORDINAL], counters[StoreField.OFFSET] = self._reader.total
        counters[StoreField.POSITION] = self._needed()
        counters[StoreField.READY] = 1

    def _needed(self) -> int:
        """Return the number of the first record that the store may still want."""
        if self._batch.blocks or self._suspects.waiting:
            return self._counters[StoreField.POSITION]
        return first_needed(self._store, self._reader.next)

    def _lags(self) -> bool:
        return self._counters[StoreField.POSITION] != self._needed()

    def _maintain(self) -> None:
        assert self._store is not None  # noqa: S101 - for the type checker
        self._is_maintaining = True
        self._maintain_at_s = time.monotonic() + max(0.01, self._store.maintain())
        self._is_maintaining = False
        self._record_success(in_maintenance=True)
        self._send_report()
        if self._lags():
            self._publish_position()

    def _record_success(self, *, in_maintenance: bool) -> None:
        """Take note that something was done that may have failed before."""
        if self._trouble.problem and self._trouble.in_maintenance == in_maintenance:
            self._trouble.end(self._behind)
            self._counters[StoreField.FAILING] = 0
            self._send_report()

    def _fail(self, problem: str) -> None:
        """Let the store be for a while."""
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
