"""Defines the states of an alert, and when people are told.

Owns the rules. Does not know databases, clocks or what a condition is about: times are of the clock of the alerts
(clock.py).

| state | means | left by |
|---|---|---|
| ok | the condition does not hold | the condition holds: pending, or firing with `for = "0s"` |
| pending | it holds, for less than `for` | it ends: ok; it holds for long enough: firing |
| firing | an incident: people are told, and again after `repeat` | it ends: ok, and people are told that |

While a rule is silenced states go on, and no notice begins. An incident of which nobody was told is told of at the end
of the silence, if it still goes on. A resolved notice is sent also during a silence, to those who were told of the
incident: another system may wait for it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefork_logd.config.alerts import AlertSettings

FIRING, RESOLVED, TEST = "firing", "resolved", "test"
NEVER = -1.0


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition that holds."""

    since: float
    """When it began to hold."""
    incident: str = ""
    """The id of its incident; empty while it is pending."""
    told: float = NEVER
    """When the last notice was made."""
    repeats: int = 0


class Step(NamedTuple):
    """The state after an evaluation, and the notices that follow from it."""

    condition: Condition | None
    """None: it does not hold."""
    kinds: tuple[str, ...] = ()
    """`firing`, `repeat-1` and so on, or `resolved`: with the incident's id the key of a notice."""


def step(
    condition: Condition | None,
    rule: AlertSettings,
    now: float,
    new_id: Callable[[], str],
    *,
    holds: bool,
    is_silenced: bool,
) -> Step:
    """Return the state after an evaluation at the time `now`."""
    if not holds:
        was_told = condition is not None and condition.told != NEVER
        return Step(None, (RESOLVED,) if was_told and rule.resolved else ())
    condition = condition or Condition(now)
    if not condition.incident and now - condition.since >= rule.for_s:
        condition = replace(condition, incident=new_id())
    if not condition.incident or is_silenced:
        return Step(condition)
    if condition.told == NEVER:
        return Step(replace(condition, told=now), (FIRING,))
    if rule.repeat_s and now - condition.told >= rule.repeat_s:
        repeats = condition.repeats + 1
        return Step(replace(condition, told=now, repeats=repeats), (f"repeat-{repeats}",))
    return Step(condition)
