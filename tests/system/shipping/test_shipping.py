"""Records reach a store each once and in order, whatever is killed, filled or damaged on the way."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.disks import TO_THE_LAST_BYTE, mounted
from tests.support.harness import Collector, frames, wait_for
from tests.support.shipping import SMALL, Place, expected, segments, send

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Return the directory of a store."""
    return Place(tmp_path, "archive")


def store_of(collector: Collector) -> dict[str, Any]:
    """Return what status says of the only store."""
    return dict(collector.status()["stores"][0])


def test_records_are_shipped_and_the_lag_is_told(make_collector: Callable[..., Collector], place: Place) -> None:
    """What is in the output is in the store, and nothing is left to ship."""
    collector = make_collector(place.toml).start()
    send(collector, 0, 2000)
    assert place.wait_for(2000) == expected(2000)
    wait_for(lambda: store_of(collector)["lag_records"] == 0, "no lag")
    told = store_of(collector)
    assert (told["name"], told["type"], told["lag_bytes"], told["lag_s"]) == ("archive", "custom", 0, 0.0)
    assert (told["records"], told["failing"]) == (2000, False)
    assert (place.path / "records").read_bytes() == (collector.state_dir / "records.jsonl").read_bytes()


def test_a_store_that_is_down_only_lags(make_collector: Callable[..., Collector], place: Place) -> None:
    """Ingest goes on, the lag grows, one line is logged; when it is back, everything comes, in order."""
    collector = make_collector(place.toml).start()
    send(collector, 0, 10)
    place.wait_for(10)
    mend = place.order("fail")
    send(collector, 10, 3000)
    collector.wait_for_records(3010)
    wait_for(lambda: store_of(collector)["failing"], "failing")
    assert store_of(collector)["lag_records"] == 3000
    wait_for(lambda: store_of(collector)["lag_s"] > 0.5, "a lag in seconds")
    mend()
    assert place.wait_for(3010) == expected(3010)
    wait_for(lambda: "store archive: works again; it lags by 3,000 records" in collector.log, "a word in the log")
    assert collector.log.count("tried again until it works") == 1


def test_the_shipper_killed_in_the_middle_of_a_write(make_collector: Callable[..., Collector], place: Place) -> None:
    """Lines without a position are cut off and written again."""
    collector = make_collector(place.toml).start()
    for start in range(0, 3000, 1000):
        mend = place.order("hang")
        send(collector, start, 1000)
        collector.wait_for_records(start + 1000)
        os.kill(collector.child("shipper", 0), signal.SIGKILL)
        mend()
        place.wait_for(start + 1000)
        mend = place.order("fail-midway")
        wait_for(lambda: store_of(collector)["failing"] or store_of(collector)["lag_records"] == 0, "an end")
        mend()
    assert place.wait_for(3000) == expected(3000)


@pytest.mark.parametrize("kind", ["writer", "worker", "shipper"])
def test_a_kill_under_load_costs_and_doubles_nothing(
    make_collector: Callable[..., Collector], place: Place, kind: str
) -> None:
    """What is in the output is in the store, line for line, each once."""
    collector = make_collector("[server]\nworkers = 1\n" + place.toml).start()
    index = 0 if kind == "shipper" else 1
    pid = 0
    for start in range(0, 1500, 500):
        pid = wait_for(lambda pid=pid: (new := collector.child(kind, index)) != pid and new, "another child")
        with collector.connect() as sock:
            sock.sendall(frames(f"m{number}" for number in range(start, start + 500)))
            os.kill(pid, signal.SIGKILL)
    wait_for(lambda: collector.child(kind, index) != pid, "another child")
    wait_for(lambda: store_of(collector)["lag_records"] == 0, "no lag")
    assert collector.stop() == 0
    stored = [json.loads(line)["message"] for line in collector.lines()]
    assert sorted(place.messages()) == sorted(stored)
    assert len(set(stored)) == len(stored)


def test_the_master_killed_and_started_again(make_collector: Callable[..., Collector], place: Place) -> None:
    """A new collector goes on where the store is."""
    collector = make_collector("[server]\nworkers = 1\n" + place.toml).start()
    for start in range(0, 1000, 500):
        mend = place.order("fail")
        send(collector, start, 500)
        collector.wait_for_records(start + 500)
        pids = [child["pid"] for child in collector.status()["children"]]
        assert collector.process is not None
        os.kill(collector.process.pid, signal.SIGKILL)
        collector.process.wait()
        wait_for(lambda pids=pids: not any(os.path.exists(f"/proc/{pid}") for pid in pids), "all gone")  # noqa: PTH110
        mend()
        collector.start()
    assert place.wait_for(1000) == expected(1000)


def test_a_full_journal_holds_clients_up_and_lets_them_go_on(
    make_collector: Callable[..., Collector], place: Place
) -> None:
    """A warning, then back-pressure; nothing is lost, and segments go when the store has them."""
    collector = make_collector(SMALL + place.toml).start()
    mend = place.order("fail")
    sent = 0
    while " % full: " not in collector.log:
        send(collector, sent, 250)
        sent += 250
        collector.wait_for_records(sent)
    send(collector, sent, 8000 - sent)
    wait_for(lambda: "journal: full" in collector.log, "a full journal")
    assert collector.status()["journal"]["full"]
    assert collector.status()["journal"]["bytes"] <= 1_048_576 + 65_536
    assert len(collector.lines()) < 8000
    mend()
    assert place.wait_for(8000) == expected(8000)
    wait_for(lambda: len(segments(collector)) <= 2, "segments removed")
    assert "journal: has room again" in collector.log
    assert not collector.status()["journal"]["full"]


def test_a_damaged_segment_costs_what_is_damaged(make_collector: Callable[..., Collector], place: Place) -> None:
    """It is said which records are lost, and the rest comes."""
    collector = make_collector(SMALL + place.toml).start()
    mend = place.order("fail")
    for start in range(0, 2000, 100):
        send(collector, start, 100)
        collector.wait_for_records(start + 100)
    found = segments(collector)
    assert len(found) > 3
    with found[1].open("r+b") as file:
        file.seek(found[1].stat().st_size // 2)
        file.write(b"\xff" * 10)
    mend()
    wait_for(lambda: store_of(collector)["lag_records"] == 0, "no lag")
    stored = place.messages()
    lost = store_of(collector)["lost"]
    assert 0 < lost <= 200
    assert stored == [message for message in expected(2000) if message in set(stored)]
    assert len(stored) == 2000 - lost
    assert "cannot be read, and are passed over" in collector.log


def test_what_a_store_refuses_is_kept_aside_once(make_collector: Callable[..., Collector], place: Place) -> None:
    """Poison holds up nothing, and a failing commit does not double its dead letter."""
    collector = make_collector(place.toml).start()
    mend = place.order("fail-midway")
    with collector.connect() as sock:
        sock.sendall(frames([*expected(5), "poison", "m5"]))
    wait_for(lambda: store_of(collector)["failing"], "failing")
    mend()
    assert place.wait_for(6) == expected(6)
    letters = collector.records("dead-letters-archive.jsonl")
    assert [(letter["number"], letter["reason"]) for letter in letters] == [(5, "it holds poison")]
    assert letters[0]["record"]["message"] == "poison"
    assert store_of(collector)["refused"] == 1


def test_stores_come_and_go_with_a_reload(make_collector: Callable[..., Collector], tmp_path: Path) -> None:
    """A new one begins with the oldest segment there is; one that is gone holds nothing up."""
    first, second = Place(tmp_path, "first"), Place(tmp_path, "second")
    collector = make_collector(first.toml).start()
    send(collector, 0, 100)
    first.wait_for(100)
    collector.config.write_text(first.toml + second.toml)
    assert collector.cli("reload").returncode == 0
    send(collector, 100, 100)
    assert first.wait_for(200) == expected(200)
    assert second.wait_for(200) == expected(200)
    collector.config.write_text(second.toml)
    assert collector.cli("reload").returncode == 0
    wait_for(lambda: [child["kind"] for child in collector.status()["children"]].count("shipper") == 1, "one shipper")
    send(collector, 200, 100)
    assert second.wait_for(300) == expected(300)
    assert first.messages() == expected(200)
    collector.config.write_text("store = []\n")
    assert collector.cli("reload").returncode == 0
    wait_for(lambda: "shipper" not in {child["kind"] for child in collector.status()["children"]}, "no shipper")
    send(collector, 300, 10)
    collector.wait_for_records(310)


def test_a_filtered_store_gets_what_it_lets_through(make_collector: Callable[..., Collector], place: Place) -> None:
    """By level and logger; everything else is not even in the journal."""
    collector = make_collector(place.toml + 'level = "ERROR"\nloggers = ["shop"]\n').start()
    send(collector, 0, 3, level=20)
    send(collector, 3, 3, level=40)
    send(collector, 6, 3, level=50, name="bank")
    assert sorted(place.wait_for(3)) == ["m3", "m4", "m5"]
    wait_for(lambda: store_of(collector)["lag_records"] == 0, "no lag")
    assert collector.status()["journal"]["bytes"] < 4096


def test_a_stop_ships_what_there_is_and_does_not_wait_for_a_dead_store(
    make_collector: Callable[..., Collector], place: Place
) -> None:
    """What a stopped collector has in its journal is shipped by the next one."""
    collector = make_collector(place.toml).start()
    send(collector, 0, 1000)
    collector.wait_for_records(1000)
    assert collector.stop() == 0
    assert place.messages() == expected(1000)
    mend = place.order("hang")
    collector.start()
    send(collector, 1000, 10)
    collector.wait_for_records(1010)
    began_s = time.monotonic()
    assert collector.stop() == 0
    assert time.monotonic() - began_s < 10
    mend()
    collector.start()
    assert place.wait_for(1010) == expected(1010)


def test_a_writer_that_starts_on_a_full_disk_passes_no_record_by_the_stores(
    make_collector: Callable[..., Collector], place: Place, tmp_path: Path
) -> None:
    """It cannot begin a segment: clients wait until it can, it says so, and every record reaches the store once."""
    with mounted(tmp_path / "disk", "size=64m") as disk:
        collector = make_collector(TO_THE_LAST_BYTE + place.toml, "--workers", "1", name="disk/state")
        collector.log_path = tmp_path / "log"
        collector.start()
        send(collector, 0, 100)
        place.wait_for(100)
        disk.fill()
        os.kill(collector.child("writer"), signal.SIGKILL)
        waits = re.compile(r"journal: .*No space left on device.*; clients wait")
        wait_for(lambda: waits.search(collector.log), "it says what is in the way")
        send(collector, 100, 1000)
        wait_for(lambda: next(c for c in collector.status()["children"] if c["kind"] == "writer")["paused"], "paused")
        disk.free()
        assert place.wait_for(1100) == expected(1100)
        assert collector.log.count("No space left on device") == 1
        assert "journal: recovered; clients go on" in collector.log
        assert collector.stop() == 0


class ToyCollector(Collector):
    """A collector whose table of store types has one row more."""

    def command(self, verb: str, *rest: str) -> list[str]:
        """Return the command line of a verb."""
        command = super().command(verb, *rest)
        return ["tests.support.toy_collector" if part == "prefork_logd" else part for part in command]


def test_a_type_of_store_is_added_by_a_row(tmp_path: Path) -> None:
    """Its settings pass to the shipper and through a reload; its records are found; the check asks it."""
    collector = ToyCollector(tmp_path / "state", '[[store]]\ntype = "toy"\n')
    checked = collector.cli("check", "--connect")
    assert (checked.returncode, "# store 'toy': a toy in toys" in checked.stdout) == (0, True), checked.stderr
    assert "warning: store 'toy': it may break" in checked.stderr
    collector.start()
    try:
        send(collector, 0, 100)
        wait_for(lambda: store_of(collector)["records"] == 100, "the records in the toy")
        collector.configure('[[store]]\ntype = "toy"\npatience = "1s"\n')
        assert collector.cli("reload").returncode == 0
        send(collector, 100, 100)
        wait_for(lambda: collector.cli("query", "--count").stdout == "200\n", "all of them by a query")
        assert (store_of(collector)["type"], store_of(collector)["failing"]) == ("toy", False)
    finally:
        assert collector.stop() == 0
