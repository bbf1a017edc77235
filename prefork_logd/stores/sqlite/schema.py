"""Makes the tables of a day's file, and migrates a file of an older version.

Owns the tables and the migrations. Knows neither records nor queries. docs/stores.md describes the result to users.

Rows lie in the order of time, because their key is the time: `id` is `created` in microseconds since 1970, times 1024,
plus a number that tells those of one microsecond apart. So a range of time is a range of the table, and needs no
index. What is the same in many records (where in the code, which process) is stored once, in `sites` and `origins`. The
indexes `by_site` and `words` are filled from `pending` in large sorted pieces, ten times as fast as row by row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

APPLICATION_ID = 0x70666C64
"""In the file's header, so that file(1) and we know whose it is."""
ID_BITS = 10
"""Of an id, those below the microseconds."""

SITE_COLUMNS = ("name", "levelno", "levelname", "pathname", "filename", "module", "lineno", "funcName", "msg")
ORIGIN_COLUMNS = (
    *("process", "processName", "thread", "threadName", "taskName"),
    *("peer", "host", "service", "environment", "version"),
)
ROW_COLUMNS = (
    *("id", "created", "received", "site", "origin", "message", "exc_text", "stack_info"),
    *("extra", "truncated", "exception"),
)
SECOND_COLUMNS = frozenset({"msg", "host", "service", "environment", "version", "truncated", "exception"})
"""Columns that a file of version 1 lacks."""

_FIRST = """
CREATE TABLE rows (
    id INTEGER PRIMARY KEY, created REAL NOT NULL, received REAL NOT NULL, site INTEGER NOT NULL,
    origin INTEGER NOT NULL, message TEXT, exc_text TEXT, stack_info TEXT, extra TEXT
);
CREATE TABLE sites (
    id INTEGER PRIMARY KEY, name TEXT, levelno INTEGER, levelname TEXT, pathname TEXT, filename TEXT, module TEXT,
    lineno INTEGER, funcName TEXT
);
CREATE TABLE origins (
    id INTEGER PRIMARY KEY, process INTEGER, processName TEXT, thread INTEGER, threadName TEXT, taskName TEXT,
    peer TEXT
);
CREATE TABLE by_site (site INTEGER, id INTEGER, PRIMARY KEY (site, id)) WITHOUT ROWID;
CREATE TABLE pending (id INTEGER PRIMARY KEY, sites INTEGER NOT NULL, words INTEGER NOT NULL, ids BLOB NOT NULL);
CREATE TABLE positions (
    journal TEXT PRIMARY KEY, first INTEGER NOT NULL, next INTEGER NOT NULL, days TEXT NOT NULL
);
CREATE TABLE facts (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
INSERT INTO facts VALUES ('spilled', 0);
CREATE VIEW records AS
    SELECT rows.id, created, strftime('%Y-%m-%dT%H:%M:%f', created, 'unixepoch') || 'Z' AS time, name, levelno,
        levelname, message, pathname, filename, module, lineno, funcName, process, processName, thread, threadName,
        taskName, exc_text, stack_info, extra, peer, received
    FROM rows LEFT JOIN sites ON sites.id = rows.site LEFT JOIN origins ON origins.id = rows.origin;
"""

_SECOND = """
ALTER TABLE rows ADD COLUMN truncated TEXT;
ALTER TABLE rows ADD COLUMN exception TEXT;
ALTER TABLE sites ADD COLUMN msg TEXT;
ALTER TABLE origins ADD COLUMN host TEXT;
ALTER TABLE origins ADD COLUMN service TEXT;
ALTER TABLE origins ADD COLUMN environment TEXT;
ALTER TABLE origins ADD COLUMN version TEXT;
DROP VIEW records;
CREATE VIEW records AS
    SELECT rows.id, created, strftime('%Y-%m-%dT%H:%M:%f', created, 'unixepoch') || 'Z' AS time, name, levelno,
        levelname, message, msg, pathname, filename, module, lineno, funcName, process, processName, thread, threadName,
        taskName, exc_text, stack_info, extra, truncated, exception, host, service, environment, version, peer, received
    FROM rows LEFT JOIN sites ON sites.id = rows.site LEFT JOIN origins ON origins.id = rows.origin;
"""

MIGRATIONS: tuple[str, ...] = (_FIRST, _SECOND)
"""Step n leads from schema version n to n + 1; a step that was released is never changed."""
VERSION = len(MIGRATIONS)


def selected(columns: Iterable[str], version: int) -> str:
    """Return columns for a SELECT from a file of this version: NULL where it lacks one."""
    return ", ".join(f"NULL AS {name}" if version == 1 and name in SECOND_COLUMNS else name for name in columns)


FULL_TEXT = """
CREATE VIRTUAL TABLE IF NOT EXISTS words USING fts5 (text, content='', columnsize=0, detail=none, tokenize='ascii')
"""
"""Made when the setting `full_text` is on. What is beyond ASCII has been made `query.words.normal` before."""
FULL_TEXT_SETTINGS = {"automerge": 0, "crisismerge": 1999, "hashsize": 64 << 20}
"""One index segment for each piece, never merged: a query reads a hundred of them in a millisecond or two."""
