"""Finds out what holds of each value of a field, for a rule with `by`: one incident for each value.

Owns the keys and the sentences of values, and how many are incidents at once. Writes nothing, and does not know states.

A value that is beyond the bound, or that the store did not list, keeps its state: nothing ends because of a bound.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from prefork_logd.alerts import counting
from prefork_logd.alerts.findings import FURTHER, MOST_KEYS, MOST_TITLE, Finding, Findings, late_s, require_on_time
from prefork_logd.config.values import format_count
from prefork_logd.query.as_text import quoted
from prefork_logd.query.conditions import SHORT_NAMES
from prefork_logd.query.language import parse_field
from prefork_logd.records.render import escape_text

if TYPE_CHECKING:
    from collections.abc import Collection

    from prefork_logd.alerts.clock import AlertClock, Range
    from prefork_logd.alerts.findings import Watched
    from prefork_logd.config.alerts import AlertSettings
    from prefork_logd.config.settings import Settings
    from prefork_logd.query.search import Search

SIGN = "="
"""The first character of the key of a value; that of a group of errors begins otherwise."""
WITHOUT = "-"
"""The key of the records that have no value."""
_LONGEST = 160
"""Characters of a value in a key; a longer one has a hash behind them."""
_LONGEST_SHOWN = 80


def of_values(
    rule: AlertSettings,
    search: Search,
    clock: AlertClock,
    settings: Settings,
    watched: Watched,
    open_keys: Collection[str],
) -> Findings:
    """Return the findings of a rule with `by`; `open_keys` have a state. Raises StoreError, ValueError."""
    ranges, journal = clock.ranges(rule.window_s), watched.journal()[0]
    field = parse_field(rule.by)
    counted = counting.count_by(
        search, rule.query, ranges, settings.alerts.lateness_s, field, journal, is_simple=clock.is_simple(ranges)
    )
    counts = by_key(counted.rows)
    firing = _firing(rule, counts)
    is_late = late_s(rule, settings, watched) > 0
    if not firing:
        require_on_time(rule, settings, watched)
    keys = {key: _finding(rule, *firing[key]) for key in open_keys if key in firing}
    # Of a value that is not in the list, or not yet in the store, nothing is known.
    is_whole = counted.rest <= rule.above and not is_late
    if is_whole:
        for key in open_keys:
            if key != FURTHER and key not in firing:
                keys[key] = Finding(False, counts[key][1] if key in counts else 0, "", rule.query)
    staying = [key for key in open_keys if key != FURTHER and (key not in keys or keys[key].holds)]
    room = max(0, MOST_KEYS - len(staying))
    new = [key for key in firing if key not in keys]
    keys |= {key: _finding(rule, *firing[key]) for key in new[:room]}
    if new[room:] or (FURTHER in open_keys and is_whole):
        title = (
            f"more than {MOST_KEYS} values of {escape_text(rule.by)}, each more than {format_count(rule.above, 'time')}"
            f" in {rule.window}; name a field with fewer values, or write a narrower query"
        )
        keys[FURTHER] = Finding(bool(new[room:]), len(new[room:]), title[:MOST_TITLE], rule.query)
    return Findings(keys, max((count for _, count in counts.values()), default=0), 0)


def held_by_value(rule: AlertSettings, search: Search, past: Range, lateness_s: float) -> dict[str, Finding]:
    """Return what held in a window that is over, by keys. Raises StoreError, ValueError."""
    counted = counting.count_past_by(search, rule.query, past, lateness_s, parse_field(rule.by))
    firing = _firing(rule, by_key(counted.rows))
    return {key: _finding(rule, value, count) for key, (value, count) in firing.items()}


def _firing(rule: AlertSettings, counts: dict[str, tuple[Any, int]]) -> dict[str, tuple[Any, int]]:
    return {key: (value, count) for key, (value, count) in counts.items() if count > rule.above}


def by_key(rows: list[tuple[Any, int]]) -> dict[str, tuple[Any, int]]:
    """Return each value with its count; a number and its text are one, as they are for a query."""
    found: dict[str, tuple[Any, int]] = {}
    for value, count in rows:
        key = _key(value)
        found[key] = (value, count + found[key][1]) if key in found else (value, count)
    return found


def _text(value: Any) -> str:
    """Return a value as text, without the lone surrogates that SQLite and UTF-8 do not take."""
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return text.encode("utf-8", "replace").decode()


def _key(value: Any) -> str:
    if value is None:
        return WITHOUT
    text = _text(value)
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]} {hashlib.sha256(text.encode()).hexdigest()[:16]}"
    return SIGN + text


def value_of(key: str) -> str:
    """Return the value of an incident's key, its beginning if it is long; empty if the key is of no value."""
    return key.removeprefix(SIGN) if key.startswith(SIGN) else ""


def _finding(rule: AlertSettings, value: Any, count: int) -> Finding:
    about = f": {escape_text(rule.query)}" if rule.query else ""
    which = shown(rule, value)
    title = f"{format_count(count, 'record')} in {rule.window} {which} (more than {rule.above:,}){about}"
    return Finding(True, count, title[:MOST_TITLE], query_of(rule, value))


def shown(rule: AlertSettings, value: Any) -> str:
    """Return the words about a value for a title: `with service=shop`."""
    text = escape_text(_text(value)).replace("\n", " ")
    return f"without {rule.by}" if value is None else f"with {rule.by}={text[:_LONGEST_SHOWN]}"


def query_of(rule: AlertSettings, value: Any) -> str:
    """Return the query of the records with a value; that of all with the field, if a query cannot have the value."""
    field = SHORT_NAMES.get(rule.by, rule.by)  # `logger=` would find its children, too
    if value is None:
        condition = f"-{field}:*"
    elif isinstance(value, (list, dict)) or (isinstance(value, str) and _text(value) != value):
        condition = f"{field}:*"
    else:
        condition = f"{field}={quoted(_text(value))}"
    query = rule.query.strip()
    return f"{condition} ({query})" if query and query != "*" else condition
