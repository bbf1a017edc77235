"""The writer's outputs: what is gathered for each, and which there are.

Owns opening, recovering, reopening and replacing them. Knows no pipes and no workers, and does not look into lines.
"""

from __future__ import annotations

import math
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from prefork_logd.errors import OutputError
from prefork_logd.log import LOGGER
from prefork_logd.outputs.file import OutputFile
from prefork_logd.outputs.rotation import Rotation
from prefork_logd.processes.dispatch import REJECTED_PLACE
from prefork_logd.scoreboard import OutputField, Scoreboard
from prefork_logd.settings import REJECTED_FILE, OutputSettings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from prefork_logd.journal.commit import Committed
    from prefork_logd.processes.control import Configuration

REJECTED_ROTATE_BYTES, REJECTED_KEEP = 64 << 20, 3
"""Strangers fill rejected.jsonl: it is bounded."""


class Sink:
    """One output with the lines that wait to be appended to it."""

    def __init__(self, settings: OutputSettings, place: int, board: Scoreboard) -> None:
        self.is_expendable = place == REJECTED_PLACE
        """Lines that cannot be written are dropped: what strangers send must not hold up the records of others."""
        self.file = OutputFile(settings.name, settings.path, settings.file_mode)
        self._counters = board.output(place)
        self._chunks: list[memoryview] = []
        self._lines = 0
        self._nbytes = 0
        self._unsynced: list[memoryview] = []
        """What was appended since the last commit: if the disk refuses to keep it, it goes to another file."""
        self._given_up: tuple[tuple[int, int] | None, int] | None = None
        """The file that could not be synced, and how much of it is committed, until there is another one."""
        self.settings = settings
        self.rotation = Rotation(settings, self.file)

    def configure(self, settings: OutputSettings) -> None:
        """Go on under other settings for the same file."""
        self.rotation.close()
        self.settings = settings
        self.rotation = Rotation(settings, self.file)

    def open(self) -> str:
        """Open the file; return what is wrong, if anything is."""
        try:
            torn = self.file.open()
        except OutputError as error:
            self.file.news()
            return f"output {self.settings.name}: {error}"
        if torn:
            LOGGER.warning("output %s: %s: cut off a torn line of %d bytes", self.settings.name, self.file.path, torn)
        return ""

    def take(self, lines: int, data: memoryview) -> None:
        """Gather lines."""
        self._chunks.append(data)
        self._lines += lines
        self._nbytes += len(data)

    def append(self) -> bool:
        """Append what was gathered; return whether that is done with. What is wrong is logged once."""
        if not self._nbytes:
            return True
        done = self._try_append()
        self._counters[OutputField.FAILED] = not done
        if news := self.file.news():
            meanwhile = "" if done else DROPPING if self.is_expendable else WAITING
            LOGGER.log(30 if done else 40, "output %s: %s%s", self.settings.name, news, meanwhile)
        if done:
            self._counters[OutputField.RECORDS] += self._lines
            self._counters[OutputField.BYTES] += self._nbytes
            self._unsynced += self._chunks
        if done or self.is_expendable:
            self._chunks = []
            self._lines = self._nbytes = 0
        return done or self.is_expendable

    def find(self) -> bool:
        """See that the file is open and still the one its path leads to; return whether it was opened for that.

        What fails is told by `append`.
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
            elif self.file.verify():
                LOGGER.info("output %s: %s was removed or renamed; made anew", self.settings.name, self.file.path)
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

    def sync(self) -> bool:
        """Wait until what was appended since the last commit is on the disk; return whether it is.

        A sync that failed is never tried again on the same file: the kernel has forgotten the pages it could not write,
        and the next sync would find nothing wrong (fsync(2)). The lines are gathered again, for a new file.
        """
        if not self._unsynced or self.is_expendable:
            return True
        try:
            self.file.sync()
        except OutputError as error:
            LOGGER.error("output %s: %s%s", self.settings.name, error, WAITING)
            nbytes = sum(map(len, self._unsynced))
            self._chunks = self._unsynced + self._chunks
            self._nbytes += nbytes
            self._unsynced = []
            self._counters[OutputField.BYTES] -= nbytes
            self._given_up = (self.file.identity, self.file.length - nbytes)
            self._put_aside()
            return False
        return True

    def _put_aside(self) -> bool:
        """Go on in a new file if the last one could not be synced; return whether nothing stands in the way.

        Of the old one stays what is committed. Each step that was done is passed over when the whole is tried again.
        """
        if self._given_up is None:
            return True
        identity, committed_length = self._given_up
        path = os.path.realpath(self.file.path)
        aside = f"{path}.failed-{time.time_ns()}"
        try:
            if self.file.identity is not None and self.file.identity == identity:
                self.file.cut_back(committed_length, identity)
                if _identity_of(path) == identity:
                    Path(path).rename(aside)
                    LOGGER.warning("output %s: begins a new file; %s has what is committed", self.settings.name, aside)
                self.file.reopen()
        except (OSError, OutputError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            LOGGER.error("output %s: cannot begin a new file: %s", self.settings.name, reason)
            return False
        self._given_up = None
        return True

    def reopen(self) -> str:
        """Reopen the file, but sync what is not committed yet where it is; return what is wrong."""
        self.sync()
        if not self._put_aside():
            return f"output {self.settings.name}: cannot begin a new file"
        try:
            self.file.reopen()
        except OutputError as error:
            return f"output {self.settings.name}: {error}"
        return ""

    def committed(self) -> None:
        """Let go of what is committed."""
        self._unsynced = []

    def rotate(self) -> None:
        """Take the steps of the output's own rotation that are due."""
        now_s = time.monotonic()
        if self.rotation.due(now_s):
            for event in self.rotation.advance(now_s):
                LOGGER.info("output %s: %s", self.settings.name, event)

    def close(self) -> None:
        """Sync the file and close it."""
        try:
            if self.file.is_open:
                self.file.sync()
        except OutputError as error:
            LOGGER.error("output %s: %s", self.settings.name, error)
        self.file.close()
        self.rotation.close()


WAITING = "; clients wait until it works again"
DROPPING = "; rejected frames are only counted until it works again"


class Sinks:
    """Every output of the configuration, and those of older ones that workers may still have lines for."""

    def __init__(self, board: Scoreboard) -> None:
        self._board = board
        self._current: dict[int, Sink] = {}
        self._leaving: dict[int, tuple[int, Sink]] = {}
        """Place to (first generation without it, sink)."""
        self._uncut: dict[tuple[int, int], int] = {}
        """Committed lengths of the last writer's files, until it is known that none of them is longer."""

    def __iter__(self) -> Iterator[Sink]:
        yield from self._current.values()
        for _, sink in self._leaving.values():
            yield sink

    def at(self, place: int) -> Sink:
        """Return the sink at a place. Raises KeyError if there is none."""
        sink = self._current.get(place)
        return sink if sink is not None else self._leaving[place][1]

    def has(self, place: int) -> bool:
        """Tell whether there is a sink at a place."""
        return place in self._current or place in self._leaving

    def configure(self, configuration: Configuration) -> list[str]:
        """Take up the outputs of a configuration, keeping open what stays; return what is wrong."""
        settings = configuration.settings
        rejected = OutputSettings(
            name="rejected",
            path=str(Path(settings.server.state_dir) / REJECTED_FILE),
            rotate_bytes=REJECTED_ROTATE_BYTES,
            keep=REJECTED_KEEP,
            mode="0600",
        )
        problems = []
        wanted: dict[int, Sink] = {}
        for place, output in zip((REJECTED_PLACE, *configuration.places), (rejected, *settings.output), strict=True):
            sink = self._current.pop(place, None)
            if sink is None:
                sink = Sink(output, place, self._board)
                problems.append(sink.open())
            elif sink.settings != output:
                sink.configure(output)
            wanted[place] = sink
        self._leaving |= {place: (configuration.generation, sink) for place, sink in self._current.items()}
        self._current = wanted
        return [problem for problem in problems if problem]

    def forget(self, generation: int) -> None:
        """Close what no configuration from `generation` on has: no worker sends lines for it any more."""
        for place, (until, sink) in list(self._leaving.items()):
            if until <= generation:
                del self._leaving[place]
                sink.close()

    def recover(self, committed: Committed) -> None:
        """Cut every output back to its committed length: what came later is sent again by the workers.

        Where a disk does not let us, or a file cannot be opened yet, this is done before the next append to it.
        """
        self._uncut = dict(committed.files)
        self._cut_back()

    def _cut_back(self) -> None:
        for sink in self:
            identity = sink.file.identity
            if identity in self._uncut:
                try:
                    cut = sink.file.cut_back(self._uncut[identity], identity)
                except OutputError:
                    # Nothing may be appended before this has worked; it is opened, and tried, again.
                    sink.file.close()
                    continue
                del self._uncut[identity]
                if cut:
                    _log_cut(sink.file.path, cut)
        if not self._uncut:
            return
        refused = False
        for sink in self:
            for entry in _renamed(Path(sink.file.path), self._uncut):
                try:
                    _cut_renamed(entry, self._uncut)
                except OSError:
                    refused = True
        if not refused and all(sink.file.is_open for sink in self):
            # What is left has been removed, or moved to where nobody can find it.
            self._uncut = {}

    def reopen(self) -> list[str]:
        """Reopen every output; return what is wrong."""
        return [problem for problem in [sink.reopen() for sink in self] if problem]

    def find(self) -> None:
        """See that each output that lines are gathered for has its file where its path leads."""
        if any([sink.find() for sink in self]) and self._uncut:  # noqa: C419 - each is to be looked at
            self._cut_back()

    def append(self) -> bool:
        """Append what was gathered, to each output; return whether all of it is in the files."""
        return all([sink.append() for sink in self])  # noqa: C419 - each is to be tried

    def sync(self) -> bool:
        """Wait until what was appended since the last commit is on the disk, everywhere; return whether it is."""
        return all([sink.sync() for sink in self])  # noqa: C419 - each is to be tried

    def committed(self) -> None:
        """Let go of what is committed."""
        for sink in self:
            sink.committed()

    def lengths(self) -> dict[tuple[int, int], int]:
        """Return the length of each regular file by its device and inode number; of one not yet cut, the committed."""
        return self._uncut | {
            sink.file.identity: sink.file.length
            for sink in self
            if sink.file.is_regular and sink.file.identity is not None
        }

    def rotate(self) -> float:
        """Let each output rotate if it is due; return when to come back at the latest (monotonic, in seconds)."""
        for sink in self:
            sink.rotate()
        return min((sink.rotation.next_deadline_s for sink in self), default=math.inf)

    def close(self) -> None:
        """Sync and close every output."""
        for sink in self:
            sink.close()


def _renamed(path: Path, lengths: Mapping[tuple[int, int], int]) -> Iterator[os.DirEntry[str]]:
    """Yield the files of `lengths` beside an output: the last writer had them open under its name (logrotate).

    Inode numbers are used again, so the name has to fit, too: nothing is ever cut off a file that is not ours.
    """
    try:
        entries = [entry for entry in os.scandir(path.parent) if entry.name.startswith(path.stem)]
    except OSError:
        return
    for entry in entries:
        found = entry.stat(follow_symlinks=False)
        if (found.st_dev, found.st_ino) in lengths:
            yield entry


def _cut_renamed(entry: os.DirEntry[str], lengths: dict[tuple[int, int], int]) -> None:
    """Cut a file back to its committed length, and forget that. Raises OSError."""
    found = entry.stat(follow_symlinks=False)
    excess = found.st_size - lengths[found.st_dev, found.st_ino]
    if excess > 0:
        with Path(entry.path).open("r+b") as file:
            file.truncate(found.st_size - excess)
            os.fdatasync(file.fileno())
        _log_cut(entry.path, excess)
    del lengths[found.st_dev, found.st_ino]


def _identity_of(path: str) -> tuple[int, int] | None:
    """Return what the kernel calls the file that a path leads to; None if there is none. Raises OSError."""
    try:
        found = Path(path).stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _log_cut(path: str, nbytes: int) -> None:
    LOGGER.warning("%s: cut back %d bytes that were not committed; they are sent again", path, nbytes)
