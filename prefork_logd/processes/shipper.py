"""A shipper: hands what the journal has committed to one store, in order, each record once.

Owns when to read, to write, to wait and to try again. Knows its store only as stores/base.py says, and never reads
beyond what the writer has published as committed.

While everything is in the store the shipper sleeps, and the writer wakes it: once, for whatever has come until it
sleeps again. Then it gathers a batch, for a moment, and writes it. A store that fails is closed, and opened again after
a while, longer each time and never at the same moment as others; it says itself where to go on.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import gc
import os
import random
import signal
import time
from typing import TYPE_CHECKING

from prefork_logd.errors import StoreError
from prefork_logd.journal.reader import RecordReader
from prefork_logd.log import LOGGER, reopen_own
from prefork_logd.net.loop import READ, Loop, Timer
from prefork_logd.processes import control
from prefork_logd.processes.dead_letters import DeadLetters
from prefork_logd.processes.picking import Picker
from prefork_logd.scoreboard import SHIPPER_SLOT, Field, JournalField, Scoreboard, StoreField
from prefork_logd.settings import JOURNAL_DIRECTORY, dead_letters_path
from prefork_logd.stores.base import Describing, Lagging
from prefork_logd.stores.making import make_store

if TYPE_CHECKING:
    import socket
    from pathlib import Path
    from typing import Any

    from prefork_logd.store_settings import AnyStoreSettings
    from prefork_logd.stores.base import Block, Store

NICENESS = 15
"""Ingest comes first: what is late here waits on disk, what is late there waits in clients."""
FIRST_RETRY_S, LONGEST_RETRY_S = 0.1, 10.0
LONGEST_UNMAINTAINED_S = 3600.0
LONGEST_LAG_S = 1.0
"""The same for a store that frees the journal only when it is maintained."""
DRAIN_S = 2.0
"""How long a stop lets a shipper go on with what the journal holds."""
OTHER_SHIPPER_S = 0.05
NAMELESS_S = 0.1
"""How often to look whether the journal has a name."""
PR_SET_PDEATHSIG = 1


class Shipper:
    """A shipper's life."""

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
        self._channel = control.Channel(self.loop, channel, self._hear, self.loop.stop)
        self._state_dir = state_dir
        self._settings = settings
        self._waker = waker
        self._picker = Picker(settings)
        self._reader = RecordReader(state_dir / JOURNAL_DIRECTORY)
        self._store: Store | None = None
        self._letters: DeadLetters | None = None
        self._batch: list[Block] = []
        self._batch_records = 0
        self._batch_bytes = 0
        self._batch_since_s = 0.0
        self._maintain_at_s = 0.0
        self._retry_s = FIRST_RETRY_S
        self._timer: Timer | None = None
        self._failing = ""
        self._told = control.Told("")
        self._queued = False
        self._ending = False

    def run(self) -> int:
        """Work until told to end; return the exit status."""
        # A store's library may hang in a call: nothing but this ends such a shipper once its master is gone.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        os.nice(NICENESS)
        gc.freeze()
        self._slot[Field.PID] = os.getpid()
        self._counters[StoreField.WAITING] = 0
        self._lock_fd = os.open(
            self._state_dir / JOURNAL_DIRECTORY / f"store-{self._settings.name}.lock",
            os.O_RDWR | os.O_CREAT | os.O_CLOEXEC,
            0o600,
        )
        self.loop.add(self._waker, self, READ)
        self._channel.send(control.Ready())
        self._begin()
        self.loop.run()
        self._close()
        return 0

    def _begin(self) -> None:
        """Ship, once no other shipper does: one of a dead master may be about to end."""
        try:
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.loop.later(OTHER_SHIPPER_S, self._begin)
        else:
            self._go_on()

    def _hear(self, message: control.AnyMessage, fds: list[int]) -> None:  # noqa: ARG002 - none come
        match message:
            case control.Drain(fast):
                self._ending = True
                self.loop.later(0 if fast else DRAIN_S, self.loop.stop)
                if self._failing:
                    self.loop.stop()
                self._go_on()
            case control.Reopen():
                reopen_own()
            case _:
                LOGGER.error("cannot make sense of a %s", type(message).__name__)

    # Waking and waiting

    def ready(self, events: int) -> None:  # noqa: ARG002 - the counters tell what there is
        """Go on: the writer has committed something, or it is this one's turn again."""
        self._queued = False
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._waker)
        if self._timer is None or not self._timer.pending or not self._failing:
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
        """Do one step: open, write a batch, maintain, or wait."""
        if self._timer is not None:
            self._timer.cancel()
        if not self._journal[JournalField.ID_HIGH] and not self._journal[JournalField.ID_LOW]:
            # The writer has not recovered its journal yet: under no name it would be another one to the store.
            if self._ending:
                self.loop.stop()
            else:
                self._later(NAMELESS_S)
            return
        try:
            if self._store is None:
                self._open()
            self._step()
        except StoreError as error:
            self._fail(error)

    def _step(self) -> None:
        until = self._journal[JournalField.NUMBER]
        self._gather(until)
        now_s = time.monotonic()
        is_full = self._is_full()
        if self._batch:
            waited_s = now_s - self._batch_since_s
            if not is_full and not self._ending and waited_s < self._settings.batch_time_s:
                self._later(self._settings.batch_time_s - waited_s)
                return
            self._write()
        elif self._counters[StoreField.ORDINAL] != self._reader.total[0] or self._lags():
            self._passed()
        longest_s = LONGEST_LAG_S if isinstance(self._store, Lagging) else LONGEST_UNMAINTAINED_S
        if now_s >= self._maintain_at_s + longest_s:
            self._maintain()
        if is_full:
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
        self._counters[StoreField.SINCE_MS] = 0
        self._counters[StoreField.WAITING] = 1
        self._board.barrier()
        if self._journal[JournalField.NUMBER] != until:
            self._counters[StoreField.WAITING] = 0
            self._go_on()
            return
        self._later(max(0.0, self._maintain_at_s - time.monotonic()))

    # The store

    def _open(self) -> None:
        """Open the store and go on where it says. Raises StoreError."""
        high, low = self._journal[JournalField.ID_HIGH], self._journal[JournalField.ID_LOW]
        journal = f"{high:016x}{low:016x}"
        store = make_store(self._settings)
        self._store = store
        self._letters = DeadLetters(dead_letters_path(self._state_dir, self._settings.name), journal)
        position = store.open(journal)
        self._reader.seek(position)
        self._reader.pass_over(self._journal[JournalField.NUMBER])
        self._clear()
        if self._reader.next > position > 0 and not self._settings.is_filtered:
            lost = self._reader.next - position
            LOGGER.warning("store %s: wants record %d, which the journal has not kept", self._settings.name, position)
            self._counters[StoreField.LOST] += lost
        if position > self._journal[JournalField.NUMBER]:
            LOGGER.error(
                "store %s: has records up to number %d of this journal, which has %d; those between are not taken",
                self._settings.name, position, self._journal[JournalField.NUMBER],
            )  # fmt: skip
        self._maintain_at_s = time.monotonic()
        self._passed()
        if self._failing:
            behind = self._journal[JournalField.ORDINAL] - self._counters[StoreField.ORDINAL]
            LOGGER.warning("store %s: works again; %d records wait for it", self._settings.name, behind)
        self._failing = ""
        self._retry_s = FIRST_RETRY_S
        self._counters[StoreField.FAILING] = 0
        self._tell()

    def _tell(self) -> None:
        """Let the master know what `status` shows, when it has changed."""
        details: dict[str, Any] = self._store.status() if isinstance(self._store, Describing) else {}
        told = control.Told(self._failing, details)
        if told != self._told:
            self._told = told
            self._channel.send(told)

    def _gather(self, until: int) -> None:
        """Read blocks until they are a batch, or there are no more."""
        while not self._is_full() and (entry := self._reader.read(until)) is not None:
            if not self._batch:
                self._batch_since_s = time.monotonic()
                self._counters[StoreField.SINCE_MS] = entry.time_ns // 1_000_000
            blocks = self._picker.pick(entry)
            self._batch += blocks
            self._batch_records += sum(block.count for block in blocks)
            self._batch_bytes += len(entry.lines)
        for problem in self._reader.problems:
            LOGGER.error("store %s: journal: %s", self._settings.name, problem)
        self._reader.problems.clear()
        self._counters[StoreField.LOST] += self._reader.lost
        self._reader.lost = 0

    def _is_full(self) -> bool:
        return self._batch_records >= self._settings.batch_records or self._batch_bytes >= self._settings.batch_bytes

    def _clear(self) -> None:
        self._batch = []
        self._batch_records = self._batch_bytes = 0

    def _write(self) -> None:
        """Write the batch. Raises StoreError; then it is read again once the store is open again."""
        assert self._store is not None  # noqa: S101 - for the type checker
        self._store.write(self._batch, self._refuse)
        self._counters[StoreField.RECORDS] += self._batch_records
        self._clear()
        self._passed()

    def _refuse(self, number: int, line: bytes, reason: str) -> None:
        """Keep a record that the store will never take. Raises StoreError, and the batch is tried again."""
        if self._letters is not None and self._letters.add(number, line, reason):
            self._counters[StoreField.REFUSED] += 1
            if self._counters[StoreField.REFUSED] == 1:
                path = dead_letters_path(self._state_dir, self._settings.name)
                LOGGER.warning("store %s: refuses a record (%s); see %s", self._settings.name, reason, path)

    def _passed(self) -> None:
        """Say how far the store is."""
        counters = self._counters
        counters[StoreField.ORDINAL], counters[StoreField.OFFSET] = self._reader.total
        counters[StoreField.POSITION] = self._needed()
        counters[StoreField.READY] = 1

    def _needed(self) -> int:
        """Return the number of the first record that the store may still want."""
        if isinstance(self._store, Lagging):
            return min(self._reader.next, self._store.durable())
        return self._reader.next

    def _lags(self) -> bool:
        return self._counters[StoreField.POSITION] != self._needed()

    def _maintain(self) -> None:
        assert self._store is not None  # noqa: S101 - for the type checker
        self._maintain_at_s = time.monotonic() + max(0.01, self._store.maintain())
        self._tell()
        if self._lags():
            self._passed()

    def _fail(self, error: StoreError) -> None:
        """Let the store be for a while."""
        self._close()
        if not self._failing:
            LOGGER.error("store %s: %s; tried again until it works", self._settings.name, error)
        self._failing = str(error)
        self._counters[StoreField.FAILING] = 1
        self._tell()
        if self._ending:
            self.loop.stop()
            return
        if not self._counters[StoreField.SINCE_MS]:
            self._counters[StoreField.SINCE_MS] = time.time_ns() // 1_000_000
        self._later(self._retry_s * random.uniform(0.5, 1.0))
        self._retry_s = min(LONGEST_RETRY_S, 2 * self._retry_s)

    def _close(self) -> None:
        store, self._store = self._store, None
        self._clear()
        self._reader.close()
        if store is not None:
            store.close()
