"""Opens databases of SQLite that several processes write, with whole transactions and errors in our words.

Owns the settings of a connection and the check of a file's version. Does not know any table.

In WAL mode writers do not block readers. Every commit is synced.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
from typing import TYPE_CHECKING

from prefork_logd.errors import StoreError, remedy_for

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

MOVE_AWAY = "move it away, and a new one is made"
_UNUSABLE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_REFUSED = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM)
_SHARED_BYTES = 32_768
"""Size by which the file of shared memory grows (https://www.sqlite.org/walformat.html#the_wal_index_file_format)."""
BUSY_S = 5.0
"""How long a writer waits for another one."""


@contextlib.contextmanager
def failing_as_store_error(path: Path) -> Iterator[None]:
    """Raise StoreError for an error of SQLite, with the remedy for a file that is damaged or another program's."""
    try:
        yield
    except sqlite3.Error as error:
        raise StoreError(f"{path}: {error}{_remedy(error, path)}") from error


def _remedy(error: sqlite3.Error, path: Path) -> str:
    if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_IOERR and _is_full(path.parent):
        # The file of shared memory cannot be made longer: SQLITE_IOERR_SHMSIZE, not SQLITE_FULL.
        return "; the disk is full"
    if getattr(error, "sqlite_errorcode", 0) & 0xFF in _REFUSED and _is_refused(path):
        return f": {os.strerror(errno.EACCES)}{remedy_for(errno.EACCES)}"
    if getattr(error, "sqlite_errorcode", 0) & 0xFF in _UNUSABLE or str(error).startswith("no such table"):
        return f"; {MOVE_AWAY}"
    return ""


def _is_refused(path: Path) -> bool:
    """Tell whether this user may not write a file, or the files of its log beside it."""
    try:
        places = [place for place in (path, path.parent) if place.exists()]
    except PermissionError:
        return True
    return not all(os.access(place, os.R_OK | os.W_OK, effective_ids=True) for place in places)


def _is_full(directory: Path) -> bool:
    try:
        free = os.statvfs(directory)
    except OSError:
        return False
    return free.f_bavail * free.f_frsize < _SHARED_BYTES


def connect(path: Path, steps: Sequence[str], *, makes: bool = True) -> sqlite3.Connection:
    """Return a connection to a file with our tables.

    `steps`: the SQL that leads from each version of the tables to the next one, the first from an empty file to version
    1. An older file takes the steps that it lacks; a new one takes all of them, if it `makes` it.

    Raises StoreError, also for a file that another program wrote, or a later release: it is not changed. Threads may
    share the connection, one at a time.
    """
    with failing_as_store_error(path):
        db = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            db.execute("PRAGMA foreign_keys = ON")
            if makes and _is_empty(db):
                db.execute("PRAGMA auto_vacuum = INCREMENTAL")
                db.execute("PRAGMA journal_mode = WAL")
                _advance(db, steps, from_nothing=True)
            elif 0 < _version(db) < len(steps):
                _advance(db, steps, from_nothing=False)
            _check(db, path, len(steps))
            db.execute("PRAGMA synchronous = FULL")
        except BaseException:
            db.close()
            raise
    return db


def _version(db: sqlite3.Connection) -> int:
    """Return the version of the tables; 0 if there are none, or another program's."""
    version: int = db.execute("PRAGMA user_version").fetchone()[0]
    return version


def _is_empty(db: sqlite3.Connection) -> bool:
    return not db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]


def _advance(db: sqlite3.Connection, steps: Sequence[str], *, from_nothing: bool) -> None:
    """Take the steps that the file lacks."""
    with transaction(db):
        # Another process may have taken them meanwhile.
        if from_nothing and not _is_empty(db):
            return
        for step in steps[_version(db) :]:
            for statement in step.split(";"):
                db.execute(statement)
        db.execute(f"PRAGMA user_version = {len(steps)}")


def _check(db: sqlite3.Connection, path: Path, version: int) -> None:
    found = _version(db)
    if found != version:
        what = f"has the tables of version {found}" if found else "was made by another program"
        raise StoreError(f"{path}: {what}; {MOVE_AWAY}")


class Place:
    """The file that a connection was opened for, so that a process notices when somebody has moved it away.

    SQLite goes on in the moved file, which nobody else sees.
    """

    def __init__(self, path: Path) -> None:
        """Look at the file, after it was opened. Raises StoreError without one."""
        self._path = path
        self._identity = self._look()

    def check(self) -> None:
        """Raise StoreError if another file is there, or none."""
        if self._look() != self._identity:
            raise StoreError(f"{self._path}: was moved or replaced")

    def _look(self) -> tuple[int, int]:
        try:
            found = self._path.stat()
        except OSError as error:
            raise StoreError(f"{self._path}: was moved or removed") from error
        return found.st_dev, found.st_ino


@contextlib.contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """Make all changes of a block, or none."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
