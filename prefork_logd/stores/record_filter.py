"""Selects the records of the journal that a store gets.

Owns a store's filter over blocks. Does not know stores or files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefork_logd.errors import NotARecord
from prefork_logd.ingest.routing import Router
from prefork_logd.records.stored import read_source, split_lines
from prefork_logd.stores.base import Block, Run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prefork_logd.config.stores.kinds import AnyStoreSettings
    from prefork_logd.journal.record_block import Entry


class RecordFilter:
    """The filter of one store."""

    def __init__(self, settings: AnyStoreSettings) -> None:
        self._router = Router([settings]) if settings.is_filtered else None

    def pick(self, entry: Entry) -> list[Block]:
        """Return the records of an entry that pass the filter, as blocks of consecutive numbers."""
        whole = Block(entry.first, entry.records, entry.session, tuple(Run(*run) for run in entry.runs), entry.lines)
        if self._router is None:
            return [whole]
        lines = split_lines(entry.lines)
        return [
            Block(
                entry.first + start,
                end - start,
                entry.session,
                _part(whole.runs, start, end),
                b"".join(lines[start:end]),
            )
            for start, end in self._ranges(lines)
        ]

    def _ranges(self, lines: list[bytes]) -> Iterator[tuple[int, int]]:
        start = None
        for index, line in enumerate(lines):
            if self._is_wanted(line):
                start = index if start is None else start
            elif start is not None:
                yield start, index
                start = None
        if start is not None:
            yield start, len(lines)

    def _is_wanted(self, line: bytes) -> bool:
        if self._router is None:
            return True
        try:
            return bool(self._router.route(*read_source(line)))
        except NotARecord:
            return True  # the store refuses it, with a dead letter


def _part(runs: tuple[Run, ...], start: int, end: int) -> tuple[Run, ...]:
    """Return the runs of the records from index `start` to `end`."""
    part, at = [], 0
    for first, count in runs:
        low, high = max(start, at), min(end, at + count)
        if low < high:
            part.append(Run(first + low - at, high - low))
        at += count
    return tuple(part)
