"""Chooses the file of each record, for an output whose path has fields.

Owns the values of the fields in a record, and remembers the file of each combination. Does not know what the writer
does with a file; config/output_paths.py has the names.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from prefork_logd.config.output_paths import PathPattern

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from prefork_logd.config.outputs import OutputSettings
    from prefork_logd.ipc.batch_builder import BatchBuilder, Gathered
    from prefork_logd.records.record import Record
    from prefork_logd.records.sender import Sender

MOST_REMEMBERED = 4096
MOST_REMEMBERED_CHARS = 512
"""Combinations of values that are remembered with their file, and their length together."""
_DAY_S = 86_400
_LAST_SECOND = 253_402_300_799
_BETWEEN = b"\xff"
"""Separates level and logger in a key of FileSinks; UTF-8 does not contain it."""


def date_of(received_s: float) -> str:
    """Return the day of a time in UTC, such as 2026-11-29."""
    return time.strftime("%Y-%m-%d", time.gmtime(min(max(0.0, received_s), _LAST_SECOND)))


class FileSinks(dict[bytes, "Gathered"]):
    """The lines for each logger and level, of one sender and day, in one batch.

    The compiled core looks a record's level and logger up here, with `_BETWEEN` between them.
    """

    def __init__(
        self, batch: BatchBuilder, output_id: int, find: Callable[[str, str], int], *, by_level: bool, by_logger: bool
    ) -> None:
        """Find the output of lines in a batch by `find`, which is called with level and logger.

        `by_level`, `by_logger`: which of the two the path contains; the other one is left empty in keys.
        """
        super().__init__()
        self._batch = batch
        self._output_id = output_id
        self._find = find
        self.by_level = by_level
        self.by_logger = by_logger

    def __missing__(self, key: bytes) -> Gathered:
        """Find the lines for a key that is met for the first time in this batch."""
        level, _, logger = key.partition(_BETWEEN)
        output = self._find(level.decode("utf-8", "surrogatepass"), logger.decode("utf-8", "surrogatepass"))
        found = self[key] = self._batch.gathered(output)
        return found

    @property
    def is_full(self) -> bool:
        """Whether the batch has lines for so many files that it must be sent."""
        return self._batch.is_full

    @property
    def nbytes(self) -> int:
        """Size of all lines of the output, also of those that were not found here."""
        return self._batch.nbytes_of_files(self._output_id)


class FileChoice:
    """The files of one output."""

    def __init__(self, output_id: int, path: str) -> None:
        """Choose files of the output in a slot, whose path is `path`."""
        self._output_id = output_id
        self._pattern = PathPattern(path)
        names = self._pattern.names
        self._getters = [_GETTERS[name] for name in names]
        self._of_sender = tuple(dict.fromkeys(name for name in names if name in _SENDER))
        self._by_level, self._by_logger, self._by_date = "level" in names, "logger" in names, "date" in names
        self._found: dict[tuple[Any, ...], tuple[str, str]] = {}

    def of_record(self, record: Record, batch: BatchBuilder) -> int:
        """Return the output of the record's line in this batch."""
        return self._in_batch(batch, tuple([get(record) for get in self._getters]))

    def of_run(self, batch: BatchBuilder, sender: Sender, received_s: float) -> Gathered | FileSinks:
        """Return the lines of records of one sender that arrive now, or the lines for each logger and level of them."""
        day = int(received_s // _DAY_S) if self._by_date else 0
        key = (self._output_id, day, *[getattr(sender, name) for name in self._of_sender])
        found = batch.kept.get(key)
        if found is None:
            found = batch.kept[key] = self._make_sinks(batch, sender, day * _DAY_S)
        return found

    def _make_sinks(self, batch: BatchBuilder, sender: Sender, day_s: int) -> Gathered | FileSinks:
        values = {name: getattr(sender, name) for name in self._of_sender}

        def find(level: str, logger: str) -> int:
            whole = {**values, "level": level, "logger": logger, "date": day_s // _DAY_S}
            return self._in_batch(batch, tuple([whole[name] for name in self._pattern.names]))

        if self._by_level or self._by_logger:
            return FileSinks(batch, self._output_id, find, by_level=self._by_level, by_logger=self._by_logger)
        return batch.gathered(find("", ""))

    def _in_batch(self, batch: BatchBuilder, values: tuple[Any, ...]) -> int:
        found = self._found.get(values)
        if found is None:
            found = self._name_file(values)
            if sum(len(value) for value in values if isinstance(value, str)) <= MOST_REMEMBERED_CHARS:
                if len(self._found) >= MOST_REMEMBERED:
                    self._found.clear()
                self._found[values] = found
        return batch.file(self._output_id, *found)

    def _name_file(self, values: tuple[Any, ...]) -> tuple[str, str]:
        """Return the path of the file for these values, and of that for values that get no file of their own."""
        date = date_of(next((value for value in values if isinstance(value, int)), 0) * _DAY_S)
        texts = [date if isinstance(value, int) else value for value in values]
        return self._pattern.render(texts), self._pattern.render_other(date)


class FileChoices:
    """The choices of all outputs; false if no path has fields."""

    def __init__(self, output_ids: Sequence[int], outputs: Sequence[OutputSettings]) -> None:
        """Choose files for outputs in these slots."""
        pairs = list(zip(output_ids, outputs, strict=True))
        self._output_ids = output_ids
        self._choices = [FileChoice(output_id, one.path) if one.has_fields else None for output_id, one in pairs]
        self.single_ids = tuple(output_id for output_id, one in pairs if not one.has_fields)
        """Slots of the outputs with one file."""
        self.most_files = {output_id: one.files_a_batch for output_id, one in pairs if one.has_fields}
        """Slot of each other output to the number of files that makes a batch full."""

    def __bool__(self) -> bool:
        return bool(self.most_files)

    def of_record(self, index: int, record: Record, batch: BatchBuilder) -> int:
        """Return the output in a batch of a record's line for the output at an index."""
        choice = self._choices[index]
        return self._output_ids[index] if choice is None else choice.of_record(record, batch)

    def add_sinks(
        self, singles: Sequence[Any], batch: BatchBuilder, sender: Sender, received_s: float
    ) -> tuple[Any, ...]:
        """Return the sinks of all outputs for records of one sender that arrive now.

        `singles` are the lines of the outputs with one file, and after them that of the stores, if they have any.
        """
        given = iter(singles)
        return (
            *[next(given) if one is None else one.of_run(batch, sender, received_s) for one in self._choices],
            *given,
        )


_SENDER = ("service", "environment", "host", "version")
_GETTERS: dict[str, Callable[[Record], Any]] = {
    "service": lambda record: record.service or "",
    "environment": lambda record: record.environment or "",
    "host": lambda record: record.host or "",
    "version": lambda record: record.version or "",
    "logger": lambda record: record.name or "",
    "level": lambda record: record.levelname or "",
    "date": lambda record: int(min(max(0.0, record.received), _LAST_SECOND) // _DAY_S),
}
