"""The journal: the commit point. What it says is committed, and nothing else is.

Owns its directory: which file is current, when a new one begins, and what holds after a crash. Knows nothing of lines,
pipes and outputs.

Each entry is a commit and the sessions that it changed. Each file begins with everything: a commit and all sessions. So
a file stands for itself, and those before it go as soon as it is on the disk. If a new file was not finished when the
writer died, the one before it is still there and counts.
"""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING

from prefork_logd.errors import OutputError
from prefork_logd.journal import commit_entry as commits
from prefork_logd.journal.commit_entry import NOTHING, Committed
from prefork_logd.journal.commit_segment import SegmentWriter, read_segment
from prefork_logd.journal.sessions import Sessions
from prefork_logd.system.disk import sync_directory

if TYPE_CHECKING:
    from pathlib import Path

GROWTH_BYTES = 1 << 20
"""What a file grows by at least, on top of the snapshot that it begins with; and at least by the size of that."""
_NAME = re.compile(r"commits-([0-9a-f]{16})\.journal")


class Journal:
    """The journal in one directory; only one process may have it open."""

    def __init__(self, directory: Path) -> None:
        """Recover what is there. Raises OutputError if the directory cannot be used.

        Until `begin` nothing is written, so whoever recovers can be killed and recover again.
        """
        self.committed: Committed = NOTHING
        self.sessions = Sessions()
        self.entry = b""
        """The last commit as it was written, for a second copy of it."""
        self.problems: list[str] = []
        """What was found wrong, for the log."""
        self._directory = directory
        self._segment: SegmentWriter | None = None
        self._is_spent = False
        """Whether the current file has failed to take a commit: it takes no other, for it cannot be relied on."""
        self._full_at = 0
        is_new = not directory.exists()
        try:
            directory.mkdir(mode=0o700, exist_ok=True)
            found = ((_NAME.fullmatch(path.name), path) for path in directory.iterdir())
            self._paths = {int(match[1], 16): path for match, path in found if match}
            self._recover()
        except OSError as error:
            raise OutputError(str(directory), "read", error) from error
        self._sequence = max(self._paths, default=0)
        if self.committed is NOTHING and not is_new:
            what = "nothing is known of what was committed; outputs stay as they are, and sessions begin anew"
            self.problems.append(f"{directory}: {what}")

    def _recover(self) -> None:
        """Take the newest file that begins well, as far as it is intact."""
        for number in sorted(self._paths, reverse=True):
            path = self._paths[number]
            segment = read_segment(path, number)
            if segment.problem:
                self.problems.append(f"{path}: {segment.problem}; what is intact counts")
            if segment.bodies:
                for body in segment.bodies:
                    self._apply(path, body)
                return
            self.problems.append(f"{path}: passed over, for it was never finished; the one before it counts")

    def _apply(self, path: Path, body: bytes) -> None:
        try:
            committed, sessions = commits.decode(body)
            self.sessions.apply(sessions)
        except ValueError as error:
            self.problems.append(f"{path}: an entry is passed over: {error}")
        else:
            self.committed = committed

    def restore(self, entry: bytes) -> None:
        """Take back a commit that this journal has lost, from the second copy of it."""
        before = self.committed
        self._apply(self._directory, entry)
        if self.committed is not before:
            what = "has lost its last commits, the damage is mended by the copy of the last one"
            self.problems.append(f"{self._directory}: {what}")

    def begin(self, committed: Committed, *, announcing: bool = False) -> None:
        """Begin a file of its own with everything, and remove those before it. Raises OutputError.

        `announcing`: without what sessions have got to since the last commit, for their lines are still to come.
        """
        number = self._sequence + 1
        path = self._directory / f"commits-{number:016x}.journal"
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(str(path), "remove", error) from error
        snapshot = commits.encode(committed) + self.sessions.snapshot(settled=announcing)
        full_at = len(snapshot) + max(len(snapshot), GROWTH_BYTES)
        segment = SegmentWriter(path, number, full_at)
        try:
            segment.append(snapshot)
            segment.sync()
            self._sync_directory()
        except OutputError:
            segment.close()
            # It is whole, perhaps, and then as good as what it was made from; the next one will have its name.
            with contextlib.suppress(OSError):
                path.unlink()
            raise
        if self._segment is not None:
            self._segment.close()
        self._segment, self._sequence = segment, number
        self._is_spent, self._full_at = False, full_at
        self.committed = committed
        if not announcing:
            self.entry = snapshot
            self.sessions.settle()
        self._paths[number] = path
        for number_before, old in list(self._paths.items()):
            if number_before < number:
                # One that cannot be removed counts no more; the next time will do.
                with contextlib.suppress(OSError):
                    old.unlink(missing_ok=True)
                    del self._paths[number_before]

    def announce(self, committed: Committed, *, sync: bool) -> None:
        """Make the files of a commit known, and nothing else of it: lines are about to be appended to them.

        With `sync` also after a power loss: the lines may be on the disk before the commit is, and a file that nobody
        knows is not cut back. Raises OutputError.
        """
        if self._segment is None:
            return
        if not self._is_spent:
            start = self._segment.position
            try:
                self._segment.append(commits.encode(committed))
                if sync:
                    self._segment.sync()
            except OutputError:
                self._segment.position = start
                self._is_spent = True
            else:
                self.committed = committed
                return
        self.begin(committed, announcing=True)

    def commit(self, committed: Committed, *, sync: bool) -> None:
        """Make a commit and the changed sessions hold; with `sync` also after a power loss.

        Raises OutputError: then neither holds, and the same commit may be tried again.
        """
        if self._segment is None or self._is_spent or self._segment.position >= self._full_at:
            self.begin(committed)
            return
        start = self._segment.position
        entry = commits.encode(committed) + self.sessions.delta()
        try:
            self._segment.append(entry)
            if sync:
                self._segment.sync()
        except OutputError:
            # After a failed sync nothing in this file can be relied on (the kernel forgets pages it could not write).
            self._segment.position = start
            self._is_spent = True
            self.begin(committed)
            return
        self.committed = committed
        self.entry = entry
        self.sessions.settle()

    def _sync_directory(self) -> None:
        try:
            sync_directory(self._directory)
        except OSError as error:
            raise OutputError(str(self._directory), "sync", error) from error

    def close(self) -> None:
        """Sync and close; the next one recovers from here."""
        if self._segment is not None:
            with contextlib.suppress(OutputError):
                self._segment.sync()
            self._segment.close()
            self._segment = None
