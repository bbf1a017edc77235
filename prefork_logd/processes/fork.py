"""Forks a child, ties it to its master, and describes its end.

Does not know when a child is forked, which code it runs, or what its end leads to.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, NoReturn

from setproctitle import setproctitle

from prefork_logd.system import log, signals
from prefork_logd.system.log import LOGGER

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefork_logd.processes.orphans import Lifeline

LOST_STATUS = 1
"""Exit status of a child that had to leave lines unwritten."""
BUG_STATUS = 70
"""Exit status of a child whose code failed (EX_SOFTWARE, sysexits.h)."""


def fork(name: str, lifeline: Lifeline, close_inherited: Callable[[], None], run: Callable[[], int]) -> int:
    """Fork a child, which calls `close_inherited`, then `run`, and exits with the status that `run` returns.

    Returns the child's pid. `lifeline` ends the child soon after this process. Raises OSError (fork(2)).
    """
    # The child's signal handlers write to the wake-up descriptor that both processes share, so every signal stays
    # blocked until the child has its own.
    blocked = signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
    try:
        pid = os.fork()
        if pid == 0:
            _run_child(name, lifeline, close_inherited, run, blocked)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    return pid


def _run_child(
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
    except BaseException as error:  # noqa: BLE001 - no exception may unwind into the parent's frames
        LOGGER.critical("%s", log.describe_bug(error))
    finally:
        os._exit(status)


def describe_end(wait_status: int) -> str:
    """Return how a child ended, from the status that waitpid(2) returned."""
    status = os.waitstatus_to_exitcode(wait_status)
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        # Only the first and the last of the real-time signals have names.
        return f"was ended by signal {-status}"
