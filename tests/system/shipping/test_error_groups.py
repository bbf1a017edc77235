"""A collector groups errors, and counts each once, whatever happens to the process that counts."""

from __future__ import annotations

import json
import logging.handlers
import os
import signal
from typing import TYPE_CHECKING, Any

from tests.support.disks import mounted
from tests.support.harness import Collector, frame, record, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Maker = Callable[..., Collector]

TOML = '[[store]]\ntype = "parquet"\n[errors]\nbatch_time = "1ms"\nbatch_records = 20\n'
HANDLER = logging.handlers.SocketHandler("127.0.0.1", 9)
TRACE = 'Traceback (most recent call last):\n  File "/srv/{}/shop/cart.py", line {}, in {}\n    x()\nKeyError: {}'


def send(collector: Collector, first: int, count: int) -> None:
    """Send records, of which each fifth is an error of one of two places, and each tenth has no exception."""
    made = []
    for number in range(first, first + count):
        if number % 10 == 0:
            made.append(frame(f"order {number} failed", level=40))
        elif number % 5 == 0:
            text = TRACE.format(number % 3, number, f"f{number % 2}", number)
            failed = record("failed", level=30)
            failed.exc_text = text
            made.append(HANDLER.makePickle(failed))
        else:
            made.append(frame(f"m{number}"))
    with collector.connect() as sock:
        sock.sendall(b"".join(made))


def groups(collector: Collector) -> dict[str, dict[str, Any]]:
    """Return the groups by their ids."""
    done = collector.cli("errors", "--format", "json")
    return {row["id"]: row for row in map(json.loads, done.stdout.splitlines())}


def wait_until_counted(collector: Collector, records: int) -> None:
    """Wait until every record was looked at."""
    collector.wait_for_records(records)
    wait_for(lambda: (collector.status()["errors"] or {}).get("lag_records") == 0, "no lag of the groups")


def test_a_shipper_that_is_killed_counts_each_error_once(make_collector: Maker) -> None:
    """The groups' counts are those of the store, by fingerprint."""
    collector = make_collector(TOML, "--workers", "1").start()
    count = 0
    for _ in range(5):
        send(collector, count, 50)
        count += 50
        shipper = next(
            child["pid"] for child in collector.status()["children"] if child.get("store") == "errors" and child["pid"]
        )
        os.kill(shipper, signal.SIGKILL)
        wait_for(
            lambda killed=shipper: any(
                child.get("store") == "errors" and child["pid"] not in (None, killed)
                for child in collector.status()["children"]
            ),
            "another shipper",
        )
    wait_until_counted(collector, count)
    found = groups(collector)
    assert len(found) == 2
    assert sum(row["count"] for row in found.values()) == 50
    for key, row in found.items():
        done = collector.cli("query", f"fingerprint={key}", "--count")
        assert int(done.stdout) == row["count"], done.stderr
    assert int(collector.cli("query", "level>=ERROR OR exc_text:*", "--count").stdout) == 50
    assert collector.stop() == 0


def test_a_full_disk_under_the_groups_costs_no_count(make_collector: Maker, tmp_path: Path) -> None:
    """Records are stored meanwhile, `status` names the trouble, and each error counts once when there is room."""
    with mounted(tmp_path / "disk", "size=1m,mode=0777") as disk:
        collector = make_collector(f'{TOML}path = "{disk.path}/groups.db"\n').start()
        send(collector, 0, 50)
        wait_until_counted(collector, 50)
        disk.fill()
        made = [frame("boom", level=40).replace(b"boom", b"b%03d" % number) for number in range(400)]
        with collector.connect() as sock:
            sock.sendall(b"".join(made))
        wait_for(lambda: "full" in (collector.status()["errors"]["problem"] or ""), "the trouble is named")
        collector.wait_for_records(450)
        disk.free()
        wait_until_counted(collector, 450)
        assert sum(row["count"] for row in groups(collector).values()) == 410
        assert collector.stop() == 0


def test_groups_need_no_configuration_and_survive_a_restart(make_collector: Maker) -> None:
    """The default collector groups errors; a resolved group stays so, and regresses by a new error."""
    collector = make_collector("", default_store=True).start()
    send(collector, 0, 50)
    wait_until_counted(collector, 50)
    (key,) = (key for key, row in groups(collector).items() if row["title"].startswith("KeyError"))
    assert "error" not in collector.cli("errors", "resolve", key).stderr
    status = collector.status()
    assert [store["name"] for store in status["stores"]] == ["parquet"]
    wait_for(lambda: collector.status()["errors"]["details"]["states"].get("resolved") == 1, "the number of groups")
    assert "2 groups, 1 open, 0 regressed" in collector.cli("status").stdout
    assert collector.stop() == 0
    collector.start()
    assert groups(collector)[key]["state"] == "resolved"
    send(collector, 50, 50)
    wait_until_counted(collector, 100)
    assert groups(collector)[key]["state"] == "regressed"
    assert collector.stop() == 0
    assert "ERROR" not in collector.log
    assert (collector.state_dir / "groups.db").stat().st_mode & 0o007 == 0


def test_groups_can_be_turned_off_and_on(make_collector: Maker) -> None:
    """By a reload; and without a store there are none."""
    collector = make_collector('[[store]]\ntype = "parquet"\n').start()
    assert collector.status()["errors"] is None
    collector.configure(TOML)
    assert collector.cli("reload").returncode == 0
    send(collector, 0, 20)
    wait_until_counted(collector, 20)
    collector.configure('[[store]]\ntype = "parquet"\n')
    assert collector.cli("reload").returncode == 0
    assert collector.status()["errors"] is None
    assert len(groups(collector)) == 2
    assert collector.stop() == 0


def test_errors_that_are_counted_too_slowly_hold_up_nobody(make_collector: Maker) -> None:
    """The journal drops what only their shipper has not read, `status` counts it, and the store has every record."""
    limits = "[limits]\njournal_bytes = 1048576\njournal_segment_bytes = 65536\n"
    collector = make_collector(TOML.replace('"parquet"', '"parquet"\nbatch_time = "1ms"') + limits).start()
    send(collector, 0, 10)
    wait_until_counted(collector, 10)
    (shipper,) = [child["pid"] for child in collector.status()["children"] if child.get("store") == "errors"]
    os.kill(shipper, signal.SIGSTOP)
    try:
        with collector.connect() as sock:
            for sent in range(10, 210, 20):
                sock.sendall(frame("x" * 10_000, level=40) * 20)
                collector.wait_for_records(sent + 20)
                wait_for(lambda: collector.status()["stores"][0]["lag_records"] == 0, "no lag of the store")
        assert "store errors is too slow, or fails, and passes over records below number" in collector.log
        assert "clients wait" not in collector.log
    finally:
        os.kill(shipper, signal.SIGCONT)
    wait_for(lambda: collector.status()["errors"]["lag_records"] == 0, "no lag of the groups")
    lost = collector.status()["errors"]["lost"]
    assert 50 < lost <= 200
    assert sum(row["count"] for row in groups(collector).values()) == 202 - lost
    assert int(collector.cli("query", "--count").stdout) == 210
    assert collector.stop() == 0
