"""Builds the indexes of a day's file, in pieces.

Owns when a row is in an index: `pending` lists the rows that are not, and a query looks at these one by one. Runs
within a transaction of the caller's.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

from prefork_logd.query.words import normal
from prefork_logd.stores import rows

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator, Sequence

PIECE_ROWS = 65_536
"""The least that is worth a segment of its own."""


def index_pending(db: sqlite3.Connection, limit: int, everything: bool, words: bool) -> None:
    """Index up to about `limit` rows of those that wait: whole pieces, or `everything`."""
    for column, fill in (("sites", _fill_sites), *([("words", _fill_words)] if words else [])):
        batches = []
        ids = array("q")
        for batch, blob in db.execute(f"SELECT id, ids FROM pending WHERE {column} ORDER BY id"):  # noqa: S608 - ours
            batches.append((batch,))
            ids.frombytes(blob)
            if len(ids) >= limit:
                break
        if not ids or (len(ids) < PIECE_ROWS and not everything):
            continue
        fill(db, sorted(ids))
        db.executemany(f"UPDATE pending SET {column} = 0 WHERE id = ?", batches)  # noqa: S608 - ours
    db.execute("DELETE FROM pending WHERE NOT sites AND NOT words")


def _fill_sites(db: sqlite3.Connection, ids: Sequence[int]) -> None:
    ends = (ids[0], ids[-1])
    if db.execute(
        "SELECT count(*) FROM (SELECT 1 FROM rows WHERE id BETWEEN ? AND ? LIMIT ?)", (*ends, len(ids) + 1)
    ).fetchone()[0] == len(ids):
        # Nearly always they are all the rows of a range of time; then nothing has to be looked up.
        db.execute("INSERT INTO by_site SELECT site, id FROM rows WHERE id BETWEEN ? AND ? ORDER BY 1, 2", ends)
        return
    _gather(db, ids)
    db.execute(
        "INSERT INTO by_site SELECT rows.site, rows.id FROM temp.gathered CROSS JOIN rows USING (id) ORDER BY 1, 2"
    )
    db.execute("DELETE FROM temp.gathered")


def _fill_words(db: sqlite3.Connection, ids: Iterable[int]) -> None:
    _gather(db, ids)
    # Two cursors at once, one that reads and one that writes to another table, are fine within a transaction.
    found = db.execute(
        "SELECT id, message, exc_text, stack_info FROM temp.gathered CROSS JOIN rows USING (id) ORDER BY id"
    )
    db.executemany("INSERT INTO words (rowid, text) VALUES (?, ?)", _texts(found))
    db.execute("DELETE FROM temp.gathered")


def _gather(db: sqlite3.Connection, ids: Iterable[int]) -> None:
    db.execute("CREATE TEMP TABLE IF NOT EXISTS gathered (id INTEGER PRIMARY KEY)")
    db.execute("DELETE FROM temp.gathered")
    db.executemany("INSERT INTO temp.gathered VALUES (?)", zip(ids, strict=False))


def _texts(
    found: Iterable[tuple[int, str | bytes | None, str | bytes | None, str | bytes | None]],
) -> Iterator[tuple[int, str]]:
    """Yield what is indexed of each row: for ASCII the text itself, which the tokenizer reads as we do."""
    for number, message, exc_text, stack_info in found:
        if exc_text is None and stack_info is None:
            text = message or ""
        else:
            text = "\n".join([as_text(one) for one in (message, exc_text, stack_info) if one])
        if type(text) is not str or not text.isascii():
            text = normal(as_text(text)).encode("utf-8", "replace").decode()
        yield number, text


def as_text(value: str | bytes) -> str:
    """Return a stored text, be it octets because it is no valid Unicode."""
    return value if isinstance(value, str) else rows.from_octets(value)
