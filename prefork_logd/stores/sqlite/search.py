"""Searches a SQLite store: all its days as one.

Owns the order over the files, and what is counted over them. Needs no collector; one that writes is not disturbed.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import sqlite3
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from prefork_logd.errors import StoreError
from prefork_logd.query.by_lines import SearchByLines
from prefork_logd.query.search import Bar, levels_by_name
from prefork_logd.stores.sqlite.day_reader import DayReader, chained
from prefork_logd.stores.sqlite.store import day_files

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prefork_logd.config.stores.sqlite import SqliteStoreSettings
    from prefork_logd.query.filters import Filters
    from prefork_logd.stores.sqlite.columns import Values


def open_search(settings: SqliteStoreSettings, journal: Path | None = None) -> SqliteSearch:  # noqa: ARG001 - not read
    """Return the store of these settings, opened for reading. Raises StoreError when there is none."""
    return SqliteSearch(Path(settings.path))


class SqliteSearch(SearchByLines):
    """A Search (query/search.py) of the files of one store, as they were when it was made."""

    def __init__(self, path: Path) -> None:
        """Open every file of the store whose path is `path`. Raises StoreError when there is none."""
        super().__init__()
        self._path = path
        self._readers: list[DayReader] = []
        files = day_files(path)
        if not files:
            raise StoreError(f"{path}: there is nothing stored yet; files are called {path.stem}-DATE{path.suffix}")
        for _, file in files:
            with self._reading(file), contextlib.suppress(FileNotFoundError):
                reader = DayReader(file)
                if reader.is_ours and not reader.is_empty:
                    self._readers.append(reader)
                else:
                    reader.close()

    @contextlib.contextmanager
    def _reading(self, path: Path | None = None) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StoreError(f"{path or self._path}: {error}") from error

    def lines(self, filters: Filters) -> Iterator[bytes]:
        """Yield the line of each record that matches, in order."""
        newest = filters.order == "newest"
        with self._reading():
            groups = chained(self._readers, newest)
            streams = (
                heapq.merge(*(self._stream(reader, filters) for reader in group), key=_id, reverse=newest)
                for group in groups
            )
            found = itertools.chain.from_iterable(streams)
            for _, reader, row in itertools.islice(found, filters.limit):
                yield reader.line(row)

    @staticmethod
    def _stream(reader: DayReader, filters: Filters) -> Iterator[tuple[int, DayReader, Values]]:
        for number, row in reader.search(filters, *reader.range(filters)):
            yield number, reader, row

    def count(self, filters: Filters) -> int:
        """Return how many records match."""
        with self._reading():
            return sum(reader.count(filters) for reader in self._readers)

    def span(self) -> tuple[float, float] | None:
        """Return the least and the greatest `created`."""
        if not self._readers:
            return None
        with self._reading():
            ends = [reader.created_ends() for reader in self._readers]
        return min(least for least, _ in ends), max(most for _, most in ends)

    def histogram(self, filters: Filters, start: float, slot_s: float, slots: int) -> list[Bar]:
        """Return how many matching records fall into each slot of time."""
        edges = [start + slot_s * number for number in range(slots + 1)]
        counts: Counter[tuple[int, int]] = Counter()
        with self._reading():
            for reader in self._readers:
                for slot, level, count in reader.histogram(filters, edges):
                    counts[slot, level] += count
        return [Bar(*key, count) for key, count in sorted(counts.items())]

    def levels(self) -> dict[str, int]:
        """Return the levels that records carry by name."""
        with self._reading():
            return levels_by_name(pair for reader in self._readers for pair in reader.levels())

    def close(self) -> None:
        """Close every file."""
        for reader in self._readers:
            reader.close()


def _id(found: tuple[int, DayReader, Values]) -> int:
    return found[0]
