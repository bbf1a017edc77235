"""Logs that an output skips records while it cannot be written: one line at the beginning, one at the end.

Owns the count of skipped records and the rate of the lines: a reader of a FIFO that comes and goes many times a second
must not fill the log. Does not know files.
"""

from __future__ import annotations

import time

from prefork_logd.config.values import format_count
from prefork_logd.system.log import LOGGER

QUIET_S = 10.0
"""After the end of an episode the next one is logged at the earliest after this time, if it lasts that long."""


class Skipping:
    """The episodes of one output."""

    def __init__(self, name: str, what: str) -> None:
        """Log about the output of this name; `what` is the effect, such as "its records are skipped"."""
        self._name = name
        self._what = what
        self._records = 0
        self._is_told = False
        self._quiet_until_s = 0.0

    def failed(self, reason: str, records: int) -> None:
        """Count skipped records; log the reason at the beginning of an episode."""
        self._records += records
        if not self._is_told and time.monotonic() >= self._quiet_until_s:
            self._is_told = True
            LOGGER.error("output %s: %s; %s until it works again", self._name, reason, self._what)

    def worked(self, path: str) -> None:
        """End the episode; log it if its beginning was logged."""
        if self._is_told:
            self._is_told = False
            self._quiet_until_s = time.monotonic() + QUIET_S
            LOGGER.warning(
                "output %s: %s: written again; skipped %s", self._name, path, format_count(self._records, "record")
            )
            self._records = 0
