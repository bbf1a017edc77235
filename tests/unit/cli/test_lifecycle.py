"""The verbs around the collector's life, with a collector that is made up."""

from __future__ import annotations

import json
import signal
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from prefork_logd.cli import lifecycle, status
from prefork_logd.cli.main import cli
from prefork_logd.config.load import loads
from prefork_logd.errors import ProcessError
from prefork_logd.ipc.command_socket import EndQuestion
from prefork_logd.processes.master import rehearsal
from prefork_logd.processes.master.shutdown import LONGEST_STOP_S
from prefork_logd.system.running import Running

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result


class FakeRunning(Running):
    """A master that ends, or does not, when it is asked to."""

    def __init__(self, *, ends: bool = True, pid: int = 7) -> None:
        super().__init__(pid)
        self.signals: list[signal.Signals] = []
        self.waited_s = 0.0
        self._ends = ends

    def send_signal(self, number: signal.Signals) -> None:
        self.signals.append(number)

    def wait(self, timeout_s: float) -> bool:
        self.waited_s += timeout_s
        return self._ends and timeout_s > 0


class FakeCollector:
    """Answers each question as it is told, and keeps the questions."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, answer: dict[str, Any], running: Running | None) -> None:
        self.questions: list[tuple[str, dict[str, int]]] = []
        for module in (lifecycle, status):
            monkeypatch.setattr(module, "find_running", lambda _: running)
            monkeypatch.setattr(module, "ask", self._ask)
        self._answer = answer

    def _ask(self, _settings: object, _running: object, question: str, _longest_s: float, **details: int) -> Any:
        self.questions.append((question, details))
        return self._answer


def invoke(tmp_path: Path, *line: str) -> Result:
    """Run a verb with a state directory of its own."""
    return CliRunner().invoke(cli, ["--state-dir", str(tmp_path), *line])


@pytest.mark.parametrize("line", [["stop"], ["reload"], ["upgrade"], ["workers", "2"], ["status"]])
def test_without_a_collector_the_status_is_3(tmp_path: Path, line: list[str]) -> None:
    """And the state directory is named."""
    done = invoke(tmp_path, *line)
    assert done.exit_code == 3
    assert done.stderr == f"prefork-logd: not running (state directory {tmp_path})\n"


def test_a_user_without_a_home_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Has no default state directory; the one that is given is named all the same."""

    def default_state_dir() -> str:
        raise ValueError("the home directory of user 12345 is not known; set HOME, or give --state-dir")

    monkeypatch.setattr("prefork_logd.config.paths.default_state_dir", default_state_dir)
    done = invoke(tmp_path, "status")
    assert (done.exit_code, done.stderr) == (3, f"prefork-logd: not running (state directory {tmp_path})\n")


@pytest.mark.parametrize("restart_by", ["", "`systemctl restart` with its unit"])
def test_a_reload_that_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, restart_by: str) -> None:
    """Names the keys that changed, and those that wait for a restart, with the command that restarts it."""
    answer = {"taken": True, "problems": [], "changed": ["output"], "needs_restart": ["server.bind"]}
    FakeCollector(monkeypatch, answer | ({"restart_by": restart_by} if restart_by else {}), Running(7))
    done = invoke(tmp_path, "reload")
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.startswith(
        "reloaded: outputs were reopened; changed: output\n"
        f"not applied, because it needs a restart ({restart_by or '`prefork-logd restart`'}): server.bind"
    )


@pytest.mark.parametrize(("taken", "status"), [(True, 1), (False, 2)])
def test_the_problems_of_a_reload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: bool, status: int) -> None:
    """Each is a complaint; a configuration that is not taken has the status of a usage error."""
    answer = {"taken": taken, "problems": ["c.toml:1: is odd"], "changed": [], "needs_restart": []}
    FakeCollector(monkeypatch, answer, Running(7))
    done = invoke(tmp_path, "reload")
    assert done.exit_code == status
    assert done.stderr.startswith("prefork-logd: c.toml:1: is odd\n")
    assert ("the old one stays" in done.stderr) is not taken


@pytest.mark.parametrize(("read", "complains"), [("", True), ("other.toml", True), ("prefork-logd.toml", False)])
def test_a_reload_beside_another_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: str, complains: bool
) -> None:
    """The collector reads the file of its start again; a file that is found here and not read is named."""
    (tmp_path / "prefork-logd.toml").touch()
    monkeypatch.chdir(tmp_path)
    answer = {"taken": True, "problems": [], "changed": [], "needs_restart": []}
    FakeCollector(monkeypatch, answer | {"config": read and str(tmp_path / read)}, Running(7))
    done = invoke(tmp_path, "reload")
    assert done.exit_code == 0
    assert (f"does not read {tmp_path / 'prefork-logd.toml'}" in done.stderr) is complains
    assert ("no configuration file" in done.stderr) is (read == "")


def test_workers_and_upgrade_print_before_and_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of workers is part of the question."""
    collector = FakeCollector(monkeypatch, {"workers": 4, "before": 2, "version": "9.9"}, Running(7))
    assert invoke(tmp_path, "workers", "4").stdout.startswith("workers: 4, before 2;")
    assert invoke(tmp_path, "upgrade").stdout.startswith("runs version 9.9, before 2 (pid 7);")
    assert collector.questions == [("workers", {"count": 4}), ("upgrade", {})]


def test_status_as_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The document as it came, with the URLs of the page; an older collector has no page."""
    FakeCollector(monkeypatch, {"pid": 7}, Running(7))
    done = invoke(tmp_path, "status", "--json")
    page = {"bind": [], "scheme": "http", "problem": "", "urls": []}
    assert (done.exit_code, json.loads(done.stdout)) == (0, {"pid": 7, "page": page})


def test_stop_asks_by_sigterm_and_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It prints the pid once the process has ended."""
    running = FakeRunning()
    FakeCollector(monkeypatch, {}, running)
    done = invoke(tmp_path, "stop")
    assert (done.exit_code, done.stdout, running.signals) == (0, "stopped (pid 7)\n", [signal.SIGTERM])


def test_a_stop_that_takes_too_long_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the time that it had."""
    running = FakeRunning(ends=False)
    FakeCollector(monkeypatch, {}, running)
    monkeypatch.setattr(lifecycle, "time", SimpleNamespace(monotonic=lambda: running.waited_s))
    done = invoke(tmp_path, "stop")
    assert isinstance(done.exception, ProcessError)
    limit_s = loads("").limits.drain_timeout_s + LONGEST_STOP_S
    assert f"pid 7 has not ended after {limit_s:g} s;" in str(done.exception)
    assert running.waited_s == pytest.approx(limit_s)


def test_a_restart_that_could_not_start_again_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason is that of the start."""
    running = FakeRunning()
    FakeCollector(monkeypatch, {"bind": ["127.0.0.1:9020"], "page": {"bind": ["[::1]:9021"]}}, running)
    asked = []

    def refuse(_: object, held: list[str]) -> None:
        asked.append(held)
        raise ProcessError("the disk is full; make room")

    monkeypatch.setattr(rehearsal, "require_start", refuse)
    done = invoke(tmp_path, "restart")
    assert str(done.exception) == "not restarted, and pid 7 goes on: the disk is full; make room"
    assert (asked, running.signals) == ([["127.0.0.1:9020", "[::1]:9021"]], [])


def test_a_restart_of_a_collector_without_a_pid_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs in a container: it has no number that would mean anything here."""
    FakeCollector(monkeypatch, {"bind": [], "managed": True}, FakeRunning(pid=0))
    done = invoke(tmp_path, "restart")
    assert str(done.exception).startswith(
        "not restarted, and the collector in another pid namespace goes on: a service"
    )


def test_a_restart_is_left_to_the_service_manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would start another collector beside ours; after a stop, too, which therefore names the remedy."""
    running = FakeRunning()
    FakeCollector(monkeypatch, {"bind": [], "managed": True}, running)
    done = invoke(tmp_path, "restart")
    assert str(done.exception).startswith("not restarted, and pid 7 goes on: a service manager runs it")
    assert str(done.exception).endswith("use `systemctl restart` with its unit")
    assert not running.signals
    done = invoke(tmp_path, "stop")
    assert (done.exit_code, done.stdout) == (0, "stopped (pid 7)\n")
    assert "a service manager ran it, and may start it again" in done.stderr


def test_a_collector_that_hangs_is_restarted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its addresses are not known then. A start that fails after the stop says that none runs."""
    running, asked = FakeRunning(), []
    FakeCollector(monkeypatch, {}, running)

    def hang(*_: object) -> None:
        raise ProcessError("no answer")

    def fail(_: object) -> int:
        raise ProcessError("the disk is full; make room")

    monkeypatch.setattr(lifecycle, "ask", hang)
    monkeypatch.setattr(lifecycle, "_start", fail)
    monkeypatch.setattr(rehearsal, "require_start", lambda _, held: asked.append(held))
    done = invoke(tmp_path, "restart")
    assert (asked, running.signals) == ([None], [signal.SIGTERM])
    assert str(done.exception) == "the disk is full; make room; the old collector has ended, and none runs now"


def test_start_beside_a_running_collector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is started."""
    FakeCollector(monkeypatch, {}, Running(7))
    done = invoke(tmp_path, "start")
    assert str(done.exception).startswith("already running with pid 7;")


@pytest.mark.parametrize(("told", "status"), [(0, 0), (1, 1), (None, 0)])
def test_a_stop_has_the_status_of_the_collector(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: int | None, status: int
) -> None:
    """A collector that could not write every record says so; one that was killed says nothing."""
    running = FakeRunning()
    FakeCollector(monkeypatch, {}, running)
    monkeypatch.setattr(EndQuestion, "exit_status", lambda _: told)
    done = invoke(tmp_path, "stop")
    assert (done.exit_code, done.stdout) == (status, "stopped (pid 7)\n")
    assert ("records may be lost" in done.stderr) is bool(told)
    assert running.signals == [signal.SIGTERM]


def test_a_directory_that_was_not_named_is_not_the_only_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user other than root does not look where a service manager's collector keeps its files."""
    monkeypatch.setattr("prefork_logd.config.paths.default_state_dir", lambda: str(tmp_path))
    assert invoke(tmp_path, "stop").stderr.endswith(f"(state directory {tmp_path}); name another with --state-dir\n")


@pytest.mark.parametrize("flag", ["--config", "--state-dir", "--workers"])
def test_an_empty_flag_is_refused(tmp_path: Path, flag: str) -> None:
    """A variable of the shell that is not set must not stand for the defaults."""
    done = invoke(tmp_path, "status", flag, "")
    assert done.exit_code == 2
    assert f"{flag} is empty; give a value, or leave it out" in done.stderr
