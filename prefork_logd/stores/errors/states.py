"""Defines the states of an error group, and how records and people change them.

Owns the rules. Does not know databases or clocks: times are seconds since 1970.

| state | means |
|---|---|
| open | it happens |
| resolved | somebody has repaired it, perhaps in a version |
| regressed | it was resolved, and has happened again |
| muted | it is known, and nobody wants to hear of it: for ever, until a time, or until it has happened so often |
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable

StateName = Literal["open", "resolved", "regressed", "muted"]
STATES: tuple[StateName, ...] = ("open", "regressed", "muted", "resolved")


@dataclass(frozen=True, slots=True)
class State:
    """The state of a group."""

    name: StateName = "open"
    resolved_at: float = 0.0
    """When it was resolved: a record that was logged before cannot make it regress."""
    resolved_in: str = ""
    """The version in which it was repaired; empty if none was named."""
    muted_until: float = 0.0
    """When it is open again; 0: not by time."""
    muted_count: int = 0
    """The count at which it is open again; 0: not by count."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """New records of a group that came from one version of a service."""

    version: str
    """Empty if the sender names none."""
    last: float
    """The latest time of logging."""
    version_since: float
    """When the first record of this version was logged that the group had before; infinite if it had none."""


def after_records(state: State, count: int, arrivals: Iterable[Arrival]) -> State:
    """Return the state after new records have arrived; `count` is that of all records, these included."""
    if state.name == "resolved" and any(_regresses(state, one) for one in arrivals):
        return State("regressed")
    if state.name == "muted":
        is_late = state.muted_until and any(one.last >= state.muted_until for one in arrivals)
        if is_late or (state.muted_count and count >= state.muted_count):
            return State("open")
    return state


def _regresses(state: State, arrival: Arrival) -> bool:
    """Tell whether records of a resolved group show that it is not repaired.

    Records of versions that the group had before it was resolved do not, if the repair names a version: those are
    servers that run the old one.
    """
    if arrival.last <= state.resolved_at:
        return False
    is_old = bool(arrival.version) and arrival.version != state.resolved_in
    return not (state.resolved_in and is_old and arrival.version_since <= state.resolved_at)


def at_time(state: State, now: float) -> State:
    """Return the state at a time: one that is muted until then is open."""
    if state.name == "muted" and state.muted_until and now >= state.muted_until:
        return State("open")
    return state


def resolved(now: float, version: str = "") -> State:
    """Return the state of a group that somebody resolves, in a version or not."""
    return State("resolved", resolved_at=now, resolved_in=version)


def muted(*, until: float = 0.0, count: int = 0) -> State:
    """Return the state of a group that somebody mutes, until a time or a count; without both, for ever."""
    return replace(State("muted"), muted_until=until, muted_count=count)
