"""A running collector takes a new configuration, and reopens its files, under full load."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.disks import TO_THE_LAST_BYTE, mounted
from tests.support.harness import frames, messages, wait_for
from tests.support.load import Load, count_lines, stored

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.harness import Collector

    Maker = Callable[..., Collector]


def reload(collector: Collector, toml: str) -> None:
    """Reload with another configuration, which has to be taken."""
    collector.configure(toml)
    done = collector.cli("reload")
    assert (done.returncode, done.stderr) == (0, ""), done.stderr


def open_files(pid: int, directory: Path) -> set[str]:
    """Return the outputs under a directory that a process has open."""
    links = [os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()]  # noqa: PTH115 - may hold "(deleted)"
    return {
        link
        for link in links
        if link.startswith(f"{directory}/")
        and not link.startswith(f"{directory}/journal/")
        and not link.endswith(".lock")
    }


def test_renaming_and_sighup_under_full_load(collector: Collector) -> None:
    """Logrotate's way, again and again under full load: each record is in exactly one file, whole."""
    path = collector.state_dir / "records.jsonl"
    rotated = []
    with Load(collector) as load:
        for number in range(10):
            load.wait_for_more(1000)
            wait_for(path.exists, "the file")
            rotated.append(path.rename(path.with_name(f"records.jsonl.{number}")))
            collector.send_signal(signal.SIGHUP if number % 2 else signal.SIGUSR1)
        wait_for(path.exists, "the last one")
        load.wait_for_more(1000)
        load.check(path, *rotated)
    assert sum(count_lines([file]) > 0 for file in rotated) > 5
    assert collector.stop() == 0


def test_writer_killed_between_renaming_and_sighup(collector: Collector) -> None:
    """A writer that dies between rename and reopening leaves each record in exactly one file, whole."""
    path = collector.state_dir / "records.jsonl"
    rotated = []
    with Load(collector) as load:
        for number in range(4):
            load.wait_for_more(1000)
            wait_for(path.exists, "the file")
            writer = collector.child("writer")
            rotated.append(path.rename(path.with_name(f"records.jsonl.{number}")))
            os.kill(writer, signal.SIGKILL)
            collector.send_signal(signal.SIGHUP)
            wait_for(lambda old=writer: collector.child("writer") != old, "another writer")
        load.check(path, *rotated)
    assert collector.stop() == 0


def test_outputs_change_under_full_load(tmp_path: Path, make_collector: Maker) -> None:
    """Outputs that come, go and change their format lose and double nothing; what left is closed."""
    toml = '[[output]]\nname = "always"\npath = "always.jsonl"\n'
    collector = make_collector(toml, "--workers", "2").start()
    always, passing = collector.state_dir / "always.jsonl", collector.state_dir / "passing.log"
    with Load(collector) as load, collector.connect() as idle:
        for _ in range(3):
            load.wait_for_more(500)
            reload(collector, toml + f'[[output]]\npath = "{passing}"\nformat = "text"\ntemplate = "%(message)s"\n')
            load.wait_for_more(500)
            reload(collector, toml)
        load.check(always)
        found = stored([passing])
        assert any(found.values())
        for client, numbers in found.items():
            assert len(numbers) == len(set(numbers)), f"client {client}: some doubled"
        writer = collector.child("writer")
        wait_for(lambda: str(passing) not in open_files(writer, collector.state_dir), "the file that left is closed")
        idle.sendall(frames(["x"]))
    assert collector.stop() == 0
    assert collector.log.count("ERROR") == 0


def test_writer_closes_what_left_though_no_record_comes(make_collector: Maker) -> None:
    """Outputs that a reload takes away are closed, even if no client ever sends anything again."""
    toml = '[[output]]\npath = "{}.jsonl"\n'
    collector = make_collector(toml.format("first"), "--workers", "2").start()
    for name in ("second", "third"):
        reload(collector, toml.format(name))
    writer = collector.child("writer")
    own = {str(collector.state_dir / name) for name in ("third.jsonl", "rejected.jsonl")}
    wait_for(lambda: open_files(writer, collector.state_dir) == own, "the others are closed")
    assert collector.stop() == 0


def test_levels_limits_and_workers_change_live(make_collector: Maker) -> None:
    """A reload changes filters, limits and the number of workers, and no client is disconnected."""
    collector = make_collector("[server]\nworkers = 1\n").start()
    with collector.connect() as sock:
        sock.sendall(frames(["first"], level=10))
        collector.wait_for_records(1)
        reload(collector, '[server]\nworkers = 3\n[limits]\nmax_record_bytes = 2000\n[[output]]\nlevel = "ERROR"\n')
        assert len(collector.worker_pids()) == 3
        sock.sendall(frames(["too low"], level=30) + frames(["x" * 3000], level=50) + frames(["second"], level=40))
        first, cut, second = collector.wait_for_records(3)
        assert messages([first, second]) == ["first", "second"]
        assert cut["truncated"] == ["message"]
        assert len(cut["message"]) < 2000
        reload(collector, "[server]\nworkers = 1\n")
        wait_for(lambda: len(collector.worker_pids()) == 1, "one worker")
        sock.sendall(frames(["third"], level=10))
        assert messages(collector.wait_for_records(4))[-1] == "third"
    assert collector.stop() == 0


def test_invalid_configuration_is_reported_and_the_old_one_stays(collector: Collector) -> None:
    """`reload` names file and line of each mistake, exits with 2, and all goes on as before."""
    before = collector.status()
    collector.config.write_text('[server]\nworkers = "many"\n\n[limits]\nmax_conections = 3\n')
    done = collector.cli("reload")
    assert done.returncode == 2
    assert f"{collector.config}:2: server.workers" in done.stderr
    assert f"{collector.config}:5: limits.max_conections: unknown key; did you mean 'max_connections'?" in done.stderr
    assert "the old one stays" in done.stderr
    collector.config.write_text("[server\n")
    done = collector.cli("reload")
    assert done.returncode == 2
    assert f"{collector.config}:1" in done.stderr
    collector.config.unlink()
    done = collector.cli("reload")
    assert done.returncode == 2
    assert str(collector.config) in done.stderr
    after = collector.status()
    assert after["generation"] == before["generation"]
    with collector.connect() as sock:
        sock.sendall(frames(["still here"]))
        collector.wait_for_records(1)
    collector.configure("")
    assert collector.stop() == 0


def test_what_cannot_change_live_is_named(make_collector: Maker, tmp_path: Path) -> None:
    """A reload says which keys wait for a restart, takes the others, and status shows what is in force."""
    collector = make_collector('[server]\nworkers = 1\nbind = ["127.0.0.1:0"]\n').start()
    before = collector.status()
    collector.configure('[server]\nworkers = 2\nbind = ["127.0.0.1:0", "[::1]:0"]\nuser = "nobody"\n')
    done = collector.cli("reload")
    assert done.returncode == 0
    assert "server.workers" in done.stdout.splitlines()[0]
    assert any(line.startswith("not applied") and line.endswith(": server.bind") for line in done.stdout.splitlines())
    assert any(line.startswith("not applied") and line.endswith(": server.user") for line in done.stdout.splitlines())
    after = collector.status()
    assert after["bind"] == before["bind"]
    assert len(collector.worker_pids()) == 2
    assert collector.stop() == 0


def test_state_dir_cannot_change_live(make_collector: Maker, tmp_path: Path) -> None:
    """A reload that names another state directory says that it waits for a restart, and the old one stays."""
    toml = '[server]\nbind = ["127.0.0.1:0"]\nstate_dir = "{}"\n'
    collector = make_collector(toml.format(tmp_path / "state"))
    collector.command = lambda verb, *rest: [  # type: ignore[method-assign]
        part for part in type(collector).command(collector, verb, *rest)
        if part not in ("--state-dir", str(collector.state_dir))
    ]  # fmt: skip
    collector.start()
    collector.configure(toml.format(tmp_path / "other"))
    collector.send_signal(signal.SIGHUP)
    wait_for(lambda: "(`prefork-logd restart`): server.state_dir" in collector.log, "the warning")
    assert collector.status()["state_dir"] == str(tmp_path / "state")
    assert collector.stop() == 0


def test_writer_killed_while_lines_of_two_older_configurations_wait(make_collector: Maker, tmp_path: Path) -> None:
    """However many reloads come while an output cannot be written, no line is lost or led to another output."""
    with mounted(tmp_path / "disk", "size=64m") as disk:
        toml = TO_THE_LAST_BYTE + (
            '[server]\nworkers = 2\n[[output]]\nname = "full"\npath = "{}"\n[[output]]\nname = "other"\npath = "{}"\n'
        )
        others = [tmp_path / f"other-{number}.jsonl" for number in range(4)]
        full = disk.path / "full.jsonl"
        collector = make_collector(toml.format(full, others[0])).start()
        disk.fill(leave_bytes=300_000)
        try:
            with Load(collector) as load:
                wait_for(lambda: collector.status()["outputs"][0]["failing"], "the disk is full")
                wait_for(
                    lambda: all(
                        child["paused"] for child in collector.status()["children"] if child["kind"] != "shipper"
                    ),
                    "everyone pauses",
                )
                for other in others[1:]:
                    reload(collector, toml.format(full, other))
                writer = collector.child("writer")
                os.kill(writer, signal.SIGKILL)
                wait_for(lambda: collector.child("writer") != writer, "another writer")
                disk.free()
                load.wait_for_more(1000)
                load.check(full)
                load.check(*others)
            assert count_lines(others[1:3]) == 0
            assert count_lines([others[3]]) > 0
        finally:
            assert collector.stop() == 0
        assert "CRITICAL" not in collector.log


def test_reload_while_a_worker_is_stopped(collector: Collector) -> None:
    """Outputs are reopened though one worker does not answer; it takes the new configuration when it goes on."""
    stopped = collector.child("worker", 1)
    path = collector.state_dir / "records.jsonl"
    wait_for(path.exists, "the file")
    os.kill(stopped, signal.SIGSTOP)
    rotated = path.rename(path.with_suffix(".1"))
    collector.send_signal(signal.SIGHUP)
    wait_for(path.exists, "it is reopened")
    for _ in range(3):
        path.rename(rotated)
        collector.send_signal(signal.SIGUSR1)
        wait_for(path.exists, "it is reopened again")
    os.kill(stopped, signal.SIGCONT)
    wait_for(lambda: "reload: outputs were reopened" in collector.log, "the reload ends")
    assert collector.stop() == 0
