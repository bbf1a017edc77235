"""Reads one day's file: the SQL of `query`, and the indexes that it uses.

Owns how Filters become reads of one file: by which index, and what is looked at again afterwards. Every record that an
index names is checked by the rules of `query`, so an index may name too many, and the rows that are in no index yet
(`pending`) are candidates like any other.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import sqlite3
from array import array
from bisect import bisect_left
from typing import TYPE_CHECKING, Any

from prefork_logd.query.evaluate import matches
from prefork_logd.query.tree import TEXT_FIELDS, And, Compare, Has, InGroup, Words, all_of, conjuncts, leaves
from prefork_logd.records.stored import LIST_COLUMNS, read_extra, read_fields, read_list
from prefork_logd.stores.sqlite import columns, schema
from prefork_logd.stores.sqlite.day_file import BUSY_S
from prefork_logd.stores.sqlite.index import as_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from prefork_logd.query.filters import Filters
    from prefork_logd.query.tree import Node
    from prefork_logd.stores.sqlite.columns import Values

_FETCH_ROWS = 256
MAX_MERGED_SITES = 256
"""With more of them the file is read from end to end instead."""
_MAX_ID = (1 << 63) - 1
_ROW_FIELDS = {"created": 1, "received": 2, "message": 5, "exc_text": 6, "stack_info": 7}


class DayReader:
    """A day's file as it was when it was opened. Methods raise sqlite3.Error."""

    def __init__(self, path: Path) -> None:
        """Open the file, and keep to what it holds now."""
        self._db = _connect(path)
        try:
            self._db.execute("BEGIN")
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            self.is_ours = 0 < version <= schema.VERSION
            if not self.is_ours:
                return
            self._fields = schema.selected(schema.ROW_COLUMNS, version)
            self._site_fields = schema.selected(schema.SITE_COLUMNS, version)
            self._origin_fields = schema.selected(schema.ORIGIN_COLUMNS, version)
            self._sites: dict[int, Values] = {}
            self._origins: dict[int, Values] = {}
            self._waiting: dict[str, array[int]] = {}
            least, most = self._db.execute("SELECT (SELECT min(id) FROM rows), (SELECT max(id) FROM rows)").fetchone()
            self.least, self.most = least or 0, most or 0
            self.is_empty = least is None
            self._spilled = self._db.execute("SELECT value FROM facts WHERE name = 'spilled'").fetchone()[0]
            self._has_words = bool(self._db.execute("SELECT 1 FROM sqlite_master WHERE name = 'words'").fetchone())
        except BaseException:
            self._db.close()
            raise

    def close(self) -> None:
        """Close the file; never raises."""
        with contextlib.suppress(sqlite3.Error):
            self._db.close()

    def created_ends(self) -> tuple[float, float]:
        """Return the first and the last `created`, give or take the microseconds that an id was moved by."""
        return self.least / (1e6 * (1 << schema.ID_BITS)), self.most / (1e6 * (1 << schema.ID_BITS))

    # Ranges: ids are microseconds with a number behind, so the edges of a range of time are looked at one by one.

    def range(self, filters: Filters) -> tuple[int, int]:
        """Return the ids, from the first up to before the second, among which all matching records are."""
        low = self.least if filters.since is None else max(self.least, _moment(filters.since))
        if filters.until is None:
            return low, self.most + 1
        return low, min(self.most, _moment(filters.until) + ((self._spilled + 1) << schema.ID_BITS)) + 1

    def _certain(self, filters: Filters) -> tuple[int, int]:
        """Return the ids, likewise, among which all records are in the range of time, by their ids alone."""
        low, high = self.range(filters)
        if self._spilled and (filters.since is not None or filters.until is not None):
            return low, low
        if filters.since is not None:
            low = max(low, _moment(filters.since) + (1 << schema.ID_BITS))
        if filters.until is not None:
            high = min(high, _moment(filters.until))
        return low, max(low, high)

    # Whole records

    def search(self, filters: Filters, low: int, high: int) -> Iterator[tuple[int, Values]]:
        """Yield (id, row) of each match with an id in the range, in order; `limit` is for the caller."""
        wanted = self._wanted_sites(filters)
        if wanted is not None and not wanted:
            return
        for row in self._candidates(filters, wanted, low, high):
            if self._matches(row, filters, wanted):
                yield row[0], row

    def line(self, row: Values) -> bytes:
        """Return the stored line of a row."""
        site, origin = self._site(row[3]), self._origin(row[4])
        return columns.render((row[1], *site, *origin, row[2], *row[5:]))

    def level(self, row: Values) -> int:
        """Return the level of a row; 0 when it has none."""
        return int(self._site(row[3])[1] or 0)

    def _candidates(self, filters: Filters, wanted: dict[int, None] | None, low: int, high: int) -> Iterator[Values]:
        newest = filters.order == "newest"
        if _phrases(filters) and self._has_words:
            found = self._worded(filters, low, high, newest)
            return self._fetch(self._with_pending(found, "words", low, high, newest))
        if wanted is not None and len(wanted) <= MAX_MERGED_SITES:
            direction = "DESC" if newest else "ASC"
            found = heapq.merge(
                *(
                    self._ids(
                        f"SELECT id FROM by_site WHERE site = ? AND id >= ? AND id < ? ORDER BY id {direction}",  # noqa: S608
                        (site, low, high),
                    )
                    for site in wanted
                ),
                reverse=newest,
            )
            return self._fetch(self._with_pending(found, "sites", low, high, newest))
        return self._scan(filters, low, high, newest)

    def _worded(self, filters: Filters, low: int, high: int, newest: bool) -> Iterator[int]:
        direction = "DESC" if newest else "ASC"
        return self._ids(
            f"SELECT rowid FROM words WHERE words MATCH ? AND rowid >= ? AND rowid < ? ORDER BY rowid {direction}",  # noqa: S608
            (_match(filters), low, high),
        )

    def _ids(self, statement: str, values: tuple[Any, ...]) -> Iterator[int]:
        return (number for (number,) in self._db.execute(statement, values))

    def _with_pending(self, found: Iterator[int], column: str, low: int, high: int, newest: bool) -> Iterator[int]:
        waiting = self._pending(column, low, high)
        if newest:
            waiting.reverse()
        return heapq.merge(found, waiting, reverse=newest) if waiting else found

    def _pending(self, column: str, low: int, high: int) -> array[int]:
        """Return the ids in the range that are not in an index yet, in their order."""
        ids = self._waiting.get(column)
        if ids is None:
            ids = array("q")
            for (blob,) in self._db.execute(f"SELECT ids FROM pending WHERE {column}"):  # noqa: S608 - ours
                ids.frombytes(blob)
            ids = self._waiting[column] = array("q", sorted(ids))
        return ids[bisect_left(ids, low) : bisect_left(ids, high)]

    def _fetch(self, ids: Iterator[int]) -> Iterator[Values]:
        """Yield the rows with these ids, which rise or fall, in their order; the first few soon."""
        size = 16
        while some := list(itertools.islice(ids, size)):
            marks = ",".join("?" * len(some))
            direction = "DESC" if some[-1] < some[0] else "ASC"
            # One row at a time: each may be of megabytes. An id of a row that was deleted by hand gives none.
            yield from self._db.execute(
                f"SELECT {self._fields} FROM rows WHERE id IN ({marks}) ORDER BY id {direction}",  # noqa: S608 - ours
                some,
            )
            size = _FETCH_ROWS

    def _scan(self, filters: Filters, low: int, high: int, newest: bool) -> Iterator[Values]:
        condition, values = _prefilter(filters)
        direction = "DESC" if newest else "ASC"
        return iter(
            self._db.execute(
                f"SELECT {self._fields} FROM rows WHERE id >= ? AND id < ?{condition} ORDER BY id {direction}",  # noqa: S608
                (low, high, *values),
            )
        )

    def _matches(self, row: Values, filters: Filters, wanted: dict[int, None] | None) -> bool:
        if filters.since is not None and row[1] < filters.since:
            return False
        if filters.until is not None and row[1] >= filters.until:
            return False
        if wanted is not None and row[3] not in wanted:
            return False
        tree = _unsure(filters)
        if tree == And():
            return True
        record: dict[str, Any] = {}
        for leaf in leaves(tree):
            for field in leaf.fields if isinstance(leaf, (Words, InGroup)) else leaf.path[:1]:
                if field not in record and (value := self._field(row, field)) is not None and value != "":
                    record[field] = value
        return matches(tree, record)

    def _field(self, row: Values, field: str) -> Any:
        if field in _ROW_FIELDS:
            value = row[_ROW_FIELDS[field]]
        elif field == "extra":
            return read_extra(row[8].encode()) if row[8] else None
        elif field in LIST_COLUMNS:
            document = row[schema.ROW_COLUMNS.index(field)]
            return read_list(document.encode()) if document else None
        elif field in schema.SITE_COLUMNS:
            value = self._site(row[3])[schema.SITE_COLUMNS.index(field)]
        elif field in schema.ORIGIN_COLUMNS:
            value = self._origin(row[4])[schema.ORIGIN_COLUMNS.index(field)]
        else:
            value = read_fields(self.line(row)).get(field)
        return as_text(value) if type(value) is bytes else value

    # Dictionaries

    def _site(self, number: int) -> Values:
        if number not in self._sites:
            if len(self._sites) > 100_000:
                self._sites.clear()
            select = f"SELECT {self._site_fields} FROM sites WHERE id = ?"  # noqa: S608 - ours
            self._sites[number] = self._db.execute(select, (number,)).fetchone()
        return self._sites[number]

    def _origin(self, number: int) -> Values:
        if number not in self._origins:
            if len(self._origins) > 100_000:
                self._origins.clear()
            select = f"SELECT {self._origin_fields} FROM origins WHERE id = ?"  # noqa: S608 - ours
            self._origins[number] = self._db.execute(select, (number,)).fetchone()
        return self._origins[number]

    def _wanted_sites(self, filters: Filters) -> dict[int, None] | None:
        """Return the sites whose records meet the conditions on level and logger; None when all do."""
        tree = all_of(node for node in conjuncts(filters.tree) if _is_of_site(node))
        if tree == And():
            return None
        wanted: dict[int, None] = {}
        others = False
        for number, name, levelno in self._db.execute("SELECT id, name, levelno FROM sites"):
            record = ({"name": as_text(name)} if name else {}) | ({} if levelno is None else {"levelno": levelno})
            if matches(tree, record):
                wanted[number] = None
            else:
                others = True
        return wanted if others else None

    def levels(self) -> Iterator[tuple[str | bytes | None, int | None]]:
        """Yield names and numbers of levels."""
        return iter(self._db.execute("SELECT DISTINCT levelname, levelno FROM sites"))

    # Numbers

    def count(self, filters: Filters) -> int:
        """Return how many records match."""
        return sum(bar_count for _, _, bar_count in self._bars(filters, [self._certain(filters)]))

    def histogram(self, filters: Filters, edges: list[float]) -> Iterator[tuple[int, int, int]]:
        """Yield (slot, level, count) for the slots between these edges, some of them in several parts."""
        return self._bars(filters, [(_moment(a), _moment(b)) for a, b in itertools.pairwise(edges)], edges)

    def _bars(
        self, filters: Filters, ranges: list[tuple[int, int]], edges: list[float] | None = None
    ) -> Iterator[tuple[int, int, int]]:
        low, high = self.range(filters)
        certain_low, certain_high = self._certain(filters)
        ranges = [(max(start, certain_low), min(stop, certain_high)) for start, stop in ranges]
        if self.is_empty or not self._counts_by_index(filters, len(ranges), edges is not None):
            yield from self._counted(filters, low, high, edges)
            return
        for slot, (start, stop) in enumerate(ranges):
            if start < stop:
                for level, count in self._by_index(filters, start, stop, edges is not None):
                    yield slot, level, count
        yield from self._counted(filters, low, min(certain_low, high), edges)
        yield from self._counted(filters, max(certain_low, certain_high), high, edges)

    def _counts_by_index(self, filters: Filters, ranges: int, by_level: bool) -> bool:
        if _unsure(filters) != And() or (self._spilled and by_level):
            return False
        sites = self._db.execute("SELECT count(*) FROM sites").fetchone()[0]
        return bool(sites * ranges <= 200_000)

    def _by_index(self, filters: Filters, low: int, high: int, by_level: bool) -> Iterator[tuple[int, int]]:
        """Yield (level, count) of the matches in a range of ids all of which are in the range of time."""
        wanted = self._wanted_sites(filters)
        sites = wanted if wanted is not None else [number for (number,) in self._db.execute("SELECT id FROM sites")]
        for site in sites:
            count = self._db.execute(
                "SELECT count(*) FROM by_site WHERE site = ? AND id >= ? AND id < ?", (site, low, high)
            ).fetchone()[0]
            if count:
                yield (int(self._site(site)[1] or 0) if by_level else 0), count
        for row in self._fetch(iter(self._pending("sites", low, high))):
            if wanted is None or row[3] in wanted:
                yield (self.level(row) if by_level else 0), 1

    def _counted(
        self, filters: Filters, low: int, high: int, edges: list[float] | None
    ) -> Iterator[tuple[int, int, int]]:
        """Yield the same by looking at each record."""
        if low >= high or self.is_empty:
            return
        for _, row in self.search(filters, low, high):
            if edges is None:
                yield 0, 0, 1
            elif edges[0] <= row[1] < edges[-1]:
                slot = int((row[1] - edges[0]) / (edges[1] - edges[0]))
                yield min(slot, len(edges) - 2), self.level(row), 1


def _connect(path: Path) -> sqlite3.Connection:
    """Open a file that is only read, also where nothing may be written beside it."""
    db = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=BUSY_S, isolation_level=None)
    try:
        db.execute("SELECT 1 FROM sqlite_master")
    except sqlite3.OperationalError:
        db.close()
        wal = path.with_name(path.name + "-wal")
        if wal.exists() and wal.stat().st_size:
            raise
        # No one writes to it; without rights to make its -shm file it can be read as it is.
        db = sqlite3.connect(f"{path.as_uri()}?immutable=1", uri=True, timeout=BUSY_S, isolation_level=None)
    return db


def _moment(at: float) -> int:
    """Return the least id of a time."""
    return max(0, min(int(at * 1e6) << schema.ID_BITS, _MAX_ID))


def _is_of_site(node: Node) -> bool:
    """Tell whether the site of a record decides a condition."""
    return all(isinstance(leaf, (Compare, Has)) and leaf.path in {("name",), ("levelno",)} for leaf in leaves(node))


def _unsure(filters: Filters) -> Node:
    """Return the conditions that the site of a record does not decide."""
    return all_of(node for node in conjuncts(filters.tree) if not _is_of_site(node))


def _phrases(filters: Filters) -> list[Words]:
    return [node for node in conjuncts(filters.tree) if isinstance(node, Words) and node.fields == TEXT_FIELDS]


def _match(filters: Filters) -> str:
    """Return the full-text expression that finds every match, and perhaps more."""
    terms = []
    for phrase in _phrases(filters):
        terms += [f'"{word}"' for word in phrase.words]
        if phrase.is_prefix:
            terms[-1] += "*"
    return " AND ".join(terms)


def _prefilter(filters: Filters) -> tuple[str, list[str]]:
    """Return a condition in SQL that every match meets, to leave out at the least cost most of what does not match."""
    condition, values = "", []
    for node in conjuncts(filters.tree):
        if not isinstance(node, Compare) or node.path[0] != "extra" or len(node.path) < 2:
            continue
        texts = [node.path[1]]
        if node.operator == "=" and not node.operand[:1].isdigit() and node.operand[:1] != "-":
            texts.append(node.operand)
        for text in texts:
            # As it stands in JSON; what would be escaped there is not looked for.
            if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
                condition += " AND instr(rows.extra, ?)"
                values.append(text)
    return condition, values


def chained(readers: Iterable[DayReader], newest: bool) -> list[list[DayReader]]:
    """Return the readers in order, in groups: those in one overlap in time and have to be merged."""
    groups: list[list[DayReader]] = []
    farthest = -1
    for reader in sorted(readers, key=lambda one: one.least):
        if groups and reader.least <= farthest:
            groups[-1].append(reader)
        else:
            groups.append([reader])
        farthest = max(farthest, reader.most)
    return groups[::-1] if newest else groups
