"""Writes one commit in four steps: lines, sync, journal, sync.

Owns the order of the steps, and the journal entry. Does not know pipes or workers, and does not parse lines.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefork_logd.journal.commit_entry import Committed

if TYPE_CHECKING:
    from prefork_logd.processes.writer.free_space import FreeSpace
    from prefork_logd.processes.writer.outputs import Outputs
    from prefork_logd.processes.writer.record_log import RecordLogWriter
    from prefork_logd.processes.writer.recovery import Recovery


class CommitSteps:
    """The steps over outputs, record log and journal. Another try after an error skips the steps that are done."""

    def __init__(
        self, outputs: Outputs, record_log: RecordLogWriter, recovery: Recovery, free_space: FreeSpace
    ) -> None:
        """Write with the journal and the announcements of `recovery`, which must be done before the first call."""
        self._outputs = outputs
        self._record_log = record_log
        self._recovery = recovery
        self._free_space = free_space

    def write(self, batches: dict[int, int], *, nbytes: int, must_sync: bool, is_synced: bool) -> bool:
        """Write the gathered lines and the commit; return False if they cannot be written now.

        `batches`: worker to the number of its last batch. `nbytes`: size of the gathered lines. `must_sync`: whether a
        client waits for an acknowledgement. `is_synced`: whether server.durability is "synced".

        Raises OutputError if the journal cannot be written.
        """
        journal, intent = self._recovery.journal, self._recovery.intent
        if nbytes:
            if not self._free_space.may_append(nbytes, self._outputs.directories):
                return False
            if not self._record_log.prepare():
                return False
            self._outputs.find()
            known, found = journal.committed, self._lengths()
            if not found.keys() <= known.files.keys():
                # A newly opened file must be in the journal before an append: else a recovery would not cut its end.
                # A known file keeps its committed length: it may be longer, if another output failed in the last try.
                files = known.files | found | known.files
                announced = Committed(known.turn, files, known.batches, known.records)
                journal.announce(announced, sync=is_synced)
            known = journal.committed
            intent.announce(known.turn + 1, self._outputs.reach(known.files) | self._record_log.reach())
            if not (self._record_log.append() and self._outputs.append()):
                return False
        sync = must_sync and is_synced
        if sync and not (self._record_log.sync() and self._outputs.sync()):
            return False
        entry = self._entry(self._recovery.unattached | batches)
        journal.commit(entry, sync=sync)
        intent.copy(entry.turn, journal.entry)
        self._outputs.committed()
        self._record_log.committed()
        return True

    def write_sessions(self) -> None:
        """Write a commit of sessions only. Raises OutputError."""
        journal = self._recovery.journal
        journal.commit(self._entry(journal.committed.batches), sync=False)

    def _lengths(self) -> dict[tuple[int, int], int]:
        return self._outputs.lengths() | self._record_log.lengths()

    def _entry(self, batches: dict[int, int]) -> Committed:
        known = self._recovery.journal.committed
        return Committed(known.turn + 1, self._lengths(), batches, self._record_log.next_number(known.records))
