"""A rule of absence with `by` has an incident for each value that no longer comes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from prefork_logd.alerts import silent_values
from prefork_logd.query import analysis

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.alerting import Hook, World

    Maker = Callable[..., World]

SILENT = 'on = "absence"\nquery = "level>=info"\nby = "tenant"'


def _beat(world: World, *tenants: str, turns: int) -> None:
    """Let these tenants log in each turn."""
    for _ in range(turns):
        for tenant in tenants:
            world.log(1, tenant=tenant)
        world.turn()


def test_the_value_that_no_longer_comes_is_an_incident(make_world: Maker, hook: Hook) -> None:
    """Others come; it ends when the value comes again."""
    world = make_world(SILENT)
    _beat(world, "north", "south", turns=12)
    assert hook.requests == []
    _beat(world, "south", turns=15)
    assert hook.notices == [("firing", "no records in 10s with tenant=north: level>=info")]
    _beat(world, "south", "north", turns=2)
    assert hook.ids == ["firing", "resolved"]
    assert [(one.by, one.state) for one in world.incidents()] == [("north", "resolved")]


def test_it_goes_on_after_the_last_record_is_forgotten(make_world: Maker, hook: Hook) -> None:
    """A value is expected for ten windows after its last record; an incident does not end with that."""
    world = make_world(f'{SILENT}\nrepeat = "1m"')
    _beat(world, "north", "south", turns=12)
    _beat(world, "south", turns=10 * silent_values.WINDOWS + 60)
    assert hook.ids[:2] == ["firing", "repeat-1"]
    assert {title for _, title in hook.notices} == {"no records in 10s with tenant=north: level>=info"}
    assert [(one.by, one.state) for one in world.incidents()] == [("north", "firing")]


def test_a_value_has_to_have_come_lately(make_world: Maker, hook: Hook) -> None:
    """What came longer ago than ten windows before a start is not expected; nor is anything before a whole window."""
    world = make_world(SILENT)
    world.listening = False
    world.log(1, tenant="old")
    world.turn(10 * silent_values.WINDOWS + 5)
    world.log(1, tenant="new")
    world.listening = True
    world.turn(turns=9)
    assert hook.requests == []
    world.turn(turns=5)
    assert hook.notices == [("firing", "no records in 10s with tenant=new: level>=info")]


def test_so_many_values_are_incidents(make_world: Maker, hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    """Further ones are one incident together, until there are no more of them."""
    monkeypatch.setattr(silent_values, "MOST_KEYS", 2)
    world = make_world(SILENT)
    _beat(world, "a", "b", "c", "d", turns=12)
    world.turn(turns=12)
    assert sorted(one.by for one in world.incidents()) == ["", "a", "b"]
    assert ("firing", "more than 2 values of tenant have no records in 10s") in hook.notices
    _beat(world, "a", "b", "c", "d", turns=2)
    assert {one.state for one in world.incidents()} == {"resolved"}


def test_too_many_values_are_a_problem(make_world: Maker, hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a value that the store does not list, nothing is known."""
    monkeypatch.setattr(analysis, "MOST_GROUPS", 3)
    world = make_world(SILENT)
    for number in range(5):
        world.log(1, tenant=f"t{number}")
    world.turn(turns=12)
    assert hook.requests == []
    assert "tenant has more than 3 values" in world.rule().problem
