"""An upgrade begins when nothing is half done, and one that cannot begin says why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import pytest

from prefork_logd.processes.master.upgrade import upgrader
from tests.support.children import FakeLoop

if TYPE_CHECKING:
    from collections.abc import Callable

GOES_ON = "; the running code goes on"


class _Trial:
    """A trial that a test ends."""

    def __init__(self, loop: object, state: object, ended: Callable[[str, str], None]) -> None:
        self.state = state
        self.end = ended
        self.pid = 7
        self.statuses: list[int] = []
        self.close = Mock()
        self.close_in_child = Mock()
        self.record_exit = self.statuses.append


class _Rig:
    """An upgrader, its master, and the programs that it has become."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.loop = FakeLoop()
        self.host = Mock(may_upgrade=Mock(return_value=""), is_quiet=Mock(return_value=True))
        self.host.loop = self.loop.loop
        self.host.upgrade_state = lambda: f"state of {self.loop.loop.now_s:g}"
        self.trials: list[_Trial] = []
        self.replaced: list[Any] = []
        self.answers: list[dict[str, Any]] = []
        monkeypatch.setattr(upgrader, "Trial", self._try)
        monkeypatch.setattr(upgrader, "replace", self._replace)
        self.upgrader = upgrader.Upgrader(self.host)

    def _try(self, *arguments: Any) -> _Trial:
        self.trials.append(_Trial(*arguments))
        return self.trials[-1]

    def _replace(self, state: object, put_signals_back: object) -> str:
        assert put_signals_back is self.host.put_signals_back
        self.replaced.append(state)
        return "exec failed"  # else it does not return

    def upgrade(self) -> None:
        self.upgrader.upgrade(self.answers.append)

    @property
    def errors(self) -> list[str]:
        return [answer["error"] for answer in self.answers]


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> _Rig:
    return _Rig(monkeypatch)


def test_a_trial_that_succeeds_is_followed_by_the_exec(rig: _Rig) -> None:
    """With the state of that moment. One that comes back has failed."""
    rig.upgrade()
    assert not rig.replaced
    rig.loop.pass_s(2)
    rig.trials[0].end("", "2.0")
    assert rig.replaced == [f"state of {rig.loop.loop.now_s:g}"]
    assert rig.errors == ["exec failed" + GOES_ON]


def test_new_code_that_does_not_start_changes_nothing(rig: _Rig) -> None:
    """The next upgrade may do better."""
    rig.upgrade()
    rig.trials[0].end("it ended with status 1", "")
    assert (rig.errors, rig.replaced) == (["the new code does not start: it ended with status 1" + GOES_ON], [])
    rig.upgrade()
    assert len(rig.trials) == 2


def test_the_exec_waits_for_quiet(rig: _Rig) -> None:
    """A reload ends, a child reads its messages: for a while."""
    rig.host.is_quiet.return_value = False
    rig.upgrade()
    rig.trials[0].end("", "2.0")
    rig.loop.pass_s(upgrader.QUIET_S / 2)
    assert (rig.answers, rig.replaced) == ([], [])
    rig.host.is_quiet.return_value = True
    rig.loop.pass_s(2 * upgrader.POLL_S)
    assert len(rig.replaced) == 1


def test_the_exec_does_not_wait_for_ever(rig: _Rig) -> None:
    """A child that reads nothing stays in the way."""
    rig.host.is_quiet.return_value = False
    rig.upgrade()
    rig.trials[0].end("", "2.0")
    rig.loop.pass_s(upgrader.QUIET_S + 1)
    assert rig.replaced == []
    assert rig.errors == ["a reload, or a child that does not read its messages, stands in the way" + GOES_ON]


@pytest.mark.parametrize("when", ["before", "after the trial"])
def test_a_collector_that_stops_is_not_upgraded(rig: _Rig, when: str) -> None:
    """Whatever the master says is the answer."""
    if when == "before":
        rig.host.may_upgrade.return_value = "the collector stops"
    rig.upgrade()
    rig.host.may_upgrade.return_value = "the collector stops"
    for trial in rig.trials:
        trial.end("", "2.0")
    assert rig.errors == ["the collector stops" + GOES_ON]
    assert rig.replaced == []


def test_one_upgrade_at_a_time(rig: _Rig) -> None:
    """Neither beside a trial nor while children of the last program live."""
    rig.upgrade()
    rig.upgrade()
    rig.trials[0].end("no", "")
    rig.upgrader.replacement = Mock()
    rig.upgrade()
    assert len(rig.trials) == 1
    assert [error for error in rig.errors if "trial" not in error and "start" not in error] == [
        "an upgrade is under way already" + GOES_ON
    ] * 2


def test_the_end_of_a_trial_is_told_by_its_pid(rig: _Rig) -> None:
    """Other children end, too, and there may be no trial."""
    rig.upgrader.record_exit(7, 1)
    rig.upgrade()
    rig.upgrader.record_exit(8, 2)
    rig.upgrader.record_exit(7, 3)
    assert rig.trials[0].statuses == [3]


def test_a_trial_ends_with_the_master(rig: _Rig) -> None:
    """Once; a forked child only closes its copies."""
    rig.upgrader.close()
    rig.upgrader.close_in_child()
    rig.upgrade()
    (trial,) = rig.trials
    rig.upgrader.close_in_child()
    trial.close_in_child.assert_called_once_with()
    trial.close.assert_not_called()
    rig.upgrader.close()
    rig.upgrader.close()
    trial.close.assert_called_once_with()


def test_a_program_that_may_not_be_run_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where server.user may not enter the directory of the interpreter."""
    refused = PermissionError(13, "Permission denied", "/opt/python")
    monkeypatch.setattr(upgrader, "Trial", Mock(side_effect=refused))
    answers: list[dict[str, Any]] = []
    upgrader.Upgrader(Mock(may_upgrade=Mock(return_value=""))).upgrade(answers.append)
    (answer,) = answers
    assert "/opt/python: Permission denied; the collector's user needs the right to run it" in answer["error"]
    assert answer["error"].endswith("; the running code goes on")
