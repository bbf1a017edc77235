"""Appends records for the stores to the record log, and wakes the shippers.

Owns the limits of the log, its counters on the scoreboard, and the wake-ups. journal/record_log.py has the segments.
Does not parse lines, and knows stores only by their slots.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from prefork_logd.config.paths import JOURNAL_DIRECTORY
from prefork_logd.config.values import format_count
from prefork_logd.errors import OutputError
from prefork_logd.ipc.scoreboard import JournalField, Scoreboard, StoreField
from prefork_logd.journal import record_block
from prefork_logd.journal.commit_entry import NOTHING
from prefork_logd.journal.identity import IDENTITY_FILE
from prefork_logd.journal.intent import Evidence
from prefork_logd.journal.record_log import POSITION_FILE, Gathered, RecordLog
from prefork_logd.processes.writer.needs import Needs
from prefork_logd.system.log import LOGGER, RateLimitedLog

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from prefork_logd.ipc.configuration import Configuration
    from prefork_logd.journal.commit_entry import Committed
    from prefork_logd.journal.intent import Identity

WARN_FROM, WARN_AGAIN_BELOW = 0.8, 0.7
"""Parts of limits.journal_bytes."""
REMOVE_EVERY_S = 0.5
POSITION_RETRY_S = 1.0
PASS_OVER_FROM = 0.5
"""Part of limits.journal_bytes from which on stores that may miss records keep none in the journal."""
KEPT_SEGMENTS = 1
"""Finished segments that are kept for `tail`, while there is room, although every store has passed them."""


class RecordLogWriter:
    """Records that wait to be appended, and those that wait for a store."""

    def __init__(self, board: Scoreboard) -> None:
        self._counters = board.journal
        self._board = board
        self._log: RecordLog | None = None
        self._needs = Needs(board)
        self._passed_over_log = RateLimitedLog(burst=1, per_second=1 / 60)
        self._wakers: dict[int, int] = {}
        self._gathered: list[Gathered] = []
        self._gathered_bytes = 0
        self._appended: list[Gathered] = []
        """Records appended since the last commit; if the sync fails, they go to another segment."""
        self._spoilt = False
        """Whether the current segment could not be synced."""
        self._max_bytes = 0
        self._warned = False
        self._logged_errno: int | None = None
        self._full = False
        self._removed_s = 0.0
        self._position_fd = -1
        self._position_due_s = 0.0
        """When to try again to open that file."""
        self._is_position_missed = False
        self._published_number = -1
        self._directory = Path()
        self._segment_bytes = 0
        self._known = NOTHING
        """The last commit before the log was opened."""
        self._evidence = Evidence()

    def configure(self, configuration: Configuration, committed: Committed, evidence: Evidence | None = None) -> None:
        """Take the stores of a configuration. Raises OutputError if the log cannot be opened; it is tried again later.

        The log is opened once a store is, or was, configured, so that an uncommitted end is always cut.
        """
        settings = configuration.settings
        self._needs.configure(configuration)
        self._max_bytes = settings.limits.journal_bytes
        self._directory = Path(settings.server.state_dir) / JOURNAL_DIRECTORY
        self._segment_bytes = settings.limits.journal_segment_bytes
        self._known, self._evidence = committed, evidence or Evidence()
        if self._log is None and (self._needs.stores or _is_there(self._directory / IDENTITY_FILE)):
            self._open()
        if self._log is not None:
            self._log.segment_bytes = self._segment_bytes
            self._publish()

    def _open(self) -> None:
        """Recover the log, or begin one. Raises OutputError; then call it again later."""
        self._log = log = RecordLog(self._directory, self._segment_bytes, self._known, self._evidence)
        for problem in log.problems:
            LOGGER.warning("journal: %s", problem)
        log.problems.clear()
        # Before the journal's identity is published: shippers wait for that.
        for store_id in self._needs.stores:
            store = self._board.store(store_id)
            store[StoreField.BEGAN] = store[StoreField.BEGAN] or log.next + 1
        self._counters[JournalField.ID_HIGH] = int.from_bytes(log.journal[:8])
        self._counters[JournalField.ID_LOW] = int.from_bytes(log.journal[8:])
        self._publish()

    def set_waker(self, store_id: int, fd: int) -> None:
        """Wake the shipper of a slot through this eventfd(2) from now on."""
        old = self._wakers.pop(store_id, None)
        if old is not None:
            os.close(old)
        self._wakers[store_id] = fd
        self._wake(store_id)

    def wake_stores(self) -> None:
        """Wake the shipper of each store."""
        for store_id in self._needs.stores:
            self._wake(store_id)

    def lengths(self) -> dict[tuple[int, int], int]:
        """Return the current segment's identity and length, for a commit."""
        return self._log.lengths() if self._log is not None else {}

    def reach(self) -> dict[Identity, tuple[int, int]]:
        """Return the current segment's identity, its committed length, and its longest after the turn."""
        if self._log is None:
            return {}
        nbytes = sum(record_block.size_of(len(gathered.runs), len(gathered.lines)) for gathered in self._gathered)
        return {identity: (committed, length + nbytes) for identity, committed, length in [self._log.reach]}

    @property
    def recovered(self) -> Collection[Identity]:
        """The files of the last writer's log."""
        return self._log.recovered if self._log is not None else ()

    def next_number(self, known: int) -> int:
        """Return the number of the next record; `known` if there is no log."""
        return self._log.next if self._log is not None else known

    @property
    def has_finished(self) -> bool:
        """Whether there may be segments to remove."""
        return self._log is not None and self._log.finished > KEPT_SEGMENTS and bool(self._needs.stores)

    # A turn

    def add_runs(self, session: bytes, runs: Sequence[tuple[int, int]], count: int, lines: memoryview) -> None:
        """Gather records; without a store they are dropped (lines of an older configuration)."""
        if self._needs.stores and count:
            self._gathered.append(Gathered(session, runs, count, lines))
            self._gathered_bytes += len(lines)

    def prepare(self) -> bool:
        """Make room for the gathered records; return False if there is none. A problem is logged once."""
        if not self._needs.stores:
            self._drop()
        if not self._gathered:
            return True
        try:
            if self._log is None:
                self._open()
            assert self._log is not None  # noqa: S101 - for the type checker
            if self._spoilt:
                self._log.abandon()
                self._spoilt = False
            if not self._appended:
                self._log.rotate()
            return self._has_room(self._log)
        except OutputError as error:
            return self._failed(error)

    def _drop(self) -> None:
        """Drop the lines for stores that have been removed from the configuration."""
        self._gathered = []
        self._gathered_bytes = 0
        if self._full:
            self._full = False
            self._counters[JournalField.FULL] = False

    def append(self) -> bool:
        """Append the gathered records; return False if they wait for another try."""
        if not self._gathered:
            return True
        if self._log is None or self._spoilt:
            return False
        try:
            self._log.append(self._gathered, time.time_ns())
        except OutputError as error:
            return self._failed(error)
        if self._logged_errno is not None:
            self._logged_errno = None
            LOGGER.warning("journal: records are written again")
        self._appended += self._gathered
        self._gathered = []
        self._gathered_bytes = 0
        return True

    def sync(self) -> bool:
        """Wait until the appended records are on the disk; return False if not: then they are gathered again."""
        if self._log is None or not self._appended:
            return True
        try:
            self._log.sync()
        except OutputError as error:
            self._gathered = self._appended + self._gathered
            self._gathered_bytes = sum(len(gathered.lines) for gathered in self._gathered)
            self._appended = []
            self._spoilt = True
            return self._failed(error)
        return True

    def committed(self) -> None:
        """Publish the committed records to the shippers."""
        if self._log is None:
            return
        self._log.committed()
        self._appended = []
        self._publish()
        self._warn(self._log)

    def _publish(self) -> None:
        log = self._log
        if log is None:
            return
        counters = self._counters
        # Not the appended records: a reload may call this in a turn that is never committed.
        following = log.committed_next
        counters[JournalField.ORDINAL], counters[JournalField.OFFSET] = log.committed_total
        counters[JournalField.BYTES] = log.nbytes
        counters[JournalField.NUMBER] = following
        if self._position_fd < 0 and time.monotonic() >= self._position_due_s:
            self._open_position(self._directory / POSITION_FILE)
        if following != self._published_number and self._position_fd >= 0:
            self._published_number = following
            with contextlib.suppress(OSError):  # a full disk; the next write includes this number
                os.pwrite(self._position_fd, following.to_bytes(8, "little"), 0)
        self._board.barrier()
        for store_id in self._needs.stores:
            if self._board.store(store_id)[StoreField.WAITING]:
                self._wake(store_id)

    def _open_position(self, path: Path) -> None:
        """Open the file that shows the committed number to `tail`. An error is logged once, and tried again later."""
        try:
            self._position_fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            self._position_due_s = time.monotonic() + POSITION_RETRY_S
            if not self._is_position_missed:
                LOGGER.error("%s: cannot open it: %s; `tail` shows nothing new until then", path, error.strerror)
            self._is_position_missed = True

    def _wake(self, store_id: int) -> None:
        if store_id in self._wakers:
            self._board.store(store_id)[StoreField.WAITING] = 0
            with contextlib.suppress(BlockingIOError):
                os.eventfd_write(self._wakers[store_id], 1)

    def _failed(self, error: OutputError) -> bool:
        if error.errno != self._logged_errno:
            self._logged_errno = error.errno
            LOGGER.error("journal: %s; clients wait until it works again", error)
        return False

    # Room

    def _has_room(self, log: RecordLog) -> bool:
        wanted = self._max_bytes - self._gathered_bytes
        self._pass_over(log)
        if log.nbytes > wanted:
            self._remove(log, keep=0)
            if log.nbytes > wanted and not self._appended and self._needs.passed() >= log.next:
                log.rotate(even_if_small=True)
                self._remove(log, keep=0)
        is_full = log.nbytes > wanted and log.has_any
        if is_full != self._full:
            self._full = is_full
            self._counters[JournalField.FULL] = is_full
            if is_full:
                LOGGER.error(
                    "journal: full: %s wait for %s; clients wait until it has caught up",
                    format_count(log.nbytes, "byte"), self._needs.slowest(),
                )  # fmt: skip
            else:
                LOGGER.warning("journal: has room again")
        return not is_full

    def _pass_over(self, log: RecordLog) -> None:
        """Keep no records for stores that may miss some while the log is half full."""
        most = PASS_OVER_FROM * self._max_bytes
        if log.nbytes > most and not self._needs.only_required:
            self._remove(log)
        if (log.nbytes > most) == self._needs.only_required:
            return
        self._needs.only_required = not self._needs.only_required
        self._remove(log, keep=0)

    def _warn(self, log: RecordLog) -> None:
        part = log.nbytes / self._max_bytes
        if part < WARN_AGAIN_BELOW:
            self._warned = False
        elif part >= WARN_FROM and not self._warned:
            self._remove(log)
            if log.nbytes / self._max_bytes >= WARN_FROM:
                self._warned = True
                LOGGER.warning(
                    "journal: %d %% full: %s wait for %s; clients will wait when it is full",
                    100 * part, format_count(log.nbytes, "byte"), self._needs.slowest(),
                )  # fmt: skip

    def remove_passed(self) -> None:
        """Remove the segments that every store has passed; at most once in REMOVE_EVERY_S."""
        now_s = time.monotonic()
        if self._log is not None and self.has_finished and now_s >= self._removed_s + REMOVE_EVERY_S:
            self._removed_s = now_s
            self._remove(self._log)

    def _remove(self, log: RecordLog, keep: int = KEPT_SEGMENTS) -> None:
        if not self._needs.stores or not log.remove_below(self._needs.passed(), keep):
            return
        self._counters[JournalField.BYTES] = log.nbytes
        if late := self._needs.late(log.first):
            self._passed_over_log.warning(
                "journal: half full: %s is too slow, or fails, and passes over records below number %d", late, log.first
            )

    def close(self) -> None:
        """Sync and close the log."""
        if self._log is not None:
            self._log.close()
        if self._position_fd >= 0:
            os.close(self._position_fd)
            self._position_fd = -1


def _is_there(path: Path) -> bool:
    """Return whether a file exists. Raises OutputError if that is unknown: then it may exist."""
    try:
        path.stat()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise OutputError(str(path), "read", error) from error
    return True
