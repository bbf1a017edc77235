"""Keeps the hours, senders and forms of each place in the code, so that a place can be split off with its own.

Owns the tables place_hours, place_senders and place_forms. Does not know batches or keys; every function works within
a transaction of its caller.

A group with one place needs no rows: its hours, senders and forms are those of the place. They are copied when a
second place comes, and removed when one place is left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

MOST_ROWS = 200_000
"""Rows of each of the tables, in 10 MB; the oldest are removed above it."""
_TABLES = ("hours", "senders", "forms")
"""Tables of groups, each of which has one of places."""
_SENDER = "service, environment, version"


def begin(db: sqlite3.Connection, group_id: int) -> None:
    """Copy what a group with one place has, before it gets another one; of a group with several, do nothing."""
    places = [name for (name,) in db.execute("SELECT place FROM variants WHERE group_id = ? LIMIT 2", (group_id,))]
    if len(places) == 1 and places[0]:
        _copy(db, group_id, group_id, places[0])


def _copy(db: sqlite3.Connection, group_id: int, to: int, place: str) -> None:
    db.execute(
        "INSERT OR IGNORE INTO place_hours SELECT ?, ?, hour, count FROM hours WHERE group_id = ?",
        (to, place, group_id),
    )
    db.execute(
        f"INSERT OR IGNORE INTO place_senders SELECT ?, ?, {_SENDER}, count, first_seen, last_seen FROM senders"
        " WHERE group_id = ?",
        (to, place, group_id),
    )
    db.execute(
        "INSERT OR IGNORE INTO place_forms SELECT ?, ?, form, count, first_seen, last_seen FROM forms"
        " WHERE group_id = ?",
        (to, place, group_id),
    )


def add(
    db: sqlite3.Connection,
    group_id: int,
    hours: Iterable[tuple[str, int, int]],
    senders: Iterable[tuple[str, tuple[str, ...], int, float, float]],
    forms: Iterable[tuple[str, str, int, float, float]],
) -> None:
    """Count errors by (place, hour, count), and by (place, sender or form, count, first seen, last seen)."""
    db.executemany(
        "INSERT INTO place_hours VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET count = count + excluded.count",
        [(group_id, *one) for one in hours],
    )
    db.executemany(
        "INSERT INTO place_senders VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET count = count +"
        " excluded.count, first_seen = min(first_seen, excluded.first_seen),"
        " last_seen = max(last_seen, excluded.last_seen)",
        [(group_id, place, *sender, *span) for place, sender, *span in senders],
    )
    db.executemany(
        "INSERT INTO place_forms VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET count = count + excluded.count,"
        " first_seen = min(first_seen, excluded.first_seen), last_seen = max(last_seen, excluded.last_seen)",
        [(group_id, *one) for one in forms],
    )


def move(db: sqlite3.Connection, group_id: int, place: str, to: int) -> None:
    """Move what a place has to a group of its own, after its row of `variants` was removed."""
    of_place = (group_id, place)
    db.execute(
        "INSERT INTO hours SELECT ?, hour, count FROM place_hours WHERE group_id = ? AND place = ?", (to, *of_place)
    )
    db.execute(
        f"INSERT INTO senders SELECT ?, {_SENDER}, count, first_seen, last_seen FROM place_senders"
        " WHERE group_id = ? AND place = ?",
        (to, *of_place),
    )
    db.execute(
        "UPDATE hours SET count = hours.count - own.count FROM hours AS own"
        " WHERE hours.group_id = ? AND own.group_id = ? AND own.hour = hours.hour",
        (group_id, to),
    )
    db.execute(
        "UPDATE senders SET count = senders.count - own.count FROM senders AS own WHERE senders.group_id = ?"
        " AND own.group_id = ? AND (own.service, own.environment, own.version) ="
        " (senders.service, senders.environment, senders.version)",
        (group_id, to),
    )
    db.execute(
        "INSERT INTO forms SELECT ?, form, count, first_seen, last_seen FROM place_forms"
        " WHERE group_id = ? AND place = ?",
        (to, *of_place),
    )
    db.execute(
        "UPDATE forms SET count = forms.count - own.count FROM forms AS own"
        " WHERE forms.group_id = ? AND own.group_id = ? AND own.form = forms.form",
        (group_id, to),
    )
    for table in _TABLES:
        db.execute(f"DELETE FROM {table} WHERE group_id = ? AND count <= 0", (group_id,))
        db.execute(f"DELETE FROM place_{table} WHERE group_id = ? AND place = ?", of_place)
    if db.execute("SELECT count(*) FROM variants WHERE group_id = ?", (group_id,)).fetchone()[0] == 1:
        for table in _TABLES:
            db.execute(f"DELETE FROM place_{table} WHERE group_id = ?", (group_id,))


def give_back(db: sqlite3.Connection, group_id: int, to: int) -> None:
    """Keep what a place has that is joined with another group, before its rows are added there."""
    places = [name for (name,) in db.execute("SELECT place FROM variants WHERE group_id = ?", (group_id,))]
    begin(db, to)
    if len(places) == 1 and places[0]:
        _copy(db, group_id, to, places[0])


def clean(db: sqlite3.Connection, first_hour: int) -> None:
    """Remove hours before the first one that is kept, and rows beyond the bound."""
    db.execute("DELETE FROM place_hours WHERE hour < ?", (first_hour,))
    for table, age in (("place_hours", "hour"), ("place_senders", "last_seen"), ("place_forms", "last_seen")):
        excess = db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] - MOST_ROWS
        if excess > 0:
            db.execute(
                f"DELETE FROM {table} WHERE {age} <= (SELECT {age} FROM {table} ORDER BY {age} LIMIT 1 OFFSET ?)",
                (excess,),
            )
