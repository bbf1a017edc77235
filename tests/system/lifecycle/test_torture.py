"""A short torture in every run; `make torture` has a long one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support import interpreters
from tests.support.disks import build_shim, mounted
from tests.torture.features import FeaturesTorture
from tests.torture.processes import SPARING_S, Torture
from tests.torture.rounds import Chapter

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_every_record_is_stored_once_and_in_order_whatever_happens(seed: int, tmp_path: Path) -> None:
    """Killed children and masters, stopped ones, renames, restarts: nothing is lost, nothing comes twice."""
    pythons = [interpreters.require(version) for version in ("2.7", "3.6", "3.13")]
    faults: list[str] = []
    torture = Torture(tmp_path, seed, pythons, faults.append, SPARING_S)
    try:
        torture.run(0, at_least=6)
    finally:
        torture.close()
    assert len(faults) > 5


@pytest.mark.slow
def test_short_iterations(tmp_path: Path) -> None:
    """A few of those that `--short` does by the thousand: whatever was acknowledged is there, once, after each."""
    pythons = [interpreters.require(version) for version in ("2.7", "3.6", "3.13")]
    events: list[str] = []
    with mounted(tmp_path / "state", "size=48m") as disk:
        chapter = Chapter(tmp_path, disk, 1, pythons, build_shim(tmp_path))
        try:
            records = sum(chapter.iterate(seed, events) for seed in range(1, 9))
            records += chapter.end(events)
        finally:
            chapter.close()
    assert records > 100
    assert len(events) > 8


@pytest.mark.slow
def test_every_feature_at_once(tmp_path: Path) -> None:
    """TLS, a limit, sampling, a store, groups of errors, alerts and the own log, over kills, reloads and an upgrade."""
    pythons = [interpreters.require(version) for version in ("2.7", "3.13")]
    torture = FeaturesTorture(tmp_path, 1, pythons, None)
    try:
        for name in ("reload", "upgrade", "kill -9 of a shipper", "kill -9 of the writer", "kill -9 of the alerts"):
            torture.harm(name)
        assert torture.finish() > 100
    finally:
        torture.close()
