"""Takes a writer from its start to its first commit: the lock, the journal, the outputs, the record log.

Owns the order of these steps, and tries a failed one again: a full disk, a lack of descriptors or a read-only file
system may pass, and nothing may be written before. Does not know pipes or workers.
"""

from __future__ import annotations

import fcntl
import time
from pathlib import Path
from typing import TYPE_CHECKING

from prefork_logd.config.paths import JOURNAL_DIRECTORY, WRITER_LOCK
from prefork_logd.errors import NO_ROOM, OutputError, describe_refusal
from prefork_logd.journal.commit_entry import Committed
from prefork_logd.journal.identity import is_copied
from prefork_logd.journal.intent import Evidence, Intent
from prefork_logd.journal.journal import Journal
from prefork_logd.system.log import LOGGER
from prefork_logd.system.own_files import open_lock

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prefork_logd.ipc.configuration import Configuration
    from prefork_logd.processes.writer.outputs import Outputs
    from prefork_logd.processes.writer.record_log import RecordLogWriter

OTHER_WRITER_S = 10.0
"""How long the writer of a dead master may take to end."""
RUN_BITS = 24
"""A master's run, shifted by this many bits, is the first of its spawn ids."""


class Recovery:
    """One writer's recovery; `advance` is called until it is `done`."""

    def __init__(self, state_dir: str, outputs: Outputs, record_log: RecordLogWriter, run: int) -> None:
        """Recover the state in a directory. The batches of workers outside the master's `run` are forgotten."""
        self.done = False
        self.lacks_room = False
        """Whether the last obstacle was a full disk or an exceeded quota."""
        self.journal: Journal
        """Set when it has been read."""
        self.intent: Intent
        """Set when the lock has been acquired."""
        self.unattached: dict[int, int] = {}
        """Last committed batch of each worker of the last writer."""
        self.problems: list[str] = []
        """Outputs that could not be opened; they are tried again before each append."""
        self._state_dir = Path(state_dir)
        self._outputs = outputs
        self._record_log = record_log
        self._run = run
        self._lock_fd = -1
        self._is_locked = False
        self._has_journal = False
        self._evidence = Evidence()
        self._generation = 0
        self._is_cut = False

    def advance(self, configurations: Sequence[Configuration], wait_s: float = 0.0) -> str:
        """Take every step that can be taken; return the problem of the next one, empty when all are done.

        `wait_s`: how long another writer may take to release the lock.
        """
        self.lacks_room = False
        try:
            if problem := self._lock(wait_s) or self._read(configurations):
                return problem
            entry = self._first_entry()
            # Announce that no file has bytes after its committed length, except those that could not be cut yet.
            known = {identity: (length, 0) for identity, length in entry.files.items()}
            pending = self._outputs.tails.announced()
            files = {identity: lengths for identity, lengths in (known | pending).items() if lengths is not None}
            self.intent.announce(entry.turn, files)
            self.journal.begin(entry)
            self.intent.copy(entry.turn, self.journal.entry)
        except OutputError as error:
            self.lacks_room = error.errno in NO_ROOM
            return f"journal: {error}"
        except OSError as error:
            self.lacks_room = error.errno in NO_ROOM
            return f"journal: {error.filename or self._state_dir}: {describe_refusal(error)}"
        self.done = True
        return ""

    def _lock(self, wait_s: float) -> str:
        """Acquire the lock that makes this the only writer; return the problem, empty for none."""
        path = self._state_dir / WRITER_LOCK
        if self._lock_fd < 0:
            try:
                self._lock_fd = open_lock(path)
            except OSError as error:
                self.lacks_room = error.errno in NO_ROOM
                return f"{path}: cannot open it: {describe_refusal(error)}"
        deadline_s = time.monotonic() + wait_s
        while not self._is_locked:
            try:
                fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline_s:
                    return f"{path}: another writer still holds the outputs; end it, then start again"
                time.sleep(0.01)
            else:
                self._is_locked = True
        self.intent = Intent(path, self._lock_fd)
        return ""

    def _read(self, configurations: Sequence[Configuration]) -> str:
        """Read the journal, open the outputs and the record log, and cut off uncommitted bytes.

        Returns the problem, empty for none. Raises OutputError or OSError.
        """
        if not self._has_journal:
            announced, copied_turn, copied = self.intent.read()
            self.journal = Journal(self._state_dir / JOURNAL_DIRECTORY)
            if 0 < self.journal.committed.turn < copied_turn and copied:
                self.journal.restore(copied)
            is_copy = is_copied(self._state_dir / JOURNAL_DIRECTORY)
            self._evidence = Evidence(self.journal.committed.turn, announced, copied_turn, is_copy)
            self._has_journal = True
            for problem in self.journal.problems:
                LOGGER.warning("journal: %s", problem)
        for configuration in configurations:
            if configuration.generation > self._generation:
                self._generation = configuration.generation
                self.problems += self._outputs.configure(configuration)
        committed = self.journal.committed
        self._record_log.configure(configurations[-1], committed, self._evidence)
        if not self._is_cut:
            self._outputs.recover(committed, self._evidence, self._record_log.recovered)
            self._is_cut = True
            batches = committed.batches
            self.unattached = {worker: number for worker, number in batches.items() if worker >> RUN_BITS == self._run}
        return ""

    def _first_entry(self) -> Committed:
        known = self.journal.committed
        lengths = self._outputs.lengths() | self._record_log.lengths()
        return Committed(known.turn + 1, lengths, self.unattached, self._record_log.next_number(known.records))
