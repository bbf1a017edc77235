"""The newly installed program is tried before it takes this one's place; here, without any process."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from prefork_logd.processes.master.upgrade import trial
from prefork_logd.processes.master.upgrade.trial import TRIAL_S, Trial
from tests.support.children import FakeLoop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prefork_logd.processes.master.upgrade.state import UpgradeState

ROOT = Path(__file__).resolve().parents[5]
PID = 4711


class State:
    """What would be inherited: a file, and the directory of relative paths."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.inherited = [os.memfd_create("socket")]

    def to_file(self) -> int:
        """Return a descriptor of the state's own."""
        return os.memfd_create("state")

    def descriptors(self) -> list[int]:
        """Return what the new program inherits."""
        return self.inherited


class Rig:
    """A trial whose process is played by the test."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.loop = FakeLoop()
        self.directory = str(tmp_path)
        self.answers: list[tuple[str, str]] = []
        self.killed: list[tuple[int, int]] = []
        self.words: list[str] = []
        self.started_in = ""
        self.output = -1
        monkeypatch.setattr(os, "posix_spawn", self._spawn)
        monkeypatch.setattr(os, "kill", lambda pid, number: self.killed.append((pid, number)))
        self.trial = Trial(self.loop.loop, self.state, lambda *answer: self.answers.append(answer))

    @property
    def state(self) -> UpgradeState:
        return cast("UpgradeState", State(self.directory))

    def _spawn(self, path: str, words: list[str], _: dict[str, str], *, file_actions: Any, **__: Any) -> int:
        assert path == words[0]
        self.words = words
        self.started_in = str(Path.cwd())
        output, errors, state = file_actions
        assert (output[2], errors[2], state[2]) == (1, 2, 3)
        assert output[1] == errors[1]
        self.output = os.dup(output[1])
        return PID

    def end(self, output: bytes, status: int = 0) -> None:
        """Let the process print something and end."""
        os.write(self.output, output)
        os.close(self.output)
        self.output = -1
        for _ in range(2 if output else 1):
            self.trial.ready(0)
        self.trial.record_exit(status)


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    made = Rig(tmp_path, monkeypatch)
    yield made
    if made.output >= 0:
        os.close(made.output)
    made.trial.close()


def test_the_trial_is_run_where_relative_paths_begin(rig: Rig) -> None:
    """Afterwards this process is where it was."""
    assert rig.words == [*trial.command(3), "--trial"]
    assert rig.started_in == rig.directory != str(Path.cwd())


def test_a_trial_that_succeeds_tells_its_version(rig: Rig) -> None:
    """On the last line; what else it printed does not count."""
    rig.end(b'a warning\n{"version": "9.1"}\n\n')
    assert rig.answers == [("", "9.1")]
    assert rig.killed == []


def test_the_end_may_be_known_before_the_output(rig: Rig) -> None:
    """SIGCHLD comes when it comes; the answer is given once, when both are there."""
    os.write(rig.output, b'{"version": "9.1"}\n')
    rig.trial.record_exit(0)
    rig.trial.ready(0)
    assert rig.answers == []
    os.close(rig.output)
    rig.output = -1
    rig.trial.ready(0)
    assert rig.answers == [("", "9.1")]


@pytest.mark.parametrize(
    ("output", "status", "problem"),
    [
        (b"Traceback\nprefork-logd: c.toml: no such file\n", 78, "c.toml: no such file"),
        (b"ImportError: no module\n", 1, "ImportError: no module"),
        (b"", 9, "it ended with status 9"),
        (b"", 0, "unexpected output ''"),
        (b"hello\n", 0, "unexpected output 'hello'"),
        (b"[1]\n", 0, "unexpected output '[1]'"),
        (b"{}\n", 0, "unexpected output '{}'"),
    ],
)
def test_a_trial_that_fails_tells_its_problem(rig: Rig, output: bytes, status: int, problem: str) -> None:
    """The last line is the reason that people look for."""
    rig.end(output, status)
    assert rig.answers == [(problem, "")]


def test_a_trial_that_takes_too_long_is_killed(rig: Rig) -> None:
    """What it prints afterwards is nobody's business."""
    rig.loop.pass_s(TRIAL_S + 0.1)
    assert rig.answers == [("it was not ready after 20 s", "")]
    assert rig.killed == [(PID, signal.SIGKILL)]
    rig.trial.record_exit(0)
    assert len(rig.answers) == 1


def test_a_program_that_cannot_be_run_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No descriptor, and no other directory."""

    def refuse(*_: object, **__: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "posix_spawn", refuse)
    before, here = _open(), Path.cwd()
    state = State(str(tmp_path))
    with pytest.raises(PermissionError):
        Trial(FakeLoop().loop, cast("UpgradeState", state), lambda *_: None)
    assert _open() - before == set(state.inherited)
    assert Path.cwd() == here


def _open() -> set[int]:
    return {int(path.name) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()}


@pytest.mark.parametrize(
    ("started", "flags"),
    [
        (["python", "-m", "prefork_logd", "run", "-X", "dev"], []),
        (["python", "-I", "-X", "dev", "-W", "error", "bin/prefork-logd", "run"], ["-I", "-X", "dev", "-W", "error"]),
        (["python", "-u", "-c", "code"], ["-u"]),
        (["python", "-X"], ["-X", ""]),
        (["python", "-"], []),
    ],
)
def test_the_interpreter_keeps_its_flags(monkeypatch: pytest.MonkeyPatch, started: list[str], flags: list[str]) -> None:
    """Those before the script or module, with their values; the script itself is replaced."""
    monkeypatch.setattr(sys, "orig_argv", started)
    assert trial.command(7) == [sys.executable, *flags, "-m", "prefork_logd", "take-over", "--state", "7"]


@pytest.mark.parametrize(
    ("script", "before", "after"),
    [
        ("bin/prefork-logd", "", str(ROOT)),
        ("bin/prefork-logd", "/a:/b", f"/a:/b:{ROOT}"),
        ("bin/prefork-logd", f"{ROOT}:/b", f"{ROOT}:/b"),
        ("elsewhere/prefork-logd", "/a", "/a"),
        ("elsewhere/prefork-logd", "", ""),
    ],
)
def test_a_checkout_is_found_by_its_new_program(
    monkeypatch: pytest.MonkeyPatch, script: str, before: str, after: str
) -> None:
    """`python -m` would not find it, for only the script in bin/ knows where it is."""
    monkeypatch.setattr(sys, "argv", [str(ROOT / script), "run"])
    monkeypatch.setenv("PYTHONPATH", before)
    assert trial.environment()["PYTHONPATH"] == after


def test_the_program_is_replaced_with_all_that_it_inherits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Signals are blocked and those not handled yet are sent again before; descriptors pass an exec only then."""
    state, seen = State(str(tmp_path)), []

    def execute(path: str, words: list[str], _: dict[str, str]) -> None:
        assert path == words[0] == sys.executable
        assert os.get_inheritable(state.inherited[0])
        assert os.get_inheritable(int(words[-1]))
        assert str(Path.cwd()) == state.directory
        seen.append("exec")
        raise OSError(2, "No such file or directory")

    monkeypatch.setattr(os, "execve", execute)
    here, mask = Path.cwd(), signal.pthread_sigmask(signal.SIG_BLOCK, ())
    put_back: Callable[[], None] = lambda: seen.append(  # noqa: E731
        "all blocked" if signal.SIGTERM in signal.pthread_sigmask(signal.SIG_BLOCK, ()) else "not blocked"
    )
    problem = trial.replace(cast("UpgradeState", state), put_back)
    assert seen == ["all blocked", "exec"]
    assert problem == f"{sys.executable}: No such file or directory"
    # The running program goes on as before.
    assert not os.get_inheritable(state.inherited[0])
    assert Path.cwd() == here
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == mask


def test_a_directory_that_is_gone_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative paths lead nowhere then, in the old program too."""
    found = []

    def execute(*_: object) -> None:
        found.append(str(Path.cwd()))
        raise OSError(2, "No such file or directory")

    monkeypatch.setattr(os, "execve", execute)
    trial.replace(cast("UpgradeState", State(str(tmp_path / "gone"))), lambda: None)
    assert found == ["/"]
