"""Notices that the state directory, or the journal in it, has gone from its path: moved, removed or mounted over.

The collector goes on with the files that it has open. But commands look for it at the path, and the journal, the page
and the stores open files there; so the log has to say what is wrong before the first of them fails. Does not repair
anything: only people know where the directory belongs.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from prefork_logd.config.paths import JOURNAL_DIRECTORY
from prefork_logd.system import shield
from prefork_logd.system.log import LOGGER

if TYPE_CHECKING:
    from pathlib import Path

    from prefork_logd.net.loop import Loop
    from prefork_logd.system.pid_lock import PidLock

CHECK_S = 5.0


class PlaceCheck:
    """Looks after the places of one collector's pid file, which is that of its state directory, and of its journal."""

    def __init__(self, loop: Loop, lock: PidLock) -> None:
        """Check the path of `lock` every CHECK_S seconds."""
        self._loop = loop
        self._lock = lock
        self._journal = lock.path.parent / JOURNAL_DIRECTORY
        self._identity: tuple[int, int] | None = None
        """Device and inode number of the journal's directory."""
        self._missed: set[Path] = set()
        loop.later(CHECK_S, self._check_again)

    def _check_again(self) -> None:
        self._loop.later(CHECK_S, self._check_again)
        shield.attempt("the check of the state directory", self.check)
        shield.attempt("the pid file", self._lock.complete)

    def check(self) -> None:
        """Log that the pid file or the journal has gone from its path, or that it is back."""
        path, pid = self._lock.path, os.getpid()
        is_in_place = self._lock.is_in_place()
        self._note(
            path,
            f"is no longer the file of this collector: it or {path.parent} was moved, removed or mounted over; "
            "commands do not find the collector, and clients wait as soon as the journal needs a new file; put it "
            f"back, or stop the collector by `kill {pid}` and start it again",
            is_missed=not is_in_place,
        )
        if is_in_place:
            self._note(
                self._journal,
                "was moved, removed or mounted over: clients wait as soon as it needs a new file, and stores do not "
                f"get its records; put it back, or stop the collector by `kill {pid}` and start it again",
                is_missed=not self._has_journal(),
            )

    def _has_journal(self) -> bool:
        """Tell whether the journal's directory is where it was first seen."""
        try:
            status = self._journal.stat()
        except FileNotFoundError:
            # The writer makes it.
            return self._identity is None
        found = status.st_dev, status.st_ino
        self._identity = self._identity or found
        return found == self._identity

    def _note(self, path: Path, problem: str, *, is_missed: bool) -> None:
        if is_missed and path not in self._missed:
            self._missed.add(path)
            LOGGER.error("%s %s", path, problem)
        elif path in self._missed and not is_missed:
            self._missed.remove(path)
            LOGGER.warning("%s is back", path)
