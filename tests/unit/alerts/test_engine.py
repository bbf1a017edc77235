"""Rules are evaluated, and each incident is told once: over restarts, set clocks, failures and changed rules."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from prefork_logd.alerts import engine as module
from prefork_logd.alerts import findings, ledger
from prefork_logd.alerts.book import AlertBook
from prefork_logd.config.alerts import AlertSettings
from prefork_logd.config.stores.parquet import ParquetStoreSettings
from prefork_logd.errors import StoreError, file_reason
from prefork_logd.stores.errors.book import Book
from prefork_logd.stores.parquet.search import open_search
from prefork_logd.stores.parquet.store import ParquetStore
from tests.support.alerting import World, toml
from tests.support.disks import mounted
from tests.support.error_groups import opened
from tests.support.stores import JOURNAL, block, line, never

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.alerting import Hook

    Maker = Callable[..., World]

POSTGRESQL = '[[store]]\ntype = "postgresql"\ndsn = "postgresql://nowhere/logs"\n'
OVER_2 = 'query = "level>=error"\nabove = 2'
NEW, BACK = 'on = "new-group"', 'on = "regressed-group"'


def test_too_many_records(make_world: Maker, hook: Hook) -> None:
    """Told when there are more than `above`, and when there are not any more; with all fields."""
    world = make_world(OVER_2)
    world.log(2)
    assert world.rule().state == "unknown"
    world.turn(turns=2)
    assert hook.requests == []
    assert (world.rule().state, world.rule().value) == ("ok", 2)
    world.log(1)
    world.turn(turns=3)
    assert hook.ids == ["firing"]
    notice = json.loads(hook.requests[0].body)
    assert notice["title"] == "3 records in 10s (more than 2): level>=error"
    assert {key: notice[key] for key in ("alert", "kind", "state", "value", "on", "query", "ended", "url")} == {
        "alert": "rule", "kind": "firing", "state": "firing", "value": 3, "on": "count", "query": "level>=error",
        "ended": "", "url": "",
    }  # fmt: skip
    assert notice["id"] == hook.requests[0].id == f"{notice['incident']}-firing"
    assert (world.rule().state, world.rule().firing) == ("firing", 1)
    world.turn(turns=10)
    assert hook.ids == ["firing", "resolved"]
    assert json.loads(hook.requests[1].body)["ended"]
    (incident,) = world.incidents()
    assert (incident.state, incident.value, [one.state for one in incident.notices]) == ("resolved", 3, ["sent"] * 2)
    assert world.engine.numbers == {"rules": 1, "firing": 0, "waiting": 0, "sent": 2, "failed": 0, "errors": 0}


def test_a_part_of_the_store_that_cannot_be_read_is_named(make_world: Maker, hook: Hook) -> None:
    """The rule goes on with the other records; an incident of absence says that some may be there."""
    world = make_world('on = "absence"')
    world.records.problems = ["a.parquet: is damaged"]
    world.log()
    world.turn()
    told = "only a part of the store can be read: a.parquet: is damaged"
    assert (world.rule().state, world.rule().value, world.rule().problem) == ("ok", 1, told)
    world.turn(turns=11)
    assert json.loads(hook.requests[0].body)["title"] == "no records in 10s (a part of the store cannot be read)"
    errors = world.engine.numbers["errors"]
    assert errors == 12
    world.records.problems = []
    world.turn()
    assert (world.rule().problem, world.engine.numbers["errors"]) == ("", errors)


@pytest.mark.parametrize("rule", ["above = 2", 'above = 0\nby = "n"'])
def test_a_damaged_file_is_named(make_world: Maker, monkeypatch: pytest.MonkeyPatch, rule: str) -> None:
    """With its path, in a real store."""
    world = make_world(rule)
    path = Path(world.settings.store[0].path)
    store = ParquetStore(ParquetStoreSettings(path=str(path)))
    store.open(JOURNAL)
    for first in (0, 2):
        store.write([block(first, [line(world.wall, n=first), line(world.wall, n=first + 1)])], never)
    store.close()
    monkeypatch.setattr(module, "open_killable", lambda settings, _: open_search(settings))
    bad = min(path.rglob("*.parquet"))
    bad.write_bytes(bad.read_bytes()[:-40])
    world.turn()
    assert str(bad) in world.rule().problem
    assert world.rule().value == (2 if "by" not in rule else 1)


def test_records_that_come_late_count_when_they_come(make_world: Maker, hook: Hook) -> None:
    """From a spool, hours after they were logged; but not above `lateness`."""
    world = make_world(OVER_2)
    world.log(2, created=world.wall - 80_000)
    world.log(5, created=world.wall - 90_000)
    world.turn()
    assert hook.requests == []
    world.log(1, created=world.wall - 80_000)
    world.turn()
    assert hook.ids == ["firing"]


def test_absence_needs_a_whole_window_of_listening(make_world: Maker, hook: Hook) -> None:
    """After a start, and after a time in which clients had to wait."""
    world = make_world('on = "absence"\nquery = "service:shop"')
    world.turn(turns=9)
    assert hook.requests == []
    world.listening = False
    world.turn(turns=5)
    world.listening = True
    world.turn(turns=9)
    assert hook.requests == []
    world.turn(turns=3)
    assert hook.ids == ["firing"]
    world.log(service="shop")
    world.records.lines[-1] = world.records.lines[-1].replace(b',"peer"', b',"service":"shop","peer"')
    world.turn(turns=2)
    assert hook.ids == ["firing", "resolved"]
    assert world.incidents()[0].title == "no records in 10s: service:shop"


def test_absence_goes_on_over_the_death_of_the_process(make_world: Maker, hook: Hook) -> None:
    """The collector has listened all the time; another run of it begins anew."""
    world = make_world('on = "absence"')
    world.turn(turns=6)
    world.restart()
    world.turn(turns=6)
    assert hook.ids == ["firing"]
    world.log()
    world.turn(turns=2)
    world.run = "another"
    world.restart()
    world.turn(turns=9)
    assert hook.ids == ["firing", "resolved"]
    world.turn(turns=3)
    assert hook.ids == ["firing", "resolved", "firing"]


def test_a_condition_has_to_hold_for_its_time(make_world: Maker, hook: Hook) -> None:
    """`for` counts over a restart."""
    world = make_world(f'{OVER_2}\nfor = "5s"')
    world.log(3)
    world.turn(turns=3)
    assert world.rule().state == "pending"
    world.restart()
    world.turn(turns=2)
    assert hook.requests == []
    world.turn()
    assert hook.ids == ["firing"]


def test_people_are_told_again_while_it_goes_on(make_world: Maker, hook: Hook) -> None:
    """After each `repeat`."""
    world = make_world(f'{OVER_2}\nrepeat = "1m"')
    for _ in range(13):
        world.log(3)
        world.turn(10)
    assert hook.ids == ["firing", "repeat-1", "repeat-2"]
    assert len({request.id.partition("-")[0] for request in hook.requests}) == 1


def test_a_silence_until_a_time(make_world: Maker, hook: Hook) -> None:
    """What goes on at its end is told; what has ended before is not."""
    world = make_world(OVER_2)
    with contextlib.closing(AlertBook(world.settings, world.state_dir, lambda: world.wall)) as book:
        assert book.silence("rule", 20, "me").silenced_by == "me"
        world.log(3)
        world.turn(turns=15)
        assert hook.requests == []
        (incident,) = book.incidents()
        assert (incident.state, incident.silenced) == ("resolved", True)
        world.log(3)
        world.turn(turns=6)
        assert hook.ids == ["firing"]
        assert book.rules()[0].silenced_until == 0
        world.turn(turns=11)
        book.silence("rule", 1000, "me")
        world.log(3)
        world.turn()
        book.silence("rule", 0, "me")
        world.turn()
    assert hook.ids == ["firing", "resolved", "firing"]


@pytest.mark.parametrize("step", [3600.0, -3600.0, 86_400.0 * 400, -5.0])
def test_a_clock_that_is_set_makes_no_alert_and_hides_none(make_world: Maker, hook: Hook, step: float) -> None:
    """A burst before it, across it and after it is an incident each, as with a clock that nobody sets."""
    world = make_world(OVER_2)
    world.turn(turns=3)
    world.log(2)
    world.turn()
    world.wall += step
    world.turn(turns=2)
    assert hook.requests == [], "two records are not too many"
    world.log(1)
    world.turn()
    assert hook.ids == ["firing"], "three are, across the step"
    world.turn(turns=12)
    assert hook.ids == ["firing", "resolved"]
    world.log(3)
    world.turn(turns=13)
    assert hook.ids == ["firing", "resolved"] * 2


def test_a_clock_that_is_set_back_counts_no_old_records_again(make_world: Maker, hook: Hook) -> None:
    """The hour that comes again had a burst; it was told of then."""
    world = make_world(OVER_2)
    world.turn(turns=3)
    world.log(50)
    world.turn(turns=20)
    assert hook.ids == ["firing", "resolved"]
    world.wall -= 30
    world.turn(turns=60)
    assert hook.ids == ["firing", "resolved"]


def test_a_clock_that_is_set_is_no_absence(make_world: Maker, hook: Hook) -> None:
    """Services log once in five seconds."""
    world = make_world('on = "absence"')
    for number in range(40):
        if number % 5 == 0:
            world.log()
        if number == 20:
            world.wall += 7200
        if number == 30:
            world.wall -= 9000
        world.turn()
    assert hook.requests == []
    world.turn(turns=12)
    assert hook.ids == ["firing"]


def test_a_new_group_is_told_once(make_world: Maker, hook: Hook) -> None:
    """Groups from before the rule are not; a group that is resolved or muted ends its incident."""
    world = make_world(NEW)
    with opened(world.settings.errors) as store:
        store.write([block(0, [line(levelno=40, msg="old error")])], never)
        world.turn(turns=2)
        assert hook.requests == []
        store.write([block(1, [line(levelno=40, msg=f"{what} failed") for what in ("cart", "mail")])], never)
        world.turn(turns=3)
        assert hook.ids == ["firing", "firing"]
        assert [json.loads(request.body)["title"] for request in hook.requests] == [
            "new error: cart failed (shop.orders)", "new error: mail failed (shop.orders)",
        ]  # fmt: skip
        store.write([block(3, [line(levelno=40, msg="cart failed")])], never)
        world.restart()
        world.turn(turns=3)
        assert len(hook.ids) == 2
        with contextlib.closing(Book(Path(world.settings.errors.path))) as book:
            keys = [row.id for row in book.groups() if row.title != "old error"]
            book.resolve(keys[0], "me")
            book.mute(keys[1], "me")
        world.turn(turns=2)
    assert hook.ids == ["firing", "firing", "resolved", "resolved"]
    assert {one.key for one in world.incidents()} == set(keys)
    assert {one.query for one in world.incidents()} == {f"fingerprint={key}" for key in keys}


def test_a_regressed_group_is_told(make_world: Maker, hook: Hook) -> None:
    """And one that was muted until further errors."""
    world = make_world(BACK)
    now = 2e9
    with opened(world.settings.errors) as store, contextlib.closing(Book(Path(world.settings.errors.path))) as book:
        world.turn()
        store.write([block(0, [line(levelno=40, msg=f"{what} failed") for what in ("cart", "mail")])], never)
        world.turn()
        assert hook.requests == []
        cart, mail = (next(row.id for row in book.groups() if what in row.title) for what in ("cart", "mail"))
        book.resolve(cart, "me")
        book.mute(mail, "me", more=2)
        world.turn()
        again = [line(levelno=40, msg=f"{what} failed", created=now) for what in ("cart", "mail", "mail")]
        store.write([block(2, again)], never)
        world.turn(turns=2)
    assert sorted(json.loads(request.body)["title"] for request in hook.requests) == [
        "error is back: cart failed (shop.orders)", "error is back: mail failed (shop.orders)",
    ]  # fmt: skip


def test_only_groups_of_a_service_and_with_a_text(make_world: Maker, hook: Hook) -> None:
    """Both have to fit."""
    world = make_world(f'{NEW}\nservice = "shop"\ntext = "CARD"')
    world.turn()
    with opened(world.settings.errors) as store:
        lines = [line(levelno=40, msg=what) for what in ("card declined", "cart failed", "card lost")]
        lines[:2] = [one.replace(b',"peer"', b',"service":"shop","peer"') for one in lines[:2]]
        store.write([block(0, lines)], never)
    world.turn()
    assert [json.loads(request.body)["title"] for request in hook.requests] == [
        "new error: card declined (shop.orders, shop)"
    ]


def test_many_new_groups_are_one_incident_more(make_world: Maker, hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    """A release with hundreds of new errors sends no hundreds of notices."""
    monkeypatch.setattr(findings, "MOST_KEYS", 3)
    world = make_world(NEW)
    world.turn()
    with opened(world.settings.errors) as store:
        lines = [line(levelno=40, msg=f"{'x' * number} failed", name=f"n{number}") for number in range(1, 9)]
        store.write([block(0, lines)], never)
        world.turn(turns=5)
        assert hook.ids == ["firing"] * 4
        assert json.loads(hook.requests[-1].body)["title"].startswith("more than 3 groups of errors; resolve or mute")
        assert world.incidents()[0].key == "", "it is no group that the page could show"
        with contextlib.closing(Book(Path(world.settings.errors.path))) as book:
            for row in book.groups():
                book.resolve(row.id, "me")
        world.turn(turns=2)
    assert hook.ids[4:] == ["resolved"] * 4


def test_a_store_that_fails_changes_no_state(make_world: Maker, hook: Hook) -> None:
    """The problem is shown and counted, and the rule goes on when the store works."""
    world = make_world(OVER_2)
    world.log(3)
    world.turn()
    world.records.error = StoreError("it is down")
    world.turn(turns=20)
    assert (world.rule().state, world.rule().problem) == ("firing", "it is down")
    assert world.engine.numbers["errors"] == 20
    assert hook.ids == ["firing"]
    world.records.error = None
    world.turn()
    assert (world.rule().state, world.rule().problem) == ("ok", "")
    world.records.error = ZeroDivisionError("a bug")
    world.turn()
    assert world.rule().problem.startswith("unexpected ZeroDivisionError: a bug")


def test_a_store_that_lags_tells_no_absence(make_world: Maker, hook: Hook) -> None:
    """Records that it does not have yet may be there."""
    world = make_world()
    world.configure(toml(hook, 'on = "absence"') + POSTGRESQL)
    world.lag = 60.0
    world.turn(turns=15)
    assert hook.requests == []
    assert world.rule().problem == "the store is 60 s behind, so records may be missing from the count"
    world.lag = 0.0
    world.turn()
    assert hook.ids == ["firing"]


@pytest.mark.parametrize(
    ("store", "lag_s"),
    [
        ('[[store]]\ntype = "parquet"\nbatch_time = "5m"\n', 290.0),
        (f'{POSTGRESQL}batch_time = "5m"\n', 290.0),
    ],
    ids=["one whose searches read the journal", "within its batch_time"],
)
def test_records_that_wait_as_usual_are_no_lag(make_world: Maker, hook: Hook, store: str, lag_s: float) -> None:
    """Absence is told, and an incident ends, while records wait in the journal for their batch."""
    world = make_world()
    world.configure(toml(hook, 'on = "absence"') + store)
    world.lag = lag_s
    world.turn(turns=15)
    assert (hook.ids, world.rule().problem) == (["firing"], "")


def test_a_reload_adds_and_removes_rules(make_world: Maker, hook: Hook) -> None:
    """A removed rule's incident is over; a rule about something else begins anew."""
    world = make_world(OVER_2)
    world.log(3)
    world.turn()
    world.configure(toml(hook, 'query = "level>=warning"\nabove = 2'))
    world.turn()
    assert hook.ids == ["firing", "resolved", "firing"]
    assert "the rule has changed" in json.loads(hook.requests[1].body)["title"]
    world.configure(toml(hook, 'query = "level>=warning"\nabove = 1').replace('"rule"', '"other"'))
    world.turn()
    assert sorted(hook.ids[3:]) == ["firing", "resolved"]
    titles = [json.loads(request.body)["title"] for request in hook.requests[3:]]
    assert any("the rule was removed" in title for title in titles)
    world.turn(turns=12)
    assert len(hook.ids) == 6


def test_rules_of_the_page(make_world: Maker, hook: Hook) -> None:
    """They begin without a reload, survive a restart, and never replace a rule of the configuration."""
    world = make_world(OVER_2)
    world.turn()
    settings = AlertSettings(name="mine", query="level>=error", above=0, every="1s", window="10s", send=("hook",))
    with contextlib.closing(AlertBook(world.settings, world.state_dir)) as book:
        assert book.make(settings, "anna").author == "anna"
        world.log(1)
        world.turn()
        assert hook.ids == ["firing"]
        world.restart()
        world.turn(turns=2)
        assert hook.ids == ["firing"]
        book.remove("mine")
        world.turn()
        assert hook.ids == ["firing", "resolved"]
        book.make(settings, "anna")
    world.configure(toml(hook, OVER_2).replace('name = "rule"', 'name = "mine"'))
    world.turn()
    with contextlib.closing(AlertBook(world.settings, world.state_dir)) as book:
        assert [(row.name, row.source, row.above) for row in book.rules()] == [("mine", "configuration", 2)]


def test_a_rule_of_the_page_whose_receiver_is_gone(make_world: Maker, hook: Hook) -> None:
    """The rule says so."""
    world = make_world(OVER_2)
    with contextlib.closing(AlertBook(world.settings, world.state_dir)) as book:
        book.make(AlertSettings(name="mine", send=("hook",), every="1s", window="10s"), "anna")
    world.configure(toml(hook, OVER_2).replace('"hook"', '"other"'))
    world.turn()
    with contextlib.closing(AlertBook(world.settings, world.state_dir)) as book:
        assert book.rule("mine").problem == "'hook': there is no such receiver; configured ([[receiver]]): other"


def test_a_rule_of_another_release_is_left_alone(make_world: Maker, hook: Hook) -> None:
    """The others are evaluated."""
    world = make_world(OVER_2)
    world.turn()
    assert world.engine._opened is not None
    for name, settings in (("new", b'{"name":"new","colour":"red"}'), ("odd", b'{"name":"odd","every":"never"}')):
        world.engine._opened.outbox._db.execute("INSERT INTO rules VALUES (?, ?, '', 0)", (name, settings))
    world.log(3)
    world.turn()
    assert (hook.ids, world.engine.problem) == (["firing"], "")
    assert [row.name for row in _rows(world)] == ["rule"]


def _rows(world: World) -> list[Any]:
    with contextlib.closing(AlertBook(world.settings, world.state_dir)) as book:
        return book.rules()


def test_a_rule_that_could_not_be_evaluated_is_tried_soon(make_world: Maker, hook: Hook) -> None:
    """Not after a whole `every`; and not each second."""
    world = make_world(OVER_2)
    world.configure(toml(hook, OVER_2).replace('"1s"\nwindow = "10s"', '"1h"\nwindow = "2h"'))
    world.log(3)
    world.records.error = StoreError("it is down")
    world.turn(turns=50)
    assert world.engine.numbers["errors"] == 1
    world.records.error = None
    world.turn(turns=12)
    assert hook.ids == ["firing"]


def test_nothing_is_opened_without_a_rule(make_world: Maker, hook: Hook) -> None:
    """No database, and no store."""
    world = make_world()
    world.configure("")
    world.turn(turns=3)
    assert not (world.state_dir / "alerts.db").exists()
    assert world.engine._opened is None


def test_a_state_directory_that_cannot_be_entered_is_a_problem_with_its_remedy(
    make_world: Maker, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is no bug of ours, and rules are evaluated again when it can be."""
    world = make_world()
    path = str(world.state_dir / "alerts.db")

    def refuse(_: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)

    with monkeypatch.context() as patch:
        patch.setattr(module.Engine, "_turn", refuse)
        world.engine.turn()
    assert world.engine.problem == f"{path}: {file_reason(errno.EACCES)}"
    world.engine.turn()
    assert world.engine.problem == ""


def test_notices_that_wait_are_bounded(make_world: Maker, hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without room a state waits: its notice is made later, and none is lost."""
    world = make_world(OVER_2)
    monkeypatch.setattr(ledger, "MOST_WAITING", 0)
    world.log(3)
    world.turn(turns=3)
    assert (hook.requests, world.incidents()) == ([], [])
    monkeypatch.undo()
    monkeypatch.setattr("prefork_logd.alerts.engine.open_killable", lambda *_: world.records)
    world.turn()
    assert hook.ids == ["firing"]


def test_the_history_is_bounded(make_world: Maker, hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest incidents are removed with their notices; open ones stay."""
    monkeypatch.setattr(ledger, "MOST_INCIDENTS", 3)
    world = make_world()
    world.configure(toml(hook).replace('"1s"\nwindow = "10s"', '"60s"\nwindow = "100s"'))
    for _ in range(6):
        world.log()
        world.turn(61)
        world.turn(61)
    assert len(hook.ids) == 12
    assert len(world.incidents()) == 3
    assert world.engine._opened is not None
    assert world.engine._opened.ledger._one("SELECT count(*) FROM notices")[0] == 6


@pytest.mark.slow
def test_a_full_disk_under_the_states(
    tmp_path: Path, hook: Hook, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing changes and nobody is told twice; both ends are in the log, and what was missed is made up for."""
    caplog.set_level("INFO")
    with mounted(tmp_path / "disk", "size=1m") as disk:
        world = World(disk.path, toml(hook, OVER_2), monkeypatch).turn()
        world.engine.close()
        disk.fill()
        world.log(3)
        world.turn(turns=60)
        assert world.engine.problem.endswith("alerts.db: disk I/O error; the disk is full")
        assert hook.requests == []
        disk.free()
        world.turn(turns=3)
        assert (world.engine.problem, hook.ids) == ("", ["firing", "resolved"])
        world.engine.close()
    assert [one.message for one in caplog.records if "again" in one.message] == ["alerts: rules are evaluated again"]


def test_a_database_of_another_program_is_left_alone(make_world: Maker, hook: Hook) -> None:
    """The problem says what to do."""
    world = make_world(OVER_2)
    world.engine.close()
    (world.state_dir / "alerts.db").write_bytes(b"no database at all" * 100)
    world.turn(turns=2)
    assert "alerts.db: file is not a database; move it away, and a new one is made" in world.engine.problem
    (world.state_dir / "alerts.db").unlink()
    with contextlib.closing(sqlite3.connect(world.state_dir / "alerts.db")) as foreign:
        foreign.executescript("CREATE TABLE notes (text); PRAGMA user_version = 1")
    world.turn(turns=2)
    assert "no such table: evaluations; move it away, and a new one is made" in world.engine.problem
    (world.state_dir / "alerts.db").unlink()
    world.turn()
    assert world.engine.problem == ""


def test_groups_that_cannot_be_read_are_shown_as_a_problem(make_world: Maker, hook: Hook) -> None:
    """Also at a rule that is new; it begins with the groups that are new after the first evaluation."""
    world = make_world(NEW)
    path = Path(world.settings.errors.path)
    path.write_bytes(b"no database at all" * 100)
    world.turn(turns=2)
    assert world.rule().problem.endswith("file is not a database; move it away, and a new one is made")
    path.unlink()
    with opened(world.settings.errors) as store:
        store.write([block(0, [line(levelno=40, msg="old error")])], never)
        world.turn(turns=2)
        assert (world.rule().problem, hook.requests) == ("", [])
        store.write([block(1, [line(levelno=40, msg="cart failed")])], never)
        world.turn(turns=2)
    assert hook.ids == ["firing"]


def test_slow_rules_take_turns(make_world: Maker, hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    """A turn ends soon, so that notices are sent and the clock is looked at; each rule is evaluated."""
    world = make_world()
    rules = "".join(f'[[alert]]\nname = "slow {n}"\nevery = "1s"\nwindow = "1h"\nsend = ["hook"]\n' for n in range(6))
    world.configure(toml(hook, "above = 1000") + rules)
    count, asked = world.records.count, []

    def slow(filters: Any) -> int:
        asked.append(filters)
        world.monotonic += 3
        world.wall += 3
        return count(filters)

    monkeypatch.setattr(world.records, "count", slow)
    world.turn()
    assert len(asked) == 2
    world.turn(turns=3)
    with contextlib.closing(AlertBook(world.settings, world.state_dir, lambda: world.wall)) as book:
        assert all(rule.evaluated_at for rule in book.rules())


def test_a_database_that_was_moved_away_is_noticed(make_world: Maker, hook: Hook) -> None:
    """Rules go on in a new one, which people see; nothing is written where nobody looks."""
    world = make_world(OVER_2)
    world.log(3)
    world.turn()
    (world.state_dir / "alerts.db").rename(world.state_dir / "moved.db")
    world.turn()
    assert "alerts.db: was moved or removed" in world.engine.problem
    world.turn(turns=2)
    assert (world.engine.problem, world.rule().state) == ("", "firing")
    assert hook.ids == ["firing", "firing"]
