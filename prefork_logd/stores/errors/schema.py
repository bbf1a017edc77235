"""Declares the tables of groups.db, and opens the file.

Owns the tables and their version. Does not know what is counted.

The file is SQLite's, because several processes write it (the shipper, `prefork-logd errors`, the page) and each change
has to be whole: in WAL mode they do not block readers. Every commit is synced: the journal may remove records after it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefork_logd.errors import StoreError
from prefork_logd.system import sqlite

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

_TABLES = """
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
_SPLITS = """
CREATE TABLE splits (
    parent TEXT NOT NULL, place TEXT NOT NULL,
    group_id INTEGER NOT NULL UNIQUE REFERENCES groups ON DELETE CASCADE,
    PRIMARY KEY (parent, place)
) WITHOUT ROWID;
"""
_FORMS = """
CREATE TABLE forms (
    group_id INTEGER NOT NULL REFERENCES groups ON DELETE CASCADE,
    form TEXT NOT NULL,
    count INTEGER NOT NULL, first_seen REAL NOT NULL, last_seen REAL NOT NULL,
    PRIMARY KEY (group_id, form)
) WITHOUT ROWID;
"""
_PLACES = """
CREATE TABLE place_hours (
    group_id INTEGER NOT NULL REFERENCES groups ON DELETE CASCADE,
    place TEXT NOT NULL, hour INTEGER NOT NULL, count INTEGER NOT NULL,
    PRIMARY KEY (group_id, place, hour)
) WITHOUT ROWID;
CREATE TABLE place_senders (
    group_id INTEGER NOT NULL REFERENCES groups ON DELETE CASCADE,
    place TEXT NOT NULL, service TEXT NOT NULL, environment TEXT NOT NULL, version TEXT NOT NULL,
    count INTEGER NOT NULL, first_seen REAL NOT NULL, last_seen REAL NOT NULL,
    PRIMARY KEY (group_id, place, service, environment, version)
) WITHOUT ROWID;
"""
_PLACE_FORMS = """
CREATE TABLE place_forms (
    group_id INTEGER NOT NULL REFERENCES groups ON DELETE CASCADE,
    place TEXT NOT NULL, form TEXT NOT NULL,
    count INTEGER NOT NULL, first_seen REAL NOT NULL, last_seen REAL NOT NULL,
    PRIMARY KEY (group_id, place, form)
) WITHOUT ROWID;
"""
STEPS = (_TABLES, _SPLITS, _FORMS, _PLACES, _PLACE_FORMS)
"""From each version of the tables to the next one."""


def connect(path: Path, *, makes: bool) -> sqlite3.Connection:
    """Return a connection to the file, which is made with its tables if it `makes` it. Raises StoreError.

    A file that another program wrote, or a later release, is not changed.
    """
    if not makes and not path.exists():
        raise StoreError(f"{path}: there are no groups yet; they are made by a collector with [errors] and a store")
    path.parent.mkdir(parents=True, exist_ok=True)
    return sqlite.connect(path, STEPS, makes=makes)
