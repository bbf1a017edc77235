"""Splits errors of one place off their group, and joins them again, within a transaction of its caller.

Owns the table of what is split off. Does not know who asks, or how a row is shown.

The group that is split off has a key of its own, computed from that of the group and the place (query/fingerprints.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefork_logd.errors import NotARecord
from prefork_logd.query.fingerprints import place_of, variant_key
from prefork_logd.records.stored import read_fields
from prefork_logd.stores.errors import places

if TYPE_CHECKING:
    import sqlite3

Splits = dict[str, dict[str, str]]
"""The key of a group to places, and to the keys of the groups that are split off for these."""
MOST_SPLITS = 1_000


def splits(db: sqlite3.Connection) -> Splits:
    """Return everything that is split off."""
    found: Splits = {}
    for parent, place, key in db.execute(
        "SELECT parent, place, groups.key FROM splits JOIN groups ON groups.id = group_id"
    ):
        found.setdefault(parent, {})[place] = key
    return found


def split(db: sqlite3.Connection, group_id: int, key: str, place: str) -> str:
    """Split the errors of a place off a group; return the new key. Raises ValueError with a sentence for the user."""
    known_places = [name for (name,) in db.execute("SELECT place FROM variants WHERE group_id = ?", (group_id,))]
    if place not in known_places or not place:
        known = ", ".join(filter(None, known_places[:10])) or "none"
        raise ValueError(f"{place!r} is not a place of {key}; its places are {known}")
    if len(known_places) == 1:
        raise ValueError(f"{key} has one place only; there is nothing to split")
    if db.execute("SELECT count(*) FROM splits").fetchone()[0] >= MOST_SPLITS:
        raise ValueError(f"{MOST_SPLITS:,} places are split off already; join some of them first")
    own = variant_key(key, place)
    count, first_seen, last_seen = db.execute(
        "DELETE FROM variants WHERE group_id = ? AND place = ? RETURNING count, first_seen, last_seen",
        (group_id, place),
    ).fetchone()
    new_id = db.execute(
        "INSERT INTO groups (key, title, culprit, logger, levelno, count, first_seen, last_seen)"
        " SELECT ?, title, culprit || iif(culprit = '', '', ', ') || ?, logger, levelno, ?, ?, ? FROM groups"
        " WHERE id = ?",
        (own, place, count, first_seen, last_seen, group_id),
    ).lastrowid
    db.execute("INSERT INTO keys VALUES (?, ?)", (own, new_id))
    db.execute("INSERT INTO variants VALUES (?, ?, ?, ?, ?)", (new_id, place, count, first_seen, last_seen))
    db.execute("INSERT INTO splits VALUES (?, ?, ?)", (key, place, new_id))
    db.execute("UPDATE groups SET count = count - ? WHERE id = ?", (count, group_id))
    assert new_id is not None  # noqa: S101 - for the type checker
    places.move(db, group_id, place, new_id)
    for created, journal, number, line in db.execute(
        "SELECT created, journal, number, line FROM samples WHERE group_id = ? AND line IS NOT NULL", (group_id,)
    ).fetchall():
        if _place(line) == place:
            db.execute(
                "UPDATE samples SET group_id = ? WHERE group_id = ? AND created = ? AND journal = ? AND number = ?",
                (new_id, group_id, created, journal, number),
            )
    return own


def join(db: sqlite3.Connection, group_id: int, key: str) -> str:
    """Join errors that were split off with their group again; return the group's key. Raises ValueError."""
    found = db.execute(
        "SELECT groups.id, groups.key FROM splits JOIN keys ON keys.key = parent JOIN groups ON groups.id ="
        " keys.group_id WHERE splits.group_id = ?",
        (group_id,),
    ).fetchone()
    if found is None:
        raise ValueError(f"{key} was not split off a group, or that group was removed")
    parent_id, parent = found
    places.give_back(db, group_id, parent_id)
    for table, names in (
        ("senders", "service, environment, version"), ("variants", "place"), ("forms", "form"),
    ):  # fmt: skip
        db.execute(
            f"INSERT INTO {table} SELECT ?, {names}, count, first_seen, last_seen FROM {table} WHERE group_id = ?"
            " ON CONFLICT DO UPDATE SET count = count + excluded.count,"
            " first_seen = min(first_seen, excluded.first_seen), last_seen = max(last_seen, excluded.last_seen)",
            (parent_id, group_id),
        )
    db.execute(
        "INSERT INTO hours SELECT ?, hour, count FROM hours WHERE group_id = ?"
        " ON CONFLICT DO UPDATE SET count = count + excluded.count",
        (parent_id, group_id),
    )
    db.execute("UPDATE OR IGNORE samples SET group_id = ?, is_first = 0 WHERE group_id = ?", (parent_id, group_id))
    db.execute(
        "UPDATE groups SET count = groups.count + own.count, first_seen = min(groups.first_seen, own.first_seen),"
        " last_seen = max(groups.last_seen, own.last_seen), levelno = max(groups.levelno, own.levelno)"
        " FROM groups AS own WHERE own.id = ? AND groups.id = ?",
        (group_id, parent_id),
    )
    db.execute("DELETE FROM groups WHERE id = ?", (group_id,))
    return str(parent)


def _place(line: bytes) -> str:
    try:
        return place_of(read_fields(line))
    except NotARecord:
        return ""
