"""Keeps the journal, whose entries alone decide which lines are committed.

Owns its directory: which file is current, when a new one begins, and which commits hold after a crash. Does not know
lines, pipes or outputs.

Each entry is a commit and the sessions that it changed. Each file begins with a snapshot: a commit and all sessions. So
a file needs no other, and the ones before it are removed as soon as it is on the disk. If a new file was not finished
when the writer died, the one before it is still there and counts.
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
"""Smallest growth of a file beyond its snapshot; it also grows at least by the size of the snapshot."""
_NAME = re.compile(r"commits-([0-9a-f]{16})\.journal")


def room_to_begin(directory: Path) -> int:
    """Return the size of the file that the next writer begins in a directory, in bytes. Raises OSError."""
    needed = GROWTH_BYTES
    for path in directory.glob("commits-*.journal"):
        # A writer at work may replace its file meanwhile.
        with contextlib.suppress(FileNotFoundError):
            needed = max(needed, path.stat().st_size)
    return needed


class Journal:
    """The journal in one directory; only one process may have it open."""

    def __init__(self, directory: Path) -> None:
        """Recover the last commit. Raises OutputError if the directory cannot be used.

        Until `begin` nothing is written, so recovery can be killed and repeated.
        """
        self.committed: Committed = NOTHING
        self.sessions = Sessions()
        self.entry = b""
        """The last commit in its written form, for a second copy."""
        self.problems: list[str] = []
        """Problems found by recovery, as sentences for the log."""
        self._directory = directory
        self._segment: SegmentWriter | None = None
        self._is_spent = False
        """Whether writing a commit to the current file has failed: it is not reliable, and gets no other commit."""
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
            what = "the last commit is not known; outputs stay as they are, and sessions start again"
            self.problems.append(f"{directory}: {what}")

    def _recover(self) -> None:
        """Recover from the newest file with an intact snapshot, and its other intact entries."""
        for number in sorted(self._paths, reverse=True):
            path = self._paths[number]
            segment = read_segment(path, number)
            if segment.problem:
                self.problems.append(f"{path}: {segment.problem}; the intact entries count")
            if segment.bodies:
                for body in segment.bodies:
                    self._apply(path, body)
                return
            self.problems.append(f"{path}: passed over, as it was never finished; the one before it counts")

    def _apply(self, path: Path, body: bytes) -> None:
        try:
            committed, sessions = commits.decode(body)
            self.sessions.apply(sessions)
        except ValueError as error:
            self.problems.append(f"{path}: an entry is passed over: {error}")
        else:
            self.committed = committed

    def restore(self, entry: bytes) -> None:
        """Restore a commit that this journal has lost, from its second copy."""
        before = self.committed
        self._apply(self._directory, entry)
        if self.committed is not before:
            what = "has lost its last commits; they are restored from the copy of the last one"
            self.problems.append(f"{self._directory}: {what}")

    def begin(self, committed: Committed, *, announcing: bool = False) -> None:
        """Begin a new file with a snapshot, and remove the files before it. Raises OutputError.

        `announcing`: sessions stay as of the last commit, as their later lines are not appended yet.
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
            # It may be complete, and is then as good as the present state; the next attempt uses its name.
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
                # A file that cannot be removed does not count any more; the next `begin` tries again.
                with contextlib.suppress(OSError):
                    old.unlink(missing_ok=True)
                    del self._paths[number_before]

    def announce(self, committed: Committed, *, sync: bool) -> None:
        """Record the files of a commit, and nothing else of it, before lines are appended to them.

        `sync`: also for a power loss, as the lines may reach the disk before the commit, and a file that the journal
        does not know is not cut back. Raises OutputError.
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
        """Write a commit and the changed sessions; with `sync` they also survive a power loss.

        Raises OutputError; then neither counts, and the same commit may be tried again.
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
            # After a failed sync this file is not reliable (the kernel forgets pages it could not write: fsync(2)).
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
        """Sync and close the current file; the next journal recovers from it."""
        if self._segment is not None:
            with contextlib.suppress(OutputError):
                self._segment.sync()
            self._segment.close()
            self._segment = None
