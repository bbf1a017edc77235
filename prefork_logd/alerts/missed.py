"""Makes up for windows in which a rule was not evaluated: the process was down, or the store or the disk had failed.

Owns which windows are looked at, and their number. Writes nothing, and does not know stores: it asks by functions.

Only what has begun and ended meanwhile is found here. What still holds is found by the next evaluation.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from prefork_logd.alerts.clock import AlertClock, Range
    from prefork_logd.alerts.findings import Finding
    from prefork_logd.config.alerts import AlertSettings

MOST_WINDOWS = 2_000
"""Windows of a rule that are made up, the latest ones; two follow one another by a quarter of the window or more."""
MOST_S = 3.0
"""Time of a rule after which no further search for them begins."""
MOST_MADE_UP = 10
"""Incidents of a rule that are made up at once."""


class Past(NamedTuple):
    """A condition that held, and does not hold any more; ages are seconds before now."""

    finding: Finding
    """That with the greatest value."""
    began_age_s: float
    ended_age_s: float


class Windows(NamedTuple):
    """What is asked about a window that is over."""

    is_possible: Callable[[Range], bool]
    """Tells whether the condition can hold in any window within this time, which is longer."""
    holding: Callable[[Range], Mapping[str, Finding]]
    """Returns what held in a window, by keys."""


def is_late(rule: AlertSettings, gap_s: float) -> bool:
    """Tell whether windows were missed since the last evaluation: a small delay misses none, as windows overlap."""
    return gap_s > max(2 * rule.every_s, rule.window_s / 2)


def find_missed(
    rule: AlertSettings, gap_s: float, clock: AlertClock, listening_s: float, windows: Windows
) -> dict[str, Past]:
    """Return what held for long enough within the time since the last evaluation, by keys.

    Of absence only windows count in which the collector listened, `listening_s` ago or later. If the clock was set
    meanwhile, nothing is found. Raises StoreError.
    """
    step_s = max(rule.every_s, rule.window_s / 4)
    if rule.on == "absence":
        gap_s = min(gap_s, listening_s - rule.window_s)
    ages = [step_s * number for number in range(min(int(gap_s / step_s), MOST_WINDOWS), 0, -1)]
    if not ages or clock.past_range(rule.window_s, ages[0]) is None:
        return {}
    found: dict[str, Past] = {}
    running: dict[str, Past] = {}
    for age_s, holding in _walk(rule, ages, clock, windows):
        if found and not running and not rule.by:
            break  # one incident is made up of each key: later times in which it held add nothing
        running = {key: _continued(running.get(key), finding, age_s) for key, finding in holding.items()}
        for key, past in running.items():
            is_same = key in found and found[key].began_age_s == past.began_age_s
            has_room = key not in found and len(found) < MOST_MADE_UP
            if past.began_age_s - age_s >= rule.for_s and (is_same or has_room):
                found[key] = past
    return {key: past._replace(ended_age_s=past.ended_age_s - step_s) for key, past in found.items()}


def _continued(before: Past | None, finding: Finding, age_s: float) -> Past:
    if before is None:
        return Past(finding, age_s, age_s)
    return Past(max(before.finding, finding, key=lambda one: one.value), before.began_age_s, age_s)


def _walk(
    rule: AlertSettings, ages: list[float], clock: AlertClock, windows: Windows
) -> Iterator[tuple[float, Mapping[str, Finding]]]:
    """Yield the age of each window, the oldest first, and what held; of windows in which nothing can, the last one."""
    ends_s = time.monotonic() + MOST_S
    waiting = [(0, len(ages))]
    while waiting and time.monotonic() < ends_s:
        first, behind = waiting.pop()
        length_s = ages[first] - ages[behind - 1] + rule.window_s
        whole = clock.past_range(length_s, ages[behind - 1])
        if whole is None:
            return  # the clock was set just now
        if behind - first == 1:
            yield ages[first], windows.holding(whole)
        elif not windows.is_possible(whole):
            yield ages[behind - 1], {}
        else:
            middle = (first + behind) // 2
            waiting += [(middle, behind), (first, middle)]
