"""Refused records are dead letters once; those of suspects are taken back when the store is in trouble."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from prefork_logd.ipc.scoreboard import Scoreboard, StoreField
from prefork_logd.processes.shipper.refusals import Refusals
from prefork_logd.processes.shipper.suspects import Suspects
from prefork_logd.stores.dead_letters import read_letters

if TYPE_CHECKING:
    from pathlib import Path


class Rig:
    """The refusals of a store."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "letters.jsonl"
        self.counters = Scoreboard().store(1)
        self.suspects = Suspects()
        self.refusals = Refusals("archive", self.path, self.counters, self.suspects)
        self.refusals.open("ab" * 16)

    @property
    def letters(self) -> list[int]:
        return [letter.number for letter in read_letters(self.path)] if self.path.exists() else []

    @property
    def refused(self) -> int:
        return int(self.counters[StoreField.REFUSED])


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def test_a_refused_record_is_kept_once(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """However often its batch is tried; only the first one is logged."""
    for number in (5, 5, 6):
        rig.refusals.refuse(number, b'{"a":1}', "too odd")
    assert (rig.letters, rig.refused) == ([5, 6], 2)
    assert caplog.text.count("too odd") == 1
    assert str(rig.path) in caplog.text


def test_suspects_count_once_they_are_confirmed(rig: Rig) -> None:
    """Their dead letters are there before."""
    rig.suspects.waiting[7] = (b"{}", "unexpected ValueError")
    rig.refusals.keep_suspects()
    rig.refusals.keep_suspects()
    assert (rig.letters, rig.refused) == ([7], 0)
    rig.refusals.confirm_suspects()
    assert (rig.letters, rig.refused) == ([7], 1)
    assert not rig.suspects.waiting
    rig.refusals.confirm_suspects()
    assert rig.refused == 1


def test_suspects_are_withdrawn(rig: Rig) -> None:
    """The store gets these records later; refused ones stay."""
    rig.refusals.refuse(5, b"{}", "too odd")
    rig.suspects.waiting[7] = (b"{}", "unexpected ValueError")
    rig.refusals.keep_suspects()
    assert rig.letters == [5, 7]
    rig.refusals.withdraw_suspects()
    assert (rig.letters, rig.refused) == ([5], 1)
    assert not rig.suspects.waiting
