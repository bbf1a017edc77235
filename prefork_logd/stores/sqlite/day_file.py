"""Writes one day's file.

Owns its transactions: rows, the dictionaries that they refer to, what is to be indexed, and the position, all or
nothing. Knows no other day, and no lines.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import sqlite3
from array import array
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple

from prefork_logd.errors import StoreError
from prefork_logd.stores.sqlite import schema
from prefork_logd.stores.sqlite.index import PIECE_ROWS, index_pending
from prefork_logd.stores.sqlite.row_builder import Packer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from prefork_logd.stores.sqlite.columns import Values

BUSY_S = 5.0
"""How long another process may hold the file before that is an error, and the shipper's back-off takes over."""
PAGE_BYTES = 8192
CACHE_KIB = 32_768
CHECKPOINT_PAGES = 4096
"""The WAL goes back into the file every 32 MiB, and whenever the file is closed."""
MAX_SPILLS = 50_000
"""Moments with more records than an id tells apart, that are remembered."""
_ROW = f"({','.join('?' * len(schema.ROW_COLUMNS))})"
_SITE = f"({','.join('?' * (1 + len(schema.SITE_COLUMNS)))})"
_ORIGIN = f"({','.join('?' * (1 + len(schema.ORIGIN_COLUMNS)))})"
_AT_ONCE = 64
"""Rows of one INSERT, which saves a tenth of its time; the oldest SQLite takes 999 values."""
_INSERT_SITE = f"INSERT INTO sites VALUES {_SITE}"  # noqa: S608 - placeholders alone
_INSERT_ORIGIN = f"INSERT INTO origins VALUES {_ORIGIN}"  # noqa: S608 - the same
_INSERT = f"INSERT INTO rows VALUES {_ROW}"  # noqa: S608 - placeholders alone
_INSERT_MANY = f"INSERT INTO rows VALUES {','.join([_ROW] * _AT_ONCE)}"  # noqa: S608 - the same


class Position(NamedTuple):
    """How far one journal is stored, as one file knows it."""

    first: int
    """Where the batch began that was stored last."""
    next: int
    """The first record that is not stored yet."""
    days: tuple[str, ...]
    """The days that this batch has records of; each has a transaction of its own."""


@contextlib.contextmanager
def failing_as_store_error(path: Path) -> Iterator[None]:
    """Turn what SQLite and the file system raise into a StoreError that names the file."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorname", "") or ""
        remedy = ""
        if code.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
            remedy = "; move the file away, and its records that the journal still has are stored anew"
        raise StoreError(f"{path}: {error}{remedy}") from error
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror or error}") from error


class Day:
    """A day's file. Every method raises StoreError when the file cannot be used; the Day is then to be closed."""

    def __init__(self, path: Path, full_text: bool, inherited: dict[str, Position]) -> None:
        """Open or make the file; a new one begins with the positions that are `inherited`."""
        self.path = path
        self._spill: dict[int, int] = {}
        self._careful = False
        """Whether ids are looked up before rows are inserted."""
        self._identity = (0, 0)
        with failing_as_store_error(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                # Records are nobody else's business: the same rights as the output files have.
                os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o640))
            self._db = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, cached_statements=64)
            try:
                self._prepare(full_text, inherited)
                status = path.stat()
                self._identity = (status.st_dev, status.st_ino)
            except BaseException:
                self._db.close()
                raise

    def _prepare(self, full_text: bool, inherited: dict[str, Position]) -> None:
        execute = self._db.execute
        execute(f"PRAGMA page_size = {PAGE_BYTES}")
        execute("PRAGMA journal_mode = WAL")
        # The journal forgets what a store has: nothing less than a sync for each transaction will do.
        execute("PRAGMA synchronous = FULL")
        execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        execute("PRAGMA journal_size_limit = 0")
        # There may be no directory for temporary files; what is sorted and gathered for an index is small.
        execute("PRAGMA temp_store = MEMORY")
        version = execute("PRAGMA user_version").fetchone()[0]
        if version > schema.VERSION:
            raise StoreError(
                f"{self.path}: was made by a newer version (schema {version}); this one knows {schema.VERSION}"
            )
        if version < schema.VERSION:
            self._migrate(version, inherited)
        self.full_text = bool(execute("SELECT 1 FROM sqlite_master WHERE name = 'words'").fetchone())
        if full_text and not self.full_text and not execute("SELECT 1 FROM rows LIMIT 1").fetchone():
            execute(schema.FULL_TEXT)
            for name, value in schema.FULL_TEXT_SETTINGS.items():
                execute("INSERT INTO words (words, rank) VALUES (?, ?)", (name, value))
            self.full_text = True
        self.positions = {
            journal: Position(first, following, tuple(days.split()))
            for journal, first, following, days in execute("SELECT journal, first, next, days FROM positions")
        }
        site, origin = self._numbers()
        self.packer = Packer(site + 1, origin + 1)
        self.pending_rows = execute("SELECT coalesce(sum(length(ids)), 0) / 8 FROM pending WHERE words").fetchone()[0]
        self.pending_sites = execute("SELECT coalesce(sum(length(ids)), 0) / 8 FROM pending WHERE sites").fetchone()[0]

    def _numbers(self) -> tuple[int, int]:
        """Return the numbers of the last site and origin in the file."""
        statement = "SELECT (SELECT coalesce(max(id), 0) FROM sites), (SELECT coalesce(max(id), 0) FROM origins)"
        site, origin = self._db.execute(statement).fetchone()
        return site, origin

    def _migrate(self, version: int, inherited: dict[str, Position]) -> None:
        """Bring the file to this version, in one transaction for each step."""
        for step in range(version, schema.VERSION):
            with self._transaction():
                # Another process may have done it meanwhile.
                if self._db.execute("PRAGMA user_version").fetchone()[0] > step:
                    continue
                for statement in schema.MIGRATIONS[step].split(";\n"):
                    self._db.execute(statement)
                self._db.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
                self._db.execute(f"PRAGMA user_version = {step + 1}")
                if step == 0:
                    for journal, position in inherited.items():
                        self._set_position(journal, position)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def _set_position(self, journal: str, position: Position) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO positions VALUES (?, ?, ?, ?)",
            (journal, position.first, position.next, " ".join(position.days)),
        )

    def next(self, journal: str) -> int:
        """Return the number of a journal's first record that this file has not, as far as it knows."""
        known = self.positions.get(journal)
        return known.next if known is not None else 0

    def write(self, journal: str, make: Callable[[], Iterable[list[Values]]], position: Position) -> None:
        """Store rows that `packer` has made of what comes from `next` on, and the position after them.

        `make` returns them piece by piece, and may be called twice; what it raises undoes everything.
        """
        with failing_as_store_error(self.path):
            self._check_presence()
            if self.next(journal) >= position.next:
                return  # a batch is done again for the sake of another day
            if not self._careful:
                try:
                    self._stored(journal, self._store(journal, make(), position), position)
                except sqlite3.IntegrityError:
                    self._careful = True
                else:
                    return
            if self.packer.stored() != self._numbers():
                # Another process (an import, a replay) has numbered sites meanwhile.
                site, origin = self._numbers()
                self.packer = Packer(site + 1, origin + 1)
            rows = sorted(itertools.chain.from_iterable(make()), key=itemgetter(0))
            free = self._with_free_ids(rows)
            # Times that were given twice are often given again; failing first would double the work.
            self._careful = free != rows
            self._stored(journal, self._store(journal, [free], position), position)

    def _stored(self, journal: str, rows: int, position: Position) -> None:
        """Take note of what was committed."""
        self.packer.new_sites.clear()
        self.packer.new_origins.clear()
        self.positions[journal] = position
        self.pending_sites += rows
        self.pending_rows += rows if self.full_text else 0

    def _store(self, journal: str, pieces: Iterable[list[Values]], position: Position) -> int:
        """Store everything in one transaction; return how many rows there were."""
        ids = array("q")
        with self._transaction():
            for rows in pieces:
                many = len(rows) // _AT_ONCE * _AT_ONCE
                flat = (itertools.chain.from_iterable(rows[at : at + _AT_ONCE]) for at in range(0, many, _AT_ONCE))
                self._db.executemany(_INSERT_MANY, map(tuple, flat))
                self._db.executemany(_INSERT, rows[many:])
                ids.extend([row[0] for row in rows])
            if self.packer.new_sites:
                self._db.executemany(_INSERT_SITE, self.packer.new_sites)
            if self.packer.new_origins:
                self._db.executemany(_INSERT_ORIGIN, self.packer.new_origins)
            if ids:
                self._db.execute(
                    "INSERT INTO pending (sites, words, ids) VALUES (1, ?, ?)", (self.full_text, ids.tobytes())
                )
            self._set_position(journal, position)
        return len(ids)

    def _with_free_ids(self, rows: Sequence[Values]) -> list[Values]:
        """Return rows with ids that are free: the next one behind, for a client may give all its records one time."""
        free: list[Values] = []
        last = farthest = 0
        for row in rows:
            wanted = row[0]
            moment = wanted >> schema.ID_BITS
            number = max(wanted, last + 1, self._spill.get(moment, 0))
            while self._db.execute("SELECT 1 FROM rows WHERE id = ?", (number,)).fetchone():
                number += 1
            if number != wanted:
                self._spill[moment] = number + 1
                farthest = max(farthest, (number >> schema.ID_BITS) - moment + 1)
                row = (number, *row[1:])  # noqa: PLW2901 - the same one, elsewhere
            last = number
            free.append(row)
        if len(self._spill) > MAX_SPILLS:
            self._spill.clear()
        if farthest:
            self._db.execute("UPDATE facts SET value = max(value, ?) WHERE name = 'spilled'", (farthest,))
        return free

    def _check_presence(self) -> None:
        """Raise StoreError if the file was removed or replaced: what is written to it then is seen by nobody."""
        try:
            status = self.path.stat()
        except FileNotFoundError:
            status = None
        if status is None or (status.st_dev, status.st_ino) != self._identity:
            raise StoreError(f"{self.path}: was removed or replaced; a new one is begun")

    def index(self, rows: int, everything: bool = False, words: bool = True) -> bool:
        """Index about so many rows of those that wait, in whole pieces; return whether more than a piece waits still.

        Less than a piece is left alone, unless `everything` is to be indexed; `words` says whether the full-text
        index is to grow too, which costs ten times as much as the other.
        """
        with failing_as_store_error(self.path):
            self._check_presence()
            with self._transaction():
                index_pending(self._db, rows, everything, words)
            self.pending_rows = self._db.execute(
                "SELECT coalesce(sum(length(ids)), 0) / 8 FROM pending WHERE words"
            ).fetchone()[0]
            self.pending_sites = self._db.execute(
                "SELECT coalesce(sum(length(ids)), 0) / 8 FROM pending WHERE sites"
            ).fetchone()[0]
            return self.waits(everything)

    def waits(self, everything: bool = False) -> bool:
        """Tell whether there is something to be indexed that is worth it."""
        return bool(max(self.pending_rows, self.pending_sites) >= (1 if everything else PIECE_ROWS))

    def close(self) -> None:
        """Put the WAL into the file, unless somebody reads it just now, and let go of it; never raises."""
        with contextlib.suppress(sqlite3.Error):
            self._db.close()
