"""Runs a writer's start and its turns without the writer."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from prefork_logd.config.load import loads
from prefork_logd.ipc.configuration import Configuration
from prefork_logd.ipc.scoreboard import JournalField, Scoreboard
from prefork_logd.journal.commit_entry import Committed
from prefork_logd.processes.writer.outputs import Outputs
from prefork_logd.processes.writer.record_log import RecordLogWriter
from prefork_logd.processes.writer.recovery import Recovery

if TYPE_CHECKING:
    from pathlib import Path

BOARD = Scoreboard()
"""Shared by all starts: each would keep a descriptor open until its end."""
STORE = """
[[store]]
type = "custom"
factory = "a:b"
"""
SESSION = bytes(15) + b"a"


class Start:
    """A writer's start in a state directory."""

    def __init__(self, state_dir: Path, toml: str = STORE) -> None:
        self.board = BOARD
        for cell in (JournalField.NUMBER, JournalField.ID_HIGH):
            BOARD.journal[cell] = 0
        self.outputs = Outputs(BOARD)
        self.record_log = RecordLogWriter(BOARD)
        settings = loads(toml, overrides={"state_dir": str(state_dir)})
        output_ids = tuple(range(1, len(settings.output) + 1))
        self.configurations = [Configuration(1, settings, output_ids, tuple(range(len(settings.store))))]
        self.recovery = Recovery(str(state_dir), self.outputs, self.record_log, 0)

    def advance(self) -> str:
        """Run the start as far as possible; return the obstacle."""
        return self.recovery.advance(self.configurations)

    def turn(self, lines: bytes, number: int, *, commit: bool = True) -> None:
        """Append lines to every output and to the record log, as the writer does; with `commit` to its end."""
        self.gather({"": lines})
        self.append(lines, number, commit=commit)

    def gather(self, files: dict[str, bytes]) -> None:
        """Add the lines of each file to every output; the name "" is for outputs with one file."""
        for output_id in self.configurations[-1].output_ids:
            for file, lines in files.items():
                self.outputs.add_lines(output_id, file, lines.count(b"\n"), memoryview(lines))

    def append(self, lines: bytes, number: int, *, commit: bool = True) -> None:
        """Append the gathered lines, and these to the record log; with `commit` to the end of the turn."""
        journal, count = self.recovery.journal, lines.count(b"\n")
        self.record_log.add_runs(SESSION, ((number - count + 1, count),), count, memoryview(lines))
        assert self.record_log.prepare()
        self.outputs.find()
        known = journal.committed
        self.recovery.intent.announce(known.turn + 1, self.outputs.reach(known.files) | self.record_log.reach())
        assert self.record_log.append()
        assert self.outputs.append()
        if commit:
            journal.sessions.commit(SESSION, 1, number, 1)
            lengths = self.outputs.lengths() | self.record_log.lengths()
            entry = Committed(known.turn + 1, lengths, {}, self.record_log.next_number(known.records))
            journal.commit(entry, sync=False)
            self.recovery.intent.copy(entry.turn, journal.entry)
            self.outputs.committed()
            self.record_log.committed()

    def committed(self) -> list[int]:
        """Return the committed number of each session."""
        return [entry.committed for entry in self.recovery.journal.sessions._entries.values()]

    def close(self) -> None:
        """End, as a process does."""
        self.outputs.close()
        self.record_log.close()
        if self.recovery.done:
            self.recovery.journal.close()
        os.close(self.recovery._lock_fd)
