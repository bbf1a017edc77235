"""The compiled core makes the same smaller pickle as trim.py, of any bytes and with any hole."""

from __future__ import annotations

import random

import pytest

from prefork_logd.ingest import core
from prefork_logd.inputs.pickles import trim
from tests.parity import dearest
from tests.parity.endless import Maker

pytestmark = pytest.mark.skipif(core.speedups is None, reason="no compiled core to compare")


def _agree(frame: bytes, limit: int, hole: int, hole_bytes: int) -> bytes | int:
    assert core.speedups is not None
    specified = trim.trim_in_python(frame, limit, hole, hole_bytes)
    assert core.speedups.trim(frame, limit, hole, hole_bytes) == specified, (frame, limit, hole, hole_bytes)
    return specified


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_random_pickles(seed: int) -> None:
    """Whole ones, damaged ones, and with a hole anywhere."""
    maker, chance = Maker(seed), random.Random(seed)
    made = 0
    for _ in range(150):
        frame = maker.one()
        made += isinstance(_agree(frame, chance.choice((0, 100)), 0, 0), bytes)
        if len(frame) > 2:
            hole = chance.randrange(1, len(frame))
            width = chance.randrange(1, len(frame) - hole + 1)
            made += isinstance(_agree(frame[:hole] + frame[hole + width :], 0, hole, width), bytes)
    assert made > 100


@pytest.mark.parametrize("seed", [1, 2])
def test_large_pickles(seed: int) -> None:
    """Those of which much is left out."""
    chance = random.Random(seed)
    smaller = 0
    for _ in range(60):
        _, frame = dearest.make(chance, 30_000)
        found = _agree(frame, 2_000, 0, 0)
        smaller += isinstance(found, bytes) and len(found) < len(frame)
        hole = chance.randrange(1, len(frame))
        width = chance.randrange(1, len(frame) - hole + 1)
        _agree(frame[:hole] + frame[hole + width :], 0, hole, width)
    assert smaller
