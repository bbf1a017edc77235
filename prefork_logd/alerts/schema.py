"""Declares the tables of alerts.db, and opens the file.

Owns the tables and their version. Does not know rules or receivers.

Times in the columns `since`, `told`, `due`, `expires` and `ticks` are of the clock of the alerts (clock.py); all others
are seconds since 1970. `evaluations.ticks` is -1 if the rule was not evaluated yet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefork_logd.system import sqlite

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

_TABLES = """
CREATE TABLE clock (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    boot TEXT NOT NULL, monotonic REAL NOT NULL, ticks REAL NOT NULL, number INTEGER NOT NULL,
    run TEXT NOT NULL, listening REAL NOT NULL, eras BLOB NOT NULL
);
CREATE TABLE counters (name TEXT PRIMARY KEY, count INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE rules (
    name TEXT PRIMARY KEY, settings BLOB NOT NULL, author TEXT NOT NULL, made REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE silences (rule TEXT PRIMARY KEY, until REAL NOT NULL, who TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE evaluations (
    rule TEXT PRIMARY KEY,
    settings BLOB NOT NULL,
    evaluated REAL NOT NULL, value INTEGER, problem TEXT NOT NULL,
    position INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE conditions (
    rule TEXT NOT NULL, key TEXT NOT NULL,
    since REAL NOT NULL, began REAL NOT NULL, incident TEXT NOT NULL, told REAL NOT NULL, repeats INTEGER NOT NULL,
    PRIMARY KEY (rule, key)
) WITHOUT ROWID;
CREATE TABLE incidents (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    rule TEXT NOT NULL, key TEXT NOT NULL, title TEXT NOT NULL,
    began REAL NOT NULL, started REAL NOT NULL, ended REAL NOT NULL DEFAULT 0,
    value INTEGER NOT NULL, query TEXT NOT NULL
);
CREATE INDEX incidents_by_rule ON incidents (rule, number);
CREATE INDEX open_incidents ON incidents (number) WHERE ended = 0;
CREATE TABLE notices (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    incident TEXT NOT NULL, rule TEXT NOT NULL, kind TEXT NOT NULL, receiver TEXT NOT NULL,
    body BLOB NOT NULL,
    made REAL NOT NULL, due REAL NOT NULL, expires REAL NOT NULL, attempts INTEGER NOT NULL DEFAULT 0,
    state TEXT NOT NULL DEFAULT 'waiting', at REAL NOT NULL DEFAULT 0, answer TEXT NOT NULL DEFAULT '',
    seconds REAL NOT NULL DEFAULT 0,
    UNIQUE (incident, kind, receiver)
);
CREATE INDEX waiting_notices ON notices (receiver, due) WHERE state = 'waiting';
"""
_TICKS = "ALTER TABLE evaluations ADD COLUMN ticks REAL NOT NULL DEFAULT -1"
STEPS = (_TABLES, _TICKS)
"""From each version of the tables to the next one."""


def connect(path: Path) -> sqlite3.Connection:
    """Return a connection to the file, which is made if it is missing. Raises StoreError."""
    return sqlite.connect(path, STEPS)
