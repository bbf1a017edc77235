"""The master's children: one record for each, and the fork.

Owns what is remembered of a child, and what is done between fork and the child's own code. When to fork, and what an
exit leads to, is the master's business.
"""

from __future__ import annotations

import enum
import os
import signal
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn

from setproctitle import setproctitle

from prefork_logd import log, signals
from prefork_logd.log import LOGGER
from prefork_logd.processes.states import ALIVE, HEALTHY_AFTER_S, State
from prefork_logd.scoreboard import MAX_WORKERS, SHIPPER_SLOT

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefork_logd.net.loop import Timer
    from prefork_logd.processes import control
    from prefork_logd.processes.control import Channel
    from prefork_logd.processes.orphans import Lifeline
    from prefork_logd.store_settings import AnyStoreSettings

LOST_STATUS = 1
"""Exit status of a child that had to leave lines unwritten."""
BUG_STATUS = 70
"""Exit status of a child whose code failed (EX_SOFTWARE, sysexits.h)."""


class Kind(enum.Enum):
    """What a child is for."""

    WRITER = "writer"
    WORKER = "worker"
    SOURCE = "source"
    SHIPPER = "shipper"


@dataclass
class Child:
    """A place for a process, and the process that has it now."""

    kind: Kind
    slot: int
    """Its place on the scoreboard; a worker's number. Sources have the last ones of the workers' slots."""
    state: State = State.WAITING
    pid: int = 0
    spawn_id: int = 0
    """Number of this process among all that the master has forked."""
    started_s: float = 0.0
    deaths: int = 0
    """In a row, each after a short life."""
    restarts: int = 0
    last_exit: str = ""
    """How the last process of this place ended, if that was not asked for."""
    due_s: float = 0.0
    """When the next one is forked, on the monotonic clock, while this place waits for it."""
    generation: int = 0
    """Of the configuration it has taken."""
    settled: int = 0
    """Generation of the oldest configuration that a worker may still have lines of."""
    writer: int = 0
    """Life of the writer that a worker was given pipes to."""
    store: AnyStoreSettings | None = None
    """What a shipper ships to."""
    report: control.StatusReport | None = None
    """What a shipper has said last of its store, or a source of its stream."""
    is_inherited: bool = False
    """Forked by the program that this process was before an upgrade."""
    is_killed: bool = False
    """Whether it was ended by force where that costs nothing, and the log has said so."""
    arena_fd: int = -1
    """The memory that a worker makes its lines in (arena.py)."""
    channel: Channel | None = field(default=None, repr=False)
    timer: Timer | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """What messages and the process list call it."""
        if self.kind is Kind.SOURCE:
            return f"source {self.index}"
        if self.kind is Kind.SHIPPER:
            # Of a store's shipper that the last program has forked, only the place is known.
            return f"shipper {self.store.name if self.store is not None else self.index + 1}"
        return f"worker {self.slot}" if self.kind is Kind.WORKER else "writer"

    def crash_loop(self, now_s: float) -> str:
        """Return a sentence about a child that dies again and again; empty if it has lived for a while."""
        if self.state is State.WAITING and self.last_exit:
            return f"{self.name} {self.last_exit}; it starts again in {max(0.0, self.due_s - now_s):.1f} s"
        if self.state in ALIVE and self.deaths > 1 and now_s - self.started_s < HEALTHY_AFTER_S:
            return f"{self.name} {self.last_exit}, {self.deaths} times in a row; it has just been started again"
        return ""

    @property
    def index(self) -> int:
        """Its number among its kind."""
        if self.kind is Kind.SOURCE:
            return MAX_WORKERS + 1 - self.slot
        return self.slot - SHIPPER_SLOT if self.kind is Kind.SHIPPER else self.slot


def fork(name: str, lifeline: Lifeline, close_inherited: Callable[[], None], run: Callable[[], int]) -> int:
    """Fork a child that does `run` and ends with the status that this returns; return its pid.

    It is tied to this process by `lifeline`, and ends soon after it in any case.

    The child first drops what belongs to the parent alone. Until then every signal is blocked: its handler would write
    to the wake-up descriptor that both share.
    """
    blocked = signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
    try:
        pid = os.fork()
        if pid == 0:
            _live(name, lifeline, close_inherited, run, blocked)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    return pid


def _live(
    name: str,
    lifeline: Lifeline,
    close_inherited: Callable[[], None],
    run: Callable[[], int],
    blocked: set[int | signal.Signals],
) -> NoReturn:
    status = BUG_STATUS
    try:
        signals.in_child()
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        close_inherited()
        lifeline.hold()
        setproctitle(f"prefork-logd: {name}")
        log.set_up(name)
        status = run()
    except MemoryError:
        LOGGER.critical("out of memory")
    except BaseException as error:  # noqa: BLE001 - whatever it is, it must not unwind into the parent's frames
        LOGGER.critical("%s", log.describe_bug(error))
    finally:
        os._exit(status)


def describe_end(wait_status: int) -> str:
    """Return how a child ended, from what waitpid(2) says."""
    status = os.waitstatus_to_exitcode(wait_status)
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        # Only the first and the last of the real-time signals have names.
        return f"was ended by signal {-status}"
