"""Declares the tables of groups.db, and opens the file.

Owns the tables and their version. Does not know what is counted.

The file is SQLite's, because several processes write it (the shipper, `prefork-logd errors`, the page) and each change
has to be whole: in WAL mode they do not block readers. Every commit is synced: the journal may remove records after it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefork_logd.errors import StoreError
from prefork_logd.system import sqlite
from prefork_logd.system.sqlite import failing_as_store_error, transaction

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

__all__ = ["TABLES", "VERSION", "connect", "failing_as_store_error", "transaction"]

VERSION = 4
SPLITS = """
CREATE TABLE splits (
    parent TEXT NOT NULL, place TEXT NOT NULL,
    group_id INTEGER NOT NULL UNIQUE REFERENCES groups ON DELETE CASCADE,
    PRIMARY KEY (parent, place)
) WITHOUT ROWID;
"""
"""What version 2 added."""
FORMS = """
CREATE TABLE forms (
    group_id INTEGER NOT NULL REFERENCES groups ON DELETE CASCADE,
    form TEXT NOT NULL,
    count INTEGER NOT NULL, first_seen REAL NOT NULL, last_seen REAL NOT NULL,
    PRIMARY KEY (group_id, form)
) WITHOUT ROWID;
"""
"""What version 3 added."""
PLACE_HOURS = """
CREATE TABLE place_hours (
    group_id INTEGER NOT NULL REFERENCES groups ON DELETE CASCADE,
    place TEXT NOT NULL, hour INTEGER NOT NULL, count INTEGER NOT NULL,
    PRIMARY KEY (group_id, place, hour)
) WITHOUT ROWID;
"""
PLACE_SENDERS = """
CREATE TABLE place_senders (
    group_id INTEGER NOT NULL REFERENCES groups ON DELETE CASCADE,
    place TEXT NOT NULL, service TEXT NOT NULL, environment TEXT NOT NULL, version TEXT NOT NULL,
    count INTEGER NOT NULL, first_seen REAL NOT NULL, last_seen REAL NOT NULL,
    PRIMARY KEY (group_id, place, service, environment, version)
) WITHOUT ROWID;
"""
"""What version 4 added."""
ADDED = (SPLITS, FORMS, PLACE_HOURS, PLACE_SENDERS)
TABLES = f"""{"".join(ADDED)}
CREATE TABLE positions (journal TEXT PRIMARY KEY, next INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE groups (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    title TEXT NOT NULL, culprit TEXT NOT NULL, logger TEXT NOT NULL,
    levelno INTEGER NOT NULL,
    count INTEGER NOT NULL, first_seen REAL NOT NULL, last_seen REAL NOT NULL,
    state TEXT NOT NULL DEFAULT 'open',
    resolved_at REAL NOT NULL DEFAULT 0, resolved_in TEXT NOT NULL DEFAULT '',
    muted_until REAL NOT NULL DEFAULT 0, muted_count INTEGER NOT NULL DEFAULT 0,
    assignee TEXT NOT NULL DEFAULT '', note TEXT NOT NULL DEFAULT ''
);
CREATE INDEX groups_by_last_seen ON groups (last_seen);
CREATE TABLE keys (
    key TEXT PRIMARY KEY, group_id INTEGER NOT NULL REFERENCES groups ON DELETE CASCADE
) WITHOUT ROWID;
CREATE INDEX keys_by_group ON keys (group_id);
CREATE TABLE senders (
    group_id INTEGER NOT NULL REFERENCES groups ON DELETE CASCADE,
    service TEXT NOT NULL, environment TEXT NOT NULL, version TEXT NOT NULL,
    count INTEGER NOT NULL, first_seen REAL NOT NULL, last_seen REAL NOT NULL,
    PRIMARY KEY (group_id, service, environment, version)
) WITHOUT ROWID;
CREATE TABLE hours (
    group_id INTEGER NOT NULL REFERENCES groups ON DELETE CASCADE,
    hour INTEGER NOT NULL, count INTEGER NOT NULL,
    PRIMARY KEY (group_id, hour)
) WITHOUT ROWID;
CREATE TABLE variants (
    group_id INTEGER NOT NULL REFERENCES groups ON DELETE CASCADE,
    place TEXT NOT NULL,
    count INTEGER NOT NULL, first_seen REAL NOT NULL, last_seen REAL NOT NULL,
    PRIMARY KEY (group_id, place)
) WITHOUT ROWID;
CREATE TABLE samples (
    group_id INTEGER NOT NULL REFERENCES groups ON DELETE CASCADE,
    created REAL NOT NULL, journal TEXT NOT NULL, number INTEGER NOT NULL,
    is_first INTEGER NOT NULL,
    line BLOB,
    PRIMARY KEY (group_id, created, journal, number)
) WITHOUT ROWID;
CREATE TABLE new_groups (
    hour INTEGER NOT NULL, service TEXT NOT NULL, count INTEGER NOT NULL,
    PRIMARY KEY (hour, service)
) WITHOUT ROWID;
CREATE TABLE events (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at REAL NOT NULL, key TEXT NOT NULL, what TEXT NOT NULL, who TEXT NOT NULL, detail TEXT NOT NULL
);
CREATE INDEX events_by_key ON events (key);
"""


def connect(path: Path, *, makes: bool) -> sqlite3.Connection:
    """Return a connection to the file, which is made with its tables if it `makes` it. Raises StoreError.

    A file that another program wrote, or a later release, is not changed.
    """
    if not makes and not path.exists():
        raise StoreError(f"{path}: there are no groups yet; they are made by a collector with [errors] and a store")
    path.parent.mkdir(parents=True, exist_ok=True)
    return sqlite.connect(path, VERSION, TABLES if makes else "", _upgrade)


def _upgrade(db: sqlite3.Connection) -> None:
    """Add the tables that a file of an older version does not have."""
    added = {1: ADDED, 2: ADDED[1:], 3: ADDED[2:]}
    if db.execute("PRAGMA user_version").fetchone()[0] not in added:
        return
    with transaction(db):
        # Another process may have added them meanwhile.
        for table in added.get(db.execute("PRAGMA user_version").fetchone()[0], ()):
            db.execute(table)
        db.execute(f"PRAGMA user_version = {VERSION}")
