"""The order of a commit: announced, appended, synced, committed; what fails leaves the rest undone."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from prefork_logd.journal.commit_entry import Committed
from prefork_logd.processes.writer.commit_steps import CommitSteps


class Steps:
    """Outputs, record log and journal that write down which step was taken."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.fails = ""
        self.lengths = {(1, 1): 10}
        self.journal: Any = SimpleNamespace(
            committed=Committed(4, {(1, 1): 5}, {}, 0), entry=b"entry", announce=self._announce, commit=self._commit
        )
        intent = SimpleNamespace(
            announce=lambda turn, reach: self.taken.append(f"intent {turn}"),
            copy=lambda turn, entry: self.taken.append(f"copy {turn}"),
        )
        recovery: Any = SimpleNamespace(journal=self.journal, intent=intent, unattached={9: 1})
        disks: Any = SimpleNamespace(may_append=lambda nbytes, directories: self.fails != "measure disks")
        self.steps = CommitSteps(self._named("outputs"), self._named("record log"), recovery, disks)

    def _named(self, name: str) -> Any:
        def step(what: str) -> Any:
            def take() -> bool:
                self.taken.append(f"{what} {name}")
                return self.fails != f"{what} {name}"

            return take

        return SimpleNamespace(
            prepare=step("prepare"), find=step("find"), append=step("append"), sync=step("sync"),
            committed=step("committed"), reach=lambda *_: {}, next_number=lambda known: known,
            directories=set, lengths=lambda: self.lengths if name == "outputs" else {},
        )  # fmt: skip

    def _announce(self, entry: Committed, *, sync: bool) -> None:
        self.taken.append(f"announce {sorted(entry.files)} {sync}")

    def _commit(self, entry: Committed, *, sync: bool) -> None:
        self.entry = entry
        self.taken.append(f"commit {entry.turn} {sync}")


def test_the_order() -> None:
    """Lines are synced before the journal's entry is written."""
    steps = Steps()
    assert steps.steps.write({1: 7}, nbytes=10, must_sync=True, is_synced=True)
    assert steps.taken == [
        "prepare record log", "find outputs", "intent 5", "append record log", "append outputs",
        "sync record log", "sync outputs", "commit 5 True", "copy 5", "committed outputs", "committed record log",
    ]  # fmt: skip
    assert steps.entry == Committed(5, {(1, 1): 10}, {9: 1, 1: 7}, 0)


def test_a_disk_that_is_nearly_full() -> None:
    """Nothing is appended."""
    steps = Steps()
    steps.fails = "measure disks"
    assert not steps.steps.write({}, nbytes=10, must_sync=True, is_synced=True)
    assert steps.taken == []


def test_a_new_file_is_announced_first() -> None:
    """Before anything is appended to it."""
    steps = Steps()
    steps.lengths[2, 2] = 0
    assert steps.steps.write({}, nbytes=10, must_sync=False, is_synced=True)
    assert steps.taken[2:4] == ["announce [(1, 1), (2, 2)] True", "intent 5"]


@pytest.mark.parametrize("fails", ["prepare record log", "append record log", "append outputs", "sync outputs"])
def test_a_step_that_fails_is_the_last(fails: str) -> None:
    """Nothing is committed then."""
    steps = Steps()
    steps.fails = fails
    assert not steps.steps.write({}, nbytes=10, must_sync=True, is_synced=True)
    assert steps.taken[-1] == fails


@pytest.mark.parametrize(("must_sync", "is_synced"), [(False, True), (True, False)])
def test_the_disk_is_not_always_waited_for(must_sync: bool, is_synced: bool) -> None:
    """Only where a client waits, and the settings want it."""
    steps = Steps()
    assert steps.steps.write({}, nbytes=10, must_sync=must_sync, is_synced=is_synced)
    assert not [step for step in steps.taken if step.startswith("sync")]
    assert "commit 5 False" in steps.taken


def test_a_commit_without_lines() -> None:
    """It touches no output."""
    steps = Steps()
    assert steps.steps.write({1: 2}, nbytes=0, must_sync=False, is_synced=True)
    assert steps.taken[0] == "commit 5 False"
    steps.taken.clear()
    steps.steps.write_sessions()
    assert steps.taken == ["commit 5 False"]
