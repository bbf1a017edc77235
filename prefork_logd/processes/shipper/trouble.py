"""Keeps the trouble of a store: its log lines, and the time until the next try.

Owns the back-off, the problem that `status` shows, and the log lines: one at the beginning, one at the end. Does not
know stores or records.

Trouble ends when the failed operation works, not when a connection does: a store that opens and cannot write is in the
same trouble as before.
"""

from __future__ import annotations

import time

from prefork_logd.config.values import format_count
from prefork_logd.system.backoff import Backoff
from prefork_logd.system.log import LOGGER

FIRST_RETRY_S, LONGEST_RETRY_S = 0.1, 10.0
MOST_LINES = 4
"""Log lines at once; then one every LINE_EVERY_S."""
LINE_EVERY_S = 30.0


class Trouble:
    """The trouble of one store."""

    def __init__(self, name: str) -> None:
        """Log about the store of this name."""
        self.problem = ""
        """Why the store fails; empty if it works."""
        self.in_maintenance = False
        """Whether maintenance failed, and not a write: then a write does not end the trouble."""
        self._name = name
        self._backoff = Backoff(FIRST_RETRY_S, LONGEST_RETRY_S, spread=(0.5, 1.0))
        self._logged = ""
        self._lines = float(MOST_LINES)
        self._counted_s = time.monotonic()

    def begin(self, problem: str, *, in_maintenance: bool = False) -> float:
        """Record a failure, the first one or another; return the seconds until the next try."""
        if not self.problem:
            self._log(problem, "store %s: %s; tried again until it works", self._name, problem)
        elif problem != self._logged:
            self._log(problem, "store %s: still fails, now with: %s", self._name, problem)
        # If a write fails as well, the next successful write ends the trouble.
        self.in_maintenance = in_maintenance and (self.in_maintenance or not self.problem)
        self.problem = problem
        return self._backoff.failed()

    def end(self, behind: int) -> None:
        """End the trouble; `behind` records waited for it."""
        if self.problem:
            if self._logged:
                LOGGER.warning("store %s: works again; it lags by %s", self._name, format_count(behind, "record"))
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
