"""The trouble of a store: its log lines, and the time until the next try.

Owns the back-off, the sentence that `status` shows, and the lines of the log: one when it begins, one when it is over.
Knows no stores and no records.

Trouble is over when something was done that had failed, not when a connection came about: a store that opens and cannot
write is in the same trouble as before.
"""

from __future__ import annotations

import time

from prefork_logd.system.backoff import Backoff
from prefork_logd.system.log import LOGGER

FIRST_RETRY_S, LONGEST_RETRY_S = 0.1, 10.0
MOST_LINES = 4
"""So many lines at once; then one every LINE_EVERY_S."""
LINE_EVERY_S = 30.0


class Trouble:
    """The trouble of one store."""

    def __init__(self, name: str) -> None:
        """Speak of a store by its name."""
        self.problem = ""
        """Why the store fails; empty: it does not."""
        self.in_maintenance = False
        """Whether that was found while nothing was written: then no write ends it."""
        self._name = name
        self._backoff = Backoff(FIRST_RETRY_S, LONGEST_RETRY_S, spread=(0.5, 1.0))
        self._logged = ""
        self._lines = float(MOST_LINES)
        self._counted_s = time.monotonic()

    def begin(self, problem: str, *, in_maintenance: bool = False) -> float:
        """Note that something has failed, for the first time or again; return how many seconds to wait."""
        if not self.problem:
            self._log(problem, "store %s: %s; tried again until it works", self._name, problem)
        elif problem != self._logged:
            self._log(problem, "store %s: still fails, now with: %s", self._name, problem)
        # A write that fails as well ends with a write.
        self.in_maintenance = in_maintenance and (self.in_maintenance or not self.problem)
        self.problem = problem
        return self._backoff.failed()

    def end(self, behind: int) -> None:
        """Note that what had failed was done; `behind` records waited for it."""
        if self.problem:
            if self._logged:
                LOGGER.warning("store %s: works again; %d records waited for it", self._name, behind)
            self.problem = self._logged = ""
            self.in_maintenance = False
            self._backoff.worked()

    def _log(self, problem: str, message: str, *arguments: object) -> None:
        now_s = time.monotonic()
        self._lines = min(MOST_LINES, self._lines + (now_s - self._counted_s) / LINE_EVERY_S)
        self._counted_s = now_s
        if self._lines >= 1:
            self._lines -= 1
            self._logged = problem
            LOGGER.error(message, *arguments)
