"""Rotates one output's file by size and by time.

Owns the decision, the order of the steps, their retries and the compressor child. Does not know records. Logs nothing:
`advance` returns events for the log, each failure once until it changes.

A rotation has these steps; each either leads to the next or is tried again later, from the present state of the disk:

    WAIT -> SYNC      everything appended is on the disk
         -> MOVE      the file gets its rotated name, in one rename over a name reserved for it
         -> REOPEN    a new file takes the path; until then lines still go to the moved file
         -> SETTLE    both names are on the disk
         -> WAIT

Another program may reopen or move the file between any two steps. Tidying (removing surplus files, compressing) has
retries of its own, so that a failing compression never delays a rotation.
"""

from __future__ import annotations

import contextlib
import enum
import math
import os
import signal
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from prefork_logd.errors import OutputError
from prefork_logd.files import compression, failed_files, file_age, rotated_files
from prefork_logd.files.events import Event, done, reason_of, trouble
from prefork_logd.files.rotated_files import METHODS
from prefork_logd.system.backoff import Backoff
from prefork_logd.system.disk import sync_directory

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefork_logd.config.outputs import OutputSettings
    from prefork_logd.files.output_file import OutputFile
    from prefork_logd.files.rotated_files import Sibling

FIRST_RETRY_S = 1.0
LAST_RETRY_S = 60.0
CHILD_CHECK_S = 5.0
"""Interval at which a compressor is checked, if `advance` is not called when it ends."""


class Step(enum.Enum):
    """The next step of a rotation."""

    WAIT = enum.auto()
    SYNC = enum.auto()
    MOVE = enum.auto()
    REOPEN = enum.auto()
    SETTLE = enum.auto()


_FAILURES = {
    Step.SYNC: ("cannot be rotated, because its lines cannot be put on the disk", "it grows until that works"),
    Step.MOVE: ("cannot be rotated, because it cannot be renamed", "it grows until that works"),
    Step.REOPEN: ("was rotated, but no new file can be begun", "lines go to the rotated file until that works"),
    Step.SETTLE: ("was rotated, but its names cannot be put on the disk", "tried again until that works"),
}
"""For each step the words about its failure, and its effect."""


class _Retry:
    """The time of the next attempt, and the last message about the failure."""

    def __init__(self) -> None:
        self.at_s = -math.inf
        self._backoff = Backoff(FIRST_RETRY_S, LAST_RETRY_S)
        self._told = ""

    def failed(self, now_s: float, message: str) -> list[Event]:
        """Delay the next attempt; return the message unless it is the same as before."""
        self.at_s = now_s + self._backoff.failed()
        is_news = message != self._told
        self._told = message
        return [trouble(message)] if is_news else []

    def worked(self, message: str) -> list[Event]:
        """Forget the failures; return the message if one of them was logged."""
        had_failed = self._told
        self.at_s, self._told = -math.inf, ""
        self._backoff.worked()
        return [trouble(message)] if had_failed and message else []


class Rotation:
    """Rotates one output's file, by size and by time.

    Every time given and returned is of the monotonic clock. `wall` stamps the names, and gives the age of a file that
    an earlier process began; no other decision depends on it.

    By time means: a file is rotated when its first line is `rotate_every_s` old. An empty file is never rotated.
    An output whose path has fields has many files, and pattern_files.py tidies them together: with `has_fields` this
    only rotates.
    """

    def __init__(self, settings: OutputSettings, file: OutputFile, wall: Callable[[], float] = time.time) -> None:
        self._file = file
        self._wall = wall
        self._rotate_bytes = settings.rotate_bytes or math.inf
        self._rotate_every_s = settings.rotate_every_s or math.inf
        self._keep, self._keep_bytes, self._compress = settings.keep, settings.keep_bytes, settings.compress
        self._enabled = bool(settings.rotate_bytes or settings.rotate_every_s)
        self.step = Step.WAIT
        self._moved_to = ""
        self._rotating, self._cleaning, self._pruning, self._compressing = _Retry(), _Retry(), _Retry(), _Retry()
        self._tidies = not settings.has_fields
        self._must_clean = self._must_prune = self._enabled and self._tidies
        self._may_compress = self._must_clean and self._compress != "none"
        self.compressor_pid: int | None = None
        """Pid of the running compressor. When it ends, call `advance`, or pass its status to `reap`."""
        self._compressing_sequence = 0
        self._compress_failures: Counter[int] = Counter()
        self._generation = 0
        self._born_s: float | None = None
        self._deadline_s = -math.inf if self._enabled else math.inf
        self._events: list[Event] = []

    @property
    def next_deadline_s(self) -> float:
        """Time at which to call `advance` even if nothing is appended; math.inf: never."""
        return self._deadline_s

    @property
    def moved_to(self) -> str:
        """The path of the moved file that still gets lines, until a new file is opened; "" for none."""
        return self._moved_to if self.step is Step.REOPEN else ""

    def due(self, now_s: float) -> bool:
        """Tell whether `advance` has work to do. Cheap enough for each append and each deadline."""
        file = self._file
        if not self._enabled or not file.is_regular:
            return False
        return (
            now_s >= self._deadline_s
            or (self.step is Step.WAIT and file.length >= self._rotate_bytes)
            or (self._born_s is None and file.length > 0)
            or self._generation != file.generation
        )

    def advance(self, now_s: float) -> list[Event]:
        """Take every step that is possible now; return events for the log. Raises nothing.

        Call it between batches, when everything appended is committed: then each record is in one file, and a moved
        file is never written again. After a rotation the open file has another `identity`.
        """
        self._events = []
        if not self._enabled:
            return self._events
        self._poll(now_s)
        if self._file.is_regular:
            self._note_birth(now_s)
            self._clean(now_s)
            self._rotate(now_s)
            self._note_birth(now_s)
            self._prune(now_s)
            self._start_compressing(now_s)
        self._deadline_s = self._next_deadline(now_s)
        return self._events

    def reap(self, pid: int, wait_status: int, now_s: float) -> list[Event]:
        """Record the end of a child, if it is the compressor; for a process that waits for all its children itself.

        Returns as `advance` does; call `advance` afterwards.
        """
        self._events = []
        if pid == self.compressor_pid:
            self._compressor_ended(compression.explain(wait_status), now_s)
        return self._events

    def close(self) -> None:
        """Kill the compressor; the next process compresses its file."""
        if self.compressor_pid is not None:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(self.compressor_pid, signal.SIGKILL)
                os.waitpid(self.compressor_pid, 0)
        self.compressor_pid = None

    @property
    def _path(self) -> str:
        """Path of the file itself: the target of a symbolic link, so that the link stays."""
        return os.path.realpath(self._file.path)

    def _note_birth(self, now_s: float) -> None:
        """Remember the time from which the file's age counts: its first line, or its creation by another process."""
        file = self._file
        if file.generation != self._generation:
            self._generation, self._born_s = file.generation, None
            if file.length and math.isfinite(self._rotate_every_s):
                with contextlib.suppress(OSError):
                    self._born_s = now_s - min(file_age.age_s(self._path, self._wall()), self._rotate_every_s)
        if not file.length:
            self._born_s = None
        elif self._born_s is None:
            self._born_s = now_s

    def _rotate(self, now_s: float) -> None:
        if self.step is Step.WAIT:
            if not self._is_wanted(now_s):
                return
            self.step = Step.SYNC
        if now_s < self._rotating.at_s:
            return
        try:
            while self.step is not Step.WAIT:
                self.step = self._take_step()
        except (OSError, OutputError) as error:
            self._must_clean = self._tidies
            self._events += self._rotating.failed(now_s, self._explain(error))
            if self.step is Step.MOVE:
                self.step = Step.SYNC  # Lines appended until the next attempt need another sync.
        else:
            self._events += self._rotating.worked(f"{self._file.path}: rotates again")

    def _explain(self, error: OSError | OutputError) -> str:
        """Return the words about the failure of the present step."""
        what, effect = _FAILURES[self.step]
        if self.step is Step.MOVE and isinstance(error, OutputError):
            what = "cannot be rotated, because no file can be opened at its path"
        return f"{self._file.path}: {what}: {reason_of(error)}; {effect}"

    def _is_wanted(self, now_s: float) -> bool:
        if not self._file.length or self._born_s is None:
            return False
        return self._file.length >= self._rotate_bytes or now_s >= self._born_s + self._rotate_every_s

    def _take_step(self) -> Step:
        """Carry out `step`; return the next one."""
        match self.step:
            case Step.SYNC:
                self._file.sync()
                return Step.MOVE
            case Step.MOVE:
                return self._move()
            case Step.REOPEN:
                # A SIGHUP or the check for a removed file may have reopened it already: once more does no harm.
                self._file.sync()
                self._file.reopen()
                self._events.append(done(f"{self._file.path}: rotated to {self._moved_to}"))
                self._must_prune = self._tidies
                self._may_compress = self._tidies and self._compress != "none"
                return Step.SETTLE
            case Step.SETTLE:
                sync_directory(Path(self._moved_to).parent, missing_ok=True)
                self._file.sync()
        return Step.WAIT

    def _move(self) -> Step:
        path = self._path
        try:
            status = Path(path).stat()
        except FileNotFoundError:
            status = None
        if status is None or (status.st_dev, status.st_ino) != self._file.identity or not status.st_size:
            # Another program has removed, moved or emptied it: this is not the file to rotate any more.
            self._file.reopen()
            return Step.WAIT
        name = rotated_files.reserve(path, self._wall())
        try:
            Path(path).rename(name)
        except OSError:
            with contextlib.suppress(OSError):
                Path(name).unlink()
            raise
        self._moved_to = name
        return Step.REOPEN

    def _clean(self, now_s: float) -> None:
        if not self._must_clean or now_s < self._cleaning.at_s:
            return
        try:
            self._events += rotated_files.clean_up(self._path, self._file.identity)
        except OSError as error:
            message = f"{self._file.path}: cannot tidy its rotated files up after a failure: {reason_of(error)}"
            self._events += self._cleaning.failed(now_s, message)
        else:
            self._must_clean = False
            self._cleaning.worked("")

    def _prune(self, now_s: float) -> None:
        if not self._must_prune or now_s < self._pruning.at_s:
            return
        try:
            found, _ = rotated_files.find(self._path)
            for sibling in rotated_files.surplus(found, self._keep, self._keep_bytes, self._spared(found)):
                path = Path(sibling.path)
                # A file that could not be synced is kept as long as the rotated files of its time.
                old = [*failed_files.remove_until(self._path, path.stat().st_mtime)] if path.exists() else []
                path.unlink(missing_ok=True)
                self._events += [done(f"{gone}: removed, by keep and keep_bytes") for gone in (*old, sibling.path)]
        except OSError as error:
            message = f"{self._file.path}: cannot remove rotated files: {reason_of(error)}; they stay until that works"
            self._events += self._pruning.failed(now_s, message)
        else:
            self._must_prune = False
            self._pruning.worked("")

    def _spared(self, found: list[Sibling]) -> set[int]:
        """Return the sequence numbers that do not count as surplus yet, whatever their size.

        These are the file still written to (until REOPEN succeeds), the one being compressed, and the newest one until
        it is compressed.
        """
        spared = {sibling.sequence for sibling in found if sibling.identity == self._file.identity}
        if self.compressor_pid is not None:
            spared.add(self._compressing_sequence)
        if found and not found[-1].suffix and self._compress != "none":
            spared.add(found[-1].sequence)
        return spared

    def _start_compressing(self, now_s: float) -> None:
        """Start a compressor for the oldest uncompressed file; those that failed before come last."""
        if not self._may_compress or self.compressor_pid is not None or now_s < self._compressing.at_s:
            return
        try:
            found, _ = rotated_files.find(self._path)
            waiting = [s for s in found if not s.suffix and s.nbytes and s.identity != self._file.identity]
            if not waiting:
                self._may_compress = False
                return
            chosen = min(waiting, key=lambda sibling: (self._compress_failures[sibling.sequence], sibling.sequence))
            # A process ended after compressing it and before removing it: use the same method as then.
            method = next(
                (METHODS[s.suffix] for s in found if s.sequence == chosen.sequence and s.suffix), self._compress
            )
            self._compressing_sequence = chosen.sequence
            self.compressor_pid = compression.start(chosen.path, method)
        except OSError as error:
            message = f"{self._file.path}: cannot compress its rotated files: {reason_of(error)}; tried again"
            self._events += self._compressing.failed(now_s, message)

    def _poll(self, now_s: float) -> None:
        if self.compressor_pid is None:
            return
        try:
            pid, wait_status = os.waitpid(self.compressor_pid, os.WNOHANG)
        except ChildProcessError:
            self._compressor_ended("its exit status was taken by another waitpid", now_s)
            return
        if pid:
            self._compressor_ended(compression.explain(wait_status), now_s)

    def _compressor_ended(self, failure: str | None, now_s: float) -> None:
        self.compressor_pid = None
        self._must_prune = True
        if failure is None:
            del self._compress_failures[self._compressing_sequence]
            self._events += self._compressing.worked(f"{self._file.path}: compresses again")
            return
        self._compress_failures[self._compressing_sequence] += 1
        self._must_clean = True
        message = f"{self._file.path}: cannot compress a rotated file: {failure}; it stays as it is, and is tried again"
        self._events += self._compressing.failed(now_s, message)

    def _next_deadline(self, now_s: float) -> float:
        deadlines = [math.inf]
        if self.step is not Step.WAIT:
            deadlines.append(self._rotating.at_s)
        elif self._born_s is not None:
            deadlines.append(self._born_s + self._rotate_every_s)
        if self._must_clean:
            deadlines.append(self._cleaning.at_s)
        if self._must_prune:
            deadlines.append(self._pruning.at_s)
        if self.compressor_pid is not None:
            deadlines.append(now_s + CHILD_CHECK_S)
        elif self._may_compress:
            deadlines.append(self._compressing.at_s)
        return min(deadlines)
