"""Disks fill up, break, and lose files; clients wait meanwhile, and nothing is lost, doubled or torn."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import signal
import time
from typing import TYPE_CHECKING

import pytest

from prefork_logd.config.paths import PID_FILE
from tests.support.disks import TO_THE_LAST_BYTE, Disk, build_shim, mounted
from tests.support.harness import frames, messages, wait_for
from tests.support.load import Load, stored
from tests.support.procfs import cpu_s, rss_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.harness import Collector

    Maker = Callable[..., Collector]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """Return a small disk; it is unmounted after the collector has gone."""
    with mounted(tmp_path / "disk", "size=128m") as disk:
        yield disk


@pytest.fixture
def shim(tmp_path: Path) -> dict[str, str]:
    """Return the environment of a collector whose writes go wrong as the file `fault` says."""
    return {"LD_PRELOAD": str(build_shim(tmp_path)), "FAULT_FILE": str(tmp_path / "fault")}


def told_of(collector: Collector, output: str = "records") -> list[str]:
    """Return the lines of the log about an output."""
    return [line for line in collector.log.splitlines() if f"output {output}:" in line]


def pass_time(duration_s: float, why: str) -> None:
    """Let time pass where that itself is the condition."""
    end_s = time.monotonic() + duration_s
    wait_for(lambda: time.monotonic() > end_s, why)


def is_waiting(collector: Collector, output: str = "records") -> bool:
    """Tell whether status shows an output as failing."""
    return any(entry["failing"] for entry in collector.status()["outputs"] if entry["name"] == output)


@pytest.mark.slow
def test_full_disk_holds_clients_and_resumes_alone(disk: Disk, make_collector: Maker) -> None:
    """While the disk is full clients wait, memory stays bounded and nothing spins; then all goes on by itself."""
    path = disk.path / "all.jsonl"
    collector = make_collector(
        f'{TO_THE_LAST_BYTE}[[output]]\nname = "records"\npath = "{path}"\n', "--workers", "2"
    ).start()
    pids = [child["pid"] for child in collector.status()["children"]]
    for _ in range(2):
        disk.fill(leave_bytes=500_000)
        with Load(collector, rate=None) as load:
            wait_for(lambda: is_waiting(collector), "the disk is full")
            wait_for(lambda: all(child["paused"] for child in collector.status()["children"]), "everyone pauses")
            before_s = sum(map(cpu_s, pids))
            pass_time(0.5, "long enough to see the processes at rest")
            assert sum(map(cpu_s, pids)) - before_s < 0.15
            assert all(rss_bytes(pid) < 96 << 20 for pid in pids)
            assert stored([path]) is not None
            disk.free()
            wait_for(lambda: not is_waiting(collector), "it resumes")
            load.check(path)
        path.write_bytes(b"")
    assert [child["pid"] for child in collector.status()["children"]] == pids
    assert collector.stop() == 0
    assert len(told_of(collector)) == 4, "two lines for each of two episodes"
    assert "No space left on device" in told_of(collector)[0]


def test_killed_writer_on_a_full_disk(disk: Disk, tmp_path: Path, make_collector: Maker) -> None:
    """A writer killed while one of two outputs is full, and rotated, doubles nothing in the other one."""
    full, fine = disk.path / "full.jsonl", tmp_path / "fine.jsonl"
    collector = make_collector(
        f'{TO_THE_LAST_BYTE}[[output]]\npath = "{fine}"\n[[output]]\npath = "{full}"\n', "--workers", "2"
    ).start()
    disk.fill(leave_bytes=500_000)
    with Load(collector) as load:
        wait_for(lambda: is_waiting(collector, "full"), "the disk is full")
        rotated = full.rename(disk.path / "full.jsonl.1")
        collector.send_signal(signal.SIGHUP)
        wait_for(full.exists, "the rotated output is made anew")
        wait_for(lambda: is_waiting(collector, "full"), "the disk is still full")
        wait_for(lambda: collector.log.count("reload: outputs were reopened") == 1, "the reload")
        pass_time(1.1, "the writer has tried the new file: at least once a second")
        writer = collector.child("writer")
        os.kill(writer, signal.SIGKILL)
        wait_for(lambda: collector.child("writer") != writer, "another writer")
        disk.free()
        load.check(fine)
        load.check(full, rotated)
    assert collector.stop() == 0


def test_writer_that_starts_on_a_read_only_disk(disk: Disk, tmp_path: Path, make_collector: Maker) -> None:
    """A writer dies with lines uncommitted, and the next one finds the disk read-only: later nothing is doubled."""
    path, full = disk.path / "all.jsonl", tmp_path / "small" / "full.jsonl"
    with mounted(tmp_path / "small", "size=64m") as small:
        collector = make_collector(
            f'{TO_THE_LAST_BYTE}[[output]]\npath = "{path}"\n[[output]]\npath = "{full}"\n', "--workers", "2"
        )
        collector.start()
        small.fill(leave_bytes=500_000)
        with Load(collector) as load:
            wait_for(lambda: is_waiting(collector, "full"), "lines that are in one output only")
            writer = collector.child("writer")
            collector.send_signal(signal.SIGSTOP)
            os.kill(writer, signal.SIGKILL)
            wait_for(lambda: disk.try_remount("ro"), "no file is open for writing any more")
            collector.send_signal(signal.SIGCONT)
            wait_for(lambda: collector.child("writer") != writer, "another writer")
            assert "Read-only file system" in collector.log
            small.free()
            disk.remount("rw")
            load.check(path)
            load.check(full)
        assert collector.stop() == 0


@pytest.mark.parametrize("fault", ["EROFS", "EIO", "EDQUOT"])
def test_failing_writes_are_tried_again(
    fault: str, shim: dict[str, str], tmp_path: Path, make_collector: Maker
) -> None:
    """Writes that fail are told once and tried until they work; nothing is lost, doubled or torn."""
    collector = make_collector("", "--workers", "2", env=shim).start()
    with Load(collector) as load:
        load.wait_for_more(1000)
        (tmp_path / "fault").write_text(fault)
        wait_for(lambda: is_waiting(collector), "the output fails")
        (tmp_path / "fault").unlink()
        wait_for(lambda: not is_waiting(collector), "it resumes")
        load.check(collector.state_dir / "records.jsonl")
    assert collector.stop() == 0
    assert len(told_of(collector)) == 2


@pytest.mark.parametrize("fault", ["short", "EINTR", "torn"])
def test_short_and_interrupted_writes(fault: str, shim: dict[str, str], tmp_path: Path, make_collector: Maker) -> None:
    """Writes that take less than they were given, are interrupted, or fail half way tear no line."""
    collector = make_collector("", "--workers", "2", env=shim).start()
    with Load(collector) as load:
        wait_for(lambda: len(collector.lines()) > 100, "some are stored")
        (tmp_path / "fault").write_text(fault)
        load.wait_for_more(2000)
        if fault == "torn":
            wait_for(lambda: is_waiting(collector), "a write fails half way")
        (tmp_path / "fault").unlink()
        load.check(collector.state_dir / "records.jsonl")
    assert collector.stop() == 0


def test_removed_directory_is_made_anew(tmp_path: Path, make_collector: Maker) -> None:
    """A directory removed under load is there again within 2 s; from then on, nothing is missing."""
    directory = tmp_path / "logs" / "today"
    path = directory / "all.jsonl"
    collector = make_collector(f'[[output]]\npath = "{path}"\n', "--workers", "2").start()
    with Load(collector) as load:
        load.wait_for_more(2000)
        wait_for(path.exists, "the file")
        with path.open("rb") as old:
            # All at once: taken away piece by piece, a directory may be filled again meanwhile.
            (tmp_path / "logs").rename(tmp_path / "gone")
            shutil.rmtree(tmp_path / "gone")
            wait_for(path.exists, "the file is made anew", 2)
            load.wait_for_more(1000)
            load.stop()
            goal = load.total()
            wait_for(lambda: _numbers(old.fileno(), path) == goal, "every record is in one of both")
    assert collector.stop() == 0


def test_a_state_directory_that_is_moved_and_put_back(tmp_path: Path, make_collector: Maker) -> None:
    """Nothing is made at its path meanwhile, which would be in its way back, and every record is stored once."""
    collector = make_collector("", "--workers", "1", default_store=True)
    collector.state_dir = home = tmp_path / "state"
    collector.configure('[[store]]\ntype = "parquet"\nbatch_time = "100ms"\n[errors]\n')
    collector.start()
    shippers = [child["pid"] for child in collector.status()["children"] if child["kind"] == "shipper"]
    with collector.connect() as sock:
        sock.sendall(frames(["before"]))
        collector.wait_for_records(1)
        home.rename(tmp_path / "moved")
        sock.sendall(frames(["while it is away"], level=logging.ERROR))
        wait_for(lambda: b"away" in (tmp_path / "moved" / "records.jsonl").read_bytes(), "the open file is written")
        for pid in shippers:
            os.kill(pid, signal.SIGKILL)
        missing = f": {home}/journal: is missing; if it or the state directory was moved, put it back"
        wait_for(lambda: collector.log.count(missing) == len(shippers) == 2, "their successors wait")
        wait_for(lambda: f"{home}/{PID_FILE} is no longer the file of this collector" in collector.log, "it is said")
        assert not home.exists()
        (tmp_path / "moved").rename(home)
        wait_for(lambda: f"{home}/{PID_FILE} is back" in collector.log, "it is back")
        sock.sendall(frames(["after"]))
        collector.wait_for_records(3)
    wait_for(lambda: all(not store["problem"] for store in collector.status()["stores"]), "the store works")
    found = messages(json.loads(line) for line in collector.cli("query", "--format", "json").stdout.splitlines())
    assert found == ["before", "while it is away", "after"]
    assert collector.stop() == 0


def test_unlinked_file_is_made_anew(collector: Collector) -> None:
    """A file removed under load is there again within 2 s; no record after that is missing."""
    path = collector.state_dir / "records.jsonl"
    with Load(collector) as load:
        load.wait_for_more(2000)
        with path.open("rb") as old:
            for _ in range(3):
                path.unlink()
                wait_for(path.exists, "the file is made anew", 2)
            load.wait_for_more(1000)
            load.stop()
            sent = load.sent
            wait_for(lambda: all(_holds(path, client, n - 1) for client, n in sent.items()), "the last ones")
            found = stored([path])
        for client, numbers in found.items():
            assert numbers == list(range(numbers[0], sent[client])), f"a gap or a double of client {client}"
            assert old is not None
    assert collector.stop() == 0


def _holds(path: Path, client: int, number: int) -> bool:
    """Tell whether a record's whole line is in a file that may be written meanwhile."""
    return re.search(rb'"message":"%02d-%08d [^\n]*\n' % (client, number), path.read_bytes()) is not None


def _numbers(old_fd: int, path: Path) -> int:
    """Return how many different records are in a removed file and its successor."""
    place = re.compile(rb'"message":"(\d\d-\d{8}) ')
    old = os.pread(old_fd, os.fstat(old_fd).st_size, 0)
    return len({*place.findall(old), *place.findall(path.read_bytes())})


def test_disk_without_inodes(tmp_path: Path, make_collector: Maker) -> None:
    """When no file can be made a rotated one goes on being written, and the new one is made once that is possible."""
    with mounted(tmp_path / "disk", "size=128m,nr_inodes=8") as disk:
        path = disk.path / "all.jsonl"
        collector = make_collector(f'[[output]]\nname = "records"\npath = "{path}"\n', "--workers", "2").start()
        with Load(collector) as load:
            load.wait_for_more(1000)
            made = []
            for number in range(8):
                try:
                    (disk.path / f"taken-{number}").touch()
                except OSError:
                    break
                made.append(disk.path / f"taken-{number}")
            rotated = path.rename(disk.path / "all.jsonl.1")
            collector.send_signal(signal.SIGHUP)
            wait_for(lambda: "cannot reopen output records" in collector.log, "it says so")
            load.wait_for_more(1000)
            for taken in made:
                taken.unlink()
            wait_for(path.exists, "the file is made once that is possible")
            load.wait_for_more(1000)
            load.check(path, rotated)
        assert collector.stop() == 0
        assert len(told_of(collector)) < 10


def test_output_on_a_disk_that_is_full_from_the_start(disk: Disk, make_collector: Maker) -> None:
    """A collector whose output's disk is full starts, says so once, and serves when there is room."""
    disk.fill()
    path = disk.path / "all.jsonl"
    collector = make_collector(
        f'{TO_THE_LAST_BYTE}[[output]]\nname = "records"\npath = "{path}"\n', "--workers", "1"
    ).start()
    with collector.connect() as sock:
        sock.sendall(frames(["waits for room"]))
        wait_for(lambda: is_waiting(collector), "it fails")
        disk.free()
        wait_for(lambda: path.read_bytes().count(b"\n") == 1, "it is stored")
    assert collector.stop() == 0
    assert len(told_of(collector)) == 2


def test_state_directory_on_a_full_disk(disk: Disk, make_collector: Maker, tmp_path: Path) -> None:
    """A collector that cannot even write its pid starts, says why clients wait, and serves when there is room."""
    disk.fill()
    path = tmp_path / "all.jsonl"
    collector = make_collector(f'[[output]]\npath = "{path}"\n', "--bind", "127.0.0.1:0", "--workers", "1")
    collector.state_dir = disk.path
    collector.start()
    assert "No space left on device; make room" in collector.log
    assert "clients wait until it works again" in collector.log
    with collector.connect() as sock:
        sock.sendall(frames(["waits for room"]))
        disk.free()
        wait_for(lambda: path.read_bytes().count(b"\n") == 1, "it is stored")
        wait_for((disk.path / PID_FILE).read_text, "the pid is written", 10)
    assert collector.stop() == 0


def test_a_restart_on_a_full_disk_is_refused(disk: Disk, make_collector: Maker) -> None:
    """The old collector goes on, also if the new one could not have an address or a certificate."""
    collector = make_collector("", "--workers", "1")
    collector.state_dir = disk.path / "state"
    collector.start()
    pid = collector.status()["pid"]
    disk.fill()
    done = collector.cli("restart", "--bind", collector.bind[0])
    assert (done.returncode, done.stdout) == (1, "")
    assert f"not restarted, and pid {pid} goes on: {collector.state_dir}: a start needs" in done.stderr
    assert "No space left on device; make room" in done.stderr
    disk.free()
    done = collector.cli("restart", "--bind", collector.bind[0], "--bind", "192.0.2.1:9020")
    assert (done.returncode, done.stdout) == (1, "")
    assert "cannot listen on 192.0.2.1:9020" in done.stderr
    with collector.connect() as sock:
        sock.sendall(frames(["it still serves"]))
        collector.wait_for_records(1)
    assert collector.stop() == 0


def test_rejects_that_cannot_be_written_hold_up_nobody(disk: Disk, make_collector: Maker, tmp_path: Path) -> None:
    """When rejected.jsonl cannot be written, the records of everybody else are stored all the same."""
    path = tmp_path / "all.jsonl"
    collector = make_collector(f'{TO_THE_LAST_BYTE}[[output]]\npath = "{path}"\n', "--workers", "1")
    collector.state_dir = disk.path / "state"
    collector.start()
    disk.fill()
    with collector.connect() as sock:
        for number in range(50):
            sock.sendall((300).to_bytes(4, "big") + b"?" * 300 + frames([f"good {number}"]))
        wait_for(lambda: path.read_bytes().count(b"\n") == 50, "the good records are stored")
        assert collector.status()["rejected"] == 50
        disk.free()
        sock.sendall((300).to_bytes(4, "big") + b"?" * 300)
        wait_for(collector.rejected, "later ones are noted again")
    assert messages(collector.records(str(path))) == [f"good {number}" for number in range(50)]
    assert collector.stop() == 0


def test_a_directory_of_lines_that_is_removed_makes_room(tmp_path: Path, make_collector: Maker) -> None:
    """Clients that wait for free space go on, and the directory is made again."""
    with mounted(tmp_path / "disk", "size=64m") as disk:
        path = disk.path / "logs" / "all.jsonl"
        collector = make_collector(f'[[output]]\npath = "{path}"\n', "--workers", "1").start()
        disk.fill(leave_bytes=1_200_000)
        (disk.path / "filler").rename(path.with_name("old.jsonl"))
        with collector.connect() as sock:
            sock.sendall(frames(["one"]))
            wait_for(lambda: collector.status()["low_space"], "clients wait")
            shutil.rmtree(path.parent)
            wait_for(lambda: path.exists() and '"message":"one"' in path.read_text(), "clients go on")
        assert collector.stop() == 0
