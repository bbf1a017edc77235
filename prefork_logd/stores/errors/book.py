"""Reads groups of errors from their file, and changes their states, assignees and notes.

Owns the rows that the command line, the API and alerts show. Does not know shippers or how a row is printed. It works
beside the shipper, and without a running collector.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from prefork_logd.stores.errors import schema, splitting, tally, writing
from prefork_logd.stores.errors.states import STATES, State, StateName, at_time, muted, resolved
from prefork_logd.stores.errors.tally import HOUR_S
from prefork_logd.stores.errors.writing import KEPT_HOURS, STATE_COLUMNS, columns_of, note_event
from prefork_logd.system.sqlite import failing_as_store_error, transaction

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

CHART_HOURS = 24
LEAST_PREFIX = 4
"""Hexadecimal digits that are enough to name a group, if no other begins so."""
MOST_NAMES = 20
"""Services, environments and versions that a row lists."""
MOST_SERVICES = 500
"""Services that have a name in the list of all."""
LONGEST_NOTE = 4_000
ORDERS = {"last": "last_seen DESC", "first": "first_seen DESC", "count": "count DESC"}
_CURRENT_STATE = "iif(state = 'muted' AND muted_until > 0 AND muted_until <= ?, 'open', state)"
"""The state at a time, as states.at_time has it."""
_COLUMNS = f"id, key, title, culprit, logger, levelno, count, first_seen, last_seen, assignee, note, {STATE_COLUMNS}"


class Row(msgspec.Struct):
    """One group. Times are seconds since 1970; 0 and empty texts stand for none."""

    id: str
    """The group's key, `g1:` and 16 digits: `query fingerprint=ID` finds its records. `g1v:`: it was split off."""
    title: str
    culprit: str
    logger: str
    level: int
    """The highest level of its errors."""
    count: int
    first_seen: float
    last_seen: float
    state: StateName
    services: list[str]
    environments: list[str]
    versions: list[str]
    """The latest first."""
    assignee: str
    note: str
    resolved_at: float
    resolved_in: str
    muted_until: float
    muted_count: int
    """The count at which it is open again."""
    chart: list[int]
    """Errors in each of the last 24 hours, by the time of logging, the current hour last."""


class Part(msgspec.Struct):
    """How often and when a part of a group occurred."""

    name: str
    count: int
    first_seen: float
    last_seen: float


class SampleRow(msgspec.Struct):
    """A record of a group."""

    id: str
    """The record's id, for `query` while the store has the record."""
    created: float
    record: msgspec.Raw | None
    """The stored line; None if it was too long to keep."""


class Event(msgspec.Struct):
    """Something that happened to a group."""

    number: int
    at: float
    id: str
    """The group's key."""
    what: str
    """new, regressed, unmuted; or by a person: resolved, opened, muted, assigned, noted, split, joined."""
    who: str
    detail: str


class Details(msgspec.Struct):
    """Everything about one group."""

    group: Row
    senders: list[Part]
    """By service, environment and version."""
    variants: list[Part]
    """By the place in the code."""
    forms: list[Part]
    """By the form of the message: with placeholders for values."""
    samples: list[SampleRow]
    """The first record, then the latest ones, the newest first."""
    events: list[Event]
    """The newest first."""
    hours: list[int]
    """Errors in each hour of the last 14 days, by the time of logging, the current hour last."""
    hours_from: float
    """When the first of these hours began."""


class Wanted(NamedTuple):
    """Which groups are listed, in which order."""

    states: Sequence[str] = ()
    """Empty: all."""
    service: str = ""
    text: str = ""
    """A part of the title, the culprit or the logger, in any case."""
    order: str = "last"
    limit: int = 100
    offset: int = 0


ALL = Wanted()


class Book:
    """The groups of one collector. Every method raises StoreError if the file cannot be used."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        """Open the file. Raises StoreError if there is none."""
        self._path = path
        self._clock = clock
        self._db: sqlite3.Connection = schema.connect(path, makes=False)

    def close(self) -> None:
        """Close the file; never raises."""
        self._db.close()

    # Reading

    def groups(self, wanted: Wanted = ALL) -> list[Row]:
        """Return groups. Raises ValueError with a sentence for the user for a state or an order that does not exist."""
        if wanted.order not in ORDERS:
            raise ValueError(f"{wanted.order!r} is not an order; write one of {', '.join(ORDERS)}")
        condition, values = self._condition(wanted)
        statement = (
            f"SELECT {_COLUMNS} FROM groups WHERE {condition} ORDER BY {ORDERS[wanted.order]}, id LIMIT ? OFFSET ?"
        )
        with self._reading():
            found = self._db.execute(statement, (*values, wanted.limit, wanted.offset)).fetchall()
            return [self._row(one) for one in found]

    def matching(self, wanted: Wanted = ALL) -> int:
        """Return the number of groups without the limit and the offset. Raises ValueError as `groups` does."""
        condition, values = self._condition(wanted)
        with self._reading():
            return int(self._db.execute(f"SELECT count(*) FROM groups WHERE {condition}", values).fetchone()[0])

    def _condition(self, wanted: Wanted) -> tuple[str, list[Any]]:
        """Return the condition of a list and its values."""
        for state in wanted.states:
            if state not in STATES:
                raise ValueError(f"{state!r} is not a state; write one of {', '.join(STATES)}")
        conditions, values = ["1"], list[Any]()
        if wanted.states:
            conditions.append(f"{_CURRENT_STATE} IN ({', '.join('?' * len(wanted.states))})")
            values += [self._clock(), *wanted.states]
        if wanted.service:
            conditions.append("id IN (SELECT group_id FROM senders WHERE service = ?)")
            values.append(wanted.service)
        if wanted.text:
            conditions.append("instr(lower(title || char(10) || culprit || char(10) || logger), lower(?)) > 0")
            values.append(wanted.text)
        return " AND ".join(conditions), values

    def counts(self) -> dict[str, int]:
        """Return the number of groups in each state."""
        with self._reading():
            found: dict[str, int] = dict(
                self._db.execute(
                    f"SELECT {_CURRENT_STATE} AS now, count(*) FROM groups GROUP BY now", (self._clock(),)
                ).fetchall()
            )
        return {state: found.get(state, 0) for state in STATES}

    def services(self) -> list[str]:
        """Return the services that groups have errors of, in the order of their names."""
        with self._reading():
            found = self._db.execute(
                "SELECT DISTINCT service FROM senders WHERE service <> '' ORDER BY service LIMIT ?", (MOST_SERVICES,)
            )
            return [name for (name,) in found]

    def details(self, key: str) -> Details:
        """Return everything about the group of a key, or of the beginning of one. Raises ValueError."""
        with self._reading():
            row = self._find(key)
            group_id, hour = row[0], int(self._clock() // HOUR_S)
            senders = self._db.execute(
                "SELECT service, environment, version, count, first_seen, last_seen FROM senders WHERE group_id = ?"
                " ORDER BY count DESC", (group_id,)
            ).fetchall()  # fmt: skip
            samples = self._db.execute(
                "SELECT journal, number, created, line FROM samples WHERE group_id = ?"
                " ORDER BY is_first DESC, created DESC", (group_id,)
            ).fetchall()  # fmt: skip
            # Those above the bound share the row without a name.
            sender = "(no service)" if len(senders) < writing.MOST_SENDERS else "(others)"
            return Details(
                self._row(row),
                [Part(" ".join(filter(None, one[:3])) or sender, *one[3:]) for one in senders],
                self._parts(group_id, "variants", "place", writing.MOST_PLACES, "(no place)"),
                self._parts(group_id, "forms", "form", tally.MOST_FORMS, "(no message)"),
                [
                    SampleRow(
                        f"{one[0]}-{one[1]}", one[2], msgspec.Raw(bytes(one[3]).rstrip(b"\n")) if one[3] else None
                    )
                    for one in samples
                ],
                [
                    Event(*one)
                    for one in self._db.execute(
                        "SELECT id, at, key, what, who, detail FROM events WHERE key = ? ORDER BY id DESC LIMIT 100",
                        (row[1],),
                    )
                ],
                self._by_hour(group_id, hour, KEPT_HOURS),
                float((hour - KEPT_HOURS + 1) * HOUR_S),
            )

    def events(self, after: int, limit: int = 1_000) -> list[Event]:
        """Return the events with numbers above `after`, the oldest first."""
        with self._reading():
            found = self._db.execute(
                "SELECT id, at, key, what, who, detail FROM events WHERE id > ? ORDER BY id LIMIT ?", (after, limit)
            ).fetchall()
        return [Event(*one) for one in found]

    def last_event(self) -> int:
        """Return the number of the latest event; 0 without one."""
        with self._reading():
            return int(self._db.execute("SELECT coalesce(max(id), 0) FROM events").fetchone()[0])

    def row(self, key: str) -> Row:
        """Return the group of a key, or of the beginning of one. Raises ValueError."""
        with self._reading():
            return self._row(self._find(key))

    # Changes by people; `who` may be empty

    def resolve(self, key: str, who: str, version: str = "") -> Row:
        """Resolve a group, in a version if one is named. Raises ValueError."""
        now = self._clock()
        return self._change(key, resolved(now, version), who, f"in {version}" if version else "")

    def reopen(self, key: str, who: str) -> Row:
        """Open a group that was resolved or muted. Raises ValueError."""
        return self._change(key, State(), who)

    def mute(self, key: str, who: str, *, for_s: float = 0.0, more: int = 0) -> Row:
        """Mute a group: for a time, until `more` further errors, both, or for ever. Raises ValueError."""
        until = self._clock() + for_s if for_s else 0.0
        detail = " or ".join([*([f"for {for_s:g} s"] if for_s else []), *([f"until {more} more"] if more else [])])
        return self._change(key, muted(until=until), who, detail, more)

    def assign(self, key: str, who: str, assignee: str) -> Row:
        """Assign a group to a person; empty: to no one. Raises ValueError."""
        return self._set(key, "assignee", assignee[:200], who, "assigned")

    def annotate(self, key: str, who: str, note: str) -> Row:
        """Write a note on a group, instead of the one before. Raises ValueError."""
        return self._set(key, "note", note[:LONGEST_NOTE], who, "noted")

    def split(self, key: str, who: str, place: str) -> Row:
        """Make the errors of one place in the code a group of their own; return it. Raises ValueError."""
        with self._writing():
            row = self._find(key)
            own = splitting.split(self._db, row[0], row[1], place)
            for one, detail in ((row[1], place), (own, f"from {row[1]}")):
                note_event(self._db, self._clock(), one, "split", who, detail)
            return self._row(self._find(own))

    def join(self, key: str, who: str) -> Row:
        """Join a group that was split off with the other one; return that. Raises ValueError."""
        with self._writing():
            row = self._find(key)
            parent = splitting.join(self._db, row[0], row[1])
            note_event(self._db, self._clock(), parent, "joined", who, row[1])
            return self._row(self._find(parent))

    def _change(self, key: str, state: State, who: str, detail: str = "", more: int = 0) -> Row:
        with self._writing():
            row = self._find(key)
            name, *times, count = columns_of(state)
            self._db.execute(
                f"UPDATE groups SET ({STATE_COLUMNS}) = (?, ?, ?, ?, ?) WHERE id = ?",
                (name, *times, row[6] + more if more else count, row[0]),
            )
            note_event(self._db, self._clock(), row[1], "opened" if name == "open" else str(name), who, detail)
            return self._row(self._find(row[1]))

    def _set(self, key: str, column: str, value: str, who: str, what: str) -> Row:
        value = value.encode("utf-8", "replace").decode()
        with self._writing():
            row = self._find(key)
            self._db.execute(f"UPDATE groups SET {column} = ? WHERE id = ?", (value, row[0]))
            note_event(self._db, self._clock(), row[1], what, who, value)
            return self._row(self._find(row[1]))

    # Helpers

    def _reading(self) -> AbstractContextManager[None]:
        return failing_as_store_error(self._path)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        with failing_as_store_error(self._path), transaction(self._db):
            yield

    def _find(self, key: str) -> tuple[Any, ...]:
        """Return the columns of the group that a key, or its beginning, names. Raises ValueError."""
        version, colon, digits = key.lower().partition(":")
        wanted = f"{version}:{digits}" if colon else f"%:{version}"
        digits = digits if colon else version
        if len(digits) < LEAST_PREFIX or not all(digit in "0123456789abcdef" for digit in digits):
            raise ValueError(f"{key!r} is not the id of a group; write one as `prefork-logd errors` prints it")
        found = self._db.execute(
            f"SELECT DISTINCT {_COLUMNS} FROM groups JOIN (SELECT group_id FROM keys WHERE key LIKE ?)"
            " ON group_id = id LIMIT 2",
            (f"{wanted}%",),
        ).fetchall()
        if not found:
            raise ValueError(f"there is no group {key}; `prefork-logd errors` lists them")
        if len(found) > 1:
            raise ValueError(f"several groups begin with {key}; write more digits")
        row: tuple[Any, ...] = found[0]
        return row

    def _row(self, row: tuple[Any, ...]) -> Row:
        group_id, *shown = row[:11]
        state = at_time(State(*row[11:]), self._clock())
        key, title, culprit, logger, level, count, first_seen, last_seen, assignee, note = shown
        return Row(
            id=key,
            title=title,
            culprit=culprit,
            logger=logger,
            level=level,
            count=count,
            first_seen=first_seen,
            last_seen=last_seen,
            state=state.name,
            services=self._names(group_id, "service"),
            environments=self._names(group_id, "environment"),
            versions=self._names(group_id, "version"),
            assignee=assignee,
            note=note,
            resolved_at=state.resolved_at,
            resolved_in=state.resolved_in,
            muted_until=state.muted_until,
            muted_count=state.muted_count,
            chart=self._by_hour(group_id, int(self._clock() // HOUR_S), CHART_HOURS),
        )

    def _parts(self, group_id: int, table: str, column: str, most: int, nameless: str) -> list[Part]:
        found = self._db.execute(
            f"SELECT {column}, count, first_seen, last_seen FROM {table} WHERE group_id = ? ORDER BY count DESC",
            (group_id,),
        ).fetchall()
        nameless = nameless if len(found) < most else "(others)"  # those above the bound share the row without a name
        return [Part(one[0] or nameless, *one[1:]) for one in found]

    def _by_hour(self, group_id: int, last: int, hours: int) -> list[int]:
        """Return the errors of a group in each of the hours up to the last one (in hours since 1970)."""
        found: dict[int, int] = dict(
            self._db.execute(
                "SELECT hour, count FROM hours WHERE group_id = ? AND hour > ?", (group_id, last - hours)
            ).fetchall()
        )
        return [found.get(hour, 0) for hour in range(last - hours + 1, last + 1)]

    def _names(self, group_id: int, column: str) -> list[str]:
        found = self._db.execute(
            f"SELECT {column} FROM senders WHERE group_id = ? AND {column} <> '' GROUP BY {column}"
            " ORDER BY max(last_seen) DESC, sum(count) DESC LIMIT ?",
            (group_id, MOST_NAMES),
        )
        return [name for (name,) in found]
