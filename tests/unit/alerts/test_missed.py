"""Windows in which a rule was not evaluated are made up for: one incident, which is over, and no flood of notices."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest

from prefork_logd.alerts import missed, schema
from prefork_logd.alerts.book import AlertBook
from prefork_logd.errors import QueryTimeoutError, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.alerting import Hook, World

    Maker = Callable[..., World]

OVER_2 = 'query = "level>=error"\nabove = 2'


def pass_time(world: World, seconds: float) -> None:
    """Let time pass without a turn."""
    world.monotonic += seconds
    world.wall += seconds


def test_a_burst_while_the_process_was_down_is_told_once(make_world: Maker, hook: Hook) -> None:
    """With its times; several bursts are one incident, and nothing comes after it."""
    world = make_world(OVER_2).turn()
    world.engine.close()
    began = world.wall
    for _ in range(20):
        pass_time(world, 100)
        world.log(3)
    pass_time(world, 1_000)
    world.restart()
    world.turn(turns=5)
    assert hook.ids == ["firing", "resolved"]
    firing, resolved = (json.loads(request.body) for request in hook.requests)
    assert firing["title"] == "over already, found late: 3 records in 10s (more than 2): level>=error"
    assert (firing["value"], resolved["title"], bool(resolved["ended"])) == (3, firing["title"], True)
    (one,) = world.incidents()
    assert (one.state, one.silenced) == ("resolved", False)
    assert began < one.started < one.ended < world.wall


def test_only_the_latest_windows_are_looked_at(make_world: Maker, hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    """A burst that is older than these is not found."""
    monkeypatch.setattr(missed, "MOST_WINDOWS", 40)
    world = make_world(OVER_2).turn()
    world.log(3)
    pass_time(world, 2.5 * 40 + 20)
    world.turn()
    assert hook.requests == []


def test_a_store_that_failed_is_made_up_for(make_world: Maker, hook: Hook) -> None:
    """Also one that was behind: its records come later, with the times at which they were received."""
    world = make_world(OVER_2).turn()
    world.records.error = StoreError("cannot be reached")
    world.turn()
    world.log(4)
    world.turn(turns=100)
    assert hook.requests == []
    world.records.error = None
    world.turn(60)
    assert hook.ids == ["firing", "resolved"]
    assert world.incidents()[0].value == 4


def test_a_condition_that_goes_on_is_told_as_usual(make_world: Maker, hook: Hook) -> None:
    """And one that was open before ends as usual: nothing is made up."""
    world = make_world(OVER_2).turn()
    pass_time(world, 100)
    world.log(3)
    world.turn()
    assert hook.ids == ["firing"]
    pass_time(world, 50)
    world.log(3)
    pass_time(world, 50)
    world.turn(turns=2)
    assert hook.ids == ["firing", "resolved"]
    assert len(world.incidents()) == 1


def test_a_silence_and_rules_without_an_end(make_world: Maker, hook: Hook) -> None:
    """The incident is kept, and nobody is told of it, or of its end."""
    world = make_world(f"{OVER_2}\nresolved = false").turn()
    for expected in (["firing"], ["firing"]):
        world.log(3)
        pass_time(world, 100)
        world.turn(turns=2)
        assert hook.ids == expected
        with contextlib.closing(AlertBook(world.settings, world.state_dir, lambda: world.wall)) as book:
            book.silence("rule", 1_000, "me")
    assert [one.silenced for one in world.incidents()] == [True, False]


def test_it_has_to_have_held_for_its_time(make_world: Maker, hook: Hook) -> None:
    """`for` is that of the windows which follow one another."""
    world = make_world(f'{OVER_2}\nfor = "20s"').turn()
    world.log(3)
    pass_time(world, 100)
    world.turn(turns=2)
    assert hook.requests == []
    for _ in range(5):
        world.log(3)
        pass_time(world, 7)
    pass_time(world, 100)
    world.turn(turns=2)
    assert hook.ids == ["firing", "resolved"]
    assert world.incidents()[0].ended - world.incidents()[0].started > 20


def test_each_value_is_made_up_for(make_world: Maker, hook: Hook) -> None:
    """Up to a bound, and of different times."""
    world = make_world(f'{OVER_2}\nby = "tenant"').turn()
    for tenant in range(missed.MOST_MADE_UP + 3):
        world.log(3, tenant=tenant)
        pass_time(world, 20)
    pass_time(world, 50)
    world.turn()
    assert sorted(hook.ids) == ["firing"] * 10 + ["resolved"] * 10
    assert {one.by for one in world.incidents()} == {str(number) for number in range(10)}


def test_absence_while_the_collector_listened(make_world: Maker, hook: Hook) -> None:
    """Not in a time in which it did not listen: another run of it begins anew."""
    world = make_world('on = "absence"')
    for run, expected in (("another", []), ("another", ["firing", "resolved"])):
        world.log()
        world.turn(turns=8)
        world.log()
        pass_time(world, 60)
        world.log()
        world.run = run
        world.restart()
        world.turn()
        assert hook.ids == expected


def test_nothing_is_made_up_if_the_clock_was_set(make_world: Maker, hook: Hook) -> None:
    """The times of records are then ambiguous."""
    world = make_world(OVER_2).turn()
    world.log(3)
    pass_time(world, 100)
    world.wall -= 50
    world.turn(turns=2)
    assert hook.requests == []


def test_a_quiet_time_takes_one_search(make_world: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long it was. A small delay takes none."""
    world = make_world(OVER_2).turn()
    asked: list[Any] = []
    real = world.records.count
    monkeypatch.setattr(world.records, "count", lambda filters: asked.append(filters) or real(filters))
    world.turn(4)
    assert len(asked) == 1
    world.turn(86_400)
    assert len(asked) == 3


def test_a_search_that_fails_does_not_stop_the_rule(make_world: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is now is more important."""
    world = make_world(OVER_2).turn()

    def fail(*_: object) -> None:
        raise QueryTimeoutError(30.0)

    monkeypatch.setattr("prefork_logd.alerts.counting.count_past", fail)
    pass_time(world, 100)
    world.log(3)
    world.turn()
    assert [one.value for one in world.incidents()] == [3]


def test_slow_searches_end(make_world: Maker, hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    """After MOST_S no further one begins; what was found until then counts."""
    world = make_world(OVER_2).turn()
    world.log(3)
    pass_time(world, 100)
    monkeypatch.setattr(missed, "MOST_S", -1.0)
    world.turn()
    assert hook.requests == []


def test_a_file_of_the_last_version_is_upgraded(make_world: Maker, hook: Hook) -> None:
    """It goes on; what was missed before the upgrade is not known."""
    world = make_world(OVER_2).turn()
    world.engine.close()
    path = world.state_dir / "alerts.db"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("ALTER TABLE evaluations DROP COLUMN ticks")
        db.execute("PRAGMA user_version = 1")
    world.log(3)
    pass_time(world, 100)
    world.restart()
    world.turn(turns=2)
    assert (world.engine.problem, hook.requests) == ("", [])
    with contextlib.closing(schema.connect(path)) as db:
        assert db.execute("SELECT ticks > 0 FROM evaluations").fetchall() == [(1,)]
