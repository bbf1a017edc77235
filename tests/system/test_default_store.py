"""What a new user has: a collector without a configuration keeps records in SQLite, whatever becomes of that file."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from prefork_logd.stores.sqlite.store import day_name
from tests.system.disks import mounted
from tests.system.harness import Collector, frames, wait_for

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
    wait_until_stored(collector, 50)
    status = collector.cli("status").stdout
    assert "shipper sqlite" in status
    assert "records waiting" in status
    assert collector.cli("tail", "-n", "1", "--format", "json").stdout.encode() == collector.lines()[-1]
    assert collector.stop() == 0
    collector.start()
    send(collector, 50, 50)
    wait_until_stored(collector, 100)
    assert collector.stop() == 0
    assert not list(collector.state_dir.glob("*.db-*")), "what a stopped collector leaves is whole files"
    assert "ERROR" not in collector.log


@pytest.mark.parametrize("harm", ["no database", "a directory in its place", "nothing may be written there"])
def test_a_store_that_cannot_be_opened_holds_up_nobody(make_collector: Maker, tmp_path: Path, harm: str) -> None:
    """Records come in, a line in the log says what is wrong, and nothing is missing once it is mended."""
    with mounted(tmp_path / "disk", "size=4m,mode=0777") as disk:
        toml = f'[[store]]\ntype = "sqlite"\npath = "{disk.path}/records.db"\n'
        file = disk.path / f"records-{day_name(time.time())}.db"
        if harm == "no database":
            file.write_bytes(b"no database, and longer than a header of one is, by far" * 100)
        elif harm == "a directory in its place":
            file.mkdir()
        else:
            disk.remount("ro")
        collector = make_collector(toml).start()
        send(collector, 0, 20)
        wait_for(lambda: store_of(collector)["failing"], "the store fails")
        send(collector, 20, 20)
        assert str(file.parent) in collector.log
        assert "Traceback" not in collector.log
        if harm == "no database":
            file.unlink()
        elif harm == "a directory in its place":
            file.rmdir()
        else:
            disk.remount("rw")
        wait_until_stored(collector, 40)
        assert collector.stop() == 0
