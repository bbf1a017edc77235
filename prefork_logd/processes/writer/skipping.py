"""Logs that an output skips records while it cannot be written: one line when it begins, one when it ends.

Owns the count of an episode and the rate of its lines: a reader that comes and goes many times a second
must not fill the log. Knows no files.
"""

from __future__ import annotations

import time

from prefork_logd.system.log import LOGGER

QUIET_S = 10.0
"""After the end of an episode the next one is not told before this time has passed, if it still lasts then."""


class Skipping:
    """The episodes of one output."""

    def __init__(self, name: str, what: str) -> None:
        """Speak of the output of this name; `what` is what happens meanwhile, such as "its records are skipped"."""
        self._name = name
        self._what = what
        self._records = 0
        self._is_told = False
        self._quiet_until_s = 0.0

    def failed(self, reason: str, records: int) -> None:
        """Count records that were skipped; say why, if that is news."""
        self._records += records
        if not self._is_told and time.monotonic() >= self._quiet_until_s:
            self._is_told = True
            LOGGER.error("output %s: %s; %s until it works again", self._name, reason, self._what)

    def worked(self, path: str) -> None:
        """Say that the output can be written again, if it was said that it cannot."""
        if self._is_told:
            self._is_told = False
            self._quiet_until_s = time.monotonic() + QUIET_S
            LOGGER.warning("output %s: %s: written again; %d records were skipped", self._name, path, self._records)
            self._records = 0
