"""Keeps unexpected errors from ending a process.

Owns the handling of unexpected errors. Does not know children or requests: their work is passed in as a call, and the
caller ends that child or request.

The loop of the master has no edge-triggered descriptors: events that a turn does not handle are reported again in the
next one.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from prefork_logd.system.log import LOGGER, describe_bug

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_ERRORS, PERIOD_S = 20, 10.0
"""Most errors, and the seconds in which they count: after more the loop ends."""
PAUSE_S = 0.05
"""Wait after an error, so that one that is raised in each turn costs little."""


def attempt(what: str, call: Callable[[], object]) -> bool:
    """Make a call; log an unexpected error after `what`. Return whether the call succeeded."""
    try:
        call()
    except Exception as error:  # noqa: BLE001 - that is the purpose
        LOGGER.error("%s: %s", what, describe_bug(error))
        return False
    return True


def run(turn: Callable[[], object], ended: Callable[[], bool]) -> None:
    """Run a loop to its end, through errors that no other code has caught. Raises them if they do not cease."""
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
