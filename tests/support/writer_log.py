"""Runs the turns of a writer that has a record log and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefork_logd.config.paths import JOURNAL_DIRECTORY
from prefork_logd.config.server import LimitSettings, ServerSettings
from prefork_logd.config.settings import Settings
from prefork_logd.config.stores.custom import CustomStoreSettings
from prefork_logd.errors import OutputError
from prefork_logd.ipc.configuration import Configuration
from prefork_logd.ipc.scoreboard import JournalField, Scoreboard, StoreField
from prefork_logd.journal.commit_entry import NOTHING
from prefork_logd.journal.record_reader import RecordReader
from prefork_logd.processes.writer.record_log import RecordLogWriter

if TYPE_CHECKING:
    from pathlib import Path

SEGMENT, JOURNAL = 65_536, 262_144
PLACE = 2
LINE = b"x" * 999 + b"\n"


class Writer:
    """A writer's turns, with a record log and nothing else."""

    def __init__(self, state_dir: Path) -> None:
        self.directory = state_dir / JOURNAL_DIRECTORY
        self.directory.mkdir(exist_ok=True)
        self.state_dir = state_dir
        self.board = Scoreboard()
        self.store = self.board.store(PLACE)
        self.record_log = RecordLogWriter(self.board)
        self.problem = ""
        try:
            self.configure("archive")
        except OutputError as error:
            self.problem = str(error)

    def configure(self, *names: str) -> None:
        """Take up a configuration with these stores. Raises OutputError."""
        settings = Settings(
            server=ServerSettings(state_dir=str(self.state_dir)),
            limits=LimitSettings(journal_bytes=JOURNAL, journal_segment_bytes=SEGMENT),
            store=tuple(CustomStoreSettings(name=name, factory="a:b") for name in names),
        )
        self.record_log.configure(Configuration(1, settings, (), tuple(PLACE for _ in names)), NOTHING)

    def turn(self, count: int = 40, line: bytes = LINE) -> bool:
        """Gather, append, sync and commit so many records; tell whether that could be done."""
        if count:
            self.record_log.add_runs(bytes(16), ((1, count),), count, memoryview(line * count))
        if not (self.record_log.prepare() and self.record_log.append() and self.record_log.sync()):
            return False
        self.record_log.committed()
        return True

    def number(self) -> int:
        """Return what the shippers are told."""
        return int(self.board.journal[JournalField.NUMBER])

    def passed(self, number: int) -> None:
        """Let the store have everything below a number."""
        self.store[StoreField.POSITION] = number
        self.store[StoreField.READY] = 1

    def read(self) -> list[bytes]:
        """Return every committed line that is there still."""
        reader, lines = RecordReader(self.directory), []
        reader.seek(0)
        while (entry := reader.read(self.number())) is not None:
            lines += bytes(entry.lines).splitlines(keepends=True)
        reader.close()
        assert not reader.problems
        return lines
