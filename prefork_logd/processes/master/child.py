"""Remembers one child of the master: its slot, its state and its process.

Does not know how a child is forked (fork.py), or when (supervisor.py).
"""

from __future__ import annotations

import enum
import os
import signal
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from prefork_logd.config.values import format_count
from prefork_logd.ipc.scoreboard import MAX_WORKERS, SHIPPER_SLOT
from prefork_logd.processes.master.lifecycle import (
    ALIVE,
    BACK_OFF_SPREAD,
    FIRST_BACK_OFF_S,
    HEALTHY_AFTER_S,
    LONGEST_BACK_OFF_S,
    State,
)
from prefork_logd.system.backoff import Backoff
from prefork_logd.system.log import LOGGER

if TYPE_CHECKING:
    from prefork_logd.config.stores.kinds import AnyStoreSettings
    from prefork_logd.ipc.channel import Channel
    from prefork_logd.ipc.messages import StatusReport
    from prefork_logd.net.loop import Loop, Timer


class Kind(enum.Enum):
    """The kinds of children."""

    WRITER = "writer"
    WORKER = "worker"
    SOURCE = "source"
    SHIPPER = "shipper"
    WEB = "web"
    ALERTS = "alerts"


@dataclass
class Child:
    """A slot for a process, and the process that is in it now."""

    kind: Kind
    slot: int
    """Index on the scoreboard; for a worker also its number. Sources have the last of the workers' slots."""
    state: State = State.WAITING
    pid: int = 0
    spawn_id: int = 0
    """Number of this process among all that the master has forked."""
    started_s: float = 0.0
    """When it was forked, on the monotonic clock."""
    restarts: int = 0
    last_exit: str = ""
    """How the last process in this slot ended, if its end was unexpected."""
    due_s: float = 0.0
    """When the next process is forked, on the monotonic clock, while this slot waits for it."""
    generation: int = 0
    """Generation of the last configuration that it has confirmed."""
    settled: int = 0
    """Generation of the oldest configuration that a worker may still have lines of."""
    writer: int = 0
    """Spawn id of the writer to which a worker has pipes."""
    store: AnyStoreSettings | None = None
    """The store of a shipper."""
    report: StatusReport | None = None
    """The last report of a shipper about its store, of a source about its stream, or of a worker about services."""
    is_inherited: bool = False
    """Whether it was forked by the program that this process was before an upgrade."""
    is_killed: bool = False
    """Whether the master has killed it; that loses nothing and is already logged."""
    arena_fd: int = -1
    """The memory for a worker's lines (shared_memory.py); -1 for none."""
    channel: Channel | None = field(default=None, repr=False)
    timer: Timer | None = field(default=None, repr=False)
    backoff: Backoff = field(
        default_factory=lambda: Backoff(FIRST_BACK_OFF_S, LONGEST_BACK_OFF_S, BACK_OFF_SPREAD), repr=False
    )
    """Counts the deaths in a row, each soon after the fork."""

    @property
    def name(self) -> str:
        """The name in log lines and in the process list."""
        if self.kind is Kind.SOURCE:
            return f"source {self.index}"
        if self.kind is Kind.SHIPPER:
            # The store of an inherited shipper is not known, only its slot.
            return f"shipper {self.store.name if self.store is not None else self.index + 1}"
        if self.kind is Kind.WEB:
            return "page"
        if self.kind is Kind.ALERTS:
            return "alerts"
        return f"worker {self.slot}" if self.kind is Kind.WORKER else "writer"

    @property
    def index(self) -> int:
        """The number among the children of the same kind."""
        if self.kind is Kind.SOURCE:
            return MAX_WORKERS + 1 - self.slot
        if self.kind in (Kind.WEB, Kind.ALERTS):
            return 0
        return self.slot - SHIPPER_SLOT if self.kind is Kind.SHIPPER else self.slot

    def record_death(self, now_s: float) -> float:
        """Count a death; return how many seconds to wait before the next fork."""
        if now_s - self.started_s >= HEALTHY_AFTER_S:
            self.backoff.worked()
        return self.backoff.failed()

    def kill_after(self, loop: Loop, duration_s: float, state: str) -> None:
        """Kill the process if it still lives after this time; the log says in which `state` it was.

        For a child that no record is lost with.
        """
        if self.timer is not None:
            self.timer.cancel()
        if self.state in ALIVE:
            pid = self.pid
            self.timer = loop.later(duration_s, lambda: self._kill(pid, state))

    def _kill(self, pid: int, state: str) -> None:
        if self.state in ALIVE and self.pid == pid:
            LOGGER.warning("%s (pid %d) %s and was killed; no records are lost", self.name, pid, state)
            self.is_killed = True
            os.kill(pid, signal.SIGKILL)

    def crash_loop(self, now_s: float) -> str:
        """Return a sentence about a child that has died repeatedly; empty if it has lived for a while."""
        if self.state is State.WAITING and self.last_exit:
            return f"{self.name} {self.last_exit}; it starts again in {max(0.0, self.due_s - now_s):.1f} s"
        deaths = self.backoff.failures
        if self.state in ALIVE and deaths > 1 and now_s - self.started_s < HEALTHY_AFTER_S:
            return (
                f"{self.name} {self.last_exit}, {format_count(deaths, 'time')} in a row; it has just been started again"
            )
        return ""

    def close_arena(self) -> None:
        """Close the descriptor of a worker's memory; processes that have mapped the memory keep it."""
        if self.arena_fd >= 0:
            os.close(self.arena_fd)
            self.arena_fd = -1
