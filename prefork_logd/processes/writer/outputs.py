"""Keeps the writer's outputs, and takes each step of a commit over all of them.

Owns opening, recovering, reopening and replacing them when the configuration changes. Does not know pipes or workers;
output.py has the lines of one file, output_set.py the files of an output whose path has fields.
"""

from __future__ import annotations

import math
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from prefork_logd.config.outputs import OutputSettings
from prefork_logd.config.paths import REJECTED_FILE
from prefork_logd.ingest.dispatcher import REJECTED_OUTPUT
from prefork_logd.journal.intent import Evidence
from prefork_logd.processes.writer.output import Output, identity_of
from prefork_logd.processes.writer.output_set import OutputSet
from prefork_logd.processes.writer.tails import Tails

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from prefork_logd.ipc.configuration import Configuration
    from prefork_logd.ipc.scoreboard import Scoreboard
    from prefork_logd.journal.commit_entry import Committed
    from prefork_logd.journal.intent import Identity

REJECTED_ROTATE_BYTES, REJECTED_KEEP = 64 << 20, 3
"""Bounds of rejected.jsonl, which any client can fill."""


class Outputs:
    """Every output of the configuration, and those of older ones that workers may still have lines for."""

    def __init__(self, board: Scoreboard) -> None:
        self._board = board
        self._current: dict[int, Output | OutputSet] = {}
        self._leaving: dict[int, tuple[int, Output | OutputSet]] = {}
        """Slot to (first generation without it, output)."""
        self._sets: list[OutputSet] = []
        """Those whose paths have fields."""
        self.tails = Tails()
        """The uncommitted ends of the last writer's files."""
        self._reached: dict[Identity, int] = {}
        """The longest that each file may be after the uncommitted turn. A file that is renamed meanwhile is no longer
        open, and still has the lines that were appended to it."""

    def __iter__(self) -> Iterator[Output]:
        for output in self._each():
            if isinstance(output, OutputSet):
                yield from output.files.values()
            else:
                yield output

    def _written(self) -> Iterator[Output]:
        """Yield those that may have lines which are not committed: of an output with many files only these."""
        for output in self._each():
            if isinstance(output, OutputSet):
                yield from output.written
            else:
                yield output

    def _each(self) -> Iterator[Output | OutputSet]:
        yield from self._current.values()
        for _, output in self._leaving.values():
            if not self._stays(output):
                yield output

    def _stays(self, output: Output | OutputSet) -> bool:
        """Return whether an output that leaves a slot has another one: a reload gave its file another path."""
        return any(output is current for current in self._current.values())

    def at(self, output_id: int) -> Output | OutputSet:
        """Return the output in a slot. Raises KeyError if there is none."""
        output = self._current.get(output_id)
        return output if output is not None else self._leaving[output_id][1]

    def has(self, output_id: int) -> bool:
        """Return whether there is an output in a slot."""
        return output_id in self._current or output_id in self._leaving

    @property
    def is_full(self) -> bool:
        """Whether lines must be committed before others are gathered, because too many files would be open."""
        return any([one.is_full for one in self._sets])  # noqa: C419 - there are few

    def add_lines(self, output_id: int, name: str, lines: int, data: memoryview, peer: int = 0) -> None:
        """Gather lines for an output, or for one of its files, which counts for a peer if it is begun.

        Raises KeyError if there is no such output or file.
        """
        output = self.at(output_id)
        if isinstance(output, OutputSet):
            output = self._file_at(output, output.path_of(name), lines, peer)
        output.add_lines(lines, data)

    def _file_at(self, output: OutputSet, path: str, lines: int, peer: int) -> Output:
        """Return the writer of the file at a path: another output's, if it still has the file open.

        After a reload the old and the new output may both have lines for one file, which the lock lets nobody open
        twice.
        """
        for other in self._each() if self._leaving and path not in output.files else ():
            if isinstance(other, OutputSet):
                if other is not output and path in other.files:
                    other.note_written(other.files[path])
                    return other.files[path]
            elif os.path.realpath(other.file.path) == path:
                return other
        return output.find(path, lines, peer)

    def directories(self) -> set[str]:
        """Return the directory of each output whose lines clients wait for."""
        found = set()
        for output in self._each():
            if output.settings.on_error == "skip":
                continue
            if isinstance(output, OutputSet):
                found.add(output.base)
            elif output.file.is_regular:
                found.add(os.path.dirname(os.path.realpath(output.file.path)))  # noqa: PTH120 - a str
        return found

    def configure(self, configuration: Configuration) -> list[str]:
        """Take the outputs of a configuration, and keep open those that stay; return the problems."""
        settings = configuration.settings
        rejected = OutputSettings(
            name="rejected",
            path=str(Path(settings.server.state_dir) / REJECTED_FILE),
            rotate_bytes=REJECTED_ROTATE_BYTES,
            keep=REJECTED_KEEP,
            mode="0600",
            on_error="skip",
        )
        problems = []
        wanted: dict[int, Output | OutputSet] = {}
        for output_id, chosen in zip(
            (REJECTED_OUTPUT, *configuration.output_ids), (rejected, *settings.output), strict=True
        ):
            output = self._current.pop(output_id, None)
            if output is None and output_id in self._leaving:
                # It is configured again, and workers may still have lines of its older configuration.
                output = self._leaving[output_id][1]
            if output is None and not chosen.has_fields:
                found = self._leaves_to(chosen.file_path, configuration.output_ids, wanted)
                if found is not None:
                    found.move(chosen, self._board.output(output_id))
                output = found
            if output is None:
                kind = OutputSet if chosen.has_fields else Output
                output = kind(chosen, output_id, self._board, home=settings.server.state_dir)
                problems.append(output.open())
            elif output.settings != chosen:
                output.configure(chosen)
            wanted[output_id] = output
        self._leaving |= {output_id: (configuration.generation, output) for output_id, output in self._current.items()}
        self._current = wanted
        self._sets = [output for output in self._each() if isinstance(output, OutputSet)]
        return [problem for problem in problems if problem]

    def _leaves_to(
        self, path: str, output_ids: Sequence[int], wanted: Mapping[int, Output | OutputSet]
    ) -> Output | None:
        """Return the leaving output that has the file at a path open: the lock forbids to open it twice.

        `wanted`: the outputs that have a slot already.
        """
        try:
            identity = identity_of(path)
        except OSError:
            return None
        if identity is None:
            return None
        staying = [
            *wanted.values(),
            *(output for output_id, output in self._current.items() if output_id in output_ids),
        ]
        leaving = [output for output_id, output in self._current.items() if output_id not in output_ids]
        leaving += [output for _, output in self._leaving.values()]
        for output in leaving:
            if isinstance(output, OutputSet):
                for file in output.files.values():
                    if file.file.identity == identity:
                        output.release(file)
                        return file
            elif output.file.identity == identity and all(output is not other for other in staying):
                return output
        return None

    def forget(self, generation: int) -> None:
        """Close the outputs without a configuration from `generation` on: no worker has lines for them."""
        for output_id, (until, output) in list(self._leaving.items()):
            if until <= generation:
                del self._leaving[output_id]
                if not self._stays(output) and all(output is not other for _, other in self._leaving.values()):
                    output.close()
                self._sets = [output for output in self._each() if isinstance(output, OutputSet)]

    def recover(
        self, committed: Committed, evidence: Evidence | None = None, others: Collection[Identity] = ()
    ) -> None:
        """Cut every output back to its committed length; the workers send later lines again.

        Bytes that `evidence` does not prove to be uncommitted are kept. If the disk fails, or a file cannot be opened
        yet, it is cut before the next append to it. The committed files `others` are not outputs.
        """
        self.tails.begin(committed, evidence or Evidence(), others)
        self._cut_tails()

    def _cut_tails(self) -> None:
        self.tails.cut((output.file for output in self), [one.entries for one in self._sets])

    def reopen(self) -> list[str]:
        """Reopen every output; return the problems."""
        return [problem for problem in [output.reopen() for output in self] if problem]

    def find(self) -> None:
        """Open the file at the path of each output with gathered lines, unless it is open."""
        is_new = any([output.find() for output in self._written()])  # noqa: C419 - each must be called
        for one in self._sets:
            one.redirect()
        if self.tails.lengths:
            self.tails.leave_new(output.file for output in self)
        if (is_new and self.tails.lengths) or self.tails.due:
            self._cut_tails()

    def append(self) -> bool:
        """Append the gathered lines to each output; return False if any wait for another try."""
        return all([output.append() for output in self._written()])  # noqa: C419 - each must be tried

    def sync(self) -> bool:
        """Wait until all lines appended since the last commit are on the disk; return whether they are."""
        unsynced = [output for output in self._written() if output.must_sync]
        if len(unsynced) > 1:
            # The disk gets the lines of all files at once, and the first sync of a journaling file system commits the
            # lengths of all of them.
            for output in unsynced:
                output.file.start_writing()
        return all([output.sync() for output in unsynced])  # noqa: C419 - each must be tried

    def committed(self) -> None:
        """Forget the appended lines, which are committed now."""
        for output in self._written():
            output.committed()
        for one in self._sets:
            one.committed()
        self._reached = {}

    def lengths(self) -> dict[tuple[int, int], int]:
        """Return the length of each regular file, by its identity; the committed length if it is not cut yet."""
        return self.tails.lengths | {
            output.file.identity: output.file.length
            for output in self
            if output.file.is_regular and output.file.identity is not None
        }

    def reach(self, committed: Mapping[Identity, int]) -> dict[Identity, tuple[int, int]]:
        """Return the length, and the longest after the turn, of each file of a commit and each open one.

        Read from the kernel, because a file may have been truncated since its last commit. Raises OutputError.
        """
        found = {
            identity: (length, max(length, self._reached.get(identity, 0))) for identity, length in committed.items()
        }
        for output in self:
            if output.file.identity is not None and output.file.is_regular:
                found[output.file.identity] = output.reach(committed.get(output.file.identity))
        self._reached |= {identity: reach for identity, (_, reach) in found.items()}
        for identity, announced in self.tails.announced().items():
            found.pop(identity, None)
            if announced is not None:
                found[identity] = announced
        return found

    def rotate(self) -> float:
        """Rotate each output that is due; return the time of the next call (monotonic, in seconds)."""
        deadline_s = math.inf
        for output in self._each():
            if isinstance(output, OutputSet):
                deadline_s = min(deadline_s, output.rotate(time.monotonic()))
            else:
                output.rotate()
                deadline_s = min(deadline_s, output.rotation.next_deadline_s)
        return deadline_s

    def close(self) -> None:
        """Sync and close every output."""
        for output in self._each():
            output.close()
