"""Keeps the files of one output whose path has fields: opens, bounds and closes them.

Owns which files are open, which may be begun, and where the lines of further ones go. Does not know pipes or workers,
and does not parse lines; output.py has the lines of one file.

At most `max_open_files` are open: the one that was written longest ago is closed. A file is closed when its lines are
committed, so that the journal need not know it any more. A day brings at most `max_new_files` new ones, of which no
peer begins more than are left for the others. The lines of further ones go to the file in whose name each field is
OTHER.
"""

from __future__ import annotations

import errno
import math
import os
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from prefork_logd.config.output_paths import PathPattern
from prefork_logd.config.values import format_count
from prefork_logd.files import pattern_files
from prefork_logd.files.opening import directory_mode, make_directories
from prefork_logd.files.pattern_tidying import PatternTidying
from prefork_logd.ipc.scoreboard import OutputField
from prefork_logd.processes.writer.output import Output
from prefork_logd.processes.writer.trouble import Trouble
from prefork_logd.system.disk import sync_directory
from prefork_logd.system.log import LOGGER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prefork_logd.config.outputs import OutputSettings
    from prefork_logd.ipc.scoreboard import Scoreboard

IDLE_S = 300.0
"""A file that gets no lines for so long is closed, so that it can be compressed or removed."""
_BAD_NAMES = (errno.ENAMETOOLONG, errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.EINVAL, errno.EILSEQ, errno.ENOTSUP)
"""Errors that are about one file's name or kind: they must not stop the others."""


class OutputSet:
    """The files of one output; `files` are those that are open or have lines."""

    def __init__(self, settings: OutputSettings, output_id: int, board: Scoreboard, home: str = "") -> None:
        """Write the files of the output in a slot; `home` as in OutputFile."""
        self._home = home
        self.settings = settings
        self.pattern = PathPattern(settings.path)
        self.base = os.path.realpath(self.pattern.base)
        """The directory that has the files, symbolic links resolved."""
        self.files: dict[str, Output] = {}
        """By path; the one that was written longest ago comes first."""
        self._output_id = output_id
        self._board = board
        self._counters = board.output(output_id)
        self._trouble = Trouble(settings, self.base, self._counters)
        self._written: dict[str, Output] = {}
        """The files with lines that are not committed."""
        self._written_s: dict[str, float] = {}
        self._begun: set[str] = set()
        """The files that were begun today."""
        self._begun_by: Counter[int] = Counter()
        """Their number by peer."""
        self._day = ""
        self._is_overflow_told = self._is_bad_name_told = False
        self._idle_check_s = 0.0
        self._tidying = PatternTidying(settings, self.base, self.pattern, self._is_open)

    def configure(self, settings: OutputSettings) -> None:
        """Take other settings for the same path."""
        self.settings = settings
        self._trouble.configure(settings)
        self._tidying.close()
        self._tidying = PatternTidying(settings, self.base, self.pattern, self._is_open)
        for file in self.files.values():
            file.configure(settings)

    def open(self) -> str:
        """Make the directory of the files; return the problem, empty for none."""
        changed: list[str] = []
        try:
            make_directories(Path(self.base), directory_mode(self.settings.file_mode), changed, self._home)
            for directory in reversed(changed):
                sync_directory(directory)
            os.close(os.open(self.base, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
            if not os.access(self.base, os.W_OK | os.X_OK, effective_ids=True):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        except OSError as error:
            problem = f"output {self.settings.name}: {self.base}: cannot make files there: {error.strerror}"
            return "" if self.settings.on_error == "skip" else problem
        return ""

    @property
    def written(self) -> list[Output]:
        """The files with lines that are not committed."""
        return list(self._written.values())

    @property
    def is_full(self) -> bool:
        """Whether the next batch might need more open files than there may be, unless the lines are committed first."""
        return len(self._written) + self.settings.files_a_batch > self.settings.max_open_files

    def path_of(self, name: str) -> str:
        """Return the path of a file, by its path below `base`. Raises KeyError if that does not fit the pattern."""
        if not self.pattern.has(name):
            raise KeyError(name)
        return f"{self.base}/{name}"

    def find(self, path: str, lines: int, peer: int = 0) -> Output:
        """Return the file for `lines` lines of the file at a path; it is not opened yet. `peer`: see `_may_begin`.

        That is another one if so many files were begun today that this one gets none.
        """
        file = self.files.get(path)
        if file is None:
            if not self._may_begin(path, peer):
                self._note_overflow(path, lines)
                path = self._other_path
            file = self.files.get(path) or self._make(path)
        self.note_written(file)
        return file

    def note_written(self, file: Output) -> None:
        """Note that there are lines for a file."""
        self._written[file.file.path] = file

    @property
    def _other_path(self) -> str:
        return f"{self.base}/{self.pattern.render_other(_today())}"

    def _may_begin(self, path: str, peer: int) -> bool:
        """Return whether the file at a path is there, or may be begun by a peer (0: none is known); count it.

        A peer may begin no more files than are left for all others: one that begins very many gets half of them, and
        there are always some left for the next peer.
        """
        today = _today()
        if today != self._day:
            self._day, self._is_overflow_told, self._is_bad_name_told = today, False, False
            self._begun.clear()
            self._begun_by.clear()
        if path in self._begun or os.path.lexists(path):
            return True
        left = self.settings.max_new_files - len(self._begun)
        if left <= (self._begun_by[peer] if peer else 0):
            return False
        self._begun.add(path)
        self._begun_by[peer] += 1
        return True

    def _note_overflow(self, path: str, lines: int) -> None:
        self._counters[OutputField.OVERFLOWED] += lines
        if not self._is_overflow_told:
            self._is_overflow_told = True
            LOGGER.warning(
                "output %s: began %s today, and max_new_files is %d, of which one client gets half; records of further "
                "ones, such as %s, go to %s until midnight UTC",
                *(self.settings.name, format_count(len(self._begun), "file"), self.settings.max_new_files),
                *(path, self._other_path),
            )

    def _make(self, path: str) -> Output:
        """Return a new file; close others if there are too many."""
        surplus = len(self.files) + 1 - self.settings.max_open_files
        if surplus > 0:
            for old, file in list(self.files.items()):
                if surplus > 0 and old not in self._written and file.retire():
                    self._drop(old)
                    surplus -= 1
        file = Output(self.settings, self._output_id, self._board, self._trouble, path, self._home)
        self.files[path] = file
        return file

    def _drop(self, path: str) -> None:
        self.files.pop(path, None)
        self._written.pop(path, None)
        self._written_s.pop(path, None)
        self._trouble.forget(path)

    def release(self, file: Output) -> None:
        """Leave a file to another output, whose path leads to the same file."""
        self._drop(file.file.path)

    def redirect(self) -> None:
        """Move the lines of files that cannot be opened under their names to the file for such lines.

        If the process has no more descriptors, idle files are closed for the next try.
        """
        for path, file in list(self._written.items()):
            error = file.file.error
            if error is not None and error.errno in (errno.EMFILE, errno.ENFILE):
                self._close_all_idle()
                return
            if file.file.is_open or error is None or error.errno not in _BAD_NAMES or path == self._other_path:
                continue
            other = self.files.get(self._other_path) or self._make(self._other_path)
            self.note_written(other)
            self._note_bad_name(str(error), other.take_lines(file))
            self._drop(path)
            other.find()

    def _note_bad_name(self, error: str, lines: int) -> None:
        self._counters[OutputField.OVERFLOWED] += lines
        if not self._is_bad_name_told:
            self._is_bad_name_told = True
            LOGGER.warning(
                "output %s: %s; records of this and other such files go to %s, and are counted as overflowed",
                *(self.settings.name, error, self._other_path),
            )

    def committed(self) -> None:
        """Note that all lines are committed, and close files that are too many."""
        now_s = time.monotonic()
        for path in self._written:
            file = self.files.pop(path, None)
            if file is not None:
                self.files[path] = file
                self._written_s[path] = now_s
        self._written = {}
        self._close_surplus()
        self._counters[OutputField.OPEN_FILES] = len(self.files)

    def _close_surplus(self) -> None:
        surplus = len(self.files) - self.settings.max_open_files
        if surplus > 0:
            for path, file in list(self.files.items())[:surplus]:
                if file.retire():
                    self._drop(path)

    def rotate(self, now_s: float) -> float:
        """Rotate files and tidy the set, as far as it is due; return the time of the next call (monotonic)."""
        if now_s >= self._idle_check_s:
            self._idle_check_s = now_s + IDLE_S / 10
            self._close_idle(now_s)
        deadline_s = self._idle_check_s if self.files else math.inf
        if self.settings.rotate_bytes or self.settings.rotate_every_s:
            for file in self.files.values():
                file.rotate()
                deadline_s = min(deadline_s, file.rotation.next_deadline_s)
        for event in self._tidying.advance(now_s):
            LOGGER.log(event.level, "output %s: %s", self.settings.name, event.text)
        return min(deadline_s, self._tidying.next_deadline_s)

    def _close_all_idle(self) -> None:
        for path, file in list(self.files.items()):
            if path not in self._written and file.retire():
                self._drop(path)

    def _close_idle(self, now_s: float) -> None:
        for path, file in list(self.files.items()):
            if now_s - self._written_s.get(path, now_s) < IDLE_S:
                break
            if path not in self._written and file.retire():
                self._drop(path)
        self._counters[OutputField.OPEN_FILES] = len(self.files)

    def _is_open(self, path: str) -> bool:
        """Return whether a file has the file at a path open, or one that was moved there while it is rotated."""
        return path in self.files or any(path == file.rotation.moved_to for file in self.files.values())

    def entries(self) -> Iterator[os.DirEntry[str]]:
        """Yield every file of the output, renamed ones included. Raises OSError."""
        return pattern_files.entries(self.base, self.pattern)

    def close(self) -> None:
        """Sync and close every file."""
        for file in self.files.values():
            file.close()
        self.files, self._written, self._written_s = {}, {}, {}
        self._counters[OutputField.OPEN_FILES] = 0
        self._tidying.close()


def _today() -> str:
    """Return the present day in UTC."""
    return time.strftime("%Y-%m-%d", time.gmtime())
