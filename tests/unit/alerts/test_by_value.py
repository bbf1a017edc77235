"""A rule with `by` has an incident for each value of a field, up to a bound."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

import pytest

from prefork_logd.alerts import by_value
from prefork_logd.alerts.clock import AlertClock
from prefork_logd.alerts.counting import count_by
from prefork_logd.config.stores.parquet import ParquetStoreSettings
from prefork_logd.query import analysis
from prefork_logd.query.evaluate import matches
from prefork_logd.query.language import parse, parse_field
from prefork_logd.records.stored import read_fields
from prefork_logd.stores.parquet.search import open_search
from prefork_logd.stores.parquet.store import ParquetStore
from tests.support.alerting import toml
from tests.support.stores import JOURNAL, NOW, block, line, never

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.alerting import Hook, World

    Maker = Callable[..., World]

BY_TENANT = 'query = "level>=error"\nabove = 2\nby = "tenant"'


def test_each_value_has_its_own_incident(make_world: Maker, hook: Hook) -> None:
    """`above` is of each value. One ends while another goes on."""
    world = make_world(BY_TENANT)
    world.log(2, tenant="south")
    world.log(3, tenant="north")
    world.turn()
    assert hook.notices == [("firing", "3 records in 10s with tenant=north (more than 2): level>=error")]
    world.turn(5)
    world.log(3, tenant="south")
    world.turn()
    assert hook.notices[1:] == [("firing", "5 records in 10s with tenant=south (more than 2): level>=error")]
    world.turn(5)
    assert hook.ids == ["firing", "firing", "resolved"]
    assert [json.loads(request.body)["by"] for request in hook.requests] == ["north", "south", "north"]
    assert [(one.by, one.key, one.state) for one in world.incidents()] == [
        ("south", "", "firing"),
        ("north", "", "resolved"),
    ]
    assert world.incidents()[0].since == pytest.approx(world.incidents()[0].started - 10, abs=0.1)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("north", "with tenant=north"),
        ('a "b"\\', 'with tenant=a "b"\\\\'),
        ("", "with tenant="),
        (500, "with tenant=500"),
        (True, "with tenant=true"),
        (None, "without tenant"),
        ("x" * 300, f"with tenant={'x' * 80} (more"),
        ({"a": [1]}, 'with tenant={"a": [1]}'),
        ("line\nline", "with tenant=line"),
        ("\ud800", "with tenant="),
    ],
)
def test_the_query_finds_the_records_of_the_value(make_world: Maker, hook: Hook, value: Any, shown: str) -> None:
    """Also of values that have to be quoted, of other types, and of records without one."""
    world = make_world(BY_TENANT)
    world.log(3, tenant=value)
    world.log(2, tenant="other")
    world.turn()
    (notice,) = (json.loads(request.body) for request in hook.requests)
    assert shown in notice["title"]
    tree = parse(notice["query"], now=world.wall)
    found = [read_fields(line) for line in world.records.lines if matches(tree, read_fields(line))]
    most = 5 if isinstance(value, dict) or value == "\ud800" else 3
    assert 3 <= len(found) <= most


def test_a_number_and_its_text_are_one_value(make_world: Maker, hook: Hook) -> None:
    """As in a query."""
    world = make_world(BY_TENANT)
    world.log(2, tenant=7)
    world.log(1, tenant="7")
    world.turn()
    assert [title for _, title in hook.notices] == ["3 records in 10s with tenant=7 (more than 2): level>=error"]


def test_the_number_of_values_is_bounded(make_world: Maker, hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    """Further ones are one incident, which says what to do; a value that goes on keeps its own."""
    monkeypatch.setattr(by_value, "MOST_KEYS", 3)
    world = make_world(BY_TENANT)
    for tenant in range(5):
        world.log(3 + tenant, tenant=f"t{tenant}")
    world.turn()
    assert len(hook.requests) == 4
    (further,) = [one for one in world.incidents() if not one.by]
    assert further.title.startswith("more than 3 values of tenant, each more than 2 times in 10s; name a field")
    assert further.value == 2
    world.turn(5)
    world.log(3, tenant="t4")
    world.log(3, tenant="t0")
    world.turn(6)
    # t2 and t3 are over, so t0 has room, and nothing is left over.
    open_now = sorted(one.by or "further" for one in world.incidents() if one.state == "firing")
    assert open_now == ["t0", "t4"]


def test_values_that_the_store_does_not_list_keep_their_state(
    make_world: Maker, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store lists the most frequent values only: nothing is known about the others."""
    world = make_world(BY_TENANT)
    world.log(3, tenant="quiet")
    world.turn()
    monkeypatch.setattr(analysis, "MOST_GROUPS", 2)
    for tenant in range(3):
        world.log(5, tenant=f"t{tenant}")
    world.turn(2)
    assert hook.ids == ["firing"] * 3
    world.turn(7.5)
    assert {one.by for one in world.incidents() if one.state == "firing"} == {"quiet", "t0", "t1"}
    world.turn(10)
    assert {one.state for one in world.incidents()} == {"resolved"}


def test_values_after_the_clock_was_set(make_world: Maker, hook: Hook) -> None:
    """Records are then told apart by their numbers."""
    world = make_world(BY_TENANT)
    world.log(2, tenant="north")
    world.turn()
    world.wall -= 3600
    world.turn()
    world.log(1, tenant="north")
    world.turn()
    assert hook.notices == [("firing", "3 records in 10s with tenant=north (more than 2): level>=error")]


def test_another_field_begins_anew(make_world: Maker, hook: Hook) -> None:
    """The incidents of the values are over."""
    world = make_world(BY_TENANT)
    world.log(3, tenant="north", shop="a")
    world.turn()
    world.configure(toml(hook, BY_TENANT.replace("tenant", "shop")))
    world.turn()
    assert hook.ids == ["firing", "resolved", "firing"]


def test_a_store_of_parquet_files_counts_the_same(tmp_path: Path) -> None:
    """Numbers, texts, missing values, and records whose line is kept beside their columns."""
    clock = AlertClock(monotonic=lambda: 100.0, wall=lambda: NOW, boot="boot")
    clock.look(0)
    store = ParquetStore(ParquetStoreSettings(path=str(tmp_path / "records")))
    store.open(JOURNAL)
    values = ["north", "north", 7, "7", None, "north"]
    store.write([block(0, [line(NOW - 5, tenant=value, msg="\udcff") for value in values])], never)
    store.close()
    with contextlib.closing(open_search(store._settings)) as search:
        found = count_by(search, "", clock.ranges(60), 60, parse_field("tenant"), JOURNAL, is_simple=True)
    assert found.rest == 0
    assert sorted(found.rows, key=repr) == [("7", 1), ("north", 3), (7, 1), (None, 1)]
