"""Finds the values of a field that no longer come, for a rule of absence with `by`: one incident for each value.

Owns which values are expected: those that records had in the windows before. Writes nothing, and does not know states.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prefork_logd.alerts import counting
from prefork_logd.alerts.by_value import WITHOUT, by_key, query_of, shown, value_of
from prefork_logd.alerts.findings import FURTHER, MOST_KEYS, MOST_TITLE, Finding, Findings, late_s
from prefork_logd.config.alerts import LONGEST_WINDOW_S
from prefork_logd.config.values import format_count
from prefork_logd.errors import StoreError
from prefork_logd.query.language import parse_field
from prefork_logd.query.search import problems_of
from prefork_logd.records.render import escape_text

if TYPE_CHECKING:
    from collections.abc import Collection

    from prefork_logd.alerts.clock import AlertClock
    from prefork_logd.alerts.findings import Watched
    from prefork_logd.config.alerts import AlertSettings
    from prefork_logd.config.settings import Settings
    from prefork_logd.query.search import Search

WINDOWS = 10
"""Windows before now in which a value has to have come so that its absence is one; 7 days together at most, or two."""


def of_silence(
    rule: AlertSettings,
    search: Search,
    clock: AlertClock,
    settings: Settings,
    watched: Watched,
    open_keys: Collection[str],
    listening_s: float,
) -> Findings:
    """Return the findings of a rule of absence with `by`; `open_keys` have a state.

    `listening_s` is how long the collector has listened. Raises StoreError, ValueError.
    """
    came = _count(rule, search, clock, settings, watched, rule.window_s)
    keys = {key: Finding(False, came[key][1], "", rule.query) for key in open_keys if key in came}
    is_known = listening_s >= rule.window_s and not late_s(rule, settings, watched)
    if is_known:
        reach_s = min(WINDOWS * rule.window_s, max(2 * rule.window_s, LONGEST_WINDOW_S))
        expected = _count(rule, search, clock, settings, watched, reach_s)
        silent = {key: value for key, (value, _) in expected.items() if key not in came and key not in open_keys}
        unread = bool(problems_of(search))
        # Those that have a state go on, however long ago their last record was.
        staying = {
            key: None if key == WITHOUT else value_of(key) for key in open_keys if key != FURTHER and key not in came
        }
        room = max(0, MOST_KEYS - len(staying))
        chosen = {**staying, **{key: silent[key] for key in [*silent][:room]}}
        keys |= {key: _finding(rule, value, unread=unread) for key, value in chosen.items()}
        left_out = len(silent) - room
        if left_out > 0 or FURTHER in open_keys:
            title = f"more than {MOST_KEYS} values of {escape_text(rule.by)} have no records in {rule.window}"
            keys[FURTHER] = Finding(left_out > 0, max(0, left_out), title[:MOST_TITLE], rule.query)
    return Findings(keys, len(came), 0)


def _count(
    rule: AlertSettings, search: Search, clock: AlertClock, settings: Settings, watched: Watched, window_s: float
) -> dict[str, tuple[Any, int]]:
    """Return the values of a window by their keys. Raises StoreError if the store does not list all of them."""
    ranges, journal = clock.ranges(window_s), watched.journal()[0]
    counted = counting.count_by(
        search,
        rule.query,
        ranges,
        settings.alerts.lateness_s,
        parse_field(rule.by),
        journal,
        is_simple=clock.is_simple(ranges),
    )
    if counted.rest:
        raise StoreError(
            f"{rule.by} has more than {format_count(len(counted.rows), 'value')}, so those without records cannot be "
            "told; name a field with fewer values, or write a narrower query"
        )
    return by_key(counted.rows)


def _finding(rule: AlertSettings, value: Any, *, unread: bool) -> Finding:
    about = f": {escape_text(rule.query)}" if rule.query else ""
    # Those that cannot be read may have been of the window.
    part = " (a part of the store cannot be read)" if unread else ""
    title = f"no records in {rule.window}{part} {shown(rule, value)}{about}"
    return Finding(True, 0, title[:MOST_TITLE], query_of(rule, value))
