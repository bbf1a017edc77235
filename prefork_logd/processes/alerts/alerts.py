"""Runs the process of the alerts: its limits, its messages from the master, and its end.

Owns the process and its view of the collector. Does not know rules (the room alerts).

The process has no pipe to the writer: it reads stores and the journal. Its end loses nothing: states and notices are in
alerts.db. It waits, and has opened nothing, until there is a rule.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from prefork_logd.config.paths import ALERTS_FILE, ALERTS_LOCK
from prefork_logd.errors import file_problem
from prefork_logd.ipc.channel import Channel
from prefork_logd.ipc.messages import AnyMessage, Drain, Ready, Reopen, StatusReport
from prefork_logd.ipc.scoreboard import WRITER_SLOT, DiskState, Field, JournalField, Scoreboard, StoreField
from prefork_logd.net.loop import Loop
from prefork_logd.processes import search_limits
from prefork_logd.system.log import LOGGER, describe_bug, log_unexpected, reopen_own

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping

    from prefork_logd.alerts.engine import Engine
    from prefork_logd.config.settings import Settings

MOST_MEMORY_BYTES = 1 << 30
"""Of the process (search_limits.py)."""
STACK_BYTES = 1 << 20
"""Of a thread that sends: the limit of memory counts all of it."""
DRAIN_S = 2.0
"""How long notices that are on their way may take during a stop."""
REPORT_S = 1.0
LOOK_S = 1.0
"""Time between two turns of the engine, and between two looks for a first rule of the page."""
FAILED = 1
"""Exit status of a process that could not begin; it is tried again, after a pause."""
_LIBRARIES = (
    "prefork_logd.alerts.engine",
    "prefork_logd.stores.parquet.search",
    "encodings.idna",
)


def import_libraries() -> None:
    """Import what alerts need while it can be read: the collector may change its user after this."""
    for name in _LIBRARIES:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


class Scoreboards:
    """The view that alerts have of the collector: counters that all processes share."""

    def __init__(self, board: Scoreboard, store_ids: Mapping[str, int]) -> None:
        """`store_ids` has the slot of each store by its name."""
        self._board = board
        self._store_ids = store_ids

    def journal(self) -> tuple[str, int]:
        """Return the id of the journal, empty if it is not known yet, and the number of its next record."""
        journal = self._board.journal
        high, low = journal[JournalField.ID_HIGH], journal[JournalField.ID_LOW]
        return f"{high:016x}{low:016x}" if high or low else "", journal[JournalField.NUMBER]

    def lag_s(self, store: str) -> float:
        """Return for how long the oldest record waits that a store does not have yet."""
        if store not in self._store_ids:
            return 0.0
        counters = self._board.store(self._store_ids[store])
        since_ms = counters[StoreField.SINCE_MS]
        return max(0.0, time.time() - since_ms / 1000) if since_ms else 0.0

    def is_listening(self) -> bool:
        """Return whether clients can send records now: outputs and journal can be written, and have room."""
        journal, writer = self._board.journal, self._board.slot(WRITER_SLOT)
        waits = writer[Field.PAUSED] or journal[JournalField.FULL] or journal[JournalField.DISKS] == DiskState.STOPPED
        return bool(writer[Field.PID] and not waits)


class AlertsProcess:
    """The life of the process."""

    def __init__(
        self,
        slot: int,
        board: Scoreboard,
        channel: socket.socket,
        settings: Settings,
        store_ids: Mapping[str, int],
    ) -> None:
        """Work by `settings`; `slot` is the process's own on the scoreboard."""
        self._slot = board.slot(slot)
        self._loop = Loop()
        self._channel = Channel(self._loop, channel, self._handle_message, self._end_at_once)
        self._settings = settings
        self._state_dir = Path(settings.server.state_dir)
        self._watched = Scoreboards(board, store_ids)
        self._engine: Engine | None = None
        self._stopping = threading.Event()
        self._sent = StatusReport("")

    def run(self) -> int:
        """Work until the master ends the process; return the exit status."""
        search_limits.bound_process(MOST_MEMORY_BYTES)
        threading.stack_size(STACK_BYTES)
        self._slot[Field.PID] = os.getpid()
        self._channel.send(Ready())
        thread = threading.Thread(target=self._work, name="evaluate", daemon=True)
        thread.start()
        self._report()
        self._loop.run()
        return FAILED

    def _work(self) -> None:
        """Evaluate rules until the end, in a thread of its own: a search may take long."""
        try:
            lock = self._acquire_lock()
            with contextlib.closing(lock):
                self._evaluate()
        except OSError as error:
            LOGGER.error("alerts: %s", file_problem(error))
            os._exit(FAILED)
        except BaseException as error:  # noqa: BLE001 - the master starts another process
            LOGGER.error("alerts: %s", describe_bug(error))
            os._exit(FAILED)

    def _acquire_lock(self) -> _Lock:
        """Return the lock by which one process at a time sends notices, once its last holder has ended."""
        lock = _Lock(self._state_dir / ALERTS_LOCK)
        while not lock.acquire():
            time.sleep(0.1)
        return lock

    def _evaluate(self) -> None:
        while not self._settings.alert and not (self._state_dir / ALERTS_FILE).exists():
            if self._stopping.wait(LOOK_S):
                return
        from prefork_logd.alerts.clock import run_id  # noqa: PLC0415 - of use with a rule only, and takes 10 MB
        from prefork_logd.alerts.engine import Engine  # noqa: PLC0415

        self._engine = Engine(self._settings, self._state_dir, self._watched, run_id())
        while not self._stopping.is_set():
            self._engine.turn()
            self._stopping.wait(LOOK_S)

    def _report(self) -> None:
        """Send the master the report for `status`, if it has changed."""
        engine = self._engine
        if engine is not None:
            report = StatusReport(engine.problem, dict(engine.numbers))
            if report != self._sent:
                self._channel.send(report)
                self._sent = report
        self._loop.later(REPORT_S, self._report)

    def _handle_message(self, message: AnyMessage, _fds: list[int]) -> None:
        match message:
            case Drain(fast):
                if fast:
                    self._end_at_once()
                self._stopping.set()
                threading.Thread(target=self._drain, name="drain", daemon=True).start()
            case Reopen():
                reopen_own()
            case _:
                log_unexpected(message, "the master")

    def _drain(self) -> None:
        """Let attempts that are under way end, so that their notices are not sent again."""
        if self._engine is not None:
            self._engine.end(DRAIN_S)
        os._exit(0)

    def _end_at_once(self) -> None:
        os._exit(0)


class _Lock:
    """The lock of alerts.db. The kernel releases it at the end of the process."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def acquire(self) -> bool:
        """Acquire the lock; return False if another process has it."""
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        """Release the lock."""
        os.close(self._fd)
