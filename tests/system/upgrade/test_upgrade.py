"""A running collector becomes the newly installed program under load; if that does not start, nothing happens."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import prefork_logd
from tests.support.disks import TO_THE_LAST_BYTE, mounted
from tests.support.harness import Collector, frame, frames, is_closed, messages, wait_for
from tests.support.load import Load
from tests.support.session_client import Client, Faithful, all_logging, messages_of, records

if TYPE_CHECKING:
    from collections.abc import Callable

    Maker = Callable[..., Collector]


def beside(collector: Collector, directory: Path) -> Collector:
    """Let commands run where no checkout takes the place of what is installed."""
    collector.cwd = directory
    return collector


class Installed:
    """A copy of the package, which a test changes as an installation does."""

    def __init__(self, directory: Path) -> None:
        self.package = directory / "prefork_logd"
        # With its bytecode, or each process would compile 200 modules. It is valid for files that stay as they are.
        # No process writes more, which might look valid for a file that is replaced within the same second.
        shutil.copytree(Path(prefork_logd.__file__).parent, self.package)
        self.env = {"PYTHONPATH": str(directory), "PYTHONDONTWRITEBYTECODE": "1"}

    def change(self, module: str, old: str, new: str) -> None:
        """Replace a piece of a module; of all that begins with `old`, if `new` is the whole text."""
        path = self.package / module
        text = path.read_text()
        assert old in text
        # As an installer does it: another file in its place.
        fresh = path.with_suffix(".new")
        fresh.write_text(text.replace(old, new, 1))
        fresh.replace(path)

    def be_version(self, version: str) -> None:
        """Install another version."""
        path = self.package / "__init__.py"
        text = path.read_text()
        self.change("__init__.py", text[text.index("__version__") :], f'__version__ = "{version}"\n')


def upgrade(collector: Collector) -> str:
    """Upgrade, which has to work; return what is said."""
    done = collector.cli("upgrade")
    assert (done.returncode, done.stderr) == (0, ""), f"{done.stderr}\n{collector.log}"
    return done.stdout


def refused(collector: Collector) -> str:
    """Upgrade, which has to fail; return why."""
    before = children(collector)
    done = collector.cli("upgrade")
    assert (done.returncode, done.stdout) == (1, ""), collector.log
    assert children(collector) == before, "the running code goes on untouched"
    assert len(done.stderr.splitlines()) == 1
    assert "Traceback" not in done.stderr
    assert "the running code goes on" in done.stderr
    return done.stderr


def children(collector: Collector) -> dict[tuple[str, int], int]:
    """Return the pid of each child."""
    return {(child["kind"], child["index"]): child["pid"] for child in collector.status()["children"]}


def test_another_version_takes_over_under_load(tmp_path: Path, make_collector: Maker) -> None:
    """Twice under load: same pid, other code, new children; each record stored once, each connection alive."""
    installed = Installed(tmp_path / "site")
    toml = '[limits]\nrecord_timeout = "10m"\n'
    collector = make_collector(toml, "--workers", "2", env=installed.env, default_store=True)
    beside(collector, tmp_path).start()
    path = collector.state_dir / "records.jsonl"
    with Load(collector, 2, rate=3_000) as load, collector.connect() as half:
        wait_for(lambda: sum(collector.held()) == 3, "every connection accepted")
        whole = frame("in two parts")
        half.sendall(whole[:50])
        for version in ("7.1.0", "7.2.0"):
            before = collector.status()
            installed.be_version(version)
            assert f"runs version {version}, before {before['version']}" in upgrade(collector)
            after = collector.status()
            assert (after["version"], after["pid"]) == (version, before["pid"])
            assert after["uptime_s"] > before["uptime_s"]
            assert after["records"] >= before["records"]
            assert {child["restarts"] for child in after["children"]} == {0}
            assert not set(children(collector).values()) & {child["pid"] for child in before["children"]}
            load.wait_for_more(500)
        wait_for(lambda: sum(collector.held()) == 3, "every connection is still there")
        assert not is_closed(half)
        half.sendall(whole[50:])
        wait_for(lambda: b"in two parts" in path.read_bytes(), "the record in two parts")
        text = path.read_bytes()
        assert text.count(b"in two parts") == 1
        load.stop()
        wait_for(lambda: collector.status()["connections"] <= 1, "the clients have gone")
    wait_for(lambda: collector.status()["outputs"][0]["records"] == load.total() + 1, "everything is counted, once")
    assert collector.cli("query", "--count").stdout == f"{load.total() + 1}\n", "each is found once"
    path.write_bytes(b"".join(line for line in path.read_bytes().splitlines(True) if b"in two parts" not in line))
    load.check(path)
    assert collector.stop() == 0
    assert "ERROR" not in collector.log


def test_sessions_and_slow_clients_go_on(tmp_path: Path, make_collector: Maker) -> None:
    """Sessions keep their numbers over upgrades in a row, whatever was unacknowledged or half sent."""
    collector = make_collector("", "--workers", "2").start()
    clients = [Client(collector) for _ in range(4)]
    for number, client in enumerate(clients):
        assert client.welcome(b"%016d" % number) == 0
        client.send(records(1, [f"{number}-1"]) + records(2, [f"{number}-2"])[:30])
    for turn in range(2):
        upgrade(collector)
        for number, client in enumerate(clients):
            client.send(records(2 + turn, [f"{number}-{2 + turn}"])[30:])
            client.send(records(3 + turn, [f"{number}-{3 + turn}"])[:30])
    for number, client in enumerate(clients):
        client.send(records(4, [f"{number}-4"])[30:])
        assert client.acknowledged(4) == 4
        client.close()
    expected = sorted(f"{client}-{number}" for client in range(4) for number in range(1, 5))
    assert sorted(messages(collector.records())) == expected
    assert collector.stop() == 0


def test_a_broken_version_is_refused(tmp_path: Path, make_collector: Maker) -> None:
    """Code that cannot be read, imported, or run is found out before anything is given up, and said."""
    installed = Installed(tmp_path / "site")
    collector = beside(make_collector("", "--workers", "1", env=installed.env), tmp_path).start()
    breaks: list[tuple[str, str, str, str]] = [
        ("processes/worker/worker.py", "class Worker:", "class Worker(:", "SyntaxError"),
        ("processes/writer/writer.py", "import gc\n", "import gc_that_is_not\n", "gc_that_is_not"),
        (
            "processes/master/upgrade/entry.py",
            "    state = _read(fd)\n",
            "    raise RuntimeError('broken by a test')\n",
            "broken by a test",
        ),
        ("processes/master/upgrade/state.py", "FORMAT = 4\n", "FORMAT = 5\n", "format 4; this version reads format 5"),
    ]
    with collector.connect() as sock:
        for number, (module, old, new, said) in enumerate(breaks):
            installed.change(module, old, new)
            assert said in refused(collector)
            installed.change(module, new, old)
            sock.sendall(frame(str(number)))
            collector.wait_for_records(number + 1)
        shutil.move(installed.package, tmp_path / "away")
        collector.send_signal(signal.SIGHUP)
        collector.config.write_text("[server]\nworker = 3\n")
        shutil.move(tmp_path / "away", installed.package)
        assert "worker" in refused(collector)
        collector.configure("")
        assert "runs version" in upgrade(collector)
        sock.sendall(frame("at last"))
        collector.wait_for_records(len(breaks) + 1)
    assert collector.stop() == 0


def test_with_a_full_disk_nothing_is_upgraded(tmp_path: Path, make_collector: Maker) -> None:
    """While lines cannot be written the old code goes on, and says what is in the way."""
    with mounted(tmp_path / "disk", "size=200k") as disk:
        collector = make_collector(
            f'{TO_THE_LAST_BYTE}[[output]]\npath = "{disk.path}/out.jsonl"\n', "--workers", "1"
        ).start()
        disk.fill(4096)
        with collector.connect() as sock:
            sock.sendall(frames([str(number) for number in range(100)], extra="y" * 300))
            wait_for(lambda: "clients wait" in collector.log, "the disk is full")
            assert "an output cannot be written" in refused(collector)
            disk.free()
            wait_for(lambda: not collector.status()["children"][0]["paused"], "it goes on")
            upgrade(collector)
            sock.sendall(frame("last"))
            assert len(collector.wait_for_records(101, str(disk.path / "out.jsonl"))) == 101
        assert collector.stop() == 0


def test_children_die_during_upgrades_and_sessions_lose_nothing(make_collector: Maker) -> None:
    """Old and new children are killed in the middle; so is the master, once: nothing is lost, nothing comes twice."""
    collector = make_collector("", "--workers", "2").start()
    collector._flags = (*collector._flags, "--bind", collector.bind[0])
    clients = [Faithful(collector, f"client{number}") for number in range(4)]
    with all_logging(clients):
        for turn, moment in enumerate(("trial", "exec", "take-over")):
            done = collector.log.count("runs now; the last one was")
            tried = collector.log.count("the trial of version")
            pids = children(collector)
            collector.send_signal(signal.SIGUSR2)
            if moment != "trial":
                wait_for(lambda tried=tried: collector.log.count("the trial of version") > tried, "the exec")
            if moment == "take-over":
                wait_for(lambda: len(collector.status()["children"]) > 3, "the new workers")
            victim = pids["worker", 1 + turn % 2] if turn != 1 else pids["writer", 0]
            os.kill(victim, signal.SIGKILL)
            wait_for(lambda done=done: collector.log.count("runs now; the last one was") > done, "the upgrade")
        collector.send_signal(signal.SIGUSR2)
        wait_for(lambda: collector.log.count("the trial of version") == 4, "the exec")
        assert collector.process is not None
        os.kill(collector.process.pid, signal.SIGKILL)
        collector.process.wait()
        collector.start()
    assert sorted(messages(collector.records())) == messages_of(clients)
    assert collector.stop() in (0, 1)


def test_signals_in_the_middle_are_kept(make_collector: Maker) -> None:
    """A rename with SIGHUP, another worker and a stop that come during an upgrade are not forgotten."""
    collector = make_collector("", "--workers", "1").start()
    path = collector.state_dir / "records.jsonl"
    with collector.connect() as sock:
        sock.sendall(frame("first"))
        collector.wait_for_records(1)
        path.rename(path.with_name("renamed"))
        collector.send_signal(signal.SIGUSR2)
        wait_for(lambda: "the trial of version" in collector.log, "the exec")
        collector.send_signal(signal.SIGHUP)
        collector.send_signal(signal.SIGTTIN)
        wait_for(lambda: "runs now; the last one was" in collector.log, "the upgrade")
        wait_for(lambda: "reload: outputs were reopened" in collector.log, "the reload")
        wait_for(lambda: len(collector.worker_pids()) == 2, "two workers")
        sock.sendall(frame("second"))
        assert messages(collector.wait_for_records(1)) == ["second"]
    collector.send_signal(signal.SIGUSR2)
    wait_for(lambda: collector.log.count("the trial of version") == 2, "the second exec")
    assert collector.stop() == 0


def test_fewer_workers_in_the_middle_hold_no_upgrade_up(make_collector: Maker) -> None:
    """A worker of the new program that is to end again waits for the new writer, and the writer not for it."""
    collector = make_collector("", "--workers", "3").start()
    client = Client(collector)
    client.welcome(b"one of a session")
    collector.send_signal(signal.SIGUSR2)
    wait_for(lambda: "the trial of version" in collector.log, "the exec")
    collector.send_signal(signal.SIGTTOU)
    wait_for(lambda: "runs now; the last one was" in collector.log, "the upgrade")
    wait_for(lambda: len(collector.worker_pids()) == 2, "two workers")
    client.send(records(1, ["a", "b"]))
    assert client.acknowledged(2) == 2
    client.close()
    assert collector.stop() == 0


def test_a_daemon_upgrades(tmp_path: Path, make_collector: Maker) -> None:
    """`start`, `upgrade`, `stop`: the pid file stays right, and what TTIN has made of the workers stays."""
    installed = Installed(tmp_path / "site")
    toml = f'[server]\nbind = ["unix:{tmp_path}/s"]\nworkers = 1\n'
    collector = beside(make_collector(toml, env=installed.env), tmp_path)
    assert collector.cli("start").returncode == 0
    try:
        pid = collector.status()["pid"]
        os.kill(pid, signal.SIGTTIN)
        wait_for(lambda: len(collector.worker_pids()) == 2, "two workers")
        installed.be_version("8.0")
        assert f"(pid {pid})" in upgrade(collector)
        assert int((collector.state_dir / "prefork-logd.pid").read_text()) == pid
        status: dict[str, Any] = json.loads(collector.cli("status", "--json").stdout)
        assert (status["version"], status["pid"], len(collector.worker_pids())) == ("8.0", pid, 2)
        assert os.readlink(f"/proc/{pid}/cwd") == "/"  # noqa: PTH115 - a plain text
        assert "already running" in collector.cli("start").stderr
    finally:
        assert collector.cli("stop").returncode == 0
    assert not (tmp_path / "s").exists()
    assert not (collector.state_dir / "prefork-logd.pid").exists()
    assert collector.cli("upgrade").returncode == 3


def test_a_store_gets_each_record_once(make_collector: Maker) -> None:
    """The old shipper gives way to a new one, which goes on where the store says."""
    collector = make_collector('[[store]]\ntype = "parquet"\nbatch_time = "1ms"\n', "--workers", "1").start()
    with collector.connect() as sock:
        for turn in range(3):
            sock.sendall(frames([f"{turn}-{number}" for number in range(50)]))
            upgrade(collector)
        collector.wait_for_records(150)
        wait_for(lambda: collector.status()["stores"][0]["lag_records"] == 0, "the store has everything")
        found = collector.cli("query", "--format", "json", "--limit", "1000")
        assert found.returncode == 0, found.stderr
        stored = [json.loads(line)["message"] for line in found.stdout.splitlines()]
        assert sorted(stored) == sorted(f"{turn}-{number}" for turn in range(3) for number in range(50))
    assert collector.stop() == 0
