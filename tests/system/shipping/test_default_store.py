"""A collector without a configuration keeps records in Parquet files, each once, whatever happens to the files."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest

from prefork_logd.records.record import make_record
from prefork_logd.records.render import render_json
from prefork_logd.stores.parquet import segments
from tests.support.disks import mounted
from tests.support.harness import Collector, frames, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Maker = Callable[..., Collector]


def send(collector: Collector, first: int, count: int) -> None:
    """Send numbered records, and wait until the output has them."""
    with collector.connect() as sock:
        sock.sendall(frames([f"m{number}" for number in range(first, first + count)]))
    collector.wait_for_records(first + count)


def store_of(collector: Collector) -> dict[str, Any]:
    """Return what status knows of the only store."""
    (store,) = collector.status()["stores"]
    return dict(store)


def stored(collector: Collector) -> list[bytes]:
    """Return the lines that a query finds."""
    return [line.encode() for line in collector.cli("query", "--format", "json").stdout.splitlines(keepends=True)]


def wait_until_stored(collector: Collector, count: int) -> None:
    """Wait until the store has so many records, and check that they are those of the output."""
    wait_for(lambda: store_of(collector)["lag_records"] == 0, "no lag")
    lines = stored(collector)
    assert len(lines) == count
    assert sorted(lines) == sorted(collector.lines())


def test_records_are_found_without_any_configuration(make_collector: Maker) -> None:
    """They are in the file and in the store, also those of before a restart."""
    collector = make_collector("", default_store=True).start()
    send(collector, 0, 50)
    # At once: a query reads those that are in no file yet in the journal.
    assert sorted(stored(collector)) == sorted(collector.lines())
    status = collector.cli("status").stdout
    assert "shipper parquet" in status
    assert "records waiting" in status
    assert collector.cli("tail", "-n", "1", "--format", "json").stdout.encode() == collector.lines()[-1]
    assert collector.stop() == 0
    assert segments.find_segments(collector.state_dir / "records"), "a stop writes what waits"
    assert sorted(stored(collector)) == sorted(collector.lines())
    collector.start()
    send(collector, 50, 50)
    assert sorted(stored(collector)) == sorted(collector.lines())
    assert len(stored(collector)) == 100
    assert collector.stop() == 0
    assert not list(collector.state_dir.glob("records/**/.*.tmp")), "what a stopped collector leaves is whole files"
    assert "ERROR" not in collector.log


def test_a_shipper_that_is_killed_again_and_again_stores_each_record_once(make_collector: Maker) -> None:
    """While it writes segments, which are small here, and merges; queries meanwhile see every record once."""
    toml = '[[store]]\ntype = "parquet"\nbatch_time = "1ms"\nbatch_records = 20\n'
    collector = make_collector(toml, "--workers", "1").start()
    count = 0
    for turn in range(8):
        with collector.connect() as sock:
            sock.sendall(frames([f"m{number}" for number in range(count, count + 100)]))
        count += 100
        collector.wait_for_records(count)
        if turn % 2:
            wait_for(lambda: segments.find_segments(collector.state_dir / "records"), "a segment")
            os.kill(collector.child("shipper", 0), signal.SIGKILL)
        else:
            assert sorted(stored(collector)) == sorted(collector.lines())
    wait_until_stored(collector, 800)
    assert collector.stop() == 0
    assert sorted(stored(collector)) == sorted(collector.lines())
    found = segments.find_segments(collector.state_dir / "records")
    assert [one.first for one in found[1:]] == [one.next for one in found[:-1]]
    assert "Traceback" not in collector.log


def test_a_damaged_file_costs_its_own_records(make_collector: Maker) -> None:
    """A query prints the others, and names the file and the numbers that are missing; a removed file costs the same."""
    collector = make_collector('[[store]]\ntype = "parquet"\nbatch_records = 20\nbatch_time = "1ms"\n').start()
    for first in (0, 20, 40):
        send(collector, first, 20)
        wait_until_stored(collector, first + 20)
    assert collector.stop() == 0
    lines = stored(collector)
    bad = segments.find_segments(collector.state_dir / "records")[0]
    bad.path.write_bytes(bad.path.read_bytes()[:-30])
    done = collector.cli("query", "--format", "json")
    assert len(done.stdout.splitlines()) == len(lines) - (bad.next - bad.first)
    assert str(bad.path) in done.stderr
    assert f"records {bad.first} to {bad.next - 1} of that file are missing" in done.stderr
    bad.path.unlink()
    assert collector.cli("query", "--count").stdout == f"{len(lines) - (bad.next - bad.first)}\n"


def test_a_full_disk_under_parquet_files_costs_nothing(make_collector: Maker, tmp_path: Path) -> None:
    """The store says so, records wait in the journal, and all of them are stored when there is room again."""
    with mounted(tmp_path / "disk", "size=4m,mode=0777") as disk:
        toml = f'[[store]]\ntype = "parquet"\npath = "{disk.path}/records"\nbatch_time = "1ms"\n'
        collector = make_collector(toml).start()
        send(collector, 0, 20)
        wait_for(lambda: store_of(collector)["lag_records"] == 0, "no lag")
        filler = disk.path / "filler"
        with contextlib.suppress(OSError), filler.open("wb") as file:
            while True:
                file.write(bytes(65536))
                file.flush()
        send(collector, 20, 100)
        wait_for(lambda: store_of(collector)["failing"], "the store is in trouble")
        assert "No space left" in store_of(collector)["problem"]
        filler.unlink()
        wait_for(lambda: store_of(collector)["lag_records"] == 0, "no lag", deadline_s=20)
        lines = stored(collector)
        assert sorted(lines) == sorted(collector.lines())
        assert len(lines) == 120
        assert collector.stop() == 0
        assert "Traceback" not in collector.log


def test_a_nearly_full_disk_holds_clients_and_is_never_filled(make_collector: Maker, tmp_path: Path) -> None:
    """Clients wait while too little is free, the log and status say so, and all goes on by itself."""
    with mounted(tmp_path / "disk", "size=128m,mode=0777") as disk:
        toml = f'[[output]]\npath = "{disk.path}/all.jsonl"\n[[store]]\ntype = "parquet"\nbatch_time = "1ms"\n'
        collector = make_collector(toml).start()
        disk.fill(leave_bytes=3_000_000)
        with collector.connect() as sock:
            sock.sendall(frames([f"m{number}" for number in range(100)]))
            wait_for(lambda: collector.status()["low_space"], "clients wait")
            message = f"{disk.path}: only 3.0 MB of its disk are free"
            wait_for(lambda: message in collector.log, "a line of the log")
            assert "clients wait until there is room" in collector.cli("status").stdout
            assert (disk.path / "all.jsonl").stat().st_size == 0
            disk.free()
            wait_for(lambda: (disk.path / "all.jsonl").read_bytes().count(b"\n") == 100, "all goes on")
        assert not collector.status()["low_space"]
        wait_for(lambda: store_of(collector)["lag_records"] == 0, "no lag")
        assert sorted(stored(collector)) == sorted((disk.path / "all.jsonl").read_bytes().splitlines(keepends=True))
        assert collector.stop() == 0
        assert collector.log.count("only 3.0 MB") == collector.log.count("disks have room again") == 1


def test_the_oldest_records_make_room_on_a_nearly_full_disk(make_collector: Maker, tmp_path: Path) -> None:
    """A store that is idle removes them at once, and clients need not wait."""
    with mounted(tmp_path / "disk", "size=128m,mode=0777") as disk:
        toml = f'[[output]]\npath = "{disk.path}/all.jsonl"\n[[store]]\ntype = "parquet"\nbatch_time = "1ms"\n'
        collector = make_collector(f'{toml}path = "{disk.path}/records"\n').start()
        for first in (0, 50):
            with collector.connect() as sock:
                sock.sendall(frames([f"m{number}" for number in range(first, first + 50)]))
            wait_for(lambda: store_of(collector)["records"] == first + 50, "a segment")  # noqa: B023 - called at once
        disk.fill(leave_bytes=5_000_000)
        with collector.connect() as sock:
            sock.sendall(frames(["new"]))
        wait_for(lambda: "only 5 MB of the disk are free" in collector.log, "the oldest records are removed")
        wait_for(lambda: store_of(collector)["records"] == 101, "clients go on")
        assert not collector.status()["low_space"]
        disk.free()
        with collector.connect() as sock:
            sock.sendall(frames(["newest"]))
        wait_for(lambda: store_of(collector)["records"] == 102, "another segment")
        left = stored(collector)
        assert b"newest" in left[-1]
        assert len(left) <= 2
        assert collector.stop() == 0
        assert "clients wait" not in collector.log


@pytest.mark.parametrize("harm", ["a file in its place", "a file in a day's place", "nothing may be written there"])
def test_a_store_that_cannot_be_opened_holds_up_nobody(make_collector: Maker, tmp_path: Path, harm: str) -> None:
    """Records come in, a line in the log says what is wrong, and nothing is missing once it is mended."""
    with mounted(tmp_path / "disk", "size=4m,mode=0777") as disk:
        records = disk.path / "records"
        day = records / time.strftime("%Y-%m-%d", time.gmtime())
        if harm == "a file in its place":
            records.touch()
        elif harm == "a file in a day's place":
            records.mkdir()
            day.touch()
        else:
            disk.remount("ro")
        collector = make_collector(f'[[store]]\ntype = "parquet"\npath = "{records}"\nbatch_time = "1ms"\n').start()
        send(collector, 0, 20)
        wait_for(lambda: store_of(collector)["failing"], "the store fails")
        send(collector, 20, 20)
        assert str(disk.path) in store_of(collector)["problem"]
        assert str(disk.path) in collector.log
        assert "Traceback" not in collector.log
        if harm == "a file in its place":
            records.unlink()
        elif harm == "a file in a day's place":
            day.unlink()
        else:
            disk.remount("rw")
        wait_until_stored(collector, 40)
        assert collector.stop() == 0


def test_a_directory_that_another_process_holds_costs_nothing(make_collector: Maker) -> None:
    """Records come in meanwhile, and queries find them; afterwards each is in the store, once."""
    collector = make_collector('[[store]]\ntype = "parquet"\nbatch_time = "1ms"\n').start()
    send(collector, 0, 20)
    wait_until_stored(collector, 20)
    with segments.Directory(collector.state_dir / "records").locked():
        send(collector, 20, 5_000)
        assert store_of(collector)["lag_records"] == 5_000
        assert sorted(stored(collector)) == sorted(collector.lines())
    wait_until_stored(collector, 5_020)
    assert collector.stop() == 0
    assert "ERROR" not in collector.log


def test_a_removed_directory_is_made_again(make_collector: Maker) -> None:
    """It gets the records that the journal still has, and those that come, each once."""
    collector = make_collector('[[store]]\ntype = "parquet"\nbatch_time = "1ms"\n').start()
    send(collector, 0, 20)
    wait_until_stored(collector, 20)
    shutil.rmtree(collector.state_dir / "records")
    send(collector, 20, 100)
    wait_until_stored(collector, 120)
    assert collector.stop() == 0
    assert "records: No such file or directory" in collector.log
    assert "Traceback" not in collector.log


def test_a_replay_beside_the_shipper(make_collector: Maker) -> None:
    """Both write to one directory: neither holds the other up for long, and each record is stored once."""
    collector = make_collector('[[store]]\ntype = "parquet"\nbatch_time = "1ms"\n').start()
    send(collector, 0, 20)
    wait_until_stored(collector, 20)
    late = [
        render_json(make_record({"msg": f"late {number}", "name": f"late.{number % 50}", "created": 1.8e9}, "", 1.8e9))
        for number in range(3000)
    ]
    letters = collector.state_dir / "dead-letters-parquet.jsonl"
    letters.write_text(
        "".join(
            f'{{"time":1.8e9,"journal":"{"a" * 32}","number":{number},"reason":"","record":{one.decode().strip()}}}\n'
            for number, one in enumerate(late)
        )
    )
    count = 20
    with subprocess.Popen(collector.command("replay"), stdout=subprocess.PIPE, text=True) as replay:
        while replay.poll() is None:
            with collector.connect() as sock:
                sock.sendall(frames([f"m{number}" for number in range(count, count + 100)], name=f"shop.{count}"))
            count += 100
            collector.wait_for_records(count)
        assert replay.stdout is not None
        assert "parquet: 3,000 records taken, 0 refused again" in replay.stdout.read()
    wait_for(lambda: store_of(collector)["lag_records"] == 0, "no lag")
    assert sorted(stored(collector)) == sorted([*collector.lines(), *late])
    assert not letters.exists()
    assert "ERROR" not in collector.log
