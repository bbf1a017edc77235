"""Adds the errors of a batch to the tables of groups, within a transaction of its caller.

Owns the bounds of what is remembered about a group, and of new groups. Does not know batches' positions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from prefork_logd.query.fingerprints import key_of, summary_of
from prefork_logd.records.stored import read_fields
from prefork_logd.stores.errors import places
from prefork_logd.stores.errors.states import Arrival, State, after_records
from prefork_logd.stores.errors.tally import HOUR_S, MOST_FORMS, OTHERS, TOO_MANY

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Mapping

    from prefork_logd.stores.errors.tally import Sender, Span, Tally

MOST_SENDERS = 100
"""Versions of services that are told apart in a group; further ones are counted together, without names."""
MOST_PLACES = 50
"""The same for places in the code."""
MOST_SAMPLES = 5
"""Records that are kept of a group: the first and the latest ones."""
LONGEST_SAMPLE = 16_384
"""Bytes of a line that is kept; of a longer one the id is kept alone."""
ALL_SERVICES = 10
"""New groups of all services together: so many times those of one."""
ALL = "\0"
"""Stands for all services, where a service has its name."""
TOO_MANY_AT_ONCE = "\1"
"""Stands for the errors of a batch that are not told apart."""
KEPT_HOURS = 14 * 24
"""Hours of which the errors of a group are counted for its chart."""
STATE_COLUMNS = "state, resolved_at, resolved_in, muted_until, muted_count"


class Group(NamedTuple):
    """The parts of a group that decide what new records do."""

    id: int
    key: str
    count: int  # type: ignore[assignment]  # hides tuple.count, which is not used here
    state: State


class Writer:
    """Adds tallies to the tables."""

    def __init__(self, db: sqlite3.Connection, journal: str, new_per_hour: int) -> None:
        """Add errors of one journal, with at most so many new groups an hour for a service."""
        self._db = db
        self._journal = journal
        self._new_per_hour = new_per_hour
        self._exhausted: set[str] = set()
        self._overflow: dict[str, Tally] = {}

    def add(self, tally: Tally, now: float) -> None:
        """Add the errors of one group; `now` is the time of arrival. Call `finish` after the last one."""
        if tally.keys == TOO_MANY:
            self._count_untold(tally, int(now // HOUR_S))
            return
        group = self._find(tally)
        if group is None:
            full = self._full(_clean(min(tally.senders).service), int(now // HOUR_S))
            if full is not None:
                # Together, at the end: a flood of distinct errors would take ten statements for each.
                if full in self._overflow:
                    self._overflow[full].merge(tally)
                else:
                    self._overflow[full] = tally
                return
            group = self._make(tally, now)
        self._update(group, tally, now)

    def _count_untold(self, tally: Tally, hour: int) -> None:
        self._overflow[TOO_MANY_AT_ONCE] = tally
        self._db.execute(
            "INSERT INTO new_groups VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET count = count + excluded.count",
            (hour, TOO_MANY_AT_ONCE, tally.span.count),
        )

    def finish(self, now: float) -> None:
        """Add the errors of groups that are too many."""
        for full, tally in self._overflow.items():
            self._update(self._overflow_group(tally, full, now), tally, now)
        self._overflow.clear()

    def _update(self, group: Group, tally: Tally, now: float) -> None:
        count = group.count + tally.span.count
        state = after_records(group.state, count, self._arrivals(group, tally))
        self._db.execute(
            "UPDATE groups SET count = ?, first_seen = min(first_seen, ?), last_seen = max(last_seen, ?),"
            f" levelno = max(levelno, ?), {', '.join(f'{name} = ?' for name in STATE_COLUMNS.split(', '))}"
            " WHERE id = ?",
            (count, tally.span.first, tally.span.last, tally.levelno, *columns_of(state), group.id),
        )
        if state != group.state:
            note_event(self._db, now, group.key, "regressed" if state.name == "regressed" else "unmuted")
        self._add_parts(group, tally, int(now // HOUR_S))
        self._add_sample(group, tally)

    def _find(self, tally: Tally) -> Group | None:
        """Return the group with one of the keys; each key of a newer version is a name of it from now on."""
        marks = ", ".join("?" * len(tally.keys))
        row = self._db.execute(
            f"SELECT groups.id, groups.key, count, {STATE_COLUMNS} FROM keys JOIN groups ON groups.id = group_id"
            f" WHERE keys.key IN ({marks}) ORDER BY keys.key LIMIT 1",
            tally.keys,
        ).fetchone()
        if row is None:
            return None
        if len(tally.keys) > 1:
            self._name(row[0], tally.keys)
        return Group(row[0], row[1], row[2], State(*row[3:]))

    def _name(self, group_id: int, keys: Iterable[str]) -> None:
        self._db.executemany("INSERT OR IGNORE INTO keys VALUES (?, ?)", [(key, group_id) for key in keys])

    def _full(self, service: str, hour: int) -> str | None:
        """Count a new group; return None, or whose groups are too many in this hour: a service or ALL."""
        for name, most in ((service, self._new_per_hour), (ALL, ALL_SERVICES * self._new_per_hour)):
            if name in self._exhausted or not self._take(hour, name, most):
                self._exhausted.add(name)
                return name
        return None

    def _make(self, tally: Tally, now: float) -> Group:
        record = read_fields(tally.first.line)
        summary = summary_of(record)
        logger = str(record.get("name") or "")[:200]
        return self._insert(tally, summary.title, summary.culprit, logger, tally.keys, now)

    def _take(self, hour: int, service: str, most: int) -> bool:
        """Count a new group of this hour, unless there are enough."""
        row = self._db.execute(
            "SELECT count FROM new_groups WHERE hour = ? AND service = ?", (hour, service)
        ).fetchone()
        if row is not None and row[0] >= most:
            return False
        self._db.execute(
            "INSERT INTO new_groups VALUES (?, ?, 1) ON CONFLICT DO UPDATE SET count = count + 1", (hour, service)
        )
        return True

    def _overflow_group(self, tally: Tally, full: str, now: float) -> Group:
        keys = (
            TOO_MANY if full == TOO_MANY_AT_ONCE else (key_of("g1", ("overflow", *(() if full == ALL else (full,)))),)
        )
        known = self._db.execute(
            f"SELECT id, key, count, {STATE_COLUMNS} FROM groups WHERE key = ?",
            keys,
        ).fetchone()
        if known is not None:
            return Group(known[0], known[1], known[2], State(*known[3:]))
        title = _overflow_title(full)
        return self._insert(tally, title, "", "", keys, now)

    def _insert(self, tally: Tally, title: str, culprit: str, logger: str, keys: tuple[str, ...], now: float) -> Group:
        span = tally.span
        values = [
            text.encode("utf-8", "replace").decode() for text in (title, culprit, logger)
        ]  # SQLite takes no lone surrogates
        group_id = self._db.execute(
            "INSERT INTO groups (key, title, culprit, logger, levelno, count, first_seen, last_seen)"
            " VALUES (?, ?, ?, ?, ?, 0, ?, ?)",
            (keys[0], *values, tally.levelno, span.first, span.last),
        ).lastrowid
        assert group_id is not None  # noqa: S101 - for the type checker
        self._name(group_id, keys)
        note_event(self._db, now, keys[0], "new")
        return Group(group_id, keys[0], 0, State())

    def _arrivals(self, group: Group, tally: Tally) -> list[Arrival]:
        if group.state.name not in ("resolved", "muted"):
            return []
        since: dict[str, float] = dict(
            self._db.execute(
                "SELECT version, min(first_seen) FROM senders WHERE group_id = ? GROUP BY version", (group.id,)
            ).fetchall()
        )
        return [
            Arrival(sender.version, span.last, since.get(_clean(sender.version), float("inf")))
            for sender, span in tally.senders.items()
        ]

    def _add_parts(self, group: Group, tally: Tally, now_hour: int) -> None:
        known = self._names(group, "variants", "place")
        has_several = len(known | set(map(_clean, tally.variants))) > 1
        if has_several and len(known) == 1:
            places.begin(self._db, group.id)
        senders = self._add_senders(group, tally)
        self._add_named(group, "variants", MOST_PLACES, tally.variants, known)
        forms = self._names(group, "forms", "form")
        self._add_named(group, "forms", MOST_FORMS, tally.forms, forms)
        # A client may send any time: hours to come would stay for ever.
        kept = range(now_hour - KEPT_HOURS, now_hour + 2)
        self._db.executemany(
            "INSERT INTO hours VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET count = count + excluded.count",
            [(group.id, hour, count) for hour, count in tally.hours.items() if hour in kept],
        )
        if has_several:
            self._add_to_places(group, tally, known - {OTHERS}, (senders, forms), kept)

    def _add_senders(self, group: Group, tally: Tally) -> dict[Sender, tuple[str, ...]]:
        """Add the senders; return the name of each in the table."""
        known = set(
            self._db.execute("SELECT service, environment, version FROM senders WHERE group_id = ?", (group.id,))
        )
        names: dict[Sender, tuple[str, ...]] = {}
        for sender, span in tally.senders.items():
            name: tuple[str, ...] = tuple(map(_clean, sender))
            if name not in known:
                name = name if len(known) < MOST_SENDERS else (OTHERS, OTHERS, OTHERS)
                known.add(name)
            names[sender] = name
            self._db.execute(
                "INSERT INTO senders VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET count = count +"
                " excluded.count, first_seen = min(first_seen, excluded.first_seen),"
                " last_seen = max(last_seen, excluded.last_seen)",
                (group.id, *name, span.count, span.first, span.last),
            )
        return names

    def _add_to_places(
        self,
        group: Group,
        tally: Tally,
        named: set[str],
        known: tuple[dict[Sender, tuple[str, ...]], set[str]],
        kept: range,
    ) -> None:
        """Add the hours, senders and forms of the places that have a name; `known` are names of senders and forms."""
        senders, forms = known
        hours = ((_clean(place), hour, count) for (place, hour), count in tally.place_hours.items() if hour in kept)
        spans = (
            (_clean(place), senders[sender], span.count, span.first, span.last)
            for (place, sender), span in tally.place_senders.items()
        )
        forms_of = (
            (_clean(place), _clean(form) if _clean(form) in forms else OTHERS, span.count, span.first, span.last)
            for (place, form), span in tally.place_forms.items()
        )
        places.add(
            self._db,
            group.id,
            [one for one in hours if one[0] in named],
            [one for one in spans if one[0] in named],
            [one for one in forms_of if one[0] in named],
        )

    def _names(self, group: Group, table: str, column: str) -> set[str]:
        return {name for (name,) in self._db.execute(f"SELECT {column} FROM {table} WHERE group_id = ?", (group.id,))}

    def _add_named(self, group: Group, table: str, most: int, spans: Mapping[str, Span], known: set[str]) -> None:
        """Add to the parts of a group by one name, and to the known names; those above the bound are OTHERS."""
        for name, span in spans.items():
            kept = _clean(name)
            if kept not in known:
                kept = kept if len(known) < most else OTHERS
                known.add(kept)
            self._db.execute(
                f"INSERT INTO {table} VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET count = count + excluded.count,"
                " first_seen = min(first_seen, excluded.first_seen), last_seen = max(last_seen, excluded.last_seen)",
                (group.id, kept, span.count, span.first, span.last),
            )

    def _add_sample(self, group: Group, tally: Tally) -> None:
        sample = tally.latest if group.count else tally.first
        rows = [(sample, not group.count)]
        if not group.count and tally.latest is not tally.first:
            rows.append((tally.latest, False))
        self._db.executemany(
            "INSERT OR IGNORE INTO samples VALUES (?, ?, ?, ?, ?, ?)",
            [
                (
                    group.id,
                    one.created,
                    self._journal,
                    one.number,
                    is_first,
                    one.line if len(one.line) <= LONGEST_SAMPLE else None,
                )
                for one, is_first in rows
            ],
        )
        self._db.execute(
            "DELETE FROM samples WHERE group_id = ? AND NOT is_first AND (created, journal, number) NOT IN (SELECT"
            " created, journal, number FROM samples WHERE group_id = ? AND NOT is_first ORDER BY created DESC LIMIT ?)",
            (group.id, group.id, MOST_SAMPLES - 1),
        )


def _overflow_title(full: str) -> str:
    if full == TOO_MANY_AT_ONCE:
        return "Too many errors at once: those that were not told apart are counted here"
    source = "all services" if full == ALL else full or "senders without a service"
    return f"Too many new groups in an hour, of {source}: further errors are counted here"


def _clean(text: str) -> str:
    """Return a text without lone surrogates, which SQLite does not take."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def columns_of(state: State) -> tuple[str | float, ...]:
    """Return the values of STATE_COLUMNS."""
    return state.name, state.resolved_at, state.resolved_in, state.muted_until, state.muted_count


def note_event(db: sqlite3.Connection, at: float, key: str, what: str, who: str = "", detail: str = "") -> None:
    """Add an event of a group: it is new, has regressed, or somebody changed it."""
    db.execute("INSERT INTO events (at, key, what, who, detail) VALUES (?, ?, ?, ?, ?)", (at, key, what, who, detail))
