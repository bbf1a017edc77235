"""Writes records to SQLite: a file for each day, and the rules that hold over all of them.

Owns which file a record belongs to, how far each journal is stored over all files, and which files have had their time.
Knows no shipper. What is in a file is `day`'s business.

A record's day is that of `received`, in UTC: `created` is what a client says, and a wrong clock would make a file for
each day that it can name. A batch that spans two days is two transactions in two files. Each says of which days the
batch was, so a shipper that died in between is told to begin it again, and each file leaves out what it has.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import functools
import gc
import re
import sqlite3
import time
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING

from prefork_logd.records.stored import split_lines
from prefork_logd.stores.sqlite import columns
from prefork_logd.stores.sqlite.day_file import BUSY_S, Day, Position, failing_as_store_error
from prefork_logd.stores.sqlite.index import PIECE_ROWS
from prefork_logd.stores.sqlite.schema import ID_BITS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from prefork_logd.config.stores.sqlite import SqliteStoreSettings
    from prefork_logd.stores.base import Block
    from prefork_logd.stores.sqlite.columns import Values

_DAY_S = 86_400
MAX_OPEN = 4
"""Days that are open at once: an import may go through many."""
INDEX_ROWS = 2 * PIECE_ROWS
"""Rows that one call of `maintain` indexes: about half a second."""
MOST_PENDING_ROWS = 4_000_000
"""From here on writes do the indexing too, whatever that costs: a query has to look at these one by one."""
PIECE_RECORDS = 512
"""Records whose rows are made at once."""
FAR_APART = 1_000_000 << ID_BITS
"""Ids of records that lie a second apart."""
IDLE_S = 60.0
STEADY_S = 3600.0
"""For so long the clock has to go as it should before a file is removed on its word."""
STEP_S = 60.0
"""What is no drift of a clock: it was set."""


def day_files(path: Path) -> list[tuple[str, Path]]:
    """Return (day, file) of each file of a store whose path is `path`, in the order of days."""
    pattern = re.compile(rf"{re.escape(path.stem)}-(\d{{4}}-\d\d-\d\d){re.escape(path.suffix)}")
    try:
        names = [entry.name for entry in path.parent.iterdir()]
    except FileNotFoundError:
        return []
    return sorted((match[1], path.parent / match[0]) for name in names if (match := pattern.fullmatch(name)))


def day_name(received: float) -> str:
    """Return the day of a time, in UTC."""
    return time.strftime("%Y-%m-%d", time.gmtime(received))


def _ahead() -> float:
    """Return how far the clock is ahead of one that nobody sets, which goes on in a suspended machine."""
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)


def _received(line: bytes) -> float:
    """Return when a line's record was received. Raises ValueError when it is none."""
    values = columns.take_apart(line)
    return float(values[columns.RECEIVED] or values[0])


class _OtherDayError(Exception):
    """A record is of another day than it was taken to be."""


def _packed(
    day: Day, name: str, blocks: Sequence[Block], refuse: Callable[[int, bytes, str], None]
) -> Iterator[list[Values]]:
    """Yield the rows of blocks, a few blocks at a time: memory that was just in use is quick. Raises _OtherDayError."""
    refused: list[tuple[int, bytes, str]] = []
    some: list[bytes] = []
    apart: list[Values] = []
    first = count = 0
    for block in blocks:
        if not some:
            first = block.first
        some.append(block.lines)
        count += block.count
        if count < PIECE_RECORDS and block is not blocks[-1]:
            continue
        packed = day.packer.pack(b"".join(some), first)
        if packed.rows and not day_name(packed.least) == name == day_name(packed.most):
            raise _OtherDayError
        refused += packed.refused
        some.clear()
        count = 0
        if apart or (packed.rows and packed.rows[-1][0] - packed.rows[0][0] > FAR_APART):
            apart += packed.rows
        else:
            yield packed.rows
    if apart:
        # Records of many services that were away: put into one order, they touch a fraction of the pages.
        apart.sort(key=itemgetter(0))
        yield apart
    for one in refused:
        refuse(*one)


def _packed_anew(day: Day, part: Sequence[tuple[int, bytes]]) -> list[list[Values]]:
    """Return the rows of numbered lines, as one piece."""
    return [day.packer.pack(b"".join([line for _, line in part]), part[0][0]).rows] if part else []


def make_store(settings: SqliteStoreSettings) -> SqliteStore:
    """Return the store of these settings, not opened yet."""
    return SqliteStore(Path(settings.path), settings.retain_s, settings.full_text)


class SqliteStore:
    """A Store (stores/base.py) of files beside `path`: "records.db" stands for "records-2026-11-23.db" and so on."""

    def __init__(self, path: Path, retain_s: float = 0.0, full_text: bool = True) -> None:
        """Keep records for `retain_s` seconds; 0 is for ever."""
        self._path = path
        self._retain_s = retain_s
        self._full_text = full_text
        self._journal = ""
        self._days: dict[str, Day] = {}
        self._complete: set[str] = set()
        self._next = 0
        self._today = ""
        self._ahead = _ahead()
        self._steady_since_s = time.monotonic()

    def open(self, journal: str) -> int:
        """Find how far the files are, and return the number of the first record wanted."""
        self.close()
        self._journal = journal
        with failing_as_store_error(self._path):
            positions = {name: self._positions(path).get(journal) for name, path in day_files(self._path)}
        known = {name: position for name, position in positions.items() if position}
        if not known:
            self._next = 0
            return 0
        latest = max(known.values(), key=lambda position: position.next)
        whole = all(known[day].next >= latest.next for day in latest.days if day in known) and all(
            day in known or self._is_expired(day) for day in latest.days
        )
        self._next = latest.next if whole else latest.first
        return self._next

    @staticmethod
    def _positions(path: Path) -> dict[str, Position]:
        with contextlib.closing(sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)) as db:
            if not db.execute("PRAGMA user_version").fetchone()[0]:
                return {}
            found = db.execute("SELECT journal, first, next, days FROM positions")
            return {journal: Position(first, next_, tuple(days.split())) for journal, first, next_, days in found}

    def _is_expired(self, day: str) -> bool:
        """Tell whether a day ended before what is kept begins."""
        if not self._retain_s:
            return False
        end = dt.datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=dt.UTC).timestamp() + _DAY_S
        return end < time.time() - self._retain_s

    def write(self, blocks: Sequence[Block], refuse: Callable[[int, bytes, str], None]) -> None:
        """Store every record of `blocks` that is not stored yet; one transaction for each day that they are of."""
        first, end = blocks[0].first, blocks[-1].first + blocks[-1].count
        if end <= self._next:
            return
        # Rows are made by the thousand, and no cycle among them: looking for one takes a tenth of the time.
        collecting = gc.isenabled()
        gc.disable()
        try:
            self._write(blocks, Position(max(first, self._next), end, ()), refuse)
        finally:
            if collecting:
                gc.enable()
        self._next = end

    def _write(self, blocks: Sequence[Block], position: Position, refuse: Callable[[int, bytes, str], None]) -> None:
        name = self._first_day(blocks)
        day = self._day(name)
        if day.next(self._journal) <= blocks[0].first:
            with contextlib.suppress(_OtherDayError):
                day.write(self._journal, lambda: _packed(day, name, blocks, refuse), position._replace(days=(name,)))
                self._index(day)
                return
        # Of several days, or begun again in the middle.
        days = self._by_day(blocks, refuse) or {name: []}
        position = position._replace(days=tuple(sorted(days)))
        for name, part in days.items():
            day = self._day(name)
            known = day.next(self._journal)
            new = [one for one in part if one[0] >= known]
            day.write(self._journal, functools.partial(_packed_anew, day, new), position)
            self._index(day)

    @staticmethod
    def _index(day: Day) -> None:
        """Index what waits, if it is too much."""
        if max(day.pending_rows, day.pending_sites) >= MOST_PENDING_ROWS:
            day.index(INDEX_ROWS)
        elif day.pending_sites >= INDEX_ROWS:
            day.index(INDEX_ROWS, words=False)

    def _first_day(self, blocks: Sequence[Block]) -> str:
        """Return the day of the first record; with nothing but refused ones there is a position to be kept as well."""
        for block in blocks:
            begin = 0
            while begin < len(block.lines):
                end = block.lines.index(b"\n", begin) + 1
                with contextlib.suppress(ValueError):
                    self._today = day_name(_received(block.lines[begin:end]))
                    return self._today
                begin = end
        return self._today or day_name(time.time())

    @staticmethod
    def _by_day(
        blocks: Sequence[Block], refuse: Callable[[int, bytes, str], None]
    ) -> dict[str, list[tuple[int, bytes]]]:
        """Return the lines by day, numbered."""
        days: dict[str, list[tuple[int, bytes]]] = {}
        for block in blocks:
            for number, line in enumerate(split_lines(block.lines), block.first):
                try:
                    name = day_name(_received(line))
                except ValueError as error:
                    refuse(number, line, str(error))
                else:
                    days.setdefault(name, []).append((number, line))
        return days

    def _day(self, name: str) -> Day:
        day = self._days.pop(name, None)
        if day is None:
            if len(self._days) >= MAX_OPEN:
                self._days.pop(next(iter(self._days))).close()
            path = self._path.with_name(f"{self._path.stem}-{name}{self._path.suffix}")
            day = Day(path, self._full_text, self._inherited())
            self._complete.discard(name)
        self._days[name] = day  # the one used last is the last one
        return day

    def _inherited(self) -> dict[str, Position]:
        """Return the farthest position of every journal: what a new file begins with, so that old ones can go."""
        farthest: dict[str, Position] = {}
        with failing_as_store_error(self._path):
            for _, path in day_files(self._path):
                for journal, position in self._positions(path).items():
                    if journal not in farthest or farthest[journal].next < position.next:
                        farthest[journal] = position
        # What this batch has stored so far is in the file of another day; this one has none of it.
        if self._journal in farthest and farthest[self._journal].next > self._next:
            farthest[self._journal] = Position(self._next, self._next, ())
        return farthest

    def maintain(self) -> float:
        """Remove files whose time is over, and index what waits."""
        self._expire()
        today = day_name(time.time())
        for name, path in day_files(self._path):
            if name in self._complete:
                continue
            is_over = name < today
            if not is_over and name not in self._days:
                continue
            day = self._days.get(name) or Day(path, self._full_text, {})
            try:
                if day.waits(is_over) and day.index(INDEX_ROWS, is_over):
                    return 0.0
            finally:
                if name not in self._days:
                    day.close()
            if is_over:
                self._complete.add(name)
                if name in self._days and len(self._days) > 1:
                    self._days.pop(name).close()
        return IDLE_S

    def _expire(self) -> None:
        """Remove the files whose time is over, but never the last one, which knows how far the journals are.

        A clock that was just set may be wrong, and be mended soon; a file that it cost is gone.
        """
        if not self._is_steady():
            return
        for name, path in day_files(self._path)[:-1]:
            if not self._is_expired(name):
                continue
            if name in self._days:
                self._days.pop(name).close()
            with failing_as_store_error(path):
                # The WAL goes first: beside another day's file of the same name it would be read as if it were its own.
                for suffix in ("-wal", "-shm", ""):
                    path.with_name(path.name + suffix).unlink(missing_ok=True)
            self._complete.discard(name)

    def _is_steady(self) -> bool:
        """Tell whether the clock has not been set for a while, as far as this store knows."""
        before, self._ahead = self._ahead, _ahead()
        if abs(self._ahead - before) > STEP_S:
            self._steady_since_s = time.monotonic()
        return time.monotonic() - self._steady_since_s >= STEADY_S

    def close(self) -> None:
        """Close every file."""
        for day in self._days.values():
            day.close()
        self._days.clear()
