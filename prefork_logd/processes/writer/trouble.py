"""Reports the trouble of all files of one output together: one line at the beginning, one at the end.

Owns the list of the files that fail, and the output's flag on the scoreboard. Does not know why a file fails.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefork_logd.ipc.scoreboard import OutputField
from prefork_logd.processes.writer.astray import Astray
from prefork_logd.processes.writer.skipping import Skipping
from prefork_logd.system.log import LOGGER

if TYPE_CHECKING:
    from prefork_logd.config.outputs import OutputSettings


class Trouble:
    """The files of one output that cannot be written now."""

    def __init__(self, settings: OutputSettings, base: str, counters: memoryview) -> None:
        """Report under the output's name; its files are below the directory `base`."""
        self.base = base
        self.skipping = Skipping(settings.name, "its records are skipped")
        self.astray = Astray(settings.name)
        self._settings = settings
        self._counters = counters
        self._failing: set[str] = set()

    def configure(self, settings: OutputSettings) -> None:
        """Take other settings for the same files."""
        self._settings = settings

    def report(self, path: str, error: str, lines: int) -> None:
        """Note that the file at a path fails with `error`, or works if that is empty; `lines` were to be appended."""
        had_failed = bool(self._failing)
        if error:
            self._failing.add(path)
        else:
            self._failing.discard(path)
        self._counters[OutputField.FAILED] = bool(self._failing)
        if self._settings.on_error == "skip":
            if error:
                self.skipping.failed(error, lines)
            elif not self._failing:
                self.skipping.worked(path)
        elif error and not had_failed:
            LOGGER.error("output %s: %s; clients wait until it works again", self._settings.name, error)
        elif had_failed and not self._failing:
            LOGGER.warning("output %s: %s: written again", self._settings.name, path)

    def forget(self, path: str) -> None:
        """Forget a file that gets no more lines."""
        self._failing.discard(path)
        self.astray.forget(path)
        self._counters[OutputField.FAILED] = bool(self._failing)
