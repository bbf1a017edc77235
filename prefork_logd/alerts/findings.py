"""Finds out for each rule what holds now: by a search of records, or by the groups of errors.

Owns the sentences about it. Writes nothing, and does not know states.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, NamedTuple, Protocol

from prefork_logd.alerts import counting
from prefork_logd.alerts.notices import GROUP_QUERY
from prefork_logd.config.values import format_count
from prefork_logd.errors import StoreError
from prefork_logd.query.search import problems_of
from prefork_logd.records.render import escape_text
from prefork_logd.stores.errors.book import Book, Row
from prefork_logd.stores.registry import choose_store, searches_journal

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from prefork_logd.alerts.clock import AlertClock, Range
    from prefork_logd.config.alerts import AlertSettings
    from prefork_logd.config.settings import Settings
    from prefork_logd.query.search import Search

MOST_KEYS = 100
"""Groups of errors, or values, of one rule that are incidents at once. Further ones are one incident together."""
FURTHER = "further"
"""The key of that incident."""
MOST_EVENTS = 1_000
"""Events of groups that one evaluation reads; the next one reads on."""
MOST_TITLE = 300
_WHAT = {"new-group": ("new",), "regressed-group": ("regressed", "unmuted")}
_TITLES = {"new-group": "new error", "regressed-group": "error is back"}


class Finding(NamedTuple):
    """What holds of one key of a rule."""

    holds: bool
    value: int
    title: str
    query: str
    """The query that finds the records."""


class Findings(NamedTuple):
    """What an evaluation of a rule has found."""

    keys: dict[str, Finding]
    """By the key of a group, that of a value, or an empty text. A key that is not in it keeps its state."""
    value: int
    position: int
    """The number of the last event of groups that was looked at."""
    problem: str = ""
    """The parts of the store that could not be read; the findings are about the others."""


class Watched(Protocol):
    """What the process sees of the collector."""

    def journal(self) -> tuple[str, int]:
        """Return the id of the journal, empty if it is not known yet, and the number of its next record."""

    def lag_s(self, store: str) -> float:
        """Return for how long the oldest record waits that a store does not have yet."""

    def is_listening(self) -> bool:
        """Return whether clients can send records now."""


MOST_LAG_S = 30.0
"""A store that is behind for longer than this and `batch_time` does not tell that there are few records."""


def of_records(
    rule: AlertSettings, search: Search, clock: AlertClock, settings: Settings, watched: Watched, listening_s: float
) -> Findings:
    """Return the finding of a rule about records; `listening_s` is how long the collector has listened.

    Raises StoreError, ValueError.
    """
    is_absence = rule.on == "absence"
    enough = 1 if is_absence else rule.above + 1
    ranges, journal = clock.ranges(rule.window_s), watched.journal()[0]
    value = counting.count(
        search, rule.query, ranges, settings.alerts.lateness_s, enough, journal, is_simple=clock.is_simple(ranges)
    )
    if value < enough:
        require_on_time(rule, settings, watched)
    if is_absence and value == 0 and listening_s < rule.window_s:
        return Findings({}, value, 0)
    return Findings({"": _of_count(rule, value, search)}, value, 0)


def held(rule: AlertSettings, search: Search, past: Range, lateness_s: float) -> dict[str, Finding]:
    """Return the finding of a window that is over, if the condition held. Raises StoreError, ValueError."""
    finding = _of_count(rule, counting.count_past(search, rule.query, past, lateness_s), search)
    return {"": finding} if finding.holds else {}


def _of_count(rule: AlertSettings, value: int, search: Search) -> Finding:
    about = f": {escape_text(rule.query)}" if rule.query else ""
    if rule.on == "absence":
        holds = value == 0
        # Those that cannot be read may have been of the window.
        unread = " (a part of the store cannot be read)" if problems_of(search) else ""
        title = f"no records in {rule.window}{unread}{about}"
    else:
        holds = value > rule.above
        title = f"{format_count(value, 'record')} in {rule.window} (more than {rule.above:,}){about}"
    return Finding(holds, value, title[:MOST_TITLE], rule.query)


def require_on_time(rule: AlertSettings, settings: Settings, watched: Watched) -> None:
    """Raise StoreError if records wait that a search does not find, for longer than usual."""
    if behind_s := late_s(rule, settings, watched):
        raise StoreError(f"the store is {behind_s:.0f} s behind, so records may be missing from the count")


def late_s(rule: AlertSettings, settings: Settings, watched: Watched) -> float:
    """Return for how long records wait that a search does not find; 0 if that is as usual."""
    store = choose_store(settings, rule.store or None)
    if searches_journal(store):
        return 0.0
    lag_s = watched.lag_s(store.name)
    return lag_s if lag_s > MOST_LAG_S + store.batch_time_s else 0.0


def of_groups(rule: AlertSettings, groups: Path, position: int | None, open_keys: Collection[str]) -> Findings:
    """Return the findings of a rule about groups of errors.

    `position` is the last event that was looked at; None if the rule is new: events before it do not count.
    `open_keys` have a state. Raises StoreError.
    """
    if not groups.exists():
        return Findings({key: _gone(key) for key in open_keys}, 0, 0)
    with contextlib.closing(Book(groups)) as book:
        last = book.last_event()
        if position is None:
            return Findings({}, 0, last)
        if last < position:
            position = 0  # the file was removed, and made again
        events = book.events(position, MOST_EVENTS)
        keys: dict[str, Finding] = {}
        further = 0
        for key in open_keys:
            if key != FURTHER:
                keys[key] = _of_open(rule, book, key)
        for event in events:
            if event.what not in _WHAT[rule.on] or event.id in keys:
                continue
            row = _row(book, event.id)
            if row is None or row.state not in ("open", "regressed") or not _matches(rule, row):
                continue
            if len(keys) >= MOST_KEYS:
                further += 1
                continue
            keys[event.id] = _finding(rule, row)
        is_full = sum(one.holds for one in keys.values()) >= MOST_KEYS
        if further or FURTHER in open_keys:
            title = f"more than {MOST_KEYS} groups of errors; resolve or mute some to hear of further ones"
            keys[FURTHER] = Finding(is_full, further, title, "level>=ERROR")
        read = events[-1].number if events else position
    return Findings(keys, sum(one.holds for one in keys.values()), read)


def _of_open(rule: AlertSettings, book: Book, key: str) -> Finding:
    row = _row(book, key)
    if row is None or row.state not in ("open", "regressed"):
        return _gone(key)
    return _finding(rule, row)


def _row(book: Book, key: str) -> Row | None:
    try:
        return book.row(key)
    except ValueError:
        return None  # it was removed by the bound of groups


def _finding(rule: AlertSettings, row: Row) -> Finding:
    where = ", ".join(filter(None, [row.culprit or row.logger, *row.services[:3]]))
    title = f"{_TITLES[rule.on]}: {escape_text(row.title)}" + (f" ({escape_text(where)})" if where else "")
    return Finding(True, row.count, " ".join(title.split())[:MOST_TITLE], f"{GROUP_QUERY}{row.id}")


def _gone(key: str) -> Finding:
    return Finding(False, 0, "", f"{GROUP_QUERY}{key}")


def _matches(rule: AlertSettings, row: Row) -> bool:
    if rule.service and rule.service not in row.services:
        return False
    return rule.text.casefold() in f"{row.title}\n{row.culprit}\n{row.logger}".casefold()
