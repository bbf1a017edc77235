"""Notices that the state directory is no longer at its path: it was moved or removed, or mounted over.

The collector goes on with the files that it has open. But commands look for it at the path, and the journal, the page
and the stores open files there; so the log has to say what is wrong before the first of them fails. Does not repair
anything: only people know where the directory belongs.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from prefork_logd.system import shield
from prefork_logd.system.log import LOGGER

if TYPE_CHECKING:
    from prefork_logd.net.loop import Loop
    from prefork_logd.system.pid_lock import PidLock

CHECK_S = 5.0


class PlaceCheck:
    """Looks after the place of one collector's pid file, and so of its state directory."""

    def __init__(self, loop: Loop, lock: PidLock) -> None:
        """Check the path of `lock` every CHECK_S seconds."""
        self._loop = loop
        self._lock = lock
        self._is_missed = False
        loop.later(CHECK_S, self._check_again)

    def _check_again(self) -> None:
        self._loop.later(CHECK_S, self._check_again)
        shield.attempt("the check of the state directory", self.check)

    def check(self) -> None:
        """Log that the pid file has gone from its path, or that it is back."""
        is_missed = not self._lock.is_in_place()
        if is_missed and not self._is_missed:
            directory, pid = self._lock.path.parent, os.getpid()
            LOGGER.error(
                "%s is no longer the file of this collector: it or %s was moved, removed or mounted over; commands do "
                "not find the collector, and clients wait as soon as the journal needs a new file; put it back, or "
                "stop the collector by `kill %d` and start it again",
                *(self._lock.path, directory, pid),
            )
        elif self._is_missed and not is_missed:
            LOGGER.warning("%s is back", self._lock.path)
        self._is_missed = is_missed
