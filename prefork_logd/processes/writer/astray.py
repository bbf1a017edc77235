"""Logs that lines go to files that are no longer at their paths: one line at the beginning, one at the end.

This happens when a file was renamed or mounted over and its path cannot be opened, by a lack of rights for example. No
line is lost, but nobody finds the lines at the path. Does not know why a path cannot be opened.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefork_logd.system.log import LOGGER

if TYPE_CHECKING:
    from prefork_logd.errors import OutputError


class Astray:
    """The files of one output whose paths cannot be opened while lines go to files that were open before."""

    def __init__(self, name: str) -> None:
        """Log about the output of this name."""
        self._name = name
        self._paths: set[str] = set()

    def report(self, path: str, error: OutputError | None) -> None:
        """Note after an append why it went to a file that is not at the path; None: it went to the one at the path."""
        if error is not None:
            if not self._paths:
                LOGGER.error(
                    "output %s: %s; until it works, lines go to the file that was open before, which is no longer at "
                    "this path",
                    *(self._name, error),
                )
            self._paths.add(path)
        elif path in self._paths:
            self.forget(path)
            if not self._paths:
                LOGGER.warning("output %s: %s: lines go to the file at this path again", self._name, path)

    def forget(self, path: str) -> None:
        """Forget a file that gets no more lines."""
        self._paths.discard(path)
