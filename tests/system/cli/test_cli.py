"""The command line, as an operator uses it: verbs, answers, complaints and exit statuses."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.harness import Collector, frames, messages, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator


class Daemon(Collector):
    """A collector that `start` detaches and `stop` ends."""

    def pid(self) -> int | None:
        """Return the daemon's pid, None while none runs."""
        path = self.state_dir / "prefork-logd.pid"
        return int(path.read_text()) if path.exists() else None

    def begin(self, *rest: str) -> subprocess.CompletedProcess[str]:
        """Start it, and learn where it listens."""
        done = self.cli("start", "--bind", "127.0.0.1:0", *rest)
        if done.returncode == 0:
            self.bind = self.status()["bind"]
        return done


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """Return a collector that is not yet started; afterwards it is stopped, and nothing is left of it."""
    daemon = Daemon(tmp_path / "state", "", env={"PREFORK_LOGD_CONFIG": ""}, default_store=True)
    yield daemon
    if daemon.pid():
        daemon.status()
        assert daemon.cli("stop").returncode == 0
    wait_for(lambda: not list(daemon.survivors()), "every process gone", 5)


def one_line(text: str) -> str:
    """Return the only line of a text."""
    (line,) = text.splitlines()
    return line


def test_start_returns_when_connections_are_accepted(daemon: Daemon) -> None:
    """`start` says where the daemon listens and its pid, and a client can connect at once."""
    began_s = time.monotonic()
    assert daemon.cli("--help").returncode == 0
    help_s = time.monotonic() - began_s
    began_s = time.monotonic()
    done = daemon.begin("--workers", "2")
    assert time.monotonic() - began_s < max(2, 10 * help_s)  # on a slow machine any verb takes longer
    assert done.returncode == 0
    pid = daemon.pid()
    assert one_line(done.stdout) == f"listening on {daemon.bind[0]} (pid {pid})"
    assert done.stderr == ""
    with daemon.connect() as sock:
        sock.sendall(frames(["to the daemon"]))
        assert messages(daemon.wait_for_records(1)) == ["to the daemon"]
    assert os.getsid(pid or 0) != os.getsid(0)
    assert Path(f"/proc/{pid}/cwd").readlink() == Path("/")
    assert {Path(f"/proc/{pid}/fd/{fd}").readlink() for fd in (1, 2)} == {daemon.state_dir / "prefork-logd.log"}


def test_stop_returns_when_it_has_drained_and_gone(daemon: Daemon) -> None:
    """After `stop` no process is left, and what clients had sent is in the file."""
    daemon.begin("--workers", "2")
    pid = daemon.pid()
    with daemon.connect() as sock:
        sock.sendall(frames(f"m{number}" for number in range(3000)))
        done = daemon.cli("stop")
    assert (done.returncode, done.stdout) == (0, f"stopped (pid {pid})\n")
    assert list(daemon.survivors()) == []
    assert messages(daemon.records()) == [f"m{number}" for number in range(3000)]
    left = {path.name for path in daemon.state_dir.iterdir()}
    assert not left & {"prefork-logd.pid", "control.sock"}


def test_stop_works_though_the_configuration_is_broken(daemon: Daemon) -> None:
    """A mistake in the file keeps nobody from stopping the daemon, nor from asking for its status."""
    daemon.begin("--workers", "1")
    daemon.config.write_text("[server\n")
    assert daemon.cli("status").returncode == 0
    assert daemon.cli("restart").returncode == 2
    assert daemon.pid()
    done = daemon.cli("stop")
    assert (done.returncode, done.stderr) == (0, "")
    assert daemon.pid() is None


def test_restart(daemon: Daemon) -> None:
    """`restart` replaces the daemon, and starts one where none runs."""
    assert daemon.cli("restart", "--bind", "127.0.0.1:0").returncode == 0
    first = daemon.pid()
    done = daemon.cli("restart", "--bind", "127.0.0.1:0")
    assert done.returncode == 0
    assert done.stdout.startswith(f"stopped (pid {first})\nlistening on 127.0.0.1:")
    assert daemon.pid() not in (first, None)
    daemon.status()


def test_daemon_reopens_its_own_log(daemon: Daemon) -> None:
    """A SIGHUP makes the daemon's own log anew, for every process of it."""
    daemon.begin("--workers", "1")
    log = daemon.state_dir / "prefork-logd.log"
    log.rename(log.with_suffix(".1"))
    assert daemon.cli("reload").returncode == 0
    wait_for(log.exists, "the log is made anew")
    for pid in (daemon.pid(), *(child["pid"] for child in daemon.status()["children"])):
        wait_for(lambda pid=pid: Path(f"/proc/{pid}/fd/2").readlink() == log, f"{pid} writes to it")


def test_relative_paths_stay_where_they_are(daemon: Daemon, tmp_path: Path) -> None:
    """A daemon works in /, and reads its configuration there again: nothing of it moves to another directory."""
    daemon.config = tmp_path / "c.toml"
    toml = '[server]\nstate_dir = "state"\nbind = ["unix:c.sock"]\nworkers = 1\n'
    daemon.config.write_text(toml)
    daemon.cwd = tmp_path
    program = [sys.executable, "-m", "prefork_logd"]
    started = subprocess.run([*program, "start", "--config", "c.toml"], cwd=tmp_path, capture_output=True, check=False)
    assert started.returncode == 0, started.stderr
    assert daemon.cli("reload").stdout == "reloaded: outputs were reopened; changed: nothing\n"
    daemon.bind = daemon.status()["bind"]
    assert daemon.bind == [f"unix:{tmp_path}/c.sock"]
    daemon.config.write_text(toml.replace('"state"', '"elsewhere"'))
    assert "(`prefork-logd restart`): server.state_dir" in daemon.cli("reload").stdout
    with daemon.connect() as sock:
        sock.sendall(frames(["after the reload"]))
        assert messages(daemon.wait_for_records(1)) == ["after the reload"]
    assert not [path for path in tmp_path.iterdir() if path.name not in ("c.sock", "c.toml", "state", "state.toml")]


def test_start_that_cannot_succeed_says_why(daemon: Daemon, tmp_path: Path) -> None:
    """`start` ends with a sentence when the address is taken, an output cannot be made, or the user is unknown."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = daemon.cli("start", "--bind", address)
        assert done.returncode == 1
        assert f"cannot listen on {address}: Address already in use" in one_line(done.stderr)
    (tmp_path / "file").write_text("")
    for toml, reason in (
        (f'[[output]]\npath = "{tmp_path}/file/all.jsonl"\n', "Not a directory"),
        ('[server]\nuser = "nobody-of-this-name"\n', "this user does not exist"),
        (f'[server]\nbind = ["unix:{tmp_path}/file"]\n', "is not a socket"),
    ):
        daemon.config.write_text(toml)
        flags = () if "bind" in toml else ("--bind", "127.0.0.1:0")
        done = daemon.cli("start", *flags)
        assert done.returncode == 1, toml
        assert reason in one_line(done.stderr)
        assert daemon.pid() is None
    daemon.config.write_text("")


def test_not_running(daemon: Daemon) -> None:
    """`status`, `stop` and `reload` end with 3 and say where they looked when nothing runs."""
    for verb in ("status", "stop", "reload"):
        done = daemon.cli(verb)
        assert done.returncode == 3
        assert one_line(done.stderr) == f"prefork-logd: not running (state directory {daemon.state_dir})"
        assert done.stdout == ""


def test_status(collector: Collector) -> None:
    """`status --json` has what the contract names; the human form has no colour where there is no terminal."""
    with collector.connect() as sock:
        sock.sendall(frames(["a", "b"]))
        collector.wait_for_records(2)
        done = collector.cli("status", "--json")
        document = json.loads(done.stdout)
    assert done.returncode == 0
    assert document.keys() >= {
        "version", "pid", "uptime_s", "native", "bind", "connections", "records", "rejected", "dropped", "redacted",
        "children", "outputs", "stores",
    }  # fmt: skip
    assert document["records"] == 2
    assert document["connections"] == 1
    kinds = [child["kind"] for child in document["children"]]
    assert kinds[:3] == ["writer", "worker", "worker"]
    assert len(kinds) == 3 + len(document["stores"])
    for child in document["children"]:
        assert child.keys() >= {"kind", "index", "pid", "connections", "records", "restarts"}
    (output,) = document["outputs"]
    assert (output["name"], output["records"]) == ("records", 2)
    assert output["bytes"] == (collector.state_dir / "records.jsonl").stat().st_size
    done = collector.cli("status")
    assert done.returncode == 0
    assert collector.bind[0] in done.stdout
    assert "\x1b" not in done.stdout


def test_check_prints_every_error_with_its_place(daemon: Daemon) -> None:
    """`check` ends with 2 and names file, line and remedy of each mistake; of a good file it prints all that holds."""
    daemon.config.write_text('[server]\nworkers = 0\nbind = ["nowhere"]\ncolour = 1\n\n[[output]]\nlevel = "LOUD"\n')
    done = daemon.cli("check")
    assert done.returncode == 2
    assert done.stdout == ""
    for place in (":2: server.workers", ":3: server.bind", ":4: server.colour", ":7: output.level"):
        assert f"{daemon.config}{place}" in done.stderr
    assert len(done.stderr.splitlines()) == 4
    daemon.config.write_text("[server]\nworkers = 3\n")
    done = daemon.cli("check")
    assert done.returncode == 0
    assert "workers = 3" in done.stdout
    daemon.config.with_name("effective.toml").write_text(done.stdout)
    again = daemon.cli("check", "--config", str(daemon.config.with_name("effective.toml")))
    assert again.stdout.splitlines()[1:] == done.stdout.splitlines()[1:]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["run", "--no-such-option"], "--no-such-option"),
        (["fly"], "fly"),
        (["run", "--workers", "many"], "--workers"),
        (["run", "--workers", "0"], "--workers"),
        (["run", "--bind", "nowhere"], "nowhere"),
        (["send", "--level", "LOUD", "x"], "LOUD"),
        (["send", "--extra", "novalue", "x"], "novalue"),
    ],
)
def test_wrong_arguments_end_with_2(arguments: list[str], complaint: str, daemon: Daemon) -> None:
    """A mistake on the command line is named, and the status is 2."""
    done = subprocess.run(
        [sys.executable, "-m", "prefork_logd", "--state-dir", str(daemon.state_dir), *arguments],
        capture_output=True, text=True, check=False, timeout=20,
    )  # fmt: skip
    assert done.returncode == 2
    assert complaint in done.stderr
    assert done.stdout == ""


def test_where_the_configuration_is_found(tmp_path: Path) -> None:
    """The flag counts first, then the environment, then ./prefork-logd.toml; a file that was named has to exist."""
    places = {name: tmp_path / name for name in ("flag.toml", "variable.toml", "prefork-logd.toml")}
    for workers, path in enumerate(places.values(), 1):
        path.write_text(f"[server]\nworkers = {workers}\n")

    def check(*flags: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "prefork_logd", "check", *flags],
            cwd=tmp_path, env={"PYTHONPATH": str(Path.cwd()), "PATH": os.environ["PATH"], **environment},
            capture_output=True, text=True, check=False, timeout=20,
        )  # fmt: skip

    variable = {"PREFORK_LOGD_CONFIG": str(places["variable.toml"])}
    assert "workers = 1" in check("--config", str(places["flag.toml"]), **variable).stdout
    assert "workers = 2" in check(**variable).stdout
    assert "workers = 3" in check().stdout
    for missing in (check("--config", "missing.toml"), check(PREFORK_LOGD_CONFIG="missing.toml")):
        assert missing.returncode == 2
        assert "missing.toml: cannot read it: No such file or directory" in one_line(missing.stderr)


def test_flags_stand_before_or_after_the_verb(daemon: Daemon) -> None:
    """Common flags mean the same on both sides of the verb; the one after it wins."""
    command = [sys.executable, "-m", "prefork_logd", "--workers", "5", "--config", str(daemon.config), "check"]
    for rest, workers in (([], 5), (["--workers", "6"], 6)):
        done = subprocess.run([*command, *rest], capture_output=True, text=True, check=True, timeout=20)
        assert f"workers = {workers}" in done.stdout


def test_run_ends_with_0_on_ctrl_c(collector: Collector) -> None:
    """SIGINT to the whole group, as a terminal sends it, drains and ends with 0, without a traceback."""
    with collector.connect() as sock:
        sock.sendall(frames(["before Ctrl-C"]))
        assert collector.process is not None
        os.killpg(collector.process.pid, signal.SIGINT)
        assert collector.process.wait(10) == 0
    assert messages(collector.records()) == ["before Ctrl-C"]
    assert "Traceback" not in collector.log


def test_send_by_hand(collector: Collector) -> None:
    """`send` brings messages from the command line and from standard input to the running collector."""
    assert collector.cli("send", "--level", "ERROR", "--logger", "by.hand", "--extra", "key=value", "hello", "world")
    assert collector.cli("send", input="first\nsecond\n").returncode == 0
    stored = collector.wait_for_records(3)
    assert messages(stored) == ["hello world", "first", "second"]
    assert (stored[0]["levelname"], stored[0]["name"], stored[0]["extra"]) == ("ERROR", "by.hand", {"key": "value"})


def test_send_never_falls_back_to_an_address_that_was_not_named(daemon: Daemon, tmp_path: Path) -> None:
    """Neither to the default, where something else may listen, nor to the collector when another one was named."""
    done = daemon.cli("send", "nowhere")
    assert done.returncode == 3
    assert "not running" in one_line(done.stderr)
    assert "name an address with --to" in done.stderr
    daemon.begin("--workers", "1")
    with socket.create_server(("127.0.0.1", 0)) as closed:
        unused = f"127.0.0.1:{closed.getsockname()[1]}"
    named = tmp_path / "named.toml"
    named.write_text(f'[server]\nbind = ["{unused}"]\n')
    for flags in (("--to", unused), ("--bind", unused), ("--config", str(named))):
        done = daemon.cli("send", *flags, "to another")
        assert (done.returncode, f"{unused}: cannot send" in one_line(done.stderr)) == (1, True)
    assert daemon.cli("send", "--bind", "127.0.0.1:0", "a port that is picked").returncode == 0
    assert messages(daemon.wait_for_records(1)) == ["a port that is picked"]


def test_status_of_a_collector_that_hangs(collector: Collector) -> None:
    """It answers within 2 s and says which process hangs, and why: a child, or the master itself."""
    writer = collector.child("writer")
    os.kill(writer, signal.SIGSTOP)
    began_s = time.monotonic()
    done = collector.cli("status")
    assert time.monotonic() - began_s < 2
    assert done.returncode == 0
    assert "writer has not answered for 0." in done.stdout
    assert f"stopped by a signal; kill -CONT {writer} continues it" in done.stdout
    assert [child["silent_s"] > 0 for child in collector.status()["children"]] == [True, False, False]
    os.kill(writer, signal.SIGCONT)
    wait_for(lambda: not any(child["silent_s"] for child in collector.status()["children"]), "it answers again")
    assert collector.process is not None
    collector.send_signal(signal.SIGSTOP)
    began_s = time.monotonic()
    done = collector.cli("status")
    took_s = time.monotonic() - began_s
    collector.send_signal(signal.SIGCONT)
    # It waits for 2 s at most; the rest is the start of an interpreter, beside whatever else the machine has to do.
    assert took_s < 8
    assert done.returncode == 1
    assert f"master (pid {collector.process.pid}): stopped by a signal" in one_line(done.stderr)
    assert f"writer (pid {writer}): waits for events" in done.stderr


@pytest.mark.parametrize("verb", ["stop", "status", "query", "tail", "replay"])
def test_a_configuration_that_cannot_be_read_leads_nowhere_else(tmp_path: Path, verb: str) -> None:
    """Without it the state directory is not known: the default one may be another collector's."""
    for name, text in (("missing.toml", None), ("broken.toml", "[server\n")):
        file = tmp_path / name
        if text is not None:
            file.write_text(text)
        command = [sys.executable, "-m", "prefork_logd", verb, "--config", str(file)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
        assert done.returncode == 2
        assert one_line(done.stderr).startswith(f"prefork-logd: {file}")
