"""Refused records are dead letters once; those of suspects are taken back when the store is in trouble."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from prefork_logd.config.stores.custom import CustomStoreSettings
from prefork_logd.ipc.scoreboard import Scoreboard, StoreField
from prefork_logd.processes.shipper.refusals import Refusals
from prefork_logd.processes.shipper.suspects import Suspects
from prefork_logd.stores.dead_letters import read_letters

if TYPE_CHECKING:
    from pathlib import Path

SPARE = 20
"""The times in letters differ in length."""


class Rig:
    """The refusals of a store."""

    def __init__(self, directory: Path, most_bytes: int = 1 << 20) -> None:
        self.path = directory / "letters.jsonl"
        self.counters = Scoreboard().store(1)
        self.suspects = Suspects()
        settings = CustomStoreSettings(name="archive", factory="a:b", dead_letter_bytes=most_bytes)
        self.refusals = Refusals(settings, self.path, self.counters, self.suspects)
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


def test_records_beyond_the_bound_are_lost(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """They count as refused and as lost. One line says so, and one more after there was room."""
    Rig(tmp_path).refusals.refuse(1, b"{}", "too odd")
    path = tmp_path / "letters.jsonl"
    rig = Rig(tmp_path, path.stat().st_size + SPARE)
    for number in (2, 3, 3):
        rig.refusals.refuse(number, b"{}", "too odd")
    rig.suspects.waiting[4] = (b"{}", "unexpected ValueError")
    rig.refusals.keep_suspects()
    rig.refusals.confirm_suspects()
    assert (rig.letters, rig.refused, rig.counters[StoreField.LOST]) == ([1], 3, 3)
    assert caplog.text.count("has reached dead_letter_bytes") == 1
    assert f"{path} has reached" in caplog.text
    path.unlink()
    for number in (5, 6):
        rig.refusals.refuse(number, b"{}", "too odd")
    assert (rig.letters, rig.refused, rig.counters[StoreField.LOST]) == ([5], 5, 4)
    assert caplog.text.count("has reached dead_letter_bytes") == 2
