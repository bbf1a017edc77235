"""Counts shipped errors by groups: the store that a shipper of its own writes.

Owns when the tables are cleaned. Does not know how groups are found (tally.py), changed (writing.py) or read (book.py).

A batch's counts and the position after it are one transaction. So each error counts once, whichever process is killed.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefork_logd.config.values import format_count
from prefork_logd.errors import NotARecord, StoreError
from prefork_logd.stores.base import block_from
from prefork_logd.stores.errors import places, schema
from prefork_logd.stores.errors.candidates import error_lines
from prefork_logd.stores.errors.splitting import splits
from prefork_logd.stores.errors.states import State, at_time
from prefork_logd.stores.errors.tally import HOUR_S, Counter
from prefork_logd.stores.errors.writing import (
    ALL,
    KEPT_HOURS,
    STATE_COLUMNS,
    TOO_MANY_AT_ONCE,
    Writer,
    columns_of,
    note_event,
)
from prefork_logd.system.sqlite import Place, failing_as_store_error, transaction

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Sequence

    from prefork_logd.config.stores.errors import ErrorsSettings
    from prefork_logd.stores.base import Block
    from prefork_logd.stores.errors.splitting import Splits

MAINTAIN_S = 5.0
MOST_EVENTS = 20_000
MOST_REMOVED = 200
"""Groups that one call of maintenance removes."""


def make_store(settings: ErrorsSettings) -> ErrorStore:
    """Return the store of these settings, not opened yet."""
    return ErrorStore(settings)


class ErrorStore:
    """A Store (stores/base.py) of groups."""

    def __init__(self, settings: ErrorsSettings) -> None:
        self._settings = settings
        self._path = Path(settings.path)
        self._db: sqlite3.Connection | None = None
        self._place: Place | None = None
        self._journal = ""
        self._next = 0
        self._counter = Counter()

    def open(self, journal: str) -> int:
        """Open or make the file; return the number of the first record that is not counted yet. Raises StoreError."""
        db = self._db = schema.connect(self._path, makes=True)
        self._place = Place(self._path)
        with failing_as_store_error(self._path):
            row = db.execute("SELECT next FROM positions WHERE journal = ?", (journal,)).fetchone()
        self._journal, self._next = journal, row[0] if row is not None else 0
        return self._next

    def write(self, blocks: Sequence[Block], refuse: Callable[[int, bytes, str], None]) -> None:  # noqa: ARG002
        """Count the errors of `blocks`; other stores refuse a line that is not a record. Raises StoreError."""
        position = max(self._next, *(block.first + block.count for block in blocks))
        with failing_as_store_error(self._path):
            while not self._commit(blocks, position):
                pass  # somebody split a group, or joined two, meanwhile
        self._counter.begin_batch()
        self._next = position

    def _commit(self, blocks: Sequence[Block], position: int) -> bool:
        """Count the errors of blocks; return False, with nothing changed, if the splits have changed."""
        db, now = self._opened_in_place(), time.time()
        known = splits(db)
        self._count(blocks, known)
        with transaction(db):
            if known != splits(db):
                return False
            writer = Writer(db, self._journal, self._settings.new_groups_per_hour)
            for tally in self._counter.tallies().values():
                writer.add(tally, now)
            writer.finish(now)
            db.execute(
                "INSERT INTO positions VALUES (?, ?) ON CONFLICT DO UPDATE SET next = excluded.next",
                (self._journal, position),
            )
        return True

    def _count(self, blocks: Sequence[Block], known: Splits) -> None:
        self._counter.begin_batch(known)
        for block in blocks:
            wanted = block_from(block, self._next)
            if wanted is None:
                continue
            for index, line in error_lines(wanted.lines):
                try:
                    self._counter.add(wanted.first + index, line)
                except NotARecord:
                    continue

    def maintain(self) -> float:
        """Open muted groups whose time has come, and remove groups beyond the bounds. Raises StoreError."""
        db, now = self._opened_in_place(), time.time()
        with failing_as_store_error(self._path):
            with transaction(db):
                self._open_muted(db, now)
                hour = int(now // HOUR_S)
                db.execute("DELETE FROM hours WHERE hour < ?", (hour - KEPT_HOURS,))
                places.clean(db, hour - KEPT_HOURS)
                db.execute("DELETE FROM new_groups WHERE hour <> ?", (hour,))
                db.execute("DELETE FROM events WHERE id <= (SELECT max(id) FROM events) - ?", (MOST_EVENTS,))
                removed = self._remove_groups(db)
            db.execute("PRAGMA incremental_vacuum(1000)").fetchall()
        return 0.1 if removed == MOST_REMOVED else MAINTAIN_S

    @staticmethod
    def _open_muted(db: sqlite3.Connection, now: float) -> None:
        muted = db.execute(f"SELECT key, {STATE_COLUMNS} FROM groups WHERE state = 'muted'").fetchall()
        for key, *columns in muted:
            state = State(*columns)
            if (changed := at_time(state, now)) != state:
                db.execute(
                    f"UPDATE groups SET ({STATE_COLUMNS}) = (?, ?, ?, ?, ?) WHERE key = ?",
                    (*columns_of(changed), key),
                )
                note_event(db, now, key, "unmuted")

    def _remove_groups(self, db: sqlite3.Connection) -> int:
        """Remove groups beyond the bound: untouched groups first, the longest unseen first."""
        count = db.execute("SELECT count(*) FROM groups").fetchone()[0]
        excess = min(MOST_REMOVED, count - self._settings.most_groups)
        if excess <= 0:
            return 0
        db.execute(
            "DELETE FROM groups WHERE id IN (SELECT id FROM groups ORDER BY state = 'muted' OR assignee <> '' OR"
            " note <> '', last_seen LIMIT ?)",
            (excess,),
        )
        return int(excess)

    def status(self) -> dict[str, Any]:
        """Return the number of groups for `status`, and a warning while there are too many new ones."""
        db, hour = self._opened(), int(time.time() // HOUR_S)
        with failing_as_store_error(self._path):
            states = dict(db.execute("SELECT state, count(*) FROM groups GROUP BY state").fetchall())
            full = db.execute(
                "SELECT service FROM new_groups WHERE hour = ? AND count >= ? AND service NOT IN (?, ?) LIMIT 10",
                (hour, self._settings.new_groups_per_hour, ALL, TOO_MANY_AT_ONCE),
            ).fetchall()
            passed_over = db.execute(
                "SELECT count FROM new_groups WHERE hour = ? AND service = ?", (hour, TOO_MANY_AT_ONCE)
            ).fetchone()
        most = format_count(self._settings.new_groups_per_hour, "new group")
        warnings = [
            f"{service or 'senders without a service'}: {most} in this hour; further errors are counted in one group"
            for (service,) in full
        ]
        if passed_over is not None:
            warnings.append(
                f"counted {format_count(passed_over[0], 'error')} of this hour in one group: too many at once to"
                " be told apart"
            )
        total = sum(states.values())
        summary = (
            f"{format_count(total, 'group')}, {states.get('open', 0):,} open, {states.get('regressed', 0):,} regressed"
        )
        return {"summary": summary, "groups": total, "states": states, "warnings": warnings}

    def _opened(self) -> sqlite3.Connection:
        if self._db is None:
            raise StoreError(f"{self._path}: is not open")
        return self._db

    def _opened_in_place(self) -> sqlite3.Connection:
        """Return the database if its file is still there. Raises StoreError."""
        db = self._opened()
        if self._place is not None:
            self._place.check()
        return db

    def close(self) -> None:
        """Close the file; never raises."""
        db, self._db = self._db, None
        if db is not None:
            db.close()
