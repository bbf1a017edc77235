"""Databases are made and brought up whole, and no file of another program is changed."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from typing import TYPE_CHECKING

import pytest

from prefork_logd.errors import StoreError
from prefork_logd.system import sqlite
from prefork_logd.system.sqlite import Place, connect, failing_as_store_error, transaction

if TYPE_CHECKING:
    from pathlib import Path

STEPS = ("CREATE TABLE a (x); CREATE TABLE b (x);", "ALTER TABLE a ADD COLUMN y", "CREATE TABLE c (x)")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "some.db"


def shape(path: Path) -> tuple[int, list[str]]:
    """Return the version of a file and its columns, read as by another program."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        found = db.execute(
            "SELECT m.name || '.' || p.name FROM sqlite_schema m, pragma_table_info(m.name) p ORDER BY 1"
        )
        return db.execute("PRAGMA user_version").fetchone()[0], [name for (name,) in found]


WHOLE = (3, ["a.x", "a.y", "b.x", "c.x"])


def test_a_new_file_has_every_table(path: Path) -> None:
    """It does not block readers, and every commit is synced."""
    with contextlib.closing(connect(path, STEPS)) as db:
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert db.execute("PRAGMA synchronous").fetchone() == (2,)
        assert db.execute("PRAGMA foreign_keys").fetchone() == (1,)
    assert shape(path) == WHOLE


@pytest.mark.parametrize("version", [1, 2, 3])
def test_an_older_file_is_brought_up_with_its_rows(path: Path, version: int) -> None:
    """Also by who does not make files."""
    with contextlib.closing(connect(path, STEPS[:version])) as db:
        db.execute("INSERT INTO b VALUES (7)")
    with contextlib.closing(connect(path, STEPS, makes=False)) as db:
        assert db.execute("SELECT x FROM b").fetchall() == [(7,)]
    assert shape(path) == WHOLE


@pytest.mark.parametrize("version", [0, 1])
def test_a_step_that_fails_leaves_the_file_as_it_was(path: Path, version: int) -> None:
    """The next process tries it again."""
    if version:
        connect(path, STEPS[:version]).close()
    before = shape(path)
    broken = (*STEPS[:2], "CREATE TABLE c (x); CREATE TABLE c (x)")
    with pytest.raises(StoreError, match=r"some\.db: table c already exists"):
        connect(path, broken)
    assert shape(path) == before
    connect(path, STEPS).close()
    assert shape(path) == WHOLE


def test_another_process_may_be_quicker(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both have found the file empty, or old: the second changes nothing."""
    real = sqlite._advance

    def late(db: sqlite3.Connection, steps: tuple[str, ...], *, from_nothing: bool) -> None:
        monkeypatch.setattr(sqlite, "_advance", real)
        connect(path, steps).close()
        real(db, steps, from_nothing=from_nothing)

    for steps in (STEPS[:1], STEPS):
        monkeypatch.setattr(sqlite, "_advance", late)
        connect(path, steps).close()
    assert shape(path) == WHOLE


@pytest.mark.parametrize("makes", [True, False])
@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("CREATE TABLE theirs (x)", "was made by another program; move it away"),
        ("PRAGMA user_version = 4; CREATE TABLE later (x)", "has the tables of version 4; move it away"),
    ],
)
def test_a_file_that_is_not_ours_is_not_changed(path: Path, statement: str, said: str, *, makes: bool) -> None:
    """The error names the remedy."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.executescript(statement)
    before = shape(path)
    with pytest.raises(StoreError, match=rf"some\.db: {said}"):
        connect(path, STEPS, makes=makes)
    assert shape(path) == before


def test_an_empty_file_is_filled_only_by_who_makes_it(path: Path) -> None:
    """A reader leaves it empty."""
    path.touch()
    with pytest.raises(StoreError, match="was made by another program"):
        connect(path, STEPS, makes=False)
    assert path.read_bytes() == b""


def test_changes_are_made_together_or_not_at_all(path: Path) -> None:
    """An error takes back the changes before it."""

    def change(number: int, statement: str) -> None:
        with failing_as_store_error(path), transaction(db):
            db.execute("INSERT INTO b VALUES (?)", (number,))
            db.execute(statement)

    with contextlib.closing(connect(path, STEPS)) as db:
        change(1, "SELECT x FROM b")
        with pytest.raises(StoreError, match=r"some\.db: no such column: z"):
            change(2, "SELECT z FROM b")
        assert db.execute("SELECT x FROM b").fetchall() == [(1,)]
        assert not db.in_transaction


def test_a_file_that_was_moved_is_noticed(path: Path) -> None:
    """Also when another one is in its place."""
    path.touch()
    place = Place(path)
    place.check()
    path.rename(path.with_name("moved"))
    with pytest.raises(StoreError, match="was moved or removed"):
        place.check()
    path.touch()
    with pytest.raises(StoreError, match="was moved or replaced"):
        place.check()


@pytest.mark.parametrize(("mode", "what"), [("ro", "readonly database"), ("rw", "unable to open database file")])
def test_a_file_of_another_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, what: str) -> None:
    """SQLite does not tell why it cannot open or write a file; without the right to, the sentence does."""
    path = tmp_path / "a.db"
    if mode == "ro":
        path.touch()
    monkeypatch.setattr(os, "access", lambda *_, **__: False)
    with pytest.raises(StoreError, match=rf"{what}: Permission denied; use the account that it belongs to, or root"):
        write(path, mode)


def test_a_file_that_this_user_may_use_needs_no_account(tmp_path: Path) -> None:
    """Then the reason is another one."""
    with pytest.raises(StoreError, match=r"unable to open database file$"):
        write(tmp_path / "missing" / "a.db", "rw")


def write(path: Path, mode: str) -> None:
    """Make a table in a file, opened in this mode."""
    with failing_as_store_error(path):
        db = sqlite3.connect(f"file:{path}?mode={mode}", uri=True)
        try:
            db.execute("CREATE TABLE a (b)")
        finally:
            db.close()
