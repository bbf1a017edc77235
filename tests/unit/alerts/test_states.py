"""The state machine: ok, pending, firing, and what people are told."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from prefork_logd.alerts.states import NEVER, Condition, step
from prefork_logd.config.alerts import AlertSettings


def run(rule: dict[str, Any], moments: list[tuple[float, bool, bool]]) -> list[tuple[str, ...]]:
    """Return the kinds of notices after each moment: time, whether it holds, whether it is silenced."""
    settings, condition, found = AlertSettings(**rule), None, []
    ids = map(str, itertools.count(1))
    for now, holds, is_silenced in moments:
        condition, kinds = step(condition, settings, now, lambda: next(ids), holds=holds, is_silenced=is_silenced)
        found.append(kinds)
    return found


ON, OFF = True, False


@pytest.mark.parametrize(
    ("rule", "moments", "expected"),
    [
        ({}, [(0, ON, OFF), (1, ON, OFF), (2, OFF, OFF), (3, OFF, OFF)], [("firing",), (), ("resolved",), ()]),
        ({"for_": "10s"}, [(0, ON, OFF), (9, ON, OFF), (10, ON, OFF)], [(), (), ("firing",)]),
        ({"for_": "10s"}, [(0, ON, OFF), (9, OFF, OFF), (10, ON, OFF), (19, ON, OFF)], [(), (), (), ()]),
        ({"resolved": False}, [(0, ON, OFF), (1, OFF, OFF)], [("firing",), ()]),
        (
            {"repeat": "1m"},
            [(0, ON, OFF), (59, ON, OFF), (60, ON, OFF), (119, ON, OFF), (500, ON, OFF)],
            [("firing",), (), ("repeat-1",), (), ("repeat-2",)],
        ),
        # Silenced from the beginning: told of at its end, or not at all.
        ({}, [(0, ON, ON), (1, ON, ON), (2, ON, OFF)], [(), (), ("firing",)]),
        ({}, [(0, ON, ON), (1, OFF, ON)], [(), ()]),
        # Silenced later: nothing is repeated, and the end is told.
        ({"repeat": "1m"}, [(0, ON, OFF), (60, ON, ON), (61, OFF, ON)], [("firing",), (), ("resolved",)]),
    ],
)
def test_what_is_told(rule: dict[str, Any], moments: list[Any], expected: list[Any]) -> None:
    """By the rule, and by what has happened."""
    assert run(rule, moments) == expected


def test_each_incident_has_an_id_of_its_own() -> None:
    """Repeats of it keep the id."""
    ids = iter("ab")
    rule = AlertSettings(repeat="1m")
    first, _ = step(None, rule, 0, lambda: next(ids), holds=True, is_silenced=False)
    again, _ = step(first, rule, 60, lambda: next(ids), holds=True, is_silenced=False)
    gone, _ = step(again, rule, 61, lambda: next(ids), holds=False, is_silenced=False)
    second, _ = step(gone, rule, 62, lambda: next(ids), holds=True, is_silenced=False)
    assert first is not None
    assert second is not None
    assert (first.incident, again and again.incident, gone, second.incident) == ("a", "a", None, "b")


def test_a_pending_condition_has_no_incident() -> None:
    """Nobody has to hear of it."""
    condition, kinds = step(None, AlertSettings(for_="1s"), 5, lambda: "x", holds=True, is_silenced=False)
    assert condition == Condition(5, "", NEVER, 0)
    assert kinds == ()
