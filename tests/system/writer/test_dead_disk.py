"""The disk with everything of a collector fails as a whole: outputs, journal, store, groups of errors."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.dead_disk import DeadDisk
from tests.support.disks import TO_THE_LAST_BYTE, mounted
from tests.support.harness import wait_for
from tests.support.load import Load

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.harness import Collector

    Maker = Callable[..., Collector]

TOML = f"""{TO_THE_LAST_BYTE}journal_segment_bytes = 1_000_000
[errors]
enabled = true
[[output]]
name = "all"
path = "all.jsonl"
[[output]]
name = "some"
path = "some/{{logger}}-{{date}}.jsonl"
[[store]]
type = "parquet"
batch_time = "200ms"
"""
RATE = 3000


def failing(collector: Collector) -> list[bool]:
    """Return of each output, store, and the groups of errors whether it fails."""
    status: dict[str, Any] = collector.status()
    return [one["failing"] for one in (*status["outputs"], *status["stores"], status["errors"])]


def journal_fails(collector: Collector) -> bool:
    """Tell whether the journal was the first that failed: the outputs get no record then, so they cannot fail."""
    return re.search("journal: .*; clients wait", collector.log) is not None


def stands(collector: Collector) -> bool:
    """Tell whether outputs, stores and groups of errors fail; one that has every record has nothing to fail with."""
    status: dict[str, Any] = collector.status()
    readers = (*status["stores"], status["errors"])
    return (journal_fails(collector) or all(one["failing"] for one in status["outputs"])) and all(
        one["failing"] or one["lag_records"] == 0 for one in readers
    )


def pids(collector: Collector) -> list[int]:
    return [child["pid"] for child in collector.status()["children"]]


def check(collector: Collector, load: Load) -> None:
    """Stop the load, and fail unless each record is once in each output and in the store, and each error is counted."""
    (some,) = (collector.state_dir / "some").iterdir()
    load.check(collector.state_dir / "all.jsonl")
    load.check(some)
    wait_for(lambda: collector.status()["errors"]["lag_records"] == 0, "the groups of errors have every record")
    printed = collector.cli("query", "--format", "json", "--limit", "1000000").stdout
    stored = re.findall(r'"message":"(\d\d-\d{8}) ', printed)
    assert len(stored) == len(set(stored)) == load.total()
    assert (collector.status()["dropped"], collector.status()["rejected"]) == (0, 0)
    assert "bug" not in collector.log


@pytest.mark.parametrize(("error", "reason"), [("EROFS", "Read-only file system"), ("EIO", "Input/output error")])
def test_a_disk_that_fails_as_a_whole(make_collector: Maker, tmp_path: Path, error: str, reason: str) -> None:
    """Clients wait, no process dies, the log has the reason; afterwards all goes on, and nothing is lost or doubled."""
    disk = DeadDisk(tmp_path, tmp_path / "state")
    collector = make_collector(TOML, "--workers", "2", env=disk.env).start()
    before = pids(collector)
    with Load(collector, rate=RATE) as load:
        wait_for(lambda: collector.status()["stores"][0]["records"] > 0, "the store has some")
        disk.fail(error)
        wait_for(lambda: stands(collector), "everything fails")
        wait_for(
            lambda: all(one["paused"] for one in collector.status()["children"] if one["kind"] == "worker"), "pause"
        )
        disk.work()
        wait_for(lambda: not any(failing(collector)), "everything works again")
        load.wait_for_more(2000)
        check(collector, load)
    assert pids(collector) == before
    parts = ("journal",) if journal_fails(collector) else ("output all", "output some")
    for part in parts:
        assert len(re.findall(f"{part}: .*{reason}.*; clients wait", collector.log)) == 1
        assert len(re.findall(f"{part}: .*written again", collector.log)) == 1
    assert collector.stop() == 0


def test_a_disk_without_inodes_under_every_part(make_collector: Maker, tmp_path: Path) -> None:
    """The journal cannot begin a segment, and the store no file: clients wait until there is an inode again."""
    with mounted(tmp_path / "state", "size=400m,nr_inodes=200") as disk:
        collector = make_collector(TOML, "--workers", "2").start()
        before = pids(collector)
        with Load(collector, rate=RATE) as load:
            wait_for(lambda: collector.status()["stores"][0]["records"] > 0, "the store has some")
            taken = []
            for number in range(1000):
                try:
                    (disk.path / f"taken-{number}").touch()
                except OSError:
                    break
                taken.append(disk.path / f"taken-{number}")
            wait_for(lambda: re.search("journal: .*No space left on device.*clients wait", collector.log), "the reason")
            for path in taken:
                path.unlink()
            wait_for(lambda: "journal: records are written again" in collector.log, "the journal goes on")
            wait_for(lambda: not any(failing(collector)), "everything works again")
            load.wait_for_more(2000)
            check(collector, load)
        assert pids(collector) == before
        assert collector.stop() == 0
