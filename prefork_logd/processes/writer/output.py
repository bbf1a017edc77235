"""Appends the writer's lines to one file of an output: gathered, appended, synced, committed.

Owns the file from opening to closing, and its lines while the disk fails. Does not know other outputs, pipes or
workers, and does not parse lines. An output whose path has fields has several files (output_set.py).
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from prefork_logd.config.values import format_count
from prefork_logd.errors import OutputError
from prefork_logd.files import failed_files
from prefork_logd.files.events import reason_of
from prefork_logd.files.output_file import OutputFile
from prefork_logd.files.rotation import Rotation, Step
from prefork_logd.ingest.dispatcher import REJECTED_OUTPUT
from prefork_logd.ipc.scoreboard import OutputField, Scoreboard
from prefork_logd.processes.writer.astray import Astray
from prefork_logd.processes.writer.skipping import Skipping
from prefork_logd.system.log import LOGGER

if TYPE_CHECKING:
    from prefork_logd.config.outputs import OutputSettings
    from prefork_logd.processes.writer.trouble import Trouble

WAITING = "; clients wait until it works again"
SKIPPING, DROPPING = "its records are skipped", "rejected frames are only counted"


class Output:
    """One output, or one file of several, with the lines that wait to be appended to it."""

    def __init__(
        self,
        settings: OutputSettings,
        output_id: int,
        board: Scoreboard,
        trouble: Trouble | None = None,
        path: str = "",
        home: str = "",
    ) -> None:
        """Write the output in a slot. `trouble` and `path` are those of one file of several; `home`: see OutputFile."""
        self.is_expendable = output_id == REJECTED_OUTPUT
        """Whether it is never synced: rejected bytes of one client must not delay the records of others."""
        self.skips = settings.on_error == "skip"
        """Whether lines that cannot be written are left out."""
        self._skipping = Skipping(settings.name, DROPPING if self.is_expendable else SKIPPING)
        self._astray = Astray(settings.name)
        self._trouble = trouble
        self.file = OutputFile(settings.name, path or settings.file_path, settings.file_mode, home=home)
        if trouble is not None:
            self._skipping, self._astray, self.file.base = trouble.skipping, trouble.astray, trouble.base
        self.file.is_hasty = self.skips
        self._counters = board.output(output_id)
        self._chunks: list[memoryview] = []
        self._lines = 0
        self._nbytes = 0
        self._unsynced_lines = 0
        self._unsynced: list[memoryview] = []
        """Lines appended since the last commit; if the sync fails, they go to another file."""
        self._given_up: tuple[tuple[int, int] | None, int] | None = None
        """Identity and committed length of a file that could not be synced, until a new file replaces it."""
        self._told = ""
        """The last message about its replacement."""
        self.settings = settings
        self.rotation = Rotation(settings, self.file)

    def configure(self, settings: OutputSettings) -> None:
        """Take other settings for the same file."""
        self.rotation.close()
        self.settings = settings
        self.skips = self.file.is_hasty = settings.on_error == "skip"
        self.rotation = Rotation(settings, self.file)

    def move(self, settings: OutputSettings, counters: memoryview) -> None:
        """Become another output whose path leads to the same file."""
        self._counters = counters
        self.file.path, self.file.base = settings.file_path, ""
        if self._trouble is not None:
            self._trouble, self._skipping = None, Skipping(settings.name, SKIPPING)
            self._astray = Astray(settings.name)
        self.configure(settings)

    def open(self) -> str:
        """Open the file; return the problem, empty for none."""
        try:
            torn = self.file.open()
        except OutputError as error:
            if self.skips:
                self._counters[OutputField.FAILED] = 1
                self._skipping.failed(str(error), 0)
                return ""
            self.file.news()
            return f"output {self.settings.name}: {error}"
        if torn:
            LOGGER.warning(
                "output %s: %s: cut off a torn line of %s",
                self.settings.name,
                self.file.path,
                format_count(torn, "byte"),
            )
        return ""

    def reach(self, committed: int | None) -> tuple[int, int]:
        """Return the length of the file before the turn, and its longest after it. Raises OutputError."""
        size = self.file.size() if self._nbytes else self.file.length
        return size if committed is None else min(committed, size), size + self._nbytes

    def add_lines(self, lines: int, data: memoryview) -> None:
        """Gather lines."""
        self._chunks.append(data)
        self._lines += lines
        self._nbytes += len(data)

    def append(self) -> bool:
        """Append the gathered lines; return False if they wait for another try. A problem is logged once."""
        if not self._nbytes:
            return True
        done = self._try_append()
        self._report(done=done)
        if done:
            self._counters[OutputField.RECORDS] += self._lines
            self._counters[OutputField.BYTES] += self._nbytes
            self._unsynced += self._chunks
            self._unsynced_lines += self._lines
        elif self.skips:
            self._counters[OutputField.SKIPPED] += self._lines
        if done or self.skips:
            self._chunks = []
            self._lines = self._nbytes = 0
        return done or self.skips

    def _report(self, *, done: bool) -> None:
        """Log and count that the file begins to fail, or works again."""
        if done:
            self._astray.report(self.file.path, self.file.astray)
        if self._trouble is not None:
            error = str(self.file.error or f"{self.file.path}: cannot be written")
            self._trouble.report(self.file.path, "" if done else error, self._lines)
            return
        self._counters[OutputField.FAILED] = not done
        if not self.skips:
            if self.file.astray is None and (news := self.file.news()):
                LOGGER.log(30 if done else 40, "output %s: %s%s", self.settings.name, news, "" if done else WAITING)
        elif done:
            self._skipping.worked(self.file.path)
        else:
            self._skipping.failed(str(self.file.error or f"{self.file.path}: cannot be written"), self._lines)

    @property
    def is_settled(self) -> bool:
        """Whether every line is committed and no step is unfinished, so that the file may be closed."""
        has_lines = self._nbytes or self._unsynced
        return not has_lines and self._given_up is None and self.rotation.step is Step.WAIT

    def retire(self) -> bool:
        """Close a settled file until there are lines for it again; return False if that must wait.

        The names of new files are synced first: lines that are acknowledged later are synced without them.
        """
        if not self.is_settled:
            return False
        try:
            if self.file.is_open and self.file.has_unsynced_names:
                self.file.sync()
        except OutputError:
            return False
        self.file.close()
        self.rotation.close()
        return True

    def take_lines(self, other: Output) -> int:
        """Gather the lines that wait for another file, instead of it; return their number."""
        lines = other._lines
        self._chunks += other._chunks
        self._lines += lines
        self._nbytes += other._nbytes
        other._chunks, other._lines, other._nbytes = [], 0, 0
        return lines

    def find(self) -> bool:
        """Open the file if it is not open, or no longer the file at its path; return whether it was opened.

        `append` reports an error.
        """
        if not self._nbytes:
            return False
        before = self.file.generation
        try:
            if self._given_up is not None:
                self._put_aside()
            elif not self.file.is_open:
                self.file.open()
            elif self._unsynced and not self.sync():
                return False
            elif event := self.file.verify():
                LOGGER.log(event.level, "output %s: %s", self.settings.name, event.text)
        except OutputError:
            return False
        return self.file.generation > before

    def _try_append(self) -> bool:
        if not self.file.is_open or self._given_up is not None:
            return False
        try:
            self.file.append(self._chunks, self._nbytes)
        except OutputError:
            return False
        return True

    @property
    def must_sync(self) -> bool:
        """Whether `sync` has something to wait for."""
        return bool(self._unsynced) and not self.is_expendable

    def sync(self) -> bool:
        """Wait until the lines appended since the last commit are on the disk; return whether they are.

        A failed sync is never tried again on the same file: the kernel drops the pages that it could not write, and the
        next sync would succeed without them (fsync(2)). The lines are gathered again, for a new file.
        """
        if not self.must_sync:
            return True
        try:
            self.file.sync()
        except OutputError as error:
            nbytes, lines = sum(map(len, self._unsynced)), self._unsynced_lines
            self._counters[OutputField.BYTES] -= nbytes
            self._counters[OutputField.RECORDS] -= lines
            if self.skips:
                self._counters[OutputField.SKIPPED] += lines
                self._skipping.failed(str(error), lines)
            else:
                LOGGER.error("output %s: %s%s", self.settings.name, error, WAITING)
                self._chunks = self._unsynced + self._chunks
                self._lines += lines
                self._nbytes += nbytes
            self.committed()
            self._given_up = (self.file.identity, self.file.length - nbytes)
            self._put_aside()
            return self.skips
        return True

    def _put_aside(self) -> bool:
        """Begin a new file if the last one could not be synced; return False if that fails.

        The old file keeps its committed part. Another try skips the steps that are done.
        """
        if self._given_up is None:
            return True
        identity, committed_length = self._given_up
        path = os.path.realpath(self.file.path)
        try:
            if self.file.identity is not None and self.file.identity == identity:
                self.file.cut_back(committed_length, identity)
                is_in_place = identity_of(path) == identity
                if is_in_place and committed_length:
                    aside = failed_files.name_for(path, time.time_ns())
                    Path(path).rename(aside)
                    LOGGER.warning("output %s: begins a new file; %s has the committed part", self.settings.name, aside)
                # An empty file is written again from its beginning, so no page is missing in its next sync. While the
                # disk fails, each try would leave another one behind.
                if committed_length or not is_in_place:
                    self.file.reopen()
        except (OSError, OutputError) as error:
            reason = f"{path}: cannot begin a new file in its place: {reason_of(error)}"
            if self.skips:
                self._skipping.failed(reason, 0)
            elif reason != self._told:
                LOGGER.error("output %s: %s%s", self.settings.name, reason, WAITING)
                self._told = reason
            return False
        self._given_up, self._told = None, ""
        return True

    def reopen(self) -> str:
        """Sync the open file, then reopen it; return the problem, empty for none."""
        self.sync()
        if not self._put_aside():
            return f"output {self.settings.name}: cannot begin a new file"
        try:
            self.file.reopen()
        except OutputError as error:
            if self.skips:
                self._skipping.failed(str(error), 0)
                return ""
            return f"output {self.settings.name}: {error}"
        return ""

    def committed(self) -> None:
        """Forget the appended lines, which are committed now."""
        self._unsynced = []
        self._unsynced_lines = 0

    def rotate(self) -> None:
        """Take the steps of the output's own rotation that are due."""
        now_s = time.monotonic()
        if self.rotation.due(now_s):
            for event in self.rotation.advance(now_s):
                LOGGER.log(event.level, "output %s: %s", self.settings.name, event.text)

    def close(self) -> None:
        """Sync the file and close it."""
        try:
            if self.file.is_open:
                self.file.sync()
        except OutputError as error:
            LOGGER.error("output %s: %s", self.settings.name, error)
        self.file.close()
        self.rotation.close()


def identity_of(path: str) -> tuple[int, int] | None:
    """Return the device and inode number of the file at a path; None if there is none. Raises OSError."""
    try:
        found = Path(path).stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino
