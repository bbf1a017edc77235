"""Keeps unexpected errors from ending a process.

Owns what becomes of an error that no code expects. Knows neither children nor requests: what belongs to one of them is
passed in as a call, and the caller ends that child or request.

The loop of the master has no edge-triggered descriptors: what a turn leaves undone is reported again in the next one.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from prefork_logd.system.log import LOGGER, describe_bug

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_ERRORS, PERIOD_S = 20, 10.0
"""Errors in so many seconds after which going on makes no sense."""
PAUSE_S = 0.05
"""Wait after an error, so that one that comes back each turn costs little."""


def attempt(what: str, call: Callable[[], object]) -> bool:
    """Make a call; log an unexpected error with `what` failed. Return whether there was none."""
    try:
        call()
    except Exception as error:  # noqa: BLE001 - that is the purpose
        LOGGER.error("%s: %s", what, describe_bug(error))
        return False
    return True


def run(turn: Callable[[], object], ended: Callable[[], bool]) -> None:
    """Run a loop until it has ended, through errors that nothing else has caught. Raises them if they do not cease."""
    times: list[float] = []
    while not ended():
        try:
            turn()
        except Exception as error:
            now_s = time.monotonic()
            times = [*(then_s for then_s in times if now_s - then_s < PERIOD_S), now_s]
            if len(times) > MOST_ERRORS:
                raise
            LOGGER.error("the master goes on after an error: %s", describe_bug(error))
            time.sleep(PAUSE_S)
