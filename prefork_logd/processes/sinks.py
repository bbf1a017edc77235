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
    from collections.abc import Iterable, Iterator

    from prefork_logd.journal.commit import Committed
    from prefork_logd.processes.control import Configuration

REJECTED_ROTATE_BYTES, REJECTED_KEEP = 64 << 20, 3
"""Strangers fill rejected.jsonl: it is bounded."""


class Sink:
    """One output with the lines that wait to be appended to it."""

    def __init__(self, settings: OutputSettings, place: int, board: Scoreboard) -> None:
        self.file = OutputFile(settings.name, settings.path, settings.file_mode)
        self._counters = board.output(place)
        self._chunks: list[memoryview] = []
        self._lines = 0
        self._nbytes = 0
        self._unsynced: list[memoryview] = []
        """What was appended since the last commit: if the disk refuses to keep it, it goes to another file."""
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
        """Append what was gathered; return whether all of it is in the file. What is wrong is logged once."""
        if not self._nbytes:
            return True
        done = self._try_append()
        self._counters[OutputField.FAILED] = not done
        if news := self.file.news():
            LOGGER.log(30 if done else 40, "output %s: %s%s", self.settings.name, news, "" if done else WAITING)
        if done:
            self._counters[OutputField.RECORDS] += self._lines
            self._counters[OutputField.BYTES] += self._nbytes
            self._unsynced += self._chunks
            self._chunks = []
            self._lines = self._nbytes = 0
        return done

    def find(self) -> None:
        """See that the file is open and still the one its path leads to; what fails is told by `append`."""
        if not self._nbytes:
            return
        try:
            if not self.file.is_open:
                self.file.open()
            elif self.file.verify():
                LOGGER.warning("output %s: %s was removed or renamed; made anew", self.settings.name, self.file.path)
        except OutputError:
            return

    def _try_append(self) -> bool:
        if not self.file.is_open:
            return False
        try:
            self.file.append(self._chunks, self._nbytes)
        except OutputError:
            return False
        return True

    def sync(self) -> bool:
        """Wait until what was appended since the last commit is on the disk; return whether it is.

        A sync that failed is never tried again on the same file: the kernel has forgotten the pages it could not write,
        and the next sync would find nothing wrong (fsync(2); PostgreSQL's "fsyncgate"). The lines go to a new file.
        """
        if not self._unsynced:
            return True
        try:
            self.file.sync()
        except OutputError as error:
            LOGGER.error("output %s: %s%s", self.settings.name, error, WAITING)
            return self._rewrite()
        return True

    def _rewrite(self) -> bool:
        """Put the file aside, without what it could not keep, and append that to a new one."""
        nbytes = sum(map(len, self._unsynced))
        aside = f"{os.path.realpath(self.file.path)}.failed-{time.time_ns()}"
        try:
            if self.file.identity is not None:
                self.file.cut_back(self.file.length - nbytes, self.file.identity)
            Path(os.path.realpath(self.file.path)).rename(aside)
            self.file.reopen()
            self.file.append(self._unsynced, nbytes)
            self.file.sync()
        except (OutputError, OSError) as error:
            LOGGER.error("output %s: cannot go on in a new file: %s", self.settings.name, error)
            return False
        LOGGER.warning("output %s: goes on in a new file; %s is what the old one kept", self.settings.name, aside)
        return True

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


class Sinks:
    """Every output of the configuration, and those of older ones that workers may still have lines for."""

    def __init__(self, board: Scoreboard) -> None:
        self._board = board
        self._current: dict[int, Sink] = {}
        self._leaving: dict[int, tuple[int, Sink]] = {}
        """Place to (first generation without it, sink)."""

    def __iter__(self) -> Iterator[Sink]:
        yield from self._current.values()
        for _, sink in self._leaving.values():
            yield sink

    def at(self, place: int) -> Sink:
        """Return the sink at a place. Raises KeyError if there is none."""
        sink = self._current.get(place)
        return sink if sink is not None else self._leaving[place][1]

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
        """Cut every output back to its committed length: what came later is sent again by the workers."""
        own = {sink.file.identity for sink in self}
        for sink in self:
            for identity, length in committed.files.items():
                if cut := sink.file.cut_back(length, identity):
                    _log_cut(sink.file.path, cut)
            for entry in _renamed(Path(sink.file.path), committed, own):
                _cut_renamed(entry, committed)

    def reopen(self) -> list[str]:
        """Reopen every output; return what is wrong."""
        problems = []
        for sink in self:
            try:
                sink.file.reopen()
            except OutputError as error:
                problems.append(f"output {sink.settings.name}: {error}")
        return problems

    def find(self) -> None:
        """See that each output that lines are gathered for has its file where its path leads."""
        for sink in self:
            sink.find()

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
        """Return the length of each regular file by its device and inode number."""
        return {
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


def _renamed(path: Path, committed: Committed, own: Iterable[object]) -> Iterator[os.DirEntry[str]]:
    """Yield the files beside an output that the last writer had open under its name, as logrotate leaves them.

    Inode numbers are used again, so the name has to fit, too: nothing is ever cut off a file that is not ours.
    """
    try:
        entries = [entry for entry in os.scandir(path.parent) if entry.name.startswith(path.stem)]
    except OSError:
        return
    for entry in entries:
        found = entry.stat(follow_symlinks=False)
        identity = (found.st_dev, found.st_ino)
        if identity in committed.files and identity not in own:
            yield entry


def _cut_renamed(entry: os.DirEntry[str], committed: Committed) -> None:
    found = entry.stat(follow_symlinks=False)
    excess = found.st_size - committed.files[found.st_dev, found.st_ino]
    if excess > 0:
        os.truncate(entry.path, found.st_size - excess)
        _log_cut(entry.path, excess)


def _log_cut(path: str, nbytes: int) -> None:
    LOGGER.warning("%s: cut back %d bytes that were not committed; they are sent again", path, nbytes)
