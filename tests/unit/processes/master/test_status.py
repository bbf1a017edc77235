"""What `status` says of children that die."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from prefork_logd.config.load import load
from prefork_logd.ipc.configuration import Configuration
from prefork_logd.ipc.messages import StatusReport
from prefork_logd.ipc.scoreboard import SHIPPER_SLOT, Field, Scoreboard
from prefork_logd.processes.master import status
from prefork_logd.processes.master.child import Child, Kind
from prefork_logd.processes.master.lifecycle import HEALTHY_AFTER_S, State
from prefork_logd.processes.master.upgrade.state import InheritedCounters

if TYPE_CHECKING:
    from pathlib import Path


def _store(tmp_path: Path, deaths: int = 0, **life: Any) -> dict[str, Any]:
    """Return what `status` says of a store whose shipper has this life."""
    path = tmp_path / "c.toml"
    path.write_text(
        f'server.state_dir = "{tmp_path}"\n[[store]]\ntype = "parquet"\nname = "mine"\n[errors]\nenabled = false\n'
    )
    settings = load(path, {})
    shipper = Child(Kind.SHIPPER, SHIPPER_SLOT, store=settings.store[0], **life)
    shipper.backoff.failures = deaths
    configuration = Configuration(1, settings, (1,), (0,))
    document = status.document(configuration, [], [shipper], Scoreboard(), InheritedCounters(), time.monotonic())
    # Each has looked at the clock by itself.
    assert document["children"][0].items() >= {**document["stores"][0]["shipper"], **_clocked(document)}.items()
    return dict(document["stores"][0])


def _clocked(document: dict[str, Any]) -> dict[str, Any]:
    child, shipper = document["children"][0], document["stores"][0]["shipper"]
    assert (child["next_try_s"] is None) == (shipper["next_try_s"] is None)
    return {"next_try_s": child["next_try_s"]}


def test_a_shipper_in_a_crash_loop_is_trouble_of_its_store(tmp_path: Path) -> None:
    """While it waits, and in the moments in which it lives; with its last end and the next try."""
    now_s = time.monotonic()
    store = _store(
        tmp_path, state=State.WAITING, restarts=7, deaths=7, last_exit="ended with status 70", due_s=now_s + 6.4
    )
    assert store["failing"]
    assert store["problem"].startswith("shipper mine ended with status 70; it starts again in 6.")
    assert store["shipper"] == {
        "state": "waiting", "restarts": 7, "last_exit": "ended with status 70",
        "next_try_s": store["shipper"]["next_try_s"],
    }  # fmt: skip
    assert 5 < store["shipper"]["next_try_s"] <= 6.4
    store = _store(tmp_path, state=State.RUNNING, deaths=7, last_exit="ended with status 70", started_s=now_s)
    assert "7 times in a row" in store["problem"]


def test_connections_of_a_service_are_those_of_all_living_workers(tmp_path: Path) -> None:
    """The last reports are added up; that of a dead worker does not count."""
    path = tmp_path / "c.toml"
    path.write_text(f'server.state_dir = "{tmp_path}"\n')
    reports = [
        (State.RUNNING, [["shop", 2]]),
        (State.RUNNING, [["shop", 3], ["mailer", 1]]),
        (State.WAITING, [["shop", 90]]),
    ]
    workers = [
        Child(Kind.WORKER, slot, state=state, report=StatusReport("", {"services": found, "others": 1}))
        for slot, (state, found) in enumerate(reports, 1)
    ]
    settings = load(path, {})
    configuration = Configuration(1, settings, (1,) * len(settings.output), (0,) * len(settings.shipped))
    board = Scoreboard()
    board.slot(1)[Field.CONNECTIONS] = 15
    document = status.document(configuration, [], workers, board, InheritedCounters(), time.monotonic())
    assert document["services"] == [
        {"service": "", "connections": 7},
        {"service": "shop", "connections": 5},
        {"service": "mailer", "connections": 1},
    ]


def test_a_shipper_that_lives_is_no_trouble(tmp_path: Path) -> None:
    """Its last end stays to be read; what it says of its store is the problem then."""
    began_s = time.monotonic() - HEALTHY_AFTER_S
    store = _store(tmp_path, state=State.RUNNING, deaths=7, last_exit="ended with status 70", started_s=began_s)
    assert (store["failing"], store["problem"]) == (False, "")
    assert store["shipper"]["last_exit"] == "ended with status 70"
    store = _store(tmp_path, state=State.RUNNING, report=StatusReport("the disk is full"))
    assert store["problem"] == "the disk is full"
    assert store["shipper"]["next_try_s"] is None
