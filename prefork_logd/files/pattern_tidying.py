"""Tidies the files of an output whose path has fields: rotates closed ones, compresses finished ones, removes old ones.

Owns the order of the steps and their retries, and the one compressor. Does not know records or how files are written.
Logs nothing: `advance` returns events for the log.

A round lists the whole set, a piece in each call, so that a turn of the writer stays short. Then it acts on closed
files only: `is_open` tells which are not closed. Open files are rotated by rotation.py.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

from prefork_logd.files import compression, file_age, pattern_files, rotated_files
from prefork_logd.files.events import Event, done, reason_of, trouble
from prefork_logd.files.rotated_files import METHODS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prefork_logd.config.output_paths import PathPattern
    from prefork_logd.config.outputs import OutputSettings
    from prefork_logd.files.pattern_files import PatternFile

ROUND_S = 60.0
"""Time between two rounds."""
LEAST_REST = 10
"""The time after a round is at least so many times as long as the round: there may be very many files."""
LONGEST_PIECE_S, PIECE_EVERY_S = 0.005, 0.025
"""How long one piece of a round takes, and the time between the beginnings of two."""
CHILD_CHECK_S = 1.0
"""Interval at which a compressor is checked."""
RETRY_S = 600.0
"""Time until a file that could not be compressed is tried again."""


class PatternTidying:
    """Tidies one set of files. Every time given and returned is of the monotonic clock."""

    def __init__(
        self,
        settings: OutputSettings,
        base: str,
        pattern: PathPattern,
        is_open: Callable[[str], bool],
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Tidy the files of `pattern` below `base`; `is_open` tells whether the writer has the file at a path open."""
        self._settings = settings
        self._base = base
        self._pattern = pattern
        self._is_open = is_open
        self._wall = wall
        is_rotated = bool(settings.rotate_bytes or settings.rotate_every_s)
        self._is_wanted = is_rotated or settings.compress != "none" or bool(settings.keep_bytes or settings.keep_for_s)
        self._keep = settings.keep if is_rotated else 0
        self._round: Iterator[None] | None = None
        self._waiting: list[PatternFile] = []
        """Files to compress, the first one last."""
        self.compressor_pid: int | None = None
        self._compressing = ""
        self._failed: dict[str, float] = {}
        """Files that could not be compressed, and when the next try is due."""
        self._began_s = self._round_at_s = -math.inf
        self._told = ""
        self._events: list[Event] = []
        self._piece_end_s = 0.0
        self.next_deadline_s = -math.inf if self._is_wanted else math.inf
        """Time at which to call `advance`; math.inf: never."""

    def advance(self, now_s: float) -> list[Event]:
        """Take the next piece of work, if it is due; return events for the log. Raises nothing."""
        self._events = []
        if now_s < self.next_deadline_s:
            return self._events
        self._poll(now_s)
        if self._round is None and self.compressor_pid is None and not self._waiting and now_s >= self._round_at_s:
            self._round = self._begin_round(now_s)
            self._began_s = now_s
        if self._round is not None:
            self._go_on(self._round, now_s)
        self._compress(now_s)
        if self._round is not None:
            self.next_deadline_s = now_s + PIECE_EVERY_S
        elif self.compressor_pid is not None:
            self.next_deadline_s = now_s + CHILD_CHECK_S
        else:
            self.next_deadline_s = now_s if self._waiting else self._round_at_s
        return self._events

    def close(self) -> None:
        """End the compressor; the next process compresses its file."""
        self._round, self._waiting = None, []
        if self.compressor_pid is not None:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(self.compressor_pid, signal.SIGKILL)
                os.waitpid(self.compressor_pid, 0)
        self.compressor_pid = None

    def _go_on(self, pieces: Iterator[None], now_s: float) -> None:
        """Take one piece of the round; set the time of the next round after the last piece."""
        self._round_at_s = now_s + max(ROUND_S, LEAST_REST * (now_s - self._began_s))
        self._piece_end_s = time.monotonic() + LONGEST_PIECE_S
        try:
            next(pieces)
        except StopIteration:
            self._round = None
            self._told = ""
        except OSError as error:
            self._round = None
            self._tell(
                f"{error.filename or self._base}: cannot rotate or remove files: {reason_of(error)}; tried again each "
                "minute"
            )

    def _tell(self, problem: str) -> None:
        """Report a problem once until it changes."""
        if problem != self._told:
            self._told = problem
            self._events.append(trouble(problem))

    @property
    def _is_piece_over(self) -> bool:
        return time.monotonic() >= self._piece_end_s

    def _begin_round(self, now_s: float) -> Iterator[None]:
        """Yield after each piece. Raises OSError."""
        files: list[PatternFile] = []
        for found in pattern_files.read(self._base, self._pattern):
            if isinstance(found, str):
                if not rotated_files.is_locked(pattern_files.temporary_source(found)):
                    Path(found).unlink(missing_ok=True)
            elif found.sequence and not found.nbytes and not found.suffix:
                # A name that was reserved for a rotation, or an empty file that was renamed.
                Path(found.path).unlink(missing_ok=True)
            else:
                files.append(found)
            if self._is_piece_over:
                yield
        yield from self._rotate(files)
        removed: set[str] = set()
        yield from self._remove(files, removed)
        if self._settings.compress != "none":
            self._failed = {path: due_s for path, due_s in self._failed.items() if due_s > now_s}
            gone = removed | self._failed.keys()
            waiting = [file for file in files if file.sequence and not file.suffix and file.path not in gone]
            self._waiting = sorted(waiting, key=lambda file: (-file.written_s, -file.sequence))

    def _rotate(self, files: list[PatternFile]) -> Iterator[None]:
        """Give closed files that are due their rotated names. Raises OSError."""
        today = time.strftime("%Y-%m-%d", time.gmtime(self._wall()))
        latest: dict[str, int] = {}
        for file in files:
            latest[file.current] = max(file.sequence, latest.get(file.current, 0))
        for index, file in enumerate(files):
            if self._is_piece_over:
                yield
            if file.sequence or file.could_not_sync or not file.nbytes:
                continue
            if self._is_open(file.path) or not self._is_due(file, today):
                continue
            name = rotated_files.reserve_number(file.path, self._wall(), latest[file.path] + 1)
            try:
                Path(file.path).rename(name)
            except OSError as error:
                with contextlib.suppress(OSError):
                    Path(name).unlink()
                if isinstance(error, FileNotFoundError):
                    continue
                raise
            files[index] = file._replace(path=name, sequence=latest[file.path] + 1)
            self._events.append(done(f"{file.path}: rotated to {name}"))

    def _is_due(self, file: PatternFile, today: str) -> bool:
        settings = self._settings
        if settings.compress != "none" and pattern_files.is_finished(file, today):
            return True
        if settings.rotate_bytes and file.nbytes >= settings.rotate_bytes:
            return True
        if not settings.rotate_every_s:
            return False
        with contextlib.suppress(OSError):
            return file_age.age_s(file.path, self._wall()) >= settings.rotate_every_s
        return False

    def _remove(self, files: list[PatternFile], removed: set[str]) -> Iterator[None]:
        """Remove surplus files, and directories that become empty; add their paths to `removed`. Raises OSError."""
        settings = self._settings
        oldest_s = self._wall() - settings.keep_for_s if settings.keep_for_s else -math.inf
        for file in pattern_files.surplus(
            files, self._is_spared, keep=self._keep, keep_bytes=settings.keep_bytes, oldest_s=oldest_s
        ):
            if self._is_piece_over:
                yield
            # It may have been written since it was listed.
            if self._is_spared(file) or _written_s(file.path) != file.written_s:
                continue
            Path(file.path).unlink(missing_ok=True)
            removed.add(file.path)
            self._events.append(done(f"{file.path}: removed, by keep, keep_bytes or keep_for"))
            self._remove_directories(Path(file.path).parent)

    def _remove_directories(self, directory: Path) -> None:
        """Remove a directory below the base, and those above it, as far as they are empty."""
        base = Path(self._base)
        while directory != base and base in directory.parents:
            try:
                directory.rmdir()
            except OSError:
                return
            directory = directory.parent

    def _is_spared(self, file: PatternFile) -> bool:
        return file.path == self._compressing or self._is_open(file.path)

    def _compress(self, now_s: float) -> None:
        """Start a compressor for the next file that waits for one."""
        if not self._waiting or self.compressor_pid is not None:
            return
        file = self._waiting.pop()
        # A process ended after compressing it and before removing it: use the same method as then.
        method = next((METHODS[end] for end in METHODS if Path(file.path + end).exists()), self._settings.compress)
        try:
            self._compressing = file.path
            self.compressor_pid = compression.start(file.path, method)
        except OSError as error:
            self._compress_failed(now_s, reason_of(error))

    def _poll(self, now_s: float) -> None:
        if self.compressor_pid is None:
            return
        try:
            pid, wait_status = os.waitpid(self.compressor_pid, os.WNOHANG)
            failure = compression.explain(wait_status) if pid else None
        except ChildProcessError:
            pid, failure = self.compressor_pid, "its exit status was taken by another waitpid"
        if not pid:
            return
        self.compressor_pid = None
        if failure is not None:
            self._compress_failed(now_s, failure)
        self._compressing = ""

    def _compress_failed(self, now_s: float, why: str) -> None:
        """Leave a file for a while; a later round finds it again."""
        if not self._failed:
            message = f"{self._compressing}: cannot compress it: {why}; it stays as it is, and is tried again"
            self._events.append(trouble(message))
        self._failed[self._compressing] = now_s + RETRY_S
        self._compressing = ""


def _written_s(path: str) -> float | None:
    """Return when a file was written last; None if it is gone."""
    try:
        return os.lstat(path).st_mtime
    except FileNotFoundError:
        return None
